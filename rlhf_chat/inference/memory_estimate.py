"""What a model will take, by part, before any of it is loaded.

The model is built without memory (torch's meta device), so layers, caches and activations are
counted from the real architecture and not from a formula for one family. Pure: configuration and
settings in, bytes out. Left out: how much there is (memory.py), what to do about it (doctor.py).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from rlhf_chat.inference import lm_head, lora_modules, nf4, precision

NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)  # a weight, its block's scale, and that block's scale
NF4_TABLES = 4 * (16 + 256 + 1)  # bytes of code tables and offset that each layer carries
RESERVE = 768 << 20  # what the driver and the allocator keep for themselves; an assumption
GIB = 1 << 30


@dataclass(frozen=True)
class Workload:
    """What a session asks for. The defaults are the app's own."""

    context: int = 4096  # tokens of the longest conversation
    prompt: int = 64
    response: int = 256  # tokens of a reply that is practised on
    rollouts: int = 64  # sampled at once
    microbatch: int = 8
    checkpointing: bool = False
    r: int = 8
    on_cpu: bool = False
    reserve: int = RESERVE


COMFORTABLE = replace(Workload(), rollouts=32, microbatch=1)
MINIMAL = replace(Workload(), rollouts=8, microbatch=1, checkpointing=True)  # slow, but it learns


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by part. Rollouts and training take turns, so the larger of the two counts."""

    weights: int
    adapters: int  # policy and live, gradient, Adam's two moments
    chat: int  # keys and values of the longest conversation
    rollouts: int  # keys and values
    training: int  # activations of one micro-batch, and the largest weight decoded
    logits: int
    reserve: int

    @property
    def total(self) -> int:
        busiest = max(self.rollouts, self.training + self.logits)
        return self.weights + self.adapters + self.chat + busiest + self.reserve

    def as_dict(self) -> dict[str, int]:
        return {**vars(self), "total": self.total}


def predict(config: Any, quantization: str, load: Workload = Workload()) -> MemoryEstimate:
    """Counts on the meta device. Raises what transformers raises on a config it cannot build."""
    config = copy.deepcopy(config.get_text_config())
    layers, size = config.num_hidden_layers, _dtype(config, load).itemsize
    if len(set(getattr(config, "layer_types", None) or [""])) == 1:  # all alike: two tell the rest
        one, two = (_count(_shortened(config, n), load) for n in (1, 2))
        count = {part: one[part] + (two[part] - one[part]) * (layers - 1) for part in one}
    else:
        count = _count(config, load)
    activations = count["activations"]
    if load.checkpointing:  # what enters each layer is kept, and one layer is computed again
        entering = load.microbatch * (load.prompt + load.response) * config.hidden_size * size
        activations = entering * layers + activations // layers
    words = load.microbatch * load.response
    return MemoryEstimate(
        weights=count["others"] * size + _linear_bytes(count, quantization, size, load.on_cpu),
        adapters=count["lora"] * (4 * (1 + 1 + 2) + size),  # in float32 but for the live one
        chat=count["chat"],
        rollouts=count["rollouts"],
        training=activations + count["widest"] * size,
        logits=min(words * config.vocab_size * 4, lm_head.CHUNK_BYTES) * 3,
        reserve=load.reserve,
    )


def _dtype(config: Any, load: Workload) -> torch.dtype:
    return precision.cpu_dtype(config) if load.on_cpu else torch.bfloat16


def _shortened(config: Any, layers: int) -> Any:
    config = copy.deepcopy(config)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    config.num_hidden_layers = layers
    return config


def _count(config: Any, load: Workload) -> dict[str, int]:
    """Weights and bytes of the whole, by kind; every one of them grows evenly with the layers."""
    dtype = _dtype(config, load)
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(config, dtype=dtype)
    base.requires_grad_(False)
    whole = sum(p.numel() for p in base.parameters())
    tree: Any = lora_modules.with_adapter(base, r=load.r, lora_alpha=2 * load.r)
    linears = [layer.weight.numel() for layer in lora_modules.adapted_linears(tree)]
    tokens = load.prompt + load.response
    return {
        "others": whole - sum(linears),
        "linear": sum(linears),
        "linears": len(linears),
        "widest": max(linears),
        "lora": sum(p.numel() for p in lora_modules.adapter_params(tree).values()),
        "chat": _cache_bytes(tree, config, 1, load.context),
        "rollouts": _cache_bytes(tree, config, load.rollouts, tokens),
        "activations": saved_bytes(tree, _inputs(load.microbatch, tokens, dtype)),
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
    """A ready mask: transformers would look at the values of any other, and there are none."""
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
    """What a cache of any kind of layer holds: keys, values, running states."""
    held = []
    for layer in cache.layers:
        for value in vars(layer).values():
            values = value if isinstance(value, (list, tuple)) else [value]
            if isinstance(value, Mapping):
                values = list(value.values())
            held += [v for v in values if isinstance(v, torch.Tensor) and v.dim() > 1]
    return sum(t.numel() * t.element_size() for t in held)


def saved_bytes(tree: Any, inputs: Mapping[str, torch.Tensor]) -> int:
    """What autograd keeps of one forward for the way back, weights not counted."""
    weights = {p.untyped_storage()._cdata for p in tree.parameters()}
    tokens = inputs["input_ids"].shape[1]
    eager = getattr(tree.config, "_attn_implementation", "") == "eager"
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if tensor.shape[-2:] == (tokens, tokens) and not eager:
            return tensor  # attention weights, which only the meta device's kernel keeps
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        lora_modules.decoder_of(tree)(**inputs, use_cache=False)
    return sum(storage.nbytes() for storage in kept.values())
