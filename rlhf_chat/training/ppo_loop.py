"""Online policy-gradient training: rollouts and updates in turns, within a KL budget.

`run_ppo` and `run_rloo` are two algorithms (algorithm.py) that share this loop, the rewards and the
clipped surrogate loss, and differ in the advantage estimator. One update is in ppo_trainer.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rlhf_chat.feedback.replies import Prompt
from rlhf_chat.inference.generate import Response
from rlhf_chat.reward.features import Floats
from rlhf_chat.reward.prompt_sets import RETAINED_TEXTS
from rlhf_chat.training import policy, ppo, round_cost
from rlhf_chat.training.advantages import AdvantageEstimator, Critic, LeaveOneOut
from rlhf_chat.training.context import RoundContext
from rlhf_chat.training.demonstrations import mask_unlikely
from rlhf_chat.training.ppo import PPOConfig
from rlhf_chat.training.ppo_trainer import PPOTrainer, Rollouts, Scorer
from rlhf_chat.training.retention import Retention

# Responses that the base's four to a prompt count for in a leave-one-out baseline: fewer, since the
# policy improves more on some prompts than on others.
BASE_REPLIES = 2.0
Advance = Callable[[float], None]  # takes the share of a piece of work that is done, 0..1


def run_ppo(context: RoundContext, prompts: Sequence[Prompt]) -> None:
    """Proximal policy optimisation: advantages from a critic (GAE)."""
    model = context.extractor.model
    _train(context, prompts, Critic(model.config.hidden_size, model.device, context.config.ppo))


def run_rloo(context: RoundContext, prompts: Sequence[Prompt]) -> None:
    """REINFORCE leave-one-out: no critic, the other responses to a prompt are the baseline, and
    the base's own, which all rewards are relative to."""
    _train(context, prompts, LeaveOneOut(context.config.ppo, BASE_REPLIES))


def _train(context: RoundContext, prompts: Sequence[Prompt], estimator: AdvantageEstimator) -> None:
    """`updates` times rollouts and a few epochs on them, until the KL target is reached or
    the round's time is nearly over."""
    model, config = context.extractor.model, context.config
    ppo_trainer, score = _ppo_trainer(context, estimator), _scorer(context, prompts)
    batches = prompt_batches(len(prompts), config.ppo, np.random.default_rng(context.seed))

    def collect(update: int) -> tuple[Rollouts, dict[str, float]]:
        numbers = next(batches)
        prompt_ids = [prompts[n].ids for n in numbers]
        seed, advance = context.seed + 1000 + update, begin("rollouts", update)
        return ppo_trainer.collect(prompt_ids, numbers, score, seed, context.check, advance)

    def begin(phase: str, update: int, stats: Mapping[str, float] | None = None) -> Advance:
        """Reports the state after so many updates; the result reports within the next one."""

        def advance(share: float) -> None:
            context.report(phase, (update + share) / config.ppo.updates, update, {})

        context.report(phase, update / config.ppo.updates, update, stats or {})
        return advance

    within_budget = model.policy_state()
    first = kl = 0.0
    limit = config.gate.max_kl_over_target
    gate = round_cost.updates_for_gate(config, round_cost.response_cost(model, config))
    context.budget.updates_begin()
    for update in range(config.ppo.updates):
        if not context.budget.allows_another(update, gate):
            break
        rollouts, stats = collect(update)
        while update == 0 and _shrink_parent(context, stats["kl"]):
            rollouts, stats = collect(update)
        if update == 0:
            first = kl = stats["kl"]
        kl = 0.5 * (kl + stats["kl"])  # one batch is noisy
        remaining = ppo.updates_to_target(first, kl, update, context.target)
        context.budget.expect(remaining, gate)
        if max(kl, stats["kl"] / limit) > context.target:  # more would only cost language
            begin("ppo", update, stats)
            if stats["kl"] > limit * context.target:
                model.set_policy(within_budget)  # undo the last step, which went too far
            break
        within_budget = model.policy_state()
        advance = begin("ppo", update)
        stats |= ppo_trainer.update(rollouts, context.seed + update, context.check, advance)
        context.report("ppo", (update + 1) / config.ppo.updates, update, stats)


def _shrink_parent(context: RoundContext, kl: float) -> bool:
    """Whether the parent had used most of the KL budget and was moved back towards the base:
    feedback given since could otherwise change nothing."""
    most = context.config.kl_at_start * context.target
    if not kl > 1.25 * most:  # one batch is noisy
        return False
    policy.shrink(context.extractor.model, math.sqrt(most / kl))
    return True


def _ppo_trainer(context: RoundContext, estimator: AdvantageEstimator) -> PPOTrainer:
    model, scorer = context.extractor.model, context.scorer
    references = context.base_stats.references
    base_features = map(scorer.features, references)
    base_scores = np.concatenate([scorer.score(x - x.mean(0)) for x in base_features])
    return PPOTrainer(
        model,
        context.config.ppo,
        target=context.target,
        score_std=float(base_scores.std()),
        floor=context.floor,
        base_ends=float(np.mean([e for r in references for e in r.ended(model.end_ids)])),
        demonstrations=mask_unlikely(model, context.demonstrations, context.floor, context.check),
        retention=_retention(context),
        estimator=estimator,
        generator=context.extractor.generator,
    )


def _retention(context: RoundContext) -> Retention | None:
    """None for a model without prompts to retain."""
    if not context.retained:
        return None
    rows = context.config.ppo.retention_rows
    return Retention(context.extractor.model, context.retained, RETAINED_TEXTS, rows)


def _scorer(context: RoundContext, prompts: Sequence[Prompt]) -> Scorer:
    """Rewards by the reward model, minus the penalty for degeneration, relative to what the base's
    own replies to the same prompt get on average: an unchanged policy gets 0."""
    extractor, scorer, limit = context.extractor, context.scorer, context.config.ppo.max_new_tokens
    # (mean features (D,), reward) of the base for the prompts drawn: after an import most never are
    known: dict[int, tuple[Floats, float]] = {}

    def baselines(numbers: Sequence[int]) -> tuple[Floats, Floats]:
        new = [n for n in dict.fromkeys(numbers) if n not in known]
        drawn = [prompts[n] for n in new]
        with context.budget.beside():
            found = extractor.references(drawn, limit, context.check) if new else []
        for n, reference in zip(new, found, strict=True):
            known[n] = scorer.features(reference).mean(0), scorer.baseline(reference)
        return (
            np.stack([known[n][0] for n in numbers]),
            np.array([known[n][1] for n in numbers]),
        )

    def score(
        numbers: Sequence[int], responses: Sequence[Response], pooled: torch.Tensor
    ) -> NDArray[np.float64]:
        texts = [extractor.model.decode(r.ids) for r in responses]
        x = scorer.measure([prompts[n].text for n in numbers], texts, pooled.numpy())
        center, base = baselines(numbers)
        return scorer.score(x - center) - scorer.penalty(texts) - base

    return score


def prompt_batches(count: int, config: PPOConfig, rng: np.random.Generator) -> Iterator[list[int]]:
    """Numbers of the prompts of one batch after another: `group` responses for each of
    rollouts / group prompts. Every one of the `count` prompts has its turn before any comes again,
    in a new order each time: what is learned from more prompts holds for more (docs/LOG.md)."""
    wanted = max(config.rollouts // config.group, 1)
    waiting: list[int] = []
    while True:
        while len(waiting) < wanted:
            waiting += rng.permutation(count).tolist()
        chosen, waiting = waiting[:wanted], waiting[wanted:]
        yield [n for n in chosen for _ in range(config.group)]
