"""Which two replies to show side by side.

Mostly two drafts of the live version; when a version is live, one pair in four sets it blind
against the base, so that ordinary votes also say whether learning helped. Which side a draft is on
is a coin flip, remembered by the pair itself. Left out: showing and storing them (chat.py).
"""

from __future__ import annotations

import random

BASE_SHARE = 0.25


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
