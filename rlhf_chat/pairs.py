"""Which replies to show side by side.

Mostly two of several drafts of the live version, those whose comparison teaches most; one pair in
five is any two drafts, and when a version is live, one in four sets it blind against the base, so
that ordinary votes also say, without bias, whether learning helped. Which side a draft is on is a
coin flip, remembered by the pair itself. Left out: showing and storing them (chat.py).

Source of the measure: MacKay 1992, information gained about the weights of a linear model.
"""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

BASE_SHARE = 0.25
RANDOM_SHARE = 0.2
DRAFTS = 6  # to choose a pair from

Floats = NDArray[np.float64]


def choose(live_version: int, rng: random.Random) -> tuple[int, int]:
    """Versions of the two drafts (a, b)."""
    if live_version and rng.random() < BASE_SHARE:
        return live_version, 0
    return live_version, live_version


def a_is_left(pair_id: str) -> bool:
    """The side of draft a: random because pair ids are, and the same whenever it is asked."""
    return int(pair_id[-1], 16) % 2 == 0


def from_side(outcome: str, a_left: bool) -> str:
    """What was clicked ("a" is the left one on the screen) in terms of the drafts a and b."""
    if outcome in ("a", "b") and not a_left:
        return "b" if outcome == "a" else "a"
    return outcome


def most_telling(x: Floats, weights: Floats, covariance: Floats) -> tuple[int, int]:
    """The two of N drafts (features x (N, D)) whose comparison says most about the weights.

    Expected information of a Bradley-Terry answer, to second order: p (1 - p) d' C d with d the
    difference of the two, C the posterior covariance, and p averaged over it.
    """

    def information(pair: tuple[int, int]) -> float:
        d = x[pair[0]] - x[pair[1]]
        variance = float(d @ covariance @ d)
        margin = float(d @ weights) / np.sqrt(1 + np.pi * variance / 8)
        p = 0.5 * (1 + np.tanh(0.5 * margin))
        return float(p * (1 - p) * variance)

    return max(combinations(range(len(x)), 2), key=information)
