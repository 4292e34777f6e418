"""Which replies to show side by side.

Mostly two of several drafts of the live version, between which the taste is least sure; one pair in
ten is any two drafts, and when a version is live, one in four sets it blind against the base, so
that ordinary votes also say, without bias, whether learning helped. Which side a draft is on is a
coin flip, remembered by the pair itself. Left out: showing and storing them (compare.py).

Source of the measure: MacKay 1992, where the prediction of a linear model is least sure.
"""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

BASE_SHARE = 0.25
RANDOM_SHARE = 0.1
REPEAT_SHARE = 0.05  # pairs shown a second time, sides swapped, to see how steady the votes are
ANCHOR_SHARE = 0.2  # pairs somebody else has voted on, while there are some
REPEAT_AFTER = 10  # votes before a pair may come back
DRAFTS = 8  # to choose from

Floats = NDArray[np.float64]


def choose(live_version: int, rng: random.Random) -> tuple[int, int]:
    """VersionRegistry of the two drafts (a, b)."""
    if live_version and rng.random() < BASE_SHARE:
        return live_version, 0
    return live_version, live_version


def order(set_id: str, count: int) -> list[int]:
    """The draft on each place of the screen: random because ids are, and the same whenever asked.
    For two it is the last digit of the id that decides which of them is on the left."""
    if count == 2:
        return [0, 1] if int(set_id[-1], 16) % 2 == 0 else [1, 0]
    places = list(range(count))
    random.Random(set_id).shuffle(places)
    return places


def from_side(outcome: str, a_left: bool) -> str:
    """What was clicked ("a" is the left one on the screen) in terms of the drafts a and b."""
    if outcome in ("a", "b") and not a_left:
        return "b" if outcome == "a" else "a"
    return outcome


def max_variance(x: Floats, covariance: Floats, count: int = 2) -> list[int]:
    """The `count` of N drafts (features x (N, D)) in whose margins the taste is least sure.

    The variance of a margin, d' C d with d the difference of two and C the posterior covariance,
    summed over all pairs. What the answer is expected to be is left out on purpose: asking most
    where it is undecided teaches a little more a vote, but then no vote confirms another, and the
    test of the signal neither sees a taste nor knows a coin (docs/LOG.md).
    """
    d = x[:, None] - x[None]
    variance = np.einsum("ijd,de,ije->ij", d, covariance, d)
    sets = combinations(range(len(x)), count)
    return list(max(sets, key=lambda kept: sum(variance[p] for p in combinations(kept, 2))))
