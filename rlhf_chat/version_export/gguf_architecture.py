"""Which models become GGUF files that llama.cpp computes as the app does: their numbers and
tensors.

The names of the tensors come from the package `gguf`, which is llama.cpp's own. What differs beside
the names is the order of the rows of query and key in some architectures (transformers rotates the
two halves of a head, llama.cpp neighbours) and RoPE's frequencies of Llama 3, which are a tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np
import torch

from rlhf_chat.errors import ExportError, Notice

SUFFIXES = (".weight", ".bias")
Q, K = "q_proj", "k_proj"


@dataclass(frozen=True)
class Architecture:
    code: gguf.MODEL_ARCH
    neighbours: bool  # llama.cpp rotates neighbours in it, so rows of query and key change places


ARCHITECTURES = {  # by transformers' model_type
    "llama": Architecture(gguf.MODEL_ARCH.LLAMA, neighbours=True),
    "mistral": Architecture(gguf.MODEL_ARCH.LLAMA, neighbours=True),
    "qwen2": Architecture(gguf.MODEL_ARCH.QWEN2, neighbours=False),
    "qwen3": Architecture(gguf.MODEL_ARCH.QWEN3, neighbours=False),
    "smollm3": Architecture(gguf.MODEL_ARCH.SMOLLM3, neighbours=True),
}
ROPE_KINDS = ("default", "llama3")


def architecture(config: Any) -> Architecture:
    """Raises ExportError for what llama.cpp would compute otherwise, or what is not known here."""
    found = ARCHITECTURES.get(config.model_type)
    if found is None:
        known = ", ".join(ARCHITECTURES)
        why = Notice("export.gguf_architecture", {"kind": config.model_type, "known": known})
        raise ExportError("export.no_gguf", reason=why)
    if problem := _unknown_part(config):
        raise ExportError("export.no_gguf", reason=Notice("export.gguf_part", {"part": problem}))
    return found


def _unknown_part(config: Any) -> str:
    """What llama.cpp's form of the architecture lacks; "" if nothing."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(config, "sliding_window", None):
        return "sliding window"
    if rope_kind(config) not in ROPE_KINDS:
        return f"{rope_kind(config)} RoPE"
    if config.hidden_act != "silu":
        return str(config.hidden_act)
    if getattr(config, "mlp_bias", False):
        return "biases in the MLP"
    if float((config.rope_parameters or {}).get("partial_rotary_factor", 1.0)) != 1.0:
        return "partial RoPE"
    steps = [int(i % 4 != 3) for i in range(config.num_hidden_layers)]
    if list(getattr(config, "no_rope_layers", None) or steps) != steps:
        return "layers without RoPE in an order of its own"
    return ""


def rope_kind(config: Any) -> str:
    return str((config.rope_parameters or {}).get("rope_type") or "default")


def head_size(config: Any) -> int:
    return int(
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )


def add_numbers(writer: gguf.GGUFWriter, config: Any) -> None:
    """The shape of the model."""
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads or config.num_attention_heads)
    writer.add_key_length(head_size(config))
    writer.add_value_length(head_size(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head_size(config))
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_vocab_size(config.vocab_size)


class TensorNames:
    """transformers' names -> llama.cpp's."""

    def __init__(self, config: Any) -> None:
        self._kind = architecture(config).code
        self._known = gguf.get_tensor_name_map(self._kind, config.num_hidden_layers)

    def name(self, tensor: str) -> str:
        """Raises ExportError."""
        found = self._known.get_name(tensor, try_suffixes=SUFFIXES)
        if not found:
            why = Notice("export.gguf_part", {"part": tensor})
            raise ExportError("export.no_gguf", reason=why)
        return str(found)


def ordered(config: Any, name: str, rows: torch.Tensor) -> torch.Tensor:
    """A tensor whose rows (out, ...) are the outputs of layer `name`, in llama.cpp's order."""
    if not architecture(config).neighbours:
        return rows
    if name.split(".")[-2:-1] == [Q]:
        heads = config.num_attention_heads
    elif name.split(".")[-2:-1] == [K]:
        heads = config.num_key_value_heads or config.num_attention_heads
    else:
        return rows
    size = rows.shape[0] // heads
    halves = torch.arange(rows.shape[0]).view(heads, 2, size // 2)
    return rows[halves.transpose(1, 2).flatten()]


def rope_factors(config: Any, inverse_frequencies: torch.Tensor) -> np.ndarray[Any, Any] | None:
    """What llama.cpp divides RoPE's angles by, (head size / 2,); None where that is 1."""
    if rope_kind(config) == "default":
        return None
    size = head_size(config)
    theta = float(config.rope_parameters["rope_theta"])
    plain = theta ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
    factors: np.ndarray[Any, Any] = (plain / inverse_frequencies.double().cpu()).float().numpy()
    return factors
