"""Models of real shapes with random weights, made and quantised on the device.

With them gpu.py measures a graphics card without a download.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerFast

from rlhf_chat.inference import nf4, presets
from rlhf_chat.inference.model import AdapterConfig, Model

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(text: str = "hello", size: int = 300) -> PreTrainedTokenizerFast:
    """Bytes, three control tokens and pieces of `text`; the rest of a larger vocabulary is never
    used."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    worker = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator([text], worker)
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )
    made.chat_template = CHATML
    return made


def make(name: str, config: PreTrainedConfig, device: torch.device) -> Model:
    """A model of this shape with random 4-bit weights. Never more than one layer is unquantised."""
    words = tokenizer()
    config.eos_token_id, config.pad_token_id = words.eos_token_id, words.pad_token_id
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(config, dtype=dtype)
    head = base.get_output_embeddings()
    for path, module in list(base.named_modules()):
        if type(module) is torch.nn.Linear and module is not head:
            parent, _, child = path.rpartition(".")
            setattr(base.get_submodule(parent), child, _quantised(module, device, dtype))
    generator = torch.Generator(device).manual_seed(0)
    for module in base.modules():
        for key, weight in list(module._parameters.items()):
            if weight is not None and weight.device.type == "meta":
                ready = torch.ones(weight.shape, device=device, dtype=dtype)
                if weight.dim() > 1:
                    ready.normal_(0, 0.02, generator=generator)
                module._parameters[key] = torch.nn.Parameter(ready, requires_grad=False)
    base.tie_weights()
    with torch.device(device):
        for module in base.modules():
            if hasattr(module, "rope_init_fn") or "inv_freq" in module._buffers:
                module.__init__(config=config)  # its buffers are computed, not loaded
    nf4.prepare_for_cpu(base)
    return Model(
        base,
        words,
        name=name,
        base_hash="random",
        quantization="nf4",
        adapter=AdapterConfig(),
    )


def _quantised(linear: torch.nn.Linear, device: torch.device, dtype: torch.dtype) -> Linear4bit:
    made = Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=dtype,
        quant_type="nf4",
        compress_statistics=True,
        device="meta",
    )
    weight = torch.randn(linear.weight.shape, dtype=dtype, device=device) * 0.02
    kind: Any = type(made.weight)
    made.weight = kind(
        weight, requires_grad=False, quant_type="nf4", compress_statistics=True, module=made
    ).to(device)
    return made


def toy() -> PreTrainedConfig:
    """The smallest shape of the table, much smaller."""
    small = presets.BY_NAME["tiny"]
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320}
    return replace(small, shape=small.shape | shape | heads).config()
