"""Finds a rater whose feedback is the opposite of everybody else's.

The preference fitted to all other raters predicts each rater's feedback. A rater is reported if
flipping their feedback explains everybody's much better. All feedback counts, not only that on
shared pairs. Such a rater may be right against all others, so nothing is excluded here (raters.py).

Source: Kass & Raftery 1995 (Bayes factors, and from what size they are decisive).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from rlhf_chat.reward import reward_model
from rlhf_chat.reward.likelihood import Floats, PreferenceDataset
from rlhf_chat.reward.reward_model import RewardConfig, RewardHead

FEWEST = 3  # raters: of two who disagree, neither is the exception
LIKELY = 3  # raters examined closely: those whose own feedback fits best when flipped
DECISIVE = math.log(100)  # log Bayes factor (Kass & Raftery)
SENSITIVITIES = np.exp(np.linspace(-2.0, 1.0, 13))  # how strongly a rater may follow the others


def suspect(dataset: PreferenceDataset, named: int, config: RewardConfig) -> int | None:
    """The number of the rater who most clearly means the opposite of the others, or None. One at a
    time: while their feedback counts, it distorts what everybody else is compared with."""
    if dataset.raters < FEWEST:
        return None
    factors = opposed(dataset, named, config)
    most = int(factors.argmax())
    return most if factors[most] > DECISIVE else None


def opposed(dataset: PreferenceDataset, named: int, config: RewardConfig) -> Floats:
    """(raters,) log Bayes factor of "this rater means the opposite", each rater's feedback being
    predicted from that of all others; -inf where it is unlikely.

    Flipped feedback must also help to explain that of others. By their own alone, of three raters
    of whom one is the opposite, an honest one can look worse: the other two contradict each other
    and teach nothing (docs/LOG.md).
    """
    raters = range(dataset.raters)
    own = [only(dataset, rater) for rater in raters]

    def fit_without(given: PreferenceDataset, rater: int) -> RewardHead:
        return reward_model.fit_head(without(given, rater), named, config)

    heads = [fit_without(dataset, rater) for rater in raters]
    plain = [_log_evidence(own[rater], heads[rater], 1.0) for rater in raters]
    opposite = [_log_evidence(own[rater], heads[rater], -1.0) - plain[rater] for rater in raters]
    factors = np.full(dataset.raters, -np.inf)
    for rater in np.argsort(opposite)[-LIKELY:]:
        with_flipped = flipped(dataset, int(rater))
        factors[rater] = opposite[rater] + sum(
            _log_evidence(own[other], fit_without(with_flipped, other), 1.0) - plain[other]
            for other in raters
            if other != rater
        )
    return factors


def flipped(dataset: PreferenceDataset, rater: int) -> PreferenceDataset:
    """The dataset with all preferences of this rater reversed."""
    rows = np.where(dataset.rater == rater, -1.0, 1.0)[:, None]
    rankings = np.where(dataset.ranking_rater == rater, -1.0, 1.0)[:, None, None]
    return replace(dataset, x=dataset.x * rows, ranked=dataset.ranked * rankings)


def only(dataset: PreferenceDataset, rater: int) -> PreferenceDataset:
    """The feedback of one rater."""
    return dataset.where(dataset.rater == rater, dataset.ranking_rater == rater)


def without(dataset: PreferenceDataset, rater: int) -> PreferenceDataset:
    """The feedback of all other raters, renumbered without a gap."""
    kept = dataset.where(dataset.rater != rater, dataset.ranking_rater != rater)
    return replace(
        kept,
        rater=kept.rater - (kept.rater > rater),
        ranking_rater=kept.ranking_rater - (kept.ranking_rater > rater),
        raters=dataset.raters - 1,
        cuts=np.delete(dataset.cuts, rater, axis=0),
    )


def _log_evidence(own: PreferenceDataset, head: RewardHead, sign: float) -> float:
    """Log-probability of a rater's feedback under the posterior of others, averaged over how
    strongly the rater follows them. A margin is shrunk by its own variance (MacKay's approximation
    of the logistic integral)."""
    variance = np.einsum("nd,de,ne->n", own.x, head.covariance, own.x)
    ranked = np.einsum("rmd,de,rme->rm", own.ranked, head.covariance, own.ranked).mean(1)
    neutral = RewardHead(head.weights, head.covariance, np.zeros(own.raters), np.zeros(own.raters))
    by_size = []
    for size in SENSITIVITIES:
        shrunk = sign * size / np.sqrt(1 + math.pi / 8 * size**2 * variance)
        shrunk_ranked = sign * size / np.sqrt(1 + math.pi / 8 * size**2 * ranked)
        scaled = replace(
            own, x=own.x * shrunk[:, None], ranked=own.ranked * shrunk_ranked[:, None, None]
        )
        rows, rankings = reward_model.losses(scaled, neutral)
        by_size.append(-rows.sum() - rankings.sum())
    return float(np.logaddexp.reduce(by_size) - math.log(len(by_size)))
