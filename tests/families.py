"""Tiny random models of the real architectures, each with the quirks of its own kind of chat
template: who may speak, what ends a turn, whether the model thinks aloud. Left out: knowledge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Olmo3Config,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3_5TextConfig,
    Qwen3Config,
    SmolLM3Config,
)

from bench.random_weights import CHATML
from tests.tiny_models import make_tokenizer

TURNS = "{% for m in messages %}"
THINKING = (  # answers at once when told not to think, as Qwen3 and SmolLM3 do
    TURNS + "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
ALWAYS_THINKS = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")  # R1
NO_SYSTEM = (  # as Gemma 2: two roles in turn, nothing else
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + TURNS
    + "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns') }}"
    "{% endif %}<|im_start|>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
DROPS_SYSTEM = (  # silently leaves out every message that is not the user's or the assistant's
    TURNS + "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Family:
    config: Callable[..., PreTrainedConfig]
    template: str | None = CHATML
    options: dict[str, Any] = field(default_factory=dict)
    layers: int = 2


SIZE = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
    "bos_token_id": None,
}
WINDOW = {"sliding_window": 16}  # shorter than any prompt here, so that it matters

FAMILIES = {
    "llama": Family(LlamaConfig),
    "llama untied": Family(LlamaConfig, options={"tie_word_embeddings": False}),
    "qwen2": Family(Qwen2Config, options={"tie_word_embeddings": True}),
    "qwen2 sliding": Family(
        Qwen2Config, options={"use_sliding_window": True, "max_window_layers": 1} | WINDOW
    ),
    "qwen3": Family(Qwen3Config, THINKING, {"tie_word_embeddings": True}),
    "gemma2": Family(
        Gemma2Config,
        NO_SYSTEM,
        {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0} | WINDOW,
    ),
    "gemma3": Family(
        Gemma3TextConfig,
        NO_SYSTEM,
        {"layer_types": ["sliding_attention", "full_attention"]} | WINDOW,
    ),
    "mistral": Family(MistralConfig, DROPS_SYSTEM, WINDOW),
    "phi3": Family(Phi3Config, options={"tie_word_embeddings": False} | WINDOW),
    "phi4": Family(Phi3Config, options={"tie_word_embeddings": True, "partial_rotary_factor": 0.5}),
    "smollm3": Family(SmolLM3Config, THINKING, {"no_rope_layers": [1, 0]}),
    "granite": Family(
        GraniteConfig,
        options={
            "logits_scaling": 4.0,
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.2,
        },
    ),
    "olmo2": Family(Olmo2Config),
    "olmo3": Family(
        Olmo3Config, options={"layer_types": ["sliding_attention", "full_attention"]} | WINDOW
    ),
    "gpt2": Family(GPT2Config, None),
    "qwen3.5": Family(  # three layers in four keep a running state instead of keys and values
        Qwen3_5TextConfig,
        THINKING,
        {
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "layer_types": ["linear_attention", "full_attention"],
            "tie_word_embeddings": True,
        },
    ),
}


def make_family(name: str, folder: Path) -> Path:
    """Saves a tiny random model of this family with its tokenizer; returns the folder."""
    family = FAMILIES[name]
    torch.manual_seed(0)
    tokenizer = make_tokenizer(folder)
    tokenizer.chat_template = family.template
    tokenizer.save_pretrained(folder)
    if family.template is None:
        (folder / "chat_template.jinja").unlink(missing_ok=True)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    if family.config is GPT2Config:
        sizes: dict[str, Any] = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}
        sizes["initializer_range"] = 0.15
        ids |= {"bos_token_id": tokenizer.eos_token_id}
    else:
        sizes = SIZE | {"num_hidden_layers": family.layers}
    config = family.config(vocab_size=len(tokenizer), **(sizes | ids | family.options))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def make_thinker(folder: Path, marker: str) -> Path:
    """Saves a tiny model whose template opens a thought. Its markers are letters, words of the
    vocabulary (as Qwen's) or special tokens."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer(folder)
    if marker != "letters":
        tokenizer.add_tokens(["<think>", "</think>"], special_tokens=marker == "special")
    tokenizer.chat_template = ALWAYS_THINKS
    tokenizer.save_pretrained(folder)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    sizes = SIZE | ids | {"vocab_size": len(tokenizer), "num_hidden_layers": 2}
    AutoModelForCausalLM.from_config(LlamaConfig(**sizes)).save_pretrained(folder)
    return folder


def make_seeing(folder: Path) -> Any:
    """Saves a Gemma 3 that also sees, as its larger sizes do; returns the whole model."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer(folder)
    tokenizer.chat_template = NO_SYSTEM
    tokenizer.save_pretrained(folder)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    sight = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 3}
    config = Gemma3Config(
        text_config=SIZE | {"vocab_size": len(tokenizer), "num_hidden_layers": 2} | ids,
        vision_config=sight | {"num_attention_heads": 2, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
        **ids,
    )
    model = AutoModelForImageTextToText.from_config(config).eval()
    model.save_pretrained(folder)
    return model
