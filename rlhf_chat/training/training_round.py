"""One round: feedback snapshot + parent adapter + seed -> candidate adapter and verdict.

Reads as the recipe: base statistics, reward head, training algorithm, evaluation, gate. It changes
nothing but the policy and caches, so it can be stopped or fail at any point without a trace. When a
round starts and what becomes of its candidate: worker.py, round_runner.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from rlhf_chat import faults
from rlhf_chat.feedback.replies import Prompt
from rlhf_chat.feedback.snapshot import Snapshot
from rlhf_chat.inference.model import Model
from rlhf_chat.reward import dataset, reward_model
from rlhf_chat.reward.features import (
    REPLY_BATCH,
    FeatureExtractor,
    Floats,
    Reference,
    logprob_floor,
)
from rlhf_chat.reward.likelihood import PreferenceDataset
from rlhf_chat.reward.reward_model import RewardHead
from rlhf_chat.reward.scorer import BaseStatistics, RewardModel, SuggestedPrompts
from rlhf_chat.training import (
    algorithm,
    demonstrations,
    evaluation,
    gate,
    policy,
    ppo,
    round_cost,
    round_plan,
)
from rlhf_chat.training.context import Check, Report, RoundConfig, RoundContext, longest_row
from rlhf_chat.training.gate import EvalResult, Verdict
from rlhf_chat.training.progress import CountedCheck, Stage, within
from rlhf_chat.training.report import build_report
from rlhf_chat.training.round_cost import MissingReferences, Speed
from rlhf_chat.training.time_budget import TimeBudget


@dataclass(frozen=True)
class Outcome:
    verdict: Verdict
    state: dict[str, torch.Tensor] | None  # the candidate, if there is one
    kl: float
    head: RewardHead | None
    measured: EvalResult | None
    report: dict[str, Any] = field(default_factory=dict)  # see `build_report`


def run(
    snapshot: Snapshot,
    parent: Mapping[str, torch.Tensor],
    extractor: FeatureExtractor,
    config: RoundConfig,
    seed: int,
    report: Report,
    check: Check,
    budget: TimeBudget | None = None,
) -> Outcome:
    """The whole round. Raises whatever `check` raises, and NumericError on a bad gradient.
    `budget`: of its time; without one it takes all its updates."""
    train = algorithm.by_name(config.algorithm)
    tokens = config.ppo.max_new_tokens
    base_stats, retained = _base_replies(extractor, config, report, check)
    faults.point("learn.base_measured")
    given = _measure(snapshot, base_stats, extractor, config, report, check)
    if not len(given):
        return Outcome(gate.nothing_to_learn(0, 1.0, config.gate), None, 0.0, None, None)
    fit = reward_model.fit(given, base_stats.feature_map.named, config.reward, seed)
    report("reward head", 1.0, 0, _fit_metrics(fit))
    faults.point("learn.fitted")
    tier = gate.reward_tier(fit.labels, fit.p_value, config.gate)
    if tier == gate.DISCARDED:
        verdict = gate.nothing_to_learn(fit.labels, fit.p_value, config.gate)
        return Outcome(verdict, None, 0.0, fit.head, None)

    model = extractor.model
    context = RoundContext(
        dataset=given,
        fit=fit,
        scorer=RewardModel.of(fit.head, base_stats, config.scorer),
        base_stats=base_stats,
        retained=retained,
        target=ppo.kl_target(fit.effective, base_stats.tokens)
        * (config.provisional_kl if tier == gate.PROVISIONAL else 1.0),
        demonstrations=demonstrations.from_snapshot(snapshot, longest_row(model)),
        floor=logprob_floor(base_stats.references, model.temperature),
        extractor=extractor,
        config=config,
        seed=seed,
        report=report,
        check=check,
        budget=budget or TimeBudget(0.0),
    )
    model.set_policy(parent)
    train(context, training_prompts(snapshot, base_stats.prompts, model, tokens))
    faults.point("learn.trained")
    verdict, measured, direction = at_the_gate(context)
    faults.point("learn.judged")
    why = build_report(context, snapshot, direction)
    return Outcome(verdict, model.policy_state(), measured.kl, fit.head, measured, why)


def plan(snapshot: Snapshot, extractor: FeatureExtractor, config: RoundConfig) -> list[Stage]:
    """Expected work of each phase (progress.py): what is cached is free."""
    tokens = config.ppo.max_new_tokens
    suggested = SuggestedPrompts.of(extractor, config.scorer)
    drawn = training_prompts(snapshot, suggested, extractor.model, tokens)
    known = {p.key for p in suggested.bank}
    new = [p for p in drawn if p.key not in known]
    before = MissingReferences(*extractor.reference_work(suggested.first, tokens))
    within = MissingReferences(*extractor.reference_work(new, tokens))
    replies = extractor.unmeasured([r for item in snapshot.items for r in item.replies])
    cost = round_cost.response_cost(extractor.model, config)
    return round_cost.stages(config, cost, before, within.drawn(config.ppo, len(drawn)), replies)


def begun_now(extractor: FeatureExtractor, config: RoundConfig) -> RoundConfig:
    """`config` of a round that begins now, with fewer prompts where too many of the base's replies
    to them are missing."""
    speed = Speed.of(extractor.model)
    if not (config.minutes and speed):
        return config
    first = SuggestedPrompts.of(extractor, config.scorer).first
    missing = MissingReferences(*extractor.reference_work(first, config.ppo.max_new_tokens))
    return round_plan.begun_early(config, missing, speed)


def at_the_gate(context: RoundContext) -> tuple[Verdict, EvalResult, Floats]:
    """The verdict on the candidate, which is shrunk and tried again while only its distance from
    the base fails. Returns what was measured of the last attempt: the numbers, and the difference
    of its replies from the base's in features (D,)."""
    config = context.config
    for attempt in range(config.attempts):
        measured, direction = evaluation.probe(context)
        verdict = gate.judge(measured, config.gate)
        context.report("gate", 0.9, attempt, evaluation.metrics(measured))
        last = attempt == config.attempts - 1
        if last or verdict.promoted or not gate.went_too_far(verdict):
            break
        step = math.sqrt(context.target / max(measured.kl, 1e-9))
        policy.shrink(context.extractor.model, min(config.shrink, step))
    return verdict, measured, direction


