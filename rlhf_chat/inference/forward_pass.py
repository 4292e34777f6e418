"""What a forward pass over prompts and responses gives: values, and pure functions on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch


class TreePass(NamedTuple):
    """One forward pass over prompt + response, without the output layer; right-aligned."""

    final: torch.Tensor  # (B, R + 1, H) last hidden state, from before each response's first token
    mask: torch.Tensor  # (B, R) bool, True on response tokens
    targets: torch.Tensor  # (B, R) int64 the response tokens
    middle: torch.Tensor  # (B, R, H) hidden state at each token after 2/3 of the layers
    lower: torch.Tensor | None  # see `ForwardOutput`


class ForwardOutput(NamedTuple):
    """One forward pass over prompt + response. All tensors are float32 and right-aligned: the last
    column is the last token of each response. Only `logprobs` has a gradient."""

    logprobs: torch.Tensor  # (B, R) of each response token, 0 on padding
    mask: torch.Tensor  # (B, R) 1 on response tokens
    hidden: torch.Tensor  # (B, R, H) last hidden state before each token: the one that predicts it
    states: torch.Tensor  # (B, R, H) last hidden state at each token
    middle: torch.Tensor  # (B, R, H) hidden state at each token after 2/3 of the layers
    # (B, T, H) in the compute dtype, before the first trained layer: what `forward` need not
    # compute again for the same rows. None where it always does.
    lower: torch.Tensor | None


class BaseStates(NamedTuple):
    """What the frozen base makes of a micro-batch with T response tokens."""

    final: torch.Tensor  # (T, H) last hidden state before each of them, in the compute dtype
    lower: torch.Tensor | None  # see `ForwardOutput`


# Rows of a batch -> `ForwardOutput.lower` of it.
LowerStates = dict[tuple[int, ...], torch.Tensor]


class ReferencePass(NamedTuple):
    """The frozen base on N responses; float32 on the CPU but for `lower`."""

    logprobs: list[torch.Tensor]  # (len,) each
    pooled: torch.Tensor  # (N, 4H), see `pool_states`
    lower: LowerStates  # what the policy need not compute again


def pool_states(out: ForwardOutput) -> torch.Tensor:
    """(B, 4H): [middle at the last token, mean of middle, states at the last token, mean of
    states], means over response tokens."""
    weights = out.mask / out.mask.sum(-1, keepdim=True).clamp(min=1)
    parts = []
    for states in (out.middle, out.states):
        parts += [states[:, -1], torch.einsum("brh,br->bh", states, weights)]
    return torch.cat(parts, -1)


def by_row(rows: Sequence[int], out: ForwardOutput) -> dict[int, torch.Tensor]:
    """Log-probs (len,) of the response in each row, float32 on the CPU."""
    return {row: out.logprobs[i, out.mask[i] > 0].cpu() for i, row in enumerate(rows)}
