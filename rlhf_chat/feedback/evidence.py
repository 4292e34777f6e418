"""What an answer says about scores, before features are known: terms of the likelihood by the
positions of the replies in the answer.

reward/dataset.py turns them into rows of numbers, reward/likelihood.py has the formulas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Noise = Literal["comparison", "thumb", "stars", "correction"]


@dataclass(frozen=True)
class Contrast:
    """The mean score of some replies minus that of others, observed with noise.

    Of "comparison" and "correction", label +1 is better, -1 worse and 0 a tie; of "thumb" +1 or -1;
    of "stars" 1 to 5.
    """

    noise: Noise
    label: float
    replies: tuple[int, ...] = (0,)
    against: tuple[int, ...] = ()  # (): what the base model scores on this prompt on average
    strength: str = ""  # of a comparison: slightly, much, or not said
    weight: float = 1.0
    first: int = 0  # +1 where `replies` were shown first, -1 where `against` were, 0 where unknown
    rater_lapse: bool = True  # as many slips as this rater makes; else as many as anybody


@dataclass(frozen=True)
class Order:
    """A place for each reply of the answer: 0 is best, equal places are tied."""

    places: tuple[int, ...]


Evidence = tuple[Contrast | Order, ...]
