"""Which replies to show side by side.

Mostly two of several drafts of the live version, those whose comparison says most; one pair in ten
is any two drafts, and when a version is live, one in four sets it blind against the base, so that
ordinary votes also say, without bias, whether learning helped. Which side a draft is on is a
coin flip, remembered by the pair itself. Left out: showing and storing them (compare.py).

Source of the measure: Cohn, Ghahramani & Jordan 1996; Chaloner & Verdinelli 1995 (V-optimality).
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

OUTCOMES = {
    "a": "A is better",
    "b": "B is better",
    "tie": "Tie",
    "both_bad": "Both bad",
    "both_good": "Both good",
}

Floats = NDArray[np.float64]


def choose(live_version: int, rng: random.Random) -> tuple[int, int]:
    """Versions of the two drafts (a, b)."""
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


def most_telling(x: Floats, design: Floats, spread: Floats, count: int = 2) -> list[int]:
    """The `count` of N drafts (features x (N, D)) whose comparison says most about replies.

    For each two, how much the mean variance of what replies are worth falls: |spread^1/2 C d|^2 for
    their difference d, with C the doubt left by the questions so far (design, (D, D)) and spread
    (D, D) the covariance of replies to one prompt; summed over all pairs of a set. Answers play no
    part, neither past nor expected ones: asking most where the head is undecided leaves no vote to
    confirm another, and a coin then passes for a taste (docs/LOG.md). V-optimality divides this by
    the noise, 4 + d' C d; without it fewer votes were needed, for the less alike two drafts are,
    the surer the vote.
    """
    d = x[:, None] - x[None]
    falls = np.einsum("ijd,de,ije->ij", d, design @ spread @ design, d)
    sets = combinations(range(len(x)), count)
    return list(max(sets, key=lambda kept: sum(falls[p] for p in combinations(kept, 2))))
