"""One round: feedback snapshot + parent adapter + seed -> candidate adapter and verdict.

Reads as the recipe: references, reward head, PPO, probe, gate. It changes nothing but the policy
tree, writes nothing but caches (what replies measure, what the base says) and serves nobody, so it
can be stopped or fail at any point without a trace. Left out: when a round starts and what becomes
of its candidate (trainer.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from rlhf_chat.preference import evidence, reward
from rlhf_chat.preference.gauge import Floats, Gauge, fluency_floor
from rlhf_chat.preference.reward import RewardHead
from rlhf_chat.preference.said import Snapshot
from rlhf_chat.preference.taste import Ground, Taste
from rlhf_chat.training import card, evaluation, gate, ppo, practice
from rlhf_chat.training.gate import Measured, Verdict
from rlhf_chat.training.plan import Check, Plan, Report, RoundConfig, demonstrations, longest_row


@dataclass(frozen=True)
class Outcome:
    verdict: Verdict
    state: dict[str, torch.Tensor] | None  # the candidate, if there is one
    kl: float
    head: RewardHead | None
    measured: Measured | None
    card: dict[str, Any] = field(default_factory=dict)  # why, in plain words; see `card`


def run(
    snapshot: Snapshot,
    parent: Mapping[str, torch.Tensor],
    gauge: Gauge,
    config: RoundConfig,
    seed: int,
    report: Report,
    check: Check,
) -> Outcome:
    """The whole round. Raises whatever `check` raises, and FloatingPointError on a bad gradient."""
    model, tokens = gauge.model, config.ppo.max_new_tokens
    report("features", 0.0, 0, {})
    ground = Ground.of(gauge, config.taste, tokens, check)

    report("reward head", 0.08, 0, {})
    told = evidence.build(
        snapshot, gauge, ground.feature_map, tokens, config.reward.both_weight, check
    )
    if not len(told):
        verdict = gate.nothing_to_learn(0, 1.0, config.gate)
        return Outcome(verdict, None, 0.0, None, None)
    fit = reward.fit(told, ground.feature_map.named, config.reward, seed)
    report("reward head", 0.1, 0, _fit_numbers(fit))
    tier = gate.reward_tier(fit.labels, fit.p_value, config.gate)
    if tier == gate.DISCARDED:
        verdict = gate.nothing_to_learn(fit.labels, fit.p_value, config.gate)
        return Outcome(verdict, None, 0.0, fit.head, None)

    target = ppo.kl_target(fit.effective)
    if tier == gate.PROVISIONAL:
        target *= config.provisional_kl
    plan = Plan(
        told=told,
        fit=fit,
        taste=Taste(fit.head, ground.feature_map, config.taste),
        ground=ground,
        target=target,
        demonstrations=demonstrations(snapshot, longest_row(model)),
        floor=fluency_floor(ground.references),
        gauge=gauge,
        config=config,
        seed=seed,
        report=report,
        check=check,
    )
    model.set_policy(parent)
    own = [p for p in snapshot.prompts if len(p.ids) + tokens <= longest_row(model)]
    practice.practise(plan, own + ground.bank)
    verdict, measured, direction = at_the_gate(plan)
    why = card.of(plan, snapshot, direction)
    return Outcome(verdict, model.policy_state(), measured.kl, fit.head, measured, why)


def at_the_gate(plan: Plan) -> tuple[Verdict, Measured, Floats]:
    """The gate's word on the candidate, which is shrunk and tried again while all that is wrong is
    how far it went. What leaves here is what was measured: numbers, and `evaluation.probe`'s
    direction (D,)."""
    config = plan.config
    for attempt in range(config.attempts):
        plan.report("gate", 0.9, 0, {})
        measured, direction = evaluation.probe(plan)
        verdict = gate.judge(measured, config.gate)
        plan.report("gate", 1.0, attempt, evaluation.as_numbers(measured))
        last = attempt == config.attempts - 1
        if last or verdict.promoted or not gate.went_too_far(verdict):
            break
        step = math.sqrt(plan.target / max(measured.kl, 1e-9))
        practice.shrink(plan.gauge.model, min(config.shrink, step))
    return verdict, measured, direction


def _fit_numbers(fit: reward.Fit) -> dict[str, float]:
    return {
        "labels": fit.labels,
        "effective_labels": fit.effective,
        "head_p_value": fit.p_value,
        "head_accuracy": fit.accuracy,
        "head_log_loss": fit.log_loss,
    }
