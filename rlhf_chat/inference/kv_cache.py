"""A preallocated KV cache, and the two forward passes that use it: `prefill` and `decode_step`.

transformers' DynamicCache is copied at every token and changes its address. Preallocated tensors
stay in place, so that a step can be captured (graph_capture.py). Only for models in which every
layer attends to all earlier tokens; all others (sliding window, recurrent) keep DynamicCache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer


class PreallocatedCache(Cache):
    """Keys and values of every layer, written in place at the columns `slot` (N,) int64.

    `tensors`: keys, values, keys, values ... of the layers, (B, G, T, D) each: rows, KV heads,
    tokens, head dimension. Missing ones are allocated for `size` tokens. Attention gets the first
    `length` columns; all T if `length` is 0.
    """

    def __init__(
        self, tensors: Sequence[torch.Tensor], slot: torch.Tensor, size: int = 0, length: int = 0
    ) -> None:
        super().__init__(layers=[])
        self.tensors, self.slot = list(tensors), slot
        self._size, self._length = size, length

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if 2 * layer_idx >= len(self.tensors):
            for states in (key_states, value_states):
                rows, groups, _tokens, width = states.shape
                self.tensors.append(states.new_zeros(rows, groups, self._size, width))
        keys, values = self.tensors[2 * layer_idx], self.tensors[2 * layer_idx + 1]
        keys.index_copy_(2, self.slot, key_states)
        values.index_copy_(2, self.slot, value_states)
        if self._length:
            return keys[:, :, : self._length], values[:, :, : self._length]
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0  # callers pass position_ids and the mask


def can_capture(tree: Any) -> bool:
    """Whether every layer attends, by SDPA, to plain keys and values of all earlier tokens."""
    cache = DynamicCache(config=tree.config)
    plain = all(type(layer) is DynamicLayer for layer in cache.layers)
    return bool(cache.layers) and plain and tree.config._attn_implementation == "sdpa"


def decode_step(
    tree: Any,
    ids: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor,
    slot: torch.Tensor,
    *tensors: torch.Tensor,
) -> torch.Tensor:
    """One token per row: ids, positions (B, 1), mask (B, 1, 1, T) bool, slot (1,), cache tensors
    (B, G, T, D) -> logits (B, V)."""
    return _forward(tree, ids, positions, mask, PreallocatedCache(tensors, slot))


def prefill(
    tree: Any,
    ids: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor,
    size: int,
    tensors: Sequence[torch.Tensor] = (),
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The prompt: ids, positions (B, N), mask (B, T), 0 on padding -> logits (B, V) of the next
    token, and the cache tensors.

    Without `tensors`, N = T and the cache is allocated for `size` tokens. With them, they hold the
    first T - N tokens already and only the last N run.
    """
    length, device = mask.shape[1], ids.device
    columns = torch.arange(length, device=device)
    slot = columns[length - ids.shape[1] :]
    causal = columns <= slot[:, None]  # (N, T)
    diagonal = columns == slot[:, None]  # so that no padding row is fully masked, which gives NaN
    attention = (mask.bool()[:, None] & causal | diagonal)[:, None]
    cache = PreallocatedCache(tensors, slot, size, length)
    return _forward(tree, ids, positions, attention, cache), cache.tensors


def _forward(
    tree: Any,
    ids: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor,
    cache: PreallocatedCache,
) -> torch.Tensor:
    result: torch.Tensor = tree(
        input_ids=ids,
        position_ids=positions,
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    return result
