"""One round: feedback snapshot + parent adapter + seed -> candidate adapter and verdict.

Reads as the recipe: references, reward head, PPO, probe, gate. It changes nothing but the policy
tree, writes nothing but caches (what replies measure, what the base says) and serves nobody, so it
can be stopped or fail at any point without a trace. Left out: when a round starts and what becomes
of its candidate (worker.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from rlhf_chat.feedback.snapshot import Snapshot
from rlhf_chat.reward import dataset, reward_model
from rlhf_chat.reward.features import FeatureExtractor, Floats, logprob_floor
from rlhf_chat.reward.reward_model import RewardHead
from rlhf_chat.reward.scorer import BaseStatistics, RewardModel
from rlhf_chat.training import algorithm, demonstrations, evaluation, gate, ppo, ppo_loop
from rlhf_chat.training.context import (
    Check,
    Report,
    RoundConfig,
    RoundContext,
    longest_row,
)
from rlhf_chat.training.gate import EvalResult, Verdict
from rlhf_chat.training.report import build_report


@dataclass(frozen=True)
class Outcome:
    verdict: Verdict
    state: dict[str, torch.Tensor] | None  # the candidate, if there is one
    kl: float
    head: RewardHead | None
    measured: EvalResult | None
    card: dict[str, Any] = field(default_factory=dict)  # why, in plain words; see `card`


def run(
    snapshot: Snapshot,
    parent: Mapping[str, torch.Tensor],
    extractor: FeatureExtractor,
    config: RoundConfig,
    seed: int,
    report: Report,
    check: Check,
) -> Outcome:
    """The whole round. Raises whatever `check` raises, and FloatingPointError on a bad gradient."""
    model, tokens = extractor.model, config.ppo.max_new_tokens
    report("features", 0.0, 0, {})
    base_stats = BaseStatistics.of(extractor, config.scorer, tokens, check)

    report("reward head", 0.08, 0, {})
    told = dataset.build_dataset(
        snapshot, extractor, base_stats.feature_map, tokens, config.reward.both_weight, check
    )
    if not len(told):
        verdict = gate.nothing_to_learn(0, 1.0, config.gate)
        return Outcome(verdict, None, 0.0, None, None)
    fit = reward_model.fit(told, base_stats.feature_map.named, config.reward, seed)
    report("reward head", 0.1, 0, _fit_numbers(fit))
    tier = gate.reward_tier(fit.labels, fit.p_value, config.gate)
    if tier == gate.DISCARDED:
        verdict = gate.nothing_to_learn(fit.labels, fit.p_value, config.gate)
        return Outcome(verdict, None, 0.0, fit.head, None)

    target = ppo.kl_target(fit.effective)
    if tier == gate.PROVISIONAL:
        target *= config.provisional_kl
    context = RoundContext(
        told=told,
        fit=fit,
        scorer=RewardModel(fit.head, base_stats.feature_map, config.scorer),
        base_stats=base_stats,
        target=target,
        demonstrations=demonstrations.from_snapshot(snapshot, longest_row(model)),
        floor=logprob_floor(base_stats.references),
        extractor=extractor,
        config=config,
        seed=seed,
        report=report,
        check=check,
    )
    model.set_policy(parent)
    own = [p for p in snapshot.prompts if len(p.ids) + tokens <= longest_row(model)]
    algorithm.by_name(config.algorithm)(context, own + base_stats.bank)
    verdict, measured, direction = at_the_gate(context)
    why = build_report(context, snapshot, direction)
    return Outcome(verdict, model.policy_state(), measured.kl, fit.head, measured, why)


def at_the_gate(context: RoundContext) -> tuple[Verdict, EvalResult, Floats]:
    """The gate's word on the candidate, which is shrunk and tried again while all that is wrong is
    how far it went. What leaves here is what was measured: numbers, and `evaluation.probe`'s
    direction (D,)."""
    config = context.config
    for attempt in range(config.attempts):
        context.report("gate", 0.9, 0, {})
        measured, direction = evaluation.probe(context)
        verdict = gate.judge(measured, config.gate)
        context.report("gate", 1.0, attempt, evaluation.as_numbers(measured))
        last = attempt == config.attempts - 1
        if last or verdict.promoted or not gate.went_too_far(verdict):
            break
        step = math.sqrt(context.target / max(measured.kl, 1e-9))
        ppo_loop.shrink(context.extractor.model, min(config.shrink, step))
    return verdict, measured, direction


def _fit_numbers(fit: reward_model.Fit) -> dict[str, float]:
    return {
        "labels": fit.labels,
        "effective_labels": fit.effective,
        "head_p_value": fit.p_value,
        "head_accuracy": fit.accuracy,
        "head_log_loss": fit.log_loss,
    }
