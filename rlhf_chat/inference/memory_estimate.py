"""Predicts the memory of a model and a workload, in bytes by part, before anything is loaded.

The model is built on torch's meta device, so parameters, KV cache and activations are counted from
the real architecture instead of a formula per family. How much memory there is: memory.py. What to
change if it is too little: doctor.py.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import DynamicCache

from rlhf_chat.inference import lm_head, lora_modules, nf4, precision
from rlhf_chat.inference.empty_model import empty_model

NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)  # per weight: 4 bits, 8-bit scale, its float32 scale
NF4_TABLES = 4 * (16 + 256 + 1)  # bytes per layer: two code tables and an offset, float32
RESERVE = 768 << 20  # bytes for the driver and the allocator (assumed, not measured)
GIB = 1 << 30
IN_TRAINING = "trained", "activations"  # what is counted of trained layers only


@dataclass(frozen=True)
class Workload:
    """Sizes that determine memory. The defaults are those of the app."""

    context: int = 4096  # tokens of the longest conversation
    prompt: int = 64  # tokens, in training
    response: int = 256  # tokens, in training
    rollouts: int = 64  # rows sampled at once
    microbatch: int = 8  # rows
    checkpointing: bool = False
    r: int = 8  # LoRA rank
    on_cpu: bool = False
    reserve: int = RESERVE  # bytes


COMFORTABLE = replace(Workload(), rollouts=32, microbatch=1)
MINIMAL = replace(Workload(), rollouts=8, microbatch=1, checkpointing=True)  # slow


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by part. Rollouts and training alternate, so `total` has the larger of the two."""

    weights: int
    adapters: int  # policy and live; gradient and Adam's two moments of what is trained
    chat: int  # KV cache of the longest conversation
    rollouts: int  # KV cache
    training: int  # activations of one micro-batch, and the largest weight dequantised
    logits: int  # of one chunk (lm_head.py), with their gradient
    reserve: int

    @property
    def total(self) -> int:
        busiest = max(self.rollouts, self.training + self.logits)
        return self.weights + self.adapters + self.chat + busiest + self.reserve

    def as_dict(self) -> dict[str, int]:
        return {**vars(self), "total": self.total}


def predict(config: Any, quantization: str, workload: Workload = Workload()) -> MemoryEstimate:
    """Counts on the meta device. `quantization`: nf4 or none. Raises what transformers raises for a
    config it cannot build."""
    config = copy.deepcopy(config.get_text_config())
    layers, size = config.num_hidden_layers, _dtype(config, workload).itemsize
    trained = layers - lora_modules.first_trained(layers)
    if len(set(getattr(config, "layer_types", None) or [""])) == 1:  # equal layers: extrapolate
        one, two = (_count(_shortened(config, n), workload, 0) for n in (1, 2))
        times = {part: (trained if part in IN_TRAINING else layers) - 1 for part in one}
        count = {part: one[part] + (two[part] - one[part]) * times[part] for part in one}
    else:
        count = _count(config, workload, layers)
    activations = count["activations"]
    if workload.checkpointing:  # the input of every trained layer, and one being recomputed
        tokens = workload.microbatch * (workload.prompt + workload.response)
        activations = tokens * config.hidden_size * size * trained + activations // trained
    positions = workload.microbatch * workload.response
    return MemoryEstimate(
        weights=count["others"] * size + _linear_bytes(count, quantization, size, workload.on_cpu),
        # float32, with a gradient and Adam's moments where trained; live in the compute dtype
        adapters=count["lora"] * (4 + size) + count["trained"] * 4 * (1 + 2),
        chat=count["chat"],
        rollouts=count["rollouts"],
        training=activations + count["widest"] * size,
        logits=min(positions * config.vocab_size * 4, lm_head.CHUNK_BYTES) * 3,
        reserve=workload.reserve,
    )


def _dtype(config: Any, workload: Workload) -> torch.dtype:
    return precision.cpu_dtype(config) if workload.on_cpu else torch.bfloat16


