"""One round: feedback snapshot + parent adapter + seed -> candidate adapter and verdict.

Reads as the recipe: references, reward head, PPO, probe, gate. It changes nothing but the policy
tree, writes nothing but caches (what replies measure, what the base says) and serves nobody, so it
can be stopped or fail at any point without a trace. Left out: when a round starts and what becomes
of its candidate (trainer.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlhf_chat import evidence, gate, ppo, reward, style
from rlhf_chat.decode import Response, Sampling
from rlhf_chat.footprint import Load
from rlhf_chat.gate import GateConfig, Measured, Speech, Verdict
from rlhf_chat.gauge import Floats, Gauge, Prompt, Reference, fluency_floor, zero_points
from rlhf_chat.learner import Demonstration, Learner, Rollouts, Scorer, plausible
from rlhf_chat.likelihood import Evidence
from rlhf_chat.memory import in_parts, parts_within
from rlhf_chat.model import Model, Pass
from rlhf_chat.ppo import PPOConfig
from rlhf_chat.reward import RewardConfig, RewardHead
from rlhf_chat.said import Snapshot, in_words
from rlhf_chat.taste import Ground, Taste, TasteConfig

KEPT_WEIGHT = 0.2  # of a token that a correction left as it was


@dataclass(frozen=True)
class RoundConfig:
    probe_samples: int = 4
    judges: int = 16  # heads fitted on random halves of the ratings, for the gate
    attempts: int = 4  # at the gate: a candidate that went too far is shrunk and tried again
    shrink: float = 0.8  # of its change that it keeps, at most
    provisional_kl: float = 0.7  # share of the KL target that a mere hint may spend
    kl_at_start: float = 0.6  # share of the KL target that a candidate may begin with
    ppo: PPOConfig = field(default_factory=PPOConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    taste: TasteConfig = field(default_factory=TasteConfig)

    @classmethod
    def of(cls, model: Model) -> RoundConfig:
        """The settings for a model. Real ones talk at greater length than the bundled one."""
        if model.is_demo:
            return cls()
        tokens = min(Load().response, model.context_tokens // 4)
        return cls(ppo=PPOConfig(max_new_tokens=tokens))

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    verdict: Verdict
    state: dict[str, torch.Tensor] | None  # the candidate, if there is one
    kl: float
    head: RewardHead | None
    measured: Measured | None
    card: dict[str, Any] = field(default_factory=dict)  # why, in plain words; see `card`


# report(phase, done 0..1 of the round, step, numbers)
Report = Callable[[str, float, int, Mapping[str, float]], None]
Check = Callable[[], None]


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
    practise(plan, own + ground.bank)
    verdict, measured, direction = at_the_gate(plan)
    why = card(plan, snapshot, direction)
    return Outcome(verdict, model.policy_state(), measured.kl, fit.head, measured, why)


@dataclass(frozen=True)
class Plan:
    """All that is settled before the candidate begins to practise."""

    told: Evidence
    fit: reward.Fit
    taste: Taste
    ground: Ground
    target: float  # KL, nats per response
    demonstrations: list[Demonstration]  # replies as people would have had them
    floor: float  # log-prob below which a token is strange to the base
    gauge: Gauge
    config: RoundConfig
    seed: int
    report: Report
    check: Check


def longest_row(model: Model) -> int:
    """Tokens of prompt and response that a round may practise on: what was said in a longer
    conversation teaches the taste, but one training row of it could take all memory."""
    return min(model.context_tokens, model.tokens_per_row * max(2, model.rows_per_slice))


def demonstrations(snapshot: Snapshot, longest: int) -> list[Demonstration]:
    """Every corrected reply of at most `longest` tokens, its prompt included; kept tokens count a
    fifth of changed ones, a mended typo little."""
    found = []
    for one in snapshot.said:
        if one.kind == "edit":
            edited, original = one.replies
            if len(edited.prompt.ids) + len(edited.ids) > longest:
                continue
            matcher = SequenceMatcher(None, original.ids, edited.ids, autojunk=False)
            weights = np.ones(len(edited.ids))
            for block in matcher.get_matching_blocks():
                weights[block.b : block.b + block.size] = KEPT_WEIGHT
            worth = evidence.edit_weight(one)
            found.append(Demonstration(edited.prompt.ids, edited.ids, weights.tolist(), worth))
    return found


def shrink(model: Model, factor: float) -> None:
    """Moves the policy back towards the base: its LoRA change times `factor`. KL falls with about
    the square of it, so a candidate that went too far keeps most of what it learned."""
    state = model.policy_state()
    model.set_policy({k: v * factor if "lora_B" in k else v for k, v in state.items()})


def practise(plan: Plan, practice: Sequence[Prompt]) -> None:
    """PPO on the policy tree: `updates` times rollouts and a few epochs on them."""
    model, config, report, check = plan.gauge.model, plan.config, plan.report, plan.check
    learner, score = _learner(plan), _scorer(plan, practice)
    rng = np.random.default_rng(plan.seed)

    def collect(update: int) -> tuple[Rollouts, dict[str, float]]:
        numbers = _draw_prompts(len(practice), config.ppo, rng)
        prompt_ids = [practice[n].ids for n in numbers]
        return learner.collect(prompt_ids, numbers, score, plan.seed + 1000 + update, check)

    safe = model.policy_state()
    spent, limit = 0.0, config.gate.max_kl_over_target
    for update in range(config.ppo.updates):
        done = 0.1 + 0.8 * update / config.ppo.updates
        report("rollouts", done, update, {})
        rollouts, stats = collect(update)
        while update == 0 and _made_room(plan, stats["kl"]):
            rollouts, stats = collect(update)
        spent = stats["kl"] if update == 0 else 0.5 * (spent + stats["kl"])  # one batch is noisy
        if max(spent, stats["kl"] / limit) > plan.target:  # more of it would only cost language
            report("ppo", done, update, stats)
            if stats["kl"] > limit * plan.target:
                model.set_policy(safe)  # the last step went too far: back to before it
            break
        safe = model.policy_state()
        report("ppo", done, update, {})
        stats |= learner.update(rollouts, plan.seed + update, check)
        report("ppo", done, update, stats)


def _made_room(plan: Plan, kl: float) -> bool:
    """Whether a parent that has spent most of the KL budget gave a part of it back: what was said
    since could otherwise change nothing."""
    most = plan.config.kl_at_start * plan.target
    if not kl > 1.25 * most:  # one batch is noisy
        return False
    shrink(plan.gauge.model, math.sqrt(most / kl))
    return True


def _learner(plan: Plan) -> Learner:
    references = map(_features(plan.taste), plan.ground.references)
    spread = np.concatenate([plan.taste.score(x - x.mean(0)) for x in references])
    model = plan.gauge.model
    return Learner(
        model,
        plan.config.ppo,
        target=plan.target,
        score_std=float(spread.std()),
        floor=plan.floor,
        base_ends=float(np.mean(_ended(model, plan.ground.references))),
        demonstrations=plausible(model, plan.demonstrations, plan.floor, plan.check),
    )


def _scorer(plan: Plan, practice: Sequence[Prompt]) -> Scorer:
    """Scores by the taste, relative to what the base says to the same prompt, flaws charged."""
    gauge, taste, limit = plan.gauge, plan.taste, plan.config.ppo.max_new_tokens
    zero: dict[int, Floats] = {}  # of the prompts that came up: after an import most never do

    def zeros(numbers: Sequence[int]) -> Floats:
        new = [n for n in dict.fromkeys(numbers) if n not in zero]
        if new:
            asked = [practice[n] for n in new]
            found = zero_points(asked, gauge, taste.feature_map, limit, plan.check)
            zero.update(zip(new, found, strict=True))
        return np.stack([zero[n] for n in numbers])

    def score(
        numbers: Sequence[int], responses: Sequence[Response], pooled: torch.Tensor
    ) -> NDArray[np.float64]:
        texts = [gauge.model.decode(r.ids) for r in responses]
        styles = np.stack(
            [style.measure(practice[n].text, t) for n, t in zip(numbers, texts, strict=True)]
        )
        x = taste.feature_map(styles.astype(np.float64), pooled.numpy().astype(np.float64))
        return taste.score(x - zeros(numbers)) - taste.charge(texts)

    return score


def _ended(model: Model, references: Sequence[Reference]) -> list[bool]:
    """Which of the base's replies came to an end within the limit."""
    return [r.ids[-1] in model.end_ids for reference in references for r in reference.replies]


