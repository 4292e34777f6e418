"""The door: may this candidate speak to the person? Numbers in, a Verdict in words out.

Two honest tiers. *Proved*: the ratings say something beyond chance (permutation test, 2 %).
*Provisional*: they hint at it (15 %); served on a small KL budget, and said so. Whatever the tier,
the candidate must please judges fitted on halves of the ratings, stay near the base and keep its
language intact.
Numbers are all this file knows; left out: how they were measured (evaluation.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

PROVED, PROVISIONAL, DISCARDED = "proved", "provisional", "discarded"
DISTANCE = {"kl", "low_logprob_rate", "degeneration", "unfinished", "empty", "variety", "length"}


@dataclass(frozen=True)
class GateConfig:
    min_labels: int = 6  # below this nothing is worth a weight change
    provisional_p: float = 0.15
    proved_p: float = 0.02
    max_kl_over_target: float = 1.5
    max_extra_low_logprob: float = 0.06  # share of responses with a token the base would never say
    max_extra_degeneration: float = 0.02
    max_extra_unfinished: float = 0.01  # beyond twice what the base leaves without an end
    min_distinct_share: float = 0.6  # distinct 2-grams, relative to the base
    length_range: tuple[float, float] = (0.25, 2.5)  # relative to the base

    def at_interim_test(self, look: int) -> GateConfig:
        """The same for the look-th test of ratings that grow. Who tests again and again is lucky
        some day: of 80 coin flippers tested nine times in 108 votes, 9 % were proved and 50 %
        provisional once; with the thresholds over sqrt(look) 5 % and 30 % (docs/LOG.md)."""
        share = 1 / math.sqrt(max(look, 1))
        return replace(
            self, provisional_p=self.provisional_p * share, proved_p=self.proved_p * share
        )


@dataclass(frozen=True)
class GenerationStats:
    """How one version speaks on the probe prompts; shares in 0..1, tokens on average."""

    low_logprob_rate: float  # responses with at least one token below the base's own floor
    degeneration: float  # responses with an empty or a repeated sentence
    unfinished: float  # responses without an end
    empty: float
    distinct: float  # distinct 2-grams / 2-grams, over all responses
    tokens: float


@dataclass(frozen=True)
class EvalResult:
    """Everything the gate looks at."""

    labels: int
    p_value: float
    log_loss: float  # for the record; no check reads it
    bootstrap_gain: float  # judges on halves of the ratings: candidate minus base, log-odds
    bootstrap_gain_low: float  # the 5 % quantile over the judges
    win_rate: float  # the same judges: share of probe replies that beat the base's
    kl: float  # nats per response against the base
    kl_target: float
    base: GenerationStats
    candidate: GenerationStats
    finite: bool


@dataclass(frozen=True)
class Verdict:
    tier: str  # proved, provisional or discarded
    reason: str  # for the person
    checks: tuple[tuple[str, bool, str], ...]  # name, passed, the numbers in words

    @property
    def promoted(self) -> bool:
        return self.tier != DISCARDED

    def as_dict(self) -> dict[str, object]:
        return {
            "tier": self.tier,
            "reason": self.reason,
            "checks": [list(check) for check in self.checks],
        }


def reward_tier(labels: int, p_value: float, config: GateConfig) -> str:
    """What the ratings alone allow, before any weight is changed."""
    if labels < config.min_labels or not p_value <= config.provisional_p:
        return DISCARDED
    return PROVED if p_value <= config.proved_p else PROVISIONAL


def nothing_to_learn(labels: int, p_value: float, config: GateConfig) -> Verdict:
    """The verdict on a round that stops at the reward head."""
    if labels < config.min_labels:
        reason = f"Only {labels} ratings say which reply is better; {config.min_labels} are needed."
    else:
        reason = (
            f"Your {labels} ratings do not yet show a preference that chance could not: "
            f"p = {p_value:.2f}, needed {config.provisional_p:.2f}. Keep rating."
        )
    return Verdict(DISCARDED, reason, (("ratings", False, reason),))


def judge(measured: EvalResult, config: GateConfig) -> Verdict:
    """All checks, every number said; the first failed one is the reason."""
    checks = tuple(_checks(measured, config))
    failed = [text for _, passed, text in checks if not passed]
    if failed:
        return Verdict(DISCARDED, f"Not served: {failed[0]}", checks)
    tier = reward_tier(measured.labels, measured.p_value, config)
    if tier == PROVED:
        certainty = f"your ratings are clear (p = {measured.p_value:.3f})"
    else:
        certainty = (
            f"your ratings only hint at it (p = {measured.p_value:.3f}, clear would be "
            f"{config.proved_p:.3f}), so it is on trial"
        )
    reason = (
        f"Served: judges fitted on halves of your ratings prefer it to the base "
        f"{measured.win_rate:.0%} of the time at {measured.kl:.1f} nats; {certainty}."
    )
    return Verdict(tier, reason, checks)


def went_too_far(verdict: Verdict) -> bool:
    """Whether everything that failed is a matter of distance, so that a smaller step may pass."""
    failed = {name for name, passed, _ in verdict.checks if not passed}
    return bool(failed) and failed <= DISTANCE


def _checks(m: EvalResult, config: GateConfig) -> list[tuple[str, bool, str]]:
    tier = reward_tier(m.labels, m.p_value, config)
    low, high = config.length_range
    length = m.candidate.tokens / max(m.base.tokens, 1e-9)
    limit = config.max_kl_over_target * m.kl_target
    spoken = m.base, m.candidate
    return [
        ("finite", m.finite, "a weight is not a finite number."),
        ("ratings", tier != DISCARDED, f"the ratings could be chance (p = {m.p_value:.2f})."),
        (
            "judges",
            math.isfinite(m.bootstrap_gain_low) and m.bootstrap_gain_low > 0,
            "judges fitted on random halves of your ratings put it at "
            f"{m.bootstrap_gain:+.2f} against the base (at least {m.bootstrap_gain_low:+.2f}).",
        ),
        ("kl", m.kl <= limit, f"it is {m.kl:.1f} nats from the base (limit {limit:.1f})."),
        _worse(
            "low_logprob_rate",
            "words the base would never say",
            *spoken,
            config.max_extra_low_logprob,
        ),
        _worse(
            "degeneration", "replies that repeat themselves", *spoken, config.max_extra_degeneration
        ),
        _worse(
            "unfinished",
            "replies without an end",
            *spoken,
            m.base.unfinished + config.max_extra_unfinished,
        ),
        _worse("empty", "empty replies", *spoken, 0.005),
        (
            "variety",
            m.candidate.distinct >= config.min_distinct_share * m.base.distinct,
            f"its variety is {m.candidate.distinct:.2f}, the base's {m.base.distinct:.2f}.",
        ),
        ("length", low <= length <= high, f"its replies are {length:.2f} x as long as the base's."),
    ]


def _worse(
    name: str, words: str, base: GenerationStats, candidate: GenerationStats, allowed: float
) -> tuple[str, bool, str]:
    before, after = getattr(base, name), getattr(candidate, name)
    return name, after <= before + allowed, f"{words}: {after:.1%}, base {before:.1%}."