def _shortened(config: Any, layers: int) -> Any:
    config = copy.deepcopy(config)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    config.num_hidden_layers = layers
    return config


def _count(config: Any, workload: Workload, layers: int) -> dict[str, int]:
    """Parameter counts and bytes by kind. Each is affine in the number of layers, or of trained
    ones (IN_TRAINING). `layers`: as for `lora_modules.train_upper_mlp`; 0 trains all of them."""
    dtype = _dtype(config, workload)
    base = empty_model(config, dtype)
    base.requires_grad_(False)
    total = sum(p.numel() for p in base.parameters())
    tree: Any = lora_modules.with_adapter(base, r=workload.r, lora_alpha=2 * workload.r)
    linears = [layer.weight.numel() for layer in lora_modules.adapted_linears(tree)]
    lora = lora_modules.adapter_params(tree)
    trained = lora_modules.train_upper_mlp(lora, layers)
    tokens = workload.prompt + workload.response
    return {
        "others": total - sum(linears),
        "linear": sum(linears),
        "linears": len(linears),
        "widest": max(linears),
        "lora": sum(p.numel() for p in lora.values()),
        "trained": sum(p.numel() for p in trained.values()),
        "chat": _cache_bytes(tree, config, 1, workload.context),
        "rollouts": _cache_bytes(tree, config, workload.rollouts, tokens),
        "activations": saved_bytes(tree, _inputs(workload.microbatch, tokens, dtype)),
    }


def _linear_bytes(count: dict[str, int], quantization: str, size: int, on_cpu: bool) -> int:
    weights = count["linear"]
    if quantization == "none":
        stored = weights * size
    else:
        stored = int(weights * NF4_BITS / 8) + NF4_TABLES * count["linears"]
    if on_cpu and size * weights <= nf4.MAX_DEQUANTIZED_BYTES:
        copies = 2 if quantization == "none" else 3  # dequantised once, merged for two versions
        stored += copies * size * weights
    return stored


def _inputs(rows: int, tokens: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """With a 4-D mask: transformers would read the values of a 2-D one, and meta tensors have
    none."""
    return {
        "input_ids": torch.zeros(rows, tokens, dtype=torch.long, device="meta"),
        "attention_mask": torch.zeros(rows, 1, tokens, tokens, dtype=dtype, device="meta"),
    }


def _cache_bytes(tree: Any, config: Any, rows: int, tokens: int) -> int:
    cache = DynamicCache(config=config)
    dtype = tree.get_output_embeddings().weight.dtype
    with torch.no_grad():
        lora_modules.decoder_of(tree)(
            **_inputs(rows, tokens, dtype), past_key_values=cache, use_cache=True
        )
    return cache_bytes(cache)


def cache_bytes(cache: Any) -> int:
    """Bytes of all tensors in a transformers cache: keys, values, recurrent states."""
    tensors = []
    for layer in cache.layers:
        for value in vars(layer).values():
            values = value if isinstance(value, (list, tuple)) else [value]
            if isinstance(value, Mapping):
                values = list(value.values())
            tensors += [v for v in values if isinstance(v, torch.Tensor) and v.dim() > 1]
    return sum(t.numel() * t.element_size() for t in tensors)


def saved_bytes(tree: Any, inputs: Mapping[str, torch.Tensor]) -> int:
    """Bytes that autograd saves for backward in one forward, weights not counted."""
    weights = {p.untyped_storage()._cdata for p in tree.parameters()}
    tokens = inputs["input_ids"].shape[1]
    eager = getattr(tree.config, "_attn_implementation", "") == "eager"
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if tensor.shape[-2:] == (tokens, tokens) and not eager:
            return tensor  # attention weights: SDPA saves them on the meta device only
        if storage._cdata not in weights:
            saved[storage._cdata] = storage
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        lora_modules.decoder_of(tree)(**inputs, use_cache=False)
    return sum(storage.nbytes() for storage in saved.values())
