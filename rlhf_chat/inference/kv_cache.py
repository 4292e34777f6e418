"""Room for keys and values, made before it is needed, and the question that every step asks.

A growing cache is copied at every token and has no fixed place in memory; room has, so that a step
can be recorded (graph_capture.py). Only for models whose layers all attend to everything before
them; the others keep the cache of transformers. Left out: which rows there are (decode_batch.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer


class PreallocatedCache(Cache):
    """Keys and values of every layer, written in place at `slot`, read as far as they go.

    `tensors` are keys, values, keys, values ...: (B, G, T, D) each. Those that are missing are made
    with room for `size` tokens and then read up to `length`.
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
        return 0  # positions and mask are given


def can_capture(tree: Any) -> bool:
    """Whether every layer of this model keeps plain keys and values of all that came before."""
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
    """ids, positions (B, 1), mask (B, 1, 1, T), room for T -> logits (B, V). The model itself."""
    return _forward(tree, ids, positions, mask, PreallocatedCache(tensors, slot))


def prefill(
    tree: Any,
    ids: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor,
    size: int,
    tensors: Sequence[torch.Tensor] = (),
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Reads the last of `mask`'s tokens into room for `size`, or into `tensors`, which hold those
    before: ids, positions (B, N), mask (B, T) 0 on padding -> logits (B, V) of the next, room."""
    length, device = mask.shape[1], ids.device
    columns = torch.arange(length, device=device)
    slot = columns[length - ids.shape[1] :]
    before = columns <= slot[:, None]  # (N, T)
    itself = columns == slot[:, None]  # else a padding's attention would be to nothing: not finite
    seen = (mask.bool()[:, None] & before | itself)[:, None]
    cache = PreallocatedCache(tensors, slot, size, length)
    return _forward(tree, ids, positions, seen, cache), cache.tensors


def _forward(
    tree: Any,
    ids: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor,
    cache: PreallocatedCache,
) -> torch.Tensor:
    return tree(
        input_ids=ids,
        position_ids=positions,
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
