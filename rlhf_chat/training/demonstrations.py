"""Corrected replies as demonstrations: what the supervised term of the loss imitates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

import numpy as np
import torch

from rlhf_chat.feedback.snapshot import Snapshot
from rlhf_chat.inference import forward_pass
from rlhf_chat.inference.model import Model
from rlhf_chat.reward import dataset

KEPT_WEIGHT = 0.2  # of a token that a correction left as it was


class Demonstration(NamedTuple):
    """A corrected reply with the weight of each of its tokens."""

    prompt: Sequence[int]
    response: Sequence[int]
    weights: Sequence[float]  # one for each token of the response
    worth: float = 1.0  # of the whole: little for a corrected typo


def from_snapshot(snapshot: Snapshot, max_tokens: int) -> list[Demonstration]:
    """Every corrected reply of at most `max_tokens`, its prompt included. Unchanged tokens count a
    fifth of changed ones, and a small edit counts little (`dataset.correction_weight`)."""
    found = []
    for item in snapshot.items:
        if item.kind == "correction":
            edited, original = item.replies
            if len(edited.prompt.ids) + len(edited.ids) > max_tokens:
                continue
            matcher = SequenceMatcher(None, original.ids, edited.ids, autojunk=False)
            weights = np.ones(len(edited.ids))
            for block in matcher.get_matching_blocks():
                weights[block.b : block.b + block.size] = KEPT_WEIGHT
            worth = dataset.correction_weight(item)
            found.append(Demonstration(edited.prompt.ids, edited.ids, weights.tolist(), worth))
    return found


def mask_unlikely(
    model: Model,
    demonstrations: Sequence[Demonstration],
    floor: float,
    check: Callable[[], None] = lambda: None,
) -> list[Demonstration]:
    """Sets the weight of tokens to 0 that the base would never write (log-prob under `floor`), and
    drops demonstrations without any weight left. Tens of corrections cannot teach such tokens, and
    trying to damages the language."""
    found = []
    for item in demonstrations:
        with model.lease.slice(), torch.no_grad():
            out = forward_pass.forward(
                model, model.reference_in_slices, [item.prompt], [item.response]
            )
        token_logprobs = out.logprobs[0][out.mask[0].bool()].tolist()
        weights = [
            w if p >= floor else 0.0 for w, p in zip(item.weights, token_logprobs, strict=True)
        ]
        if any(weights):
            found.append(item._replace(weights=weights))
        check()
    return found


def choose(
    demonstrations: Sequence[Demonstration], count: int, rng: np.random.Generator
) -> list[Demonstration]:
    """At most `count` of them, at random."""
    if not demonstrations:
        return []
    chosen = rng.choice(len(demonstrations), size=min(count, len(demonstrations)), replace=False)
    return [demonstrations[i] for i in chosen]
