"""Replies of a version to prompts it was not trained on, and measures of them.

Win rate by a hidden utility, KL from the base, degenerate and well-formed replies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.simulated_rater import Utility
from rlhf_chat.inference import forward_pass

EVERYDAY = Path(__file__).parent / "prompts" / "everyday.txt"


@dataclass
class GeneratedReply:
    """Replies of one version to the evaluation prompts."""

    texts: list[str]
    ended: list[bool]
    ids: list[list[int]]


def speak(
    model, view, prompts: Sequence[str], seed: int, max_new_tokens: int, chosen_by=None, drafts=1
) -> GeneratedReply:
    """One reply to each prompt, sampled as the app does. Of several `drafts`, what `chosen_by`
    (a RewardModelCache) would show."""
    prompts = [p for p in prompts for _ in range(drafts)]
    ids = [model.encode([{"role": "user", "content": p}]) for p in prompts]
    responses = []
    for start in range(0, len(ids), 64):
        responses += model.sample(
            view,
            ids[start : start + 64],
            model.sampling.limited(max_new_tokens),
            seed=seed + start,
        )
    if drafts > 1:
        responses = [
            best_of(model, chosen_by, prompts[i], ids[i], responses[i : i + drafts])
            for i in range(0, len(responses), drafts)
        ]
    return GeneratedReply(
        [model.decode(r.ids) for r in responses],
        [r.finished for r in responses],
        [r.ids for r in responses],
    )


def best_of(model, current, prompt: str, ids: list[int], drafts: list):
    """The draft that the chat would show."""
    from rlhf_chat.feedback.replies import Prompt, Reply

    asked = Prompt(tuple(ids), prompt)
    replies = [Reply(asked, tuple(r.ids), model.decode(r.ids)) for r in drafts]
    return drafts[current.best(current.get(), replies)]


def kl_of(model, view, prompts: Sequence[str], spoken: GeneratedReply) -> float:
    """Mean sequence KL(view || base) in nats, from the view's own samples."""
    import torch

    ids = [model.encode([{"role": "user", "content": p}]) for p in prompts]
    total = 0.0
    for start in range(0, len(ids), 32):
        part = slice(start, start + 32)
        with model.lease.slice(), torch.no_grad():
            ours = forward_pass.forward(model, view, ids[part], spoken.ids[part]).logprobs.sum()
            base = forward_pass.forward(
                model, model.reference, ids[part], spoken.ids[part]
            ).logprobs.sum()
        total += float(ours - base)
    return total / len(ids)


def degenerate(spoken: GeneratedReply) -> float:
    """Share of replies that are empty or repeat themselves: their words, or whole sentences. One
    that is cut at the limit of tokens is not counted, as most are of a model that writes at
    length; `unfinished` counts those."""
    from rlhf_chat.reward.text_features import degeneration, repeated_share

    bad = [
        not text.strip() or repeated_share(text.lower().split(), 3) > 0.2 or degeneration(text) > 0
        for text in spoken.texts
    ]
    return float(np.mean(bad))


def unfinished(spoken: GeneratedReply) -> float:
    """Share of replies that did not end within the limit of tokens."""
    return 1 - float(np.mean(spoken.ended))


def well_formed(model, prompts: Sequence[str], spoken: GeneratedReply) -> float | None:
    if not model.is_demo:
        return None
    from rlhf_chat.demo_model import grammar

    parsed = [grammar.well_formed(p, t) for p, t in zip(prompts, spoken.texts, strict=True)]
    return float(np.mean(parsed))


def win_rate(
    utility: Utility, prompts: Sequence[str], ours: GeneratedReply, base: GeneratedReply
) -> tuple[float, float, float]:
    """True win rate against the base, ties half, with a 95% interval over prompts."""
    wins = []
    for prompt, a, b in zip(prompts, ours.texts, base.texts, strict=True):
        difference = utility(prompt, a) - utility(prompt, b)
        wins.append(1.0 if difference > 0 else 0.5 if difference == 0 else 0.0)
    mean = float(np.mean(wins))
    half = 1.96 * float(np.std(wins, ddof=1)) / math.sqrt(len(wins))
    return mean, max(0.0, mean - half), min(1.0, mean + half)


def held_out_prompts(model, count: int, file: Path | None = None) -> list[str]:
    """Prompts that no round trains on and no gate reads: from `file`, one per line, else from the
    bundled model's held-out split or bench/prompts/everyday.txt."""
    if file is None and model.is_demo:
        from rlhf_chat.demo_model import corpus

        return corpus.prompts("held_out", count, 99)
    lines = (file or EVERYDAY).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip()][:count]