def _base_replies(
    extractor: FeatureExtractor, config: RoundConfig, report: Report, check: Check
) -> tuple[BaseStatistics, list[Reference]]:
    """Statistics of the base, and its replies to what is to be retained."""
    tokens, advance = config.ppo.max_new_tokens, _advance(report, "features")
    prompts = SuggestedPrompts.of(extractor, config.scorer)
    first, retained = prompts.bank + prompts.probes, prompts.retained
    part = len(first) / (len(first) + len(retained))
    base_stats = BaseStatistics.of(
        extractor, config.scorer, tokens, check, within(advance, 0.0, part)
    )
    return base_stats, extractor.references(retained, tokens, check, within(advance, part, 1.0))


def _measure(
    snapshot: Snapshot,
    base_stats: BaseStatistics,
    extractor: FeatureExtractor,
    config: RoundConfig,
    report: Report,
    check: Check,
) -> PreferenceDataset:
    """The feedback as numbers, ready for the fit; measuring is the first half of the phase."""
    replies = extractor.unmeasured([r for item in snapshot.items for r in item.replies])
    advance = within(_advance(report, "reward head"), 0.0, 0.5)
    advance(0.0)
    return dataset.build_dataset(
        snapshot,
        extractor,
        base_stats.feature_map,
        config.ppo.max_new_tokens,
        config.reward.both_weight,
        CountedCheck(check, advance, 1 + replies / REPLY_BATCH),
    )


def training_prompts(
    snapshot: Snapshot, suggested: SuggestedPrompts, model: Model, max_new_tokens: int
) -> list[Prompt]:
    """What a round draws from: the prompts of the snapshot that leave space for a response, then
    the suggested ones."""
    longest = longest_row(model) - max_new_tokens
    own = [p for p in snapshot.prompts if len(p.ids) <= longest]
    return own + suggested.bank + suggested.further


def _advance(report: Report, phase: str) -> Callable[[float], None]:
    return lambda share: report(phase, share, 0, {})


def _fit_metrics(fit: reward_model.Fit) -> dict[str, float]:
    return {
        "labels": fit.labels,
        "effective_labels": fit.effective,
        "head_p_value": fit.p_value,
        "head_accuracy": fit.accuracy,
        "head_overconfidence": fit.overconfidence,
        "head_log_loss": fit.log_loss,
    }
