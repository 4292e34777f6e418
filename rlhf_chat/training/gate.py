"""The gate: whether a candidate may become a version. Measurements in, a verdict out.

Two tiers. *Passed*: the ratings differ from chance (permutation test, p <= 2 %). *Provisional*:
they may (p <= 20 %); such a version has a smaller KL budget. In both the candidate must win by
reward heads fitted on random halves of the ratings, stay near the base, and keep its language
intact. Whether a version is *proved* to be better, blind votes alone say (versions/standings.py).
The numbers are measured in evaluation.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

PASSED, PROVISIONAL, DISCARDED = "passed", "provisional", "discarded"
DISTANCE = {"kl", "low_logprob_rate", "degeneration", "unfinished", "empty", "variety", "length"}


@dataclass(frozen=True)
class GateConfig:
    min_labels: int = 6  # fewer change no weight
    # A person who has a preference gains even from what could be chance; a limit is there for those
    # who have none (docs/LOG.md).
    provisional_p: float = 0.20
    passed_p: float = 0.02
    # Log-odds, and share of the gain: a judge that saw no signal in its half says about 0, and the
    # farther the candidate went, the farther judges are apart.
    judge_tolerance: float = 0.05
    judge_tolerance_share: float = 0.1
    max_kl_over_target: float = 1.5
    max_extra_low_logprob: float = (
        0.06  # share of responses with a token the base almost never writes
    )
    max_extra_degeneration: float = 0.02
    max_extra_unfinished: float = 0.01  # beyond twice what the base leaves without an end
    min_distinct_share: float = 0.6  # distinct 2-grams, relative to the base
    length_range: tuple[float, float] = (0.25, 2.5)  # relative to the base
    trial_only: bool = False  # at best provisional, until blind votes prove the version

    def at_interim_test(self, look: int) -> GateConfig:
        """The config for the look-th test of growing ratings, which corrects for repeated tests: of
        80 raters who flip coins, tested nine times within 108 votes, 9 % passed and 50 %
        provisional (p <= 15 %) at least once; over sqrt(look) 5 % and 30 % (docs/LOG.md)."""
        share = 1 / math.sqrt(max(look, 1))
        return replace(
            self, provisional_p=self.provisional_p * share, passed_p=self.passed_p * share
        )


@dataclass(frozen=True)
class GenerationStats:
    """Replies of one version to the probe prompts; shares in 0..1, tokens on average."""

    low_logprob_rate: float  # responses with at least one token below the base's own floor
    degeneration: float  # responses with an empty or a repeated sentence
    unfinished: float  # responses without an end
    empty: float
    distinct: float  # distinct 2-grams / 2-grams, over all responses
    tokens: float
    replies: int = 0  # how many were measured; 0: unknown


@dataclass(frozen=True)
class EvalResult:
    """Everything the gate looks at."""

    labels: int
    p_value: float
    log_loss: float  # for the record; no check reads it
    bootstrap_gain: float  # heads fitted on halves of the ratings: candidate minus base, log-odds
    bootstrap_gain_low: float  # the 5 % quantile over those heads
    win_rate: float  # by the same heads: share of probe replies that beat the base's
    kl: float  # nats per response against the base
    kl_target: float
    base: GenerationStats
    candidate: GenerationStats
    finite: bool


@dataclass(frozen=True)
class Check:
    """One condition: what was measured, and its limit."""

    name: str
    passed: bool
    value: float | None = None
    limit: float | tuple[float, float] | None = None  # an upper or lower bound, or a range

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    @property
    def params(self) -> dict[str, float | None]:
        """Placeholders of the text of this check's numbers (locale key gate.range.NAME)."""
        low, high = self.limit if isinstance(self.limit, tuple) else (None, self.limit)
        return {"value": self.value, "limit": high, "low": low}


@dataclass(frozen=True)
class Verdict:
    """`code` and `params` give the reason, as a text in rlhf_chat.locale."""

    tier: str  # passed, provisional or discarded
    code: str
    params: Mapping[str, Any]
    checks: tuple[Check, ...]

    @property
    def promoted(self) -> bool:
        return self.tier != DISCARDED

    def as_dict(self) -> dict[str, object]:
        return {
            "tier": self.tier,
            "code": self.code,
            "params": dict(self.params),
            "checks": [check.as_dict() for check in self.checks],
        }


