"""What a version of a model can still do: right answers, instructions followed, loss on prose.

The questions and checks are in abilities.py. Replies are greedy, so that two equal versions get
equal numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from bench import abilities
from rlhf_chat.inference import forward_pass
from rlhf_chat.inference.generate import Sampling

TOKENS = 64  # of a reply
BATCH = 50  # replies at once


class Kept(NamedTuple):
    """Shares in 0..1; nats per token."""

    right: float
    followed: float
    median_loss: float


def kept_abilities(model, view) -> Kept:
    """Asks one version (a ModelView) everything there is. For another version than the base,
    `model.policy` must hold the same adapter."""
    questions, instructions = abilities.questions(), abilities.instructions()
    replies = greedy(model, view, [q.text for q in questions] + [i.text for i in instructions])
    answers, done = replies[: len(questions)], replies[len(questions) :]
    right = [abilities.is_right(q, r) for q, r in zip(questions, answers, strict=True)]
    followed = [abilities.is_followed(i, r) for i, r in zip(instructions, done, strict=True)]
    loss = median_loss(model, model.policy if view.version else model.reference)
    return Kept(float(np.mean(right)), float(np.mean(followed)), loss)


def greedy(model, view, prompts: Sequence[str]) -> list[str]:
    """One reply to each prompt."""
    ids = [model.encode([{"role": "user", "content": p}]) for p in prompts]
    sampling, replies = Sampling(temperature=0.0, max_new_tokens=TOKENS), []
    for start in range(0, len(ids), BATCH):
        replies += model.sample(view, ids[start : start + BATCH], sampling, seed=0)
    return [model.decode(r.ids) for r in replies]


def median_loss(model, view) -> float:
    """Median over the tokens of a page of prose, each paragraph read by itself, temperature 1."""
    losses = []
    for paragraph in abilities.page().split("\n\n"):
        ids = model.tokenizer.encode(paragraph, add_special_tokens=False)
        with model.lease.slice(), torch.no_grad():
            out = forward_pass.forward(model, view, [ids[:1]], [ids[1:]], temperature=1.0)
        losses.append(-out.logprobs[0])
    return float(torch.cat(losses).median())
