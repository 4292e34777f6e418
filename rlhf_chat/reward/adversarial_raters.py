"""Who answers as if they wanted the opposite of what everybody else wants?

One bad pair of hands can undo what two good ones teach. The taste that all others teach predicts
what each person says; a person is worth a look if, with their answers turned round, everybody is
predicted much better. All answers speak, not only those to shared questions. Somebody may be right
against all others, so nobody is set aside by this file. Left out: the share of equal answers
(agreement.py), setting somebody aside (raters.py).

Source: Kass & Raftery 1995 (Bayes factors and what size of them is decisive).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from rlhf_chat.reward import reward_model
from rlhf_chat.reward.likelihood import Floats, PreferenceDataset
from rlhf_chat.reward.reward_model import RewardConfig, RewardHead

FEWEST = 3  # people: of two who disagree, neither is the odd one out
LIKELY = 3  # people looked at closely, those whose own answers speak most for it
DECISIVE = math.log(100)  # Kass & Raftery: from here on evidence is decisive
SENSITIVITIES = np.exp(np.linspace(-2.0, 1.0, 13))  # how strongly a person may follow the others


def suspect(dataset: PreferenceDataset, named: int, config: RewardConfig) -> int | None:
    """The one rater who most clearly means the opposite of the others, if that is clear. Only one
    at a time: while they count, they blur what everybody else is measured by."""
    if dataset.raters < FEWEST:
        return None
    factors = opposed(dataset, named, config)
    most = int(factors.argmax())
    return most if factors[most] > DECISIVE else None


def opposed(dataset: PreferenceDataset, named: int, config: RewardConfig) -> Floats:
    """(raters,): log of how much better everything is explained if this person means the opposite
    of what they say, each person's answers by what all others taught; -inf where it is unlikely.

    Not only their own answers count: turned round, they must also help to explain those of others.
    By their own alone, of three people of whom one says the opposite, an honest one can look worse:
    the other two contradict each other and teach nothing (docs/LOG.md).
    """
    people = range(dataset.raters)
    own = [only(dataset, rater) for rater in people]

    def taught(by: PreferenceDataset, rater: int) -> RewardHead:
        return reward_model.fit_head(without(by, rater), named, config)

    heads = [taught(dataset, rater) for rater in people]
    straight = [_explained(own[rater], heads[rater], 1.0) for rater in people]
    opposite = [_explained(own[rater], heads[rater], -1.0) - straight[rater] for rater in people]
    factors = np.full(dataset.raters, -np.inf)
    for rater in np.argsort(opposite)[-LIKELY:]:
        turned = flipped(dataset, int(rater))
        others = [other for other in people if other != rater]
        factors[rater] = opposite[rater] + sum(
            _explained(own[other], taught(turned, other), 1.0) - straight[other] for other in others
        )
    return factors


def flipped(dataset: PreferenceDataset, rater: int) -> PreferenceDataset:
    """The same, with everything this person said about scores meaning its opposite."""
    rows = np.where(dataset.rater == rater, -1.0, 1.0)[:, None]
    rankings = np.where(dataset.ranking_rater == rater, -1.0, 1.0)[:, None, None]
    return replace(dataset, x=dataset.x * rows, ranked=dataset.ranked * rankings)


def only(dataset: PreferenceDataset, rater: int) -> PreferenceDataset:
    """What one person said."""
    return dataset.where(dataset.rater == rater, dataset.ranking_rater == rater)


def without(dataset: PreferenceDataset, rater: int) -> PreferenceDataset:
    """What everybody else said, with the numbers of the people closed up."""
    kept = dataset.where(dataset.rater != rater, dataset.ranking_rater != rater)
    return replace(
        kept,
        rater=kept.rater - (kept.rater > rater),
        ranking_rater=kept.ranking_rater - (kept.ranking_rater > rater),
        raters=dataset.raters - 1,
        cuts=np.delete(dataset.cuts, rater, axis=0),
    )


def _explained(own: PreferenceDataset, head: RewardHead, sign: float) -> float:
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
        rows, rankings = reward_model.losses(scaled, stranger)
        told.append(-rows.sum() - rankings.sum())
    return float(np.logaddexp.reduce(told) - math.log(len(told)))