def reward_tier(labels: int, p_value: float, config: GateConfig) -> str:
    """The best tier that the ratings allow, before any weight is changed."""
    if labels < config.min_labels or not p_value <= config.provisional_p:
        return DISCARDED
    return PASSED if p_value <= config.passed_p and not config.trial_only else PROVISIONAL


def nothing_to_learn(labels: int, p_value: float, config: GateConfig) -> Verdict:
    """The verdict on a round that stops at the reward head."""
    if labels < config.min_labels:
        few = {"count": labels, "limit": config.min_labels}
        check = Check("labels", False, labels, config.min_labels)
        return Verdict(DISCARDED, "gate.too_few_ratings", few, (check,))
    params = {"count": labels, "p": p_value, "limit": config.provisional_p}
    check = Check("ratings", False, p_value, config.provisional_p)
    return Verdict(DISCARDED, "gate.could_be_chance", params, (check,))


def judge(measured: EvalResult, config: GateConfig) -> Verdict:
    """All checks; the first failed one is the reason."""
    checks = tuple(_checks(measured, config))
    for check in checks:
        if not check.passed:
            name = {"code": f"gate.check.{check.name}"}
            found = {"code": f"gate.range.{check.name}", "params": check.params}
            params = {"name": name, "found": found}
            return Verdict(DISCARDED, "gate.failed", params, checks)
    tier = reward_tier(measured.labels, measured.p_value, config)
    on_trial = "gate.passed_imported" if config.trial_only else "gate.passed_on_trial"
    code = "gate.passed" if tier == PASSED else on_trial
    return Verdict(tier, code, {"win_rate": measured.win_rate, "kl": measured.kl}, checks)


def went_too_far(verdict: Verdict) -> bool:
    """Whether everything that failed is a matter of distance, so that a smaller step may pass."""
    failed = {check.name for check in verdict.checks if not check.passed}
    return bool(failed) and failed <= DISTANCE


def _checks(m: EvalResult, config: GateConfig) -> list[Check]:
    tier = reward_tier(m.labels, m.p_value, config)
    low, high = config.length_range
    length = m.candidate.tokens / max(m.base.tokens, 1e-9)
    kl_limit, tolerance = config.max_kl_over_target * m.kl_target, config.judge_tolerance
    apart = max(tolerance, config.judge_tolerance_share * m.bootstrap_gain)
    least_distinct = config.min_distinct_share * m.base.distinct
    return [
        Check("finite", m.finite),
        Check("ratings", tier != DISCARDED, m.p_value, config.provisional_p),
        Check("gain", m.bootstrap_gain > tolerance, m.bootstrap_gain, tolerance),
        Check("judges", m.bootstrap_gain_low > -apart, m.bootstrap_gain_low, -apart),
        Check("kl", m.kl <= kl_limit, m.kl, kl_limit),
        _at_most("low_logprob_rate", m, config.max_extra_low_logprob),
        _at_most("degeneration", m, config.max_extra_degeneration),
        _at_most("unfinished", m, m.base.unfinished + config.max_extra_unfinished),
        _at_most("empty", m, 0.005),
        Check(
            "variety", m.candidate.distinct >= least_distinct, m.candidate.distinct, least_distinct
        ),
        Check("length", low <= length <= high, length, (low, high)),
    ]


def _at_most(name: str, m: EvalResult, allowed: float) -> Check:
    """A share of the candidate's replies that may be at most `allowed` above the base's, and the
    standard error of their difference: where half of the base's replies have the flaw, two samples
    of 200 differ by 5 points by chance."""
    value, base = getattr(m.candidate, name), getattr(m.base, name)
    replies = min(m.candidate.replies, m.base.replies)
    error = math.sqrt(2 * base * (1 - min(base, 1.0)) / replies) if replies else 0.0
    limit = base + allowed + error
    return Check(name, value <= limit, value, limit)
