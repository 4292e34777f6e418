"""Who answers as if they wanted the opposite of what everybody else wants?

One bad pair of hands can undo what two good ones teach. The taste that all others teach predicts
what each person says; a person whose answers are explained much better by its opposite is worth a
look. All answers speak, not only those to shared questions. Somebody may be right against all
others, so nobody is set aside by this file. Left out: the share of equal answers (agreement.py),
setting somebody aside (raters.py).

Source: Kass & Raftery 1995 (Bayes factors and what size of them is strong).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from rlhf_chat import reward
from rlhf_chat.likelihood import Evidence, Floats
from rlhf_chat.reward import RewardConfig, RewardHead

FEWEST = 3  # people: of two who disagree, neither is the odd one out
STRONG = math.log(10)  # Kass & Raftery: from here on evidence is strong
SENSITIVITIES = np.exp(np.linspace(-2.0, 1.0, 13))  # how strongly a person may follow the others


def suspect(said: Evidence, named: int, config: RewardConfig) -> int | None:
    """The one rater who most clearly means the opposite of the others, if that is clear. Only one
    at a time: while they count, they blur what everybody else is measured by."""
    if said.raters < FEWEST:
        return None
    factors = opposed(said, named, config)
    most = int(factors.argmax())
    return most if factors[most] > STRONG else None


def opposed(said: Evidence, named: int, config: RewardConfig) -> Floats:
    """(raters,): log of how much better a person's answers are explained by the opposite of what
    the others want than by what they want, averaged over how strongly they may follow it."""
    factors = np.zeros(said.raters)
    for rater in range(said.raters):
        others, own = without(said, rater), only(said, rater)
        if len(others) and len(own):
            head = reward.fit_head(others, named, config)
            factors[rater] = _explained(own, head, -1.0) - _explained(own, head, 1.0)
    return factors


def only(said: Evidence, rater: int) -> Evidence:
    """What one person said."""
    return said.where(said.rater == rater, said.ranking_rater == rater)


def without(said: Evidence, rater: int) -> Evidence:
    """What everybody else said, with the numbers of the people closed up."""
    kept = said.where(said.rater != rater, said.ranking_rater != rater)
    return replace(
        kept,
        rater=kept.rater - (kept.rater > rater),
        ranking_rater=kept.ranking_rater - (kept.ranking_rater > rater),
        raters=said.raters - 1,
        cuts=np.delete(said.cuts, rater, axis=0),
    )


def _explained(own: Evidence, head: RewardHead, sign: float) -> float:
    """Log-probability of a person's answers under a head others taught, its doubt included: a
    margin is shrunk by its own variance (MacKay's approximation of the logistic integral)."""
    variance = np.einsum("nd,de,ne->n", own.x, head.covariance, own.x)
    ranked = np.einsum("rmd,de,rme->rm", own.ranked, head.covariance, own.ranked).mean(1)
    stranger = RewardHead(head.weights, head.covariance, np.zeros(own.raters), np.zeros(own.raters))
    told = []
    for size in SENSITIVITIES:
        shrunk = sign * size / np.sqrt(1 + math.pi / 8 * size**2 * variance)
        all_of = sign * size / np.sqrt(1 + math.pi / 8 * size**2 * ranked)
        scaled = replace(own, x=own.x * shrunk[:, None], ranked=own.ranked * all_of[:, None, None])
        rows, rankings = reward.losses(scaled, stranger)
        told.append(-rows.sum() - rankings.sum())
    return float(np.logaddexp.reduce(told) - math.log(len(told)))