def _draw_prompts(count: int, config: PPOConfig, rng: np.random.Generator) -> list[int]:
    """Prompt numbers for one batch: `group` responses for each of rollouts / group prompts."""
    wanted = max(config.rollouts // config.group, 1)
    chosen = rng.choice(count, size=wanted, replace=wanted > count)
    return [int(n) for n in chosen for _ in range(config.group)]


def _features(taste: Taste) -> Callable[[Reference], Floats]:
    return lambda reference: taste.feature_map(reference.style, reference.pooled)


# ---------------------------------------------------------------------- the probe


def at_the_gate(plan: Plan) -> tuple[Verdict, Measured, Floats]:
    """The gate's word on the candidate, which is shrunk and tried again while all that is wrong is
    how far it went. What leaves here is what was measured; see `probe` for the numbers."""
    config = plan.config
    for attempt in range(config.attempts):
        plan.report("gate", 0.9, 0, {})
        measured, direction = probe(plan)
        verdict = gate.judge(measured, config.gate)
        plan.report("gate", 1.0, attempt, _measured_numbers(measured))
        last = attempt == config.attempts - 1
        if last or verdict.promoted or not gate.went_too_far(verdict):
            break
        step = math.sqrt(plan.target / max(measured.kl, 1e-9))
        shrink(plan.gauge.model, min(config.shrink, step))
    return verdict, measured, direction


def probe(plan: Plan) -> tuple[Measured, Floats]:
    """Lets the candidate answer the probe prompts and measures it against the base's replies. Also
    how its replies differ from them, in features (D,)."""
    model, config, taste = plan.gauge.model, plan.config, plan.taste
    probes, base, check, seed = plan.ground.probes, plan.ground.base_probes, plan.check, plan.seed
    n = config.probe_samples
    asked = [p for p in probes for _ in range(n)]
    sampling = Sampling(max_new_tokens=config.ppo.max_new_tokens)
    responses, speaker = [], model.speaking_policy()
    for start in range(0, len(asked), 64):
        check()
        part = [p.ids for p in asked[start : start + 64]]
        responses += model.sample(speaker, part, sampling, seed=seed + 7 + start, check=check)
    prompt_ids, ids = [p.ids for p in asked], [r.ids for r in responses]
    ref_logprobs, pooled = model.reference_pass(prompt_ids, ids)
    logprobs = policy_logprobs(model, prompt_ids, ids, check)
    kl = float(
        np.mean([float(a.sum() - b.sum()) for a, b in zip(logprobs, ref_logprobs, strict=True)])
    )
    texts = [model.decode(r.ids) for r in responses]
    styles = np.stack([style.measure(p.text, t) for p, t in zip(asked, texts, strict=True)])
    x = taste.feature_map(styles.astype(np.float64), pooled.numpy().astype(np.float64))
    x_base = np.stack([_features(taste)(r) for r in base])  # (P, n_ref, D)
    x_candidate = x.reshape(len(probes), n, -1)
    zero = x_base.mean(1, keepdims=True)  # (P, 1, D)
    x_base, x_candidate = reward.bounded(x_base - zero), reward.bounded(x_candidate - zero)
    gains, win_rate = _judged(plan, x_candidate, x_base)
    direction = x_candidate.mean((0, 1)) - x_base.mean((0, 1))
    measured = Measured(
        labels=plan.fit.labels,
        p_value=plan.fit.p_value,
        log_loss=plan.fit.log_loss,
        judged_gain=float(gains.mean()),
        judged_gain_low=float(np.quantile(gains, 0.05)),
        win_rate=win_rate,
        kl=kl,
        kl_target=plan.target,
        base=_speech(
            [r.text for reference in base for r in reference.replies],
            [row for reference in base for row in reference.logprobs],
            _ended(model, base),
            plan.floor,
        ),
        candidate=_speech(
            texts,
            [row.numpy() for row in ref_logprobs],
            [r.finished for r in responses],
            plan.floor,
        ),
        finite=all(bool(torch.isfinite(p).all()) for p in model.policy_parameters()),
    )
    return measured, direction


def card(plan: Plan, snapshot: Snapshot, direction: Floats) -> dict[str, Any]:
    """Why the candidate is as it is: the answers that moved it most (log-odds of its gain over the
    base owed to each, and the conversation whose end takes its words along), what changed in its
    replies, and three prompts answered before and after."""
    rows, rankings = reward.influence(plan.told, plan.fit.head, direction)
    owed = np.zeros(len(snapshot.said))
    row_of, ranking_of = evidence.sources(snapshot)
    np.add.at(owed, row_of, rows)
    np.add.at(owed, ranking_of, rankings)
    most = np.argsort(-np.abs(owed), kind="stable")[:5]
    head, named = plan.fit.head, plan.taste.feature_map.named
    change = direction[:named]
    shown = np.argsort(-np.abs(change * head.weights[:named]), kind="stable")[:4]
    return {
        "moved": [
            [in_words(one), round(float(owed[i]), 3), one.conversation]
            for i, one in ((i, snapshot.said[i]) for i in most)
        ],
        "changed": [
            [style.NAMES[i], round(float(change[i]), 2), round(float(head.weights[i]), 2)]
            for i in shown
        ],
        "examples": _before_and_after(plan),
    }


def _before_and_after(plan: Plan) -> list[list[str]]:
    """[prompt, reply of what is live, reply of the candidate] for the first three probe prompts."""
    model, asked = plan.gauge.model, plan.ground.probes[:3]
    sampling = Sampling(max_new_tokens=plan.config.ppo.max_new_tokens)
    told = []
    for view in (model.live, model.speaking_policy()):
        drawn = model.sample(
            view, [p.ids for p in asked], sampling, seed=plan.seed, check=plan.check
        )
        told.append([model.decode(r.ids) for r in drawn])
    return [[p.text, before, after] for p, before, after in zip(asked, *told, strict=True)]


def policy_logprobs(
    model: Model,
    prompt_ids: Sequence[Sequence[int]],
    ids: Sequence[Sequence[int]],
    check: Check,
) -> list[torch.Tensor]:
    """Per-token log-probs of responses under the policy, one (len,) tensor each."""
    rows: list[torch.Tensor] = []

    def work(part: list[int]) -> Pass:
        check()
        with model.lease.slice(), torch.no_grad():
            return model.forward(
                model.policy, [prompt_ids[i] for i in part], [ids[i] for i in part]
            )

    lengths = [len(p) + len(r) for p, r in zip(prompt_ids, ids, strict=True)]
    parts = parts_within(lengths, 2 * model.rows_per_slice, model.tokens_per_row)
    for _, out in in_parts(parts, work, model.relieve):
        rows += [out.logprobs[i, out.mask[i] > 0].cpu() for i in range(len(out.mask))]
    return rows


def _judged(plan: Plan, candidate: Floats, base: Floats) -> tuple[Floats, float]:
    """Judges fitted on random halves of the ratings: gain of each (J,), and their mean win rate."""
    rng = np.random.default_rng(plan.seed)
    gains, wins = [], []
    for _ in range(plan.config.judges):
        half = reward.half_of(plan.told, rng)
        head = reward.fit_head(half, plan.taste.feature_map.named, plan.config.reward)
        ours, theirs = candidate @ head.weights, base @ head.weights  # (P, n), (P, n_ref)
        gains.append(ours.mean() - theirs.mean())
        difference = ours[:, :, None] - theirs[:, None, :]
        wins.append((difference > 0).mean() + 0.5 * (difference == 0).mean())
    return np.array(gains), float(np.mean(wins))


def _speech(
    texts: Sequence[str], logprobs: Sequence[np.ndarray], finished: Sequence[bool], floor: float
) -> Speech:
    words = [t.lower().split() for t in texts]
    grams = [g for w in words for g in pairwise(w)]
    return Speech(
        surprise=float(np.mean([row.min() < floor for row in logprobs])),
        flaws=float(np.mean([style.flaws(t) > 0 for t in texts])),
        unfinished=float(np.mean([not f for f in finished])),
        empty=float(np.mean([not t.strip() for t in texts])),
        distinct=len(set(grams)) / max(len(grams), 1),
        tokens=float(np.mean([len(row) for row in logprobs])),
    )


def _fit_numbers(fit: reward.Fit) -> dict[str, float]:
    return {
        "labels": fit.labels,
        "effective_labels": fit.effective,
        "head_p_value": fit.p_value,
        "head_accuracy": fit.accuracy,
        "head_log_loss": fit.log_loss,
    }


def _measured_numbers(m: Measured) -> dict[str, float]:
    numbers = {
        "judged_gain": m.judged_gain,
        "judged_gain_low": m.judged_gain_low,
        "judged_win_rate": m.win_rate,
        "probe_kl": m.kl,
        "kl_target": m.kl_target,
    }
    for who, speech in (("base", m.base), ("candidate", m.candidate)):
        numbers |= {f"{who}_{k}": float(v) for k, v in asdict(speech).items()}
    return numbers
