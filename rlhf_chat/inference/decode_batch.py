"""The rows of a batch, token by token: what each step is asked, in the fastest way there is.

On models that allow it a step is written into room made beforehand (kv_cache.py) and replayed from
a recording (graph_capture.py); all others are asked the ordinary way. What a reply has read is left
to the next turn. Left out: sampling (generate.py).
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

CACHE_BLOCK = 256  # a single row's room is a multiple of it, so that the next turn finds place, too


@dataclass
class PrefixCache:
    """What a reply left behind: keys and values of every token read or said, for the next turn."""

    tree: Any
    ids: list[int]
    tensors: list[torch.Tensor]  # (1, G, T, D) each, with room for more
    recording: CapturedStep | None  # of a step into these tensors

    def shared(self, tree: Any, prompt: Sequence[int]) -> int:
        """How many tokens at its beginning this prompt has in common; one is always read anew."""
        if tree is not self.tree:
            return 0
        pairs = zip(self.ids, prompt[:-1], strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


class DecodeBatch:
    """The rows of a batch, from their prompts on: logits for each next token."""

    def __init__(self, tree: Any, pad: int, limit: int, recorder: StepCapture) -> None:
        self.tree, self._pad, self._limit, self._recorder = tree, pad, limit, recorder
        self.device = next(tree.parameters()).device
        self._recordable = can_capture(tree)
        self._recording: CapturedStep | None = None
        self._tried = isinstance(tree, FusedDecoder)  # to record; that one needs no recording
        self._length = 0  # tokens read so far
        self._tensors: list[torch.Tensor] = []  # room, where steps are recordable
        self._mask: torch.Tensor  # (B, 1, 1, T) bool for room, (B, T) for a cache

    def begin(
        self, prompts: Sequence[Sequence[int]], left: PrefixCache | None = None
    ) -> torch.Tensor:
        """Reads the prompts, each distinct one once, and of a single one only what the turn before
        has not `left`; logits (B, V) of the first tokens."""
        distinct = list(dict.fromkeys(map(tuple, prompts)))
        ids, mask, positions = left_pad(distinct, self._pad, self.device)
        number = {prompt: i for i, prompt in enumerate(distinct)}
        chosen = torch.tensor([number[tuple(p)] for p in prompts], device=self.device)
        self._positions = positions[chosen, -1:]
        self._length = mask.shape[1]
        if self._recordable:
            logits = self._begin_in_room(ids, mask, positions, left, len(prompts) == 1)
            if len(distinct) < len(prompts):
                self._take(chosen)
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
        return logits[chosen]

    def _begin_in_room(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        left: PrefixCache | None,
        alone: bool,
    ) -> torch.Tensor:
        size, known = self._length + self._limit, 0
        tensors: list[torch.Tensor] = []
        if alone:
            size = -(-size // CACHE_BLOCK) * CACHE_BLOCK
            if left and left.tree is self.tree:
                known = left.shared(self.tree, ids[0].tolist())
                tensors, self._recording = _with_room(left, size)
                self._tried = self._recording is not None
                size = tensors[0].shape[2]
        logits, self._tensors = prefill(
            self.tree, ids[:, known:], positions[:, known:], mask, size, tensors
        )
        # beyond its length a row sees nothing; a step shows it one place more
        self._mask = torch.zeros(len(ids), 1, 1, size, dtype=torch.bool, device=self.device)
        self._mask[:, 0, 0, : self._length] = mask.bool()
        return logits

    def leave(self, prompt: Sequence[int], response: Sequence[int]) -> list[PrefixCache]:
        """What the next turn may use of a reply in a batch of its own; nothing where it cannot."""
        if not self._recordable or not self._length or len(self._positions) != 1:
            return []
        ids = [*prompt, *response][: self._length]  # the last token was said, but never read
        return [
            PrefixCache(
                self.tree, ids, self._tensors, self._recording if self._recorder.on_card else None
            )
        ]

    def worth_shrinking(self, going: int) -> bool:
        """Whether rows that have ended should leave when so many go on. A recording on a card is of
        a fixed number of rows, and a row more costs it next to nothing."""
        return not (self._recorder.on_card and self._recording) or 2 * going <= len(self._positions)

    def keep(self, rows: torch.Tensor) -> None:
        """Only these rows go on."""
        self._positions = self._positions[rows]
        if self._recordable:
            if self._recorder.on_card:  # a graph is of these very tensors, and holds them
                self._recording, self._tried = None, False
            self._take(rows)
        else:
            self._mask = self._mask[rows]
            self._cache.reorder_cache(cast(torch.LongTensor, rows))

    def _take(self, rows: torch.Tensor) -> None:
        """One tensor after the other, so that the room is never held twice."""
        self._mask = self._mask[rows]
        for i, tensor in enumerate(self._tensors):
            self._tensors[i] = tensor[rows]

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (B,) that were said -> logits (B, V) of the next."""
        self._positions = self._positions + 1
        self._length += 1
        ids = tokens[:, None]
        if not self._recordable:
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(ids), 1)], -1)
            return self.tree(
                input_ids=ids,
                attention_mask=self._mask,
                position_ids=self._positions,
                past_key_values=self._cache,
                use_cache=True,
            ).logits[:, -1]
        self._mask[..., self._length - 1] = True
        # a graph needs fixed sizes, so on a card a step looks at all the room
        reach = self._mask.shape[-1] if self._recorder.on_card else self._length
        slot = torch.tensor([self._length - 1], device=self.device)
        tensors = [t[:, :, :reach] for t in self._tensors]
        inputs = (ids, self._positions, self._mask[..., :reach], slot, *tensors)
        if not self._tried:
            self._tried, self._recording = True, self._recorder.capture(self.tree, inputs)
        return self._recording(*inputs) if self._recording else decode_step(self.tree, *inputs)


def _with_room(left: PrefixCache, size: int) -> tuple[list[torch.Tensor], CapturedStep | None]:
    """What was left, moved to a larger place if it is too small."""
    if left.tensors[0].shape[2] >= size:
        return left.tensors, left.recording
    tensors = []
    for old in left.tensors:
        made = old.new_zeros(1, old.shape[1], size, old.shape[3])
        made[:, :, : len(left.ids)] = old[:, :, : len(left.ids)]
        tensors.append(made)
    return tensors, None


def left_pad(
    rows: Sequence[Sequence[int]], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of token ids -> input_ids, attention_mask, position_ids, each (B, T), right-aligned."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)
