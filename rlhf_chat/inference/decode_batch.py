"""The rows of one batch while they are generated: prefill, then one decode step per token.

Where the architecture allows it, a step writes into a preallocated KV cache (kv_cache.py) and is
replayed from a captured step (graph_capture.py). All other models run through transformers'
DynamicCache. After a single reply its KV cache is handed over as a PrefixCache, so that the next
turn of the conversation prefills only its new tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, cast

import torch
from transformers import DynamicCache

from rlhf_chat.inference.fused_decoder import FusedDecoder
from rlhf_chat.inference.graph_capture import CapturedStep, StepCapture
from rlhf_chat.inference.kv_cache import can_capture, decode_step, prefill

# Tokens: a single row's cache is a multiple of it, so that the next turn usually fits as well.
CACHE_BLOCK = 256


@dataclass
class PrefixCache:
    """The KV cache of a finished reply, for the next turn of the same conversation."""

    tree: Any
    ids: list[int]  # the tokens whose keys and values are in `tensors`
    tensors: list[torch.Tensor]  # keys, values, keys ...: (1, G, T, D) each, T >= len(ids)
    captured: CapturedStep | None  # a step captured over these tensors

    def common_prefix(self, tree: Any, prompt: Sequence[int]) -> int:
        """How many leading tokens of `prompt` are cached; 0 for another tree. The prompt's last
        token never counts: it has to run to give logits."""
        if tree is not self.tree:
            return 0
        pairs = zip(self.ids, prompt[:-1], strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


class DecodeBatch:
    """Rows that are decoded together. `begin` once, then `step` for each token.

    `pad`: id used for left padding. `limit`: most tokens that will be generated per row.
    """

    def __init__(self, tree: Any, pad: int, limit: int, step_capture: StepCapture) -> None:
        self.tree, self._pad, self._limit, self._step_capture = tree, pad, limit, step_capture
        self.device = next(tree.parameters()).device
        self._preallocates = can_capture(tree)
        self._captured: CapturedStep | None = None
        self._capture_tried = isinstance(tree, FusedDecoder)  # which gains nothing from a capture
        self._length = 0  # columns of the cache in use, padding included
        self._tensors: list[torch.Tensor] = []  # the preallocated cache, (B, G, T, D) each
        self._mask: torch.Tensor  # (B, 1, 1, T) bool if preallocated, (B, T) with a DynamicCache

    def begin(
        self, prompts: Sequence[Sequence[int]], prefix: PrefixCache | None = None
    ) -> torch.Tensor:
        """Prefills the prompts; returns logits (B, V) of each row's first new token.

        Equal prompts run once. With a single prompt, tokens found in `prefix` do not run again;
        the cache of `prefix` is taken over and must not be used afterwards.
        """
        distinct = list(dict.fromkeys(map(tuple, prompts)))
        ids, mask, positions = left_pad(distinct, self._pad, self.device)
        number = {prompt: i for i, prompt in enumerate(distinct)}
        chosen = torch.tensor([number[tuple(p)] for p in prompts], device=self.device)
        self._positions = positions[chosen, -1:]
        self._length = mask.shape[1]
        if self._preallocates:
            logits = self._begin_preallocated(ids, mask, positions, prefix, len(prompts) == 1)
            if len(distinct) < len(prompts):
                self._select(chosen)
            return logits[chosen]
        self._mask, self._cache = mask[chosen], DynamicCache(config=self.tree.config)
        logits = self.tree(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        if len(distinct) < len(prompts):
            self._cache.reorder_cache(cast(torch.LongTensor, chosen))
        result: torch.Tensor = logits[chosen]
        return result

    def _begin_preallocated(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        prefix: PrefixCache | None,
        single: bool,
    ) -> torch.Tensor:
        size, cached = self._length + self._limit, 0
        tensors: list[torch.Tensor] = []
        if single:
            size = -(-size // CACHE_BLOCK) * CACHE_BLOCK
            if prefix and prefix.tree is self.tree:
                cached = prefix.common_prefix(self.tree, ids[0].tolist())
                tensors, self._captured = _grown(prefix, size)
                self._capture_tried = self._captured is not None
                size = tensors[0].shape[2]
        logits, self._tensors = prefill(
            self.tree, ids[:, cached:], positions[:, cached:], mask, size, tensors
        )
        # columns beyond the current length stay masked; each step unmasks one more
        self._mask = torch.zeros(len(ids), 1, 1, size, dtype=torch.bool, device=self.device)
        self._mask[:, 0, 0, : self._length] = mask.bool()
        return logits

    def prefix_cache(self, prompt: Sequence[int], response: Sequence[int]) -> list[PrefixCache]:
        """The KV cache of a batch of one, in a list; [] where it cannot be reused."""
        if not self._preallocates or not self._length or len(self._positions) != 1:
            return []
        ids = [*prompt, *response][: self._length]  # the last token was sampled but never run
        captured = self._captured if self._step_capture.on_gpu else None
        return [PrefixCache(self.tree, ids, self._tensors, captured)]

    def should_compact(self, active: int) -> bool:
        """Whether to drop finished rows when `active` rows go on. A CUDA graph is captured for one
        batch size and an idle row costs it little, so there only once half of the rows are done;
        elsewhere an eighth, as all rows that go on are copied."""
        rows = len(self._positions)
        if self._step_capture.on_gpu and self._captured:
            return 2 * active <= rows
        return 8 * active <= 7 * rows

    def keep(self, rows: torch.Tensor) -> None:
        """Drops all rows but these: indices (N,) int64."""
        self._positions = self._positions[rows]
        if self._preallocates:
            if self._step_capture.on_gpu:  # a graph is bound to these tensors and keeps them alive
                self._captured, self._capture_tried = None, False
            self._select(rows)
        else:
            self._mask = self._mask[rows]
            self._cache.reorder_cache(cast(torch.LongTensor, rows))

    def _select(self, rows: torch.Tensor) -> None:
        """Index layer by layer; peak memory is one extra tensor."""
        self._mask = self._mask[rows]
        for i, tensor in enumerate(self._tensors):
            self._tensors[i] = tensor[rows]

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Runs the sampled tokens (B,) int64; returns logits (B, V) of the next ones."""
        self._positions = self._positions + 1
        self._length += 1
        ids = tokens[:, None]
        if not self._preallocates:
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(ids), 1)], -1)
            result: torch.Tensor = self.tree(
                input_ids=ids,
                attention_mask=self._mask,
                position_ids=self._positions,
                past_key_values=self._cache,
                use_cache=True,
            ).logits[:, -1]
            return result
        self._mask[..., self._length - 1] = True
        # a CUDA graph needs fixed sizes, so on a GPU a step attends over the whole allocation
        width = self._mask.shape[-1] if self._step_capture.on_gpu else self._length
        slot = torch.tensor([self._length - 1], device=self.device)
        tensors = [t[:, :, :width] for t in self._tensors]
        inputs = (ids, self._positions, self._mask[..., :width], slot, *tensors)
        if not self._capture_tried:
            self._capture_tried = True
            self._captured = self._step_capture.capture(self.tree, inputs)
        return self._captured(*inputs) if self._captured else decode_step(self.tree, *inputs)


def _grown(prefix: PrefixCache, size: int) -> tuple[list[torch.Tensor], CapturedStep | None]:
    """The tensors of `prefix`, copied into larger ones if they hold fewer than `size` tokens. A
    captured step survives only if nothing was copied."""
    if prefix.tensors[0].shape[2] >= size:
        return prefix.tensors, prefix.captured
    tensors = []
    for old in prefix.tensors:
        larger = old.new_zeros(1, old.shape[1], size, old.shape[3])
        larger[:, :, : len(prefix.ids)] = old[:, :, : len(prefix.ids)]
        tensors.append(larger)
    return tensors, None


def left_pad(
    rows: Sequence[Sequence[int]], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of token ids -> input_ids, attention_mask, position_ids: (B, T) int64, right-aligned."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)
