"""Active sampling: which drafts to show side by side.

Mostly the two drafts of the live version whose comparison the reward model is least certain of. One
pair in ten is random, and while a version is live one in four compares it blind with the base, so
that ordinary votes also measure, without bias, whether training helped. Sides are random.

Source: MacKay 1992 (query where the predictive variance of a linear model is largest).
"""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

BASE_SHARE = 0.25
RANDOM_SHARE = 0.1
REPEAT_SHARE = 0.05  # pairs shown a second time with sides swapped, to measure consistency
ANCHOR_SHARE = 0.2  # pairs that another rater has voted on, while there are any
REPEAT_AFTER = 10  # votes before a pair may come back
DRAFTS = 8  # drafts to choose the pair from

Floats = NDArray[np.float64]


def choose(live_version: int, rng: random.Random) -> tuple[int, int]:
    """Adapter versions of the two drafts (a, b)."""
    if live_version and rng.random() < BASE_SHARE:
        return live_version, 0
    return live_version, live_version


def order(set_id: str, count: int) -> list[int]:
    """Index of the draft at each place of the screen: random, but always the same for one set. Of
    two drafts, the parity of the id's last hex digit decides which is on the left."""
    if count == 2:
        return [0, 1] if int(set_id[-1], 16) % 2 == 0 else [1, 0]
    places = list(range(count))
    random.Random(set_id).shuffle(places)
    return places


def from_side(outcome: str, a_left: bool) -> str:
    """The outcome for the drafts a and b of a click, in which "a" is the left one on the screen."""
    if outcome in ("a", "b") and not a_left:
        return "b" if outcome == "a" else "a"
    return outcome


def max_variance(x: Floats, covariance: Floats, count: int = 2) -> list[int]:
    """Indices of the `count` of N drafts, features x (N, D), whose margins have the largest
    posterior variance: d' C d, with d the difference of two and C the covariance (D, D), summed
    over their pairs.

    The expected outcome is ignored on purpose. Asking where it is undecided teaches a little more
    per vote, but then no vote confirms another, and the permutation test can no longer tell a
    preference from chance (docs/LOG.md).
    """
    d = x[:, None] - x[None]
    variance = np.einsum("ijd,de,ije->ij", d, covariance, d)
    sets = combinations(range(len(x)), count)
    return list(max(sets, key=lambda chosen: sum(variance[p] for p in combinations(chosen, 2))))
