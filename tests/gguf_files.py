"""Makes a small GGUF file from a toy model, as converters of llama.cpp would."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def make_gguf(toy: Path, file: Path, architecture: str = "llama") -> Path:
    """`toy`: a folder that holds a Llama model and its tokenizer. Weights are stored as Q8_0."""
    model = LlamaForCausalLM.from_pretrained(toy)
    config = model.config
    writer = gguf.GGUFWriter(str(file), architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads or config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, toy)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":  # tied
            _add_tensor(writer, name.removeprefix("model."), tensor, config)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_tokenizer(writer: gguf.GGUFWriter, toy: Path) -> None:
    told = json.loads((toy / "tokenizer.json").read_text())
    settings = json.loads((toy / "tokenizer_config.json").read_text())
    vocabulary = {**told["model"]["vocab"], **{t["content"]: t["id"] for t in told["added_tokens"]}}
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    special = {t["content"] for t in told["added_tokens"]}
    merges = [m if isinstance(m, str) else " ".join(m) for m in told["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(vocabulary[settings["eos_token"]])
    writer.add_pad_token_id(vocabulary[settings["pad_token"]])
    template = toy / "chat_template.jinja"
    writer.add_chat_template(
        template.read_text() if template.is_file() else settings["chat_template"]
    )


def _add_tensor(
    writer: gguf.GGUFWriter, name: str, tensor: torch.Tensor, config: LlamaConfig
) -> None:
    if name == "embed_tokens.weight":
        name = "token_embd.weight"
    elif name == "norm.weight":
        name = "output_norm.weight"
    else:
        _, number, rest = name.split(".", 2)
        kind = rest.removesuffix(".weight")
        heads = {
            "self_attn.q_proj": "num_attention_heads",
            "self_attn.k_proj": "num_key_value_heads",
        }
        if kind in heads:
            tensor = _halves_interleaved(tensor, getattr(config, heads[kind]))
        name = f"blk.{number}.{NAMES[kind]}.weight"
    values = tensor.float().numpy()
    if values.ndim == 1:
        writer.add_tensor(name, values.astype(np.float32))
        return
    q8 = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor(name, gguf.quants.quantize(values, q8), raw_dtype=q8)


def _halves_interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp rotates neighbours where transformers rotates halves."""
    rows, columns = weight.shape
    split = weight.reshape(heads, 2, rows // heads // 2, columns)
    return split.swapaxes(1, 2).reshape(rows, columns)
