"""The practice of a round: PPO on the policy tree, rollouts and a few epochs on them in turns.

Left out: one update of it (ppo_trainer.py), whether what came of it is good (evaluation.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rlhf_chat.feedback.replies import Prompt
from rlhf_chat.inference.generate import Response
from rlhf_chat.inference.model import Model
from rlhf_chat.reward.features import Floats, baseline_features
from rlhf_chat.training.context import RoundContext
from rlhf_chat.training.ppo import PPOConfig
from rlhf_chat.training.ppo_trainer import PPOTrainer, Rollouts, Scorer, mask_unlikely


def run_ppo(context: RoundContext, practice: Sequence[Prompt]) -> None:
    """PPO on the policy tree: `updates` times rollouts and a few epochs on them."""
    model, config, report, check = (
        context.extractor.model,
        context.config,
        context.report,
        context.check,
    )
    ppo_trainer, score = _ppo_trainer(context), _scorer(context, practice)
    rng = np.random.default_rng(context.seed)

    def collect(update: int) -> tuple[Rollouts, dict[str, float]]:
        numbers = _draw_prompts(len(practice), config.ppo, rng)
        prompt_ids = [practice[n].ids for n in numbers]
        return ppo_trainer.collect(prompt_ids, numbers, score, context.seed + 1000 + update, check)

    safe = model.policy_state()
    spent, limit = 0.0, config.gate.max_kl_over_target
    for update in range(config.ppo.updates):
        done = 0.1 + 0.8 * update / config.ppo.updates
        report("rollouts", done, update, {})
        rollouts, stats = collect(update)
        while update == 0 and _made_room(context, stats["kl"]):
            rollouts, stats = collect(update)
        spent = stats["kl"] if update == 0 else 0.5 * (spent + stats["kl"])  # one batch is noisy
        if max(spent, stats["kl"] / limit) > context.target:  # more of it would only cost language
            report("ppo", done, update, stats)
            if stats["kl"] > limit * context.target:
                model.set_policy(safe)  # the last step went too far: back to before it
            break
        safe = model.policy_state()
        report("ppo", done, update, {})
        stats |= ppo_trainer.update(rollouts, context.seed + update, check)
        report("ppo", done, update, stats)


def shrink(model: Model, factor: float) -> None:
    """Moves the policy back towards the base: its LoRA change times `factor`. KL falls with about
    the square of it, so a candidate that went too far keeps most of what it learned."""
    state = model.policy_state()
    model.set_policy({k: v * factor if "lora_B" in k else v for k, v in state.items()})


def _made_room(context: RoundContext, kl: float) -> bool:
    """Whether a parent that has spent most of the KL budget gave a part of it back: what was said
    since could otherwise change nothing."""
    most = context.config.kl_at_start * context.target
    if not kl > 1.25 * most:  # one batch is noisy
        return False
    shrink(context.extractor.model, math.sqrt(most / kl))
    return True


def _ppo_trainer(context: RoundContext) -> PPOTrainer:
    model, scorer, references = (
        context.extractor.model,
        context.scorer,
        context.base_stats.references,
    )
    base_features = map(scorer.features, references)
    spread = np.concatenate([scorer.score(x - x.mean(0)) for x in base_features])
    return PPOTrainer(
        model,
        context.config.ppo,
        target=context.target,
        score_std=float(spread.std()),
        floor=context.floor,
        base_ends=float(np.mean([e for r in references for e in r.ended(model.end_ids)])),
        demonstrations=mask_unlikely(model, context.demonstrations, context.floor, context.check),
    )


def _scorer(context: RoundContext, practice: Sequence[Prompt]) -> Scorer:
    """Scores by the taste, relative to what the base says to the same prompt, flaws charged."""
    extractor, scorer, limit = context.extractor, context.scorer, context.config.ppo.max_new_tokens
    zero: dict[int, Floats] = {}  # of the prompts that came up: after an import most never do

    def zeros(numbers: Sequence[int]) -> Floats:
        new = [n for n in dict.fromkeys(numbers) if n not in zero]
        if new:
            asked = [practice[n] for n in new]
            found = baseline_features(asked, extractor, scorer.feature_map, limit, context.check)
            zero.update(zip(new, found, strict=True))
        return np.stack([zero[n] for n in numbers])

    def score(
        numbers: Sequence[int], responses: Sequence[Response], pooled: torch.Tensor
    ) -> NDArray[np.float64]:
        texts = [extractor.model.decode(r.ids) for r in responses]
        x = scorer.measure([practice[n].text for n in numbers], texts, pooled.numpy())
        return scorer.score(x - zeros(numbers)) - scorer.penalty(texts)

    return score


def _draw_prompts(count: int, config: PPOConfig, rng: np.random.Generator) -> list[int]:
    """Prompt numbers for one batch: `group` responses for each of rollouts / group prompts."""
    wanted = max(config.rollouts // config.group, 1)
    chosen = rng.choice(count, size=wanted, replace=wanted > count)
    return [int(n) for n in chosen for _ in range(config.group)]
