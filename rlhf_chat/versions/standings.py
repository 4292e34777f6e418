"""Statistics of blind votes between versions: win rates, sequential tests, a ranking.

People look at the count after every vote and stop when they like what they see, which breaks
ordinary tests and intervals. These are valid under optional stopping (Ville's inequality): a
version that is no better than the other is ever called proved with probability 0.05 at most, and
the true win rate ever leaves its interval with probability 0.05 at most. That needs votes that are
independent: two drafts are one vote, however many people judge them. A tie, or both bad, is half a
win.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

PROVED_AT = 20.0  # wealth at which "no better" is given up: wrong at most once in 20
WORSE_AT = 10.0  # wealth at which going back is proposed: a proposal may err once in 10
BETS = (0.1, 0.3, 0.5, 0.7)  # shares of the wealth put on each vote; their average is the wealth

Vote = tuple[int, int, str]  # version of a, version of b, outcome


@dataclass(frozen=True)
class Record:
    """Votes between two versions; wins are those of the first."""

    wins: int = 0
    losses: int = 0
    ties: int = 0

    @property
    def votes(self) -> int:
        return self.wins + self.losses + self.ties

    @property
    def win_rate(self) -> float:
        return (self.wins + 0.5 * self.ties) / self.votes if self.votes else 0.5

    def turned(self) -> Record:
        return Record(self.losses, self.wins, self.ties)


def overall(votes: Iterable[Vote], version: int) -> Record:
    """Votes of a version against any other."""
    wins = losses = ties = 0
    for a, b, outcome in votes:
        if a == b or version not in (a, b):
            continue
        if outcome not in ("a", "b"):
            ties += 1
        elif (outcome == "a") == (a == version):
            wins += 1
        else:
            losses += 1
    return Record(wins, losses, ties)


def between(votes: Iterable[Vote], one: int, other: int) -> Record:
    """Votes of `one` against `other`."""
    return overall((v for v in votes if {v[0], v[1]} == {one, other}), one)


def e_value(record: Record) -> float:
    """Wealth of a bettor who starts with 1 and bets on the first version at fair odds.

    If it is no better than the other, wealth is a supermartingale, so it ever reaches W with
    probability 1/W at most. A tie pays nothing and costs nothing.
    """
    grown = [
        record.wins * math.log1p(bet) + record.losses * math.log1p(-bet) - math.log(len(BETS))
        for bet in BETS
    ]
    top = max(grown)
    return math.exp(min(700.0, top + math.log(sum(math.exp(g - top) for g in grown))))


def is_proved(record: Record) -> bool:
    return e_value(record) >= PROVED_AT


def is_worse(record: Record) -> bool:
    return e_value(record.turned()) >= WORSE_AT


def interval(record: Record, error: float = 0.05) -> tuple[float, float]:
    """Confidence sequence of the win rate, valid under optional stopping.

    A rate p is ruled out when a bettor who mixes all rates evenly has made 1/error against it. For
    half wins the bet pays less than the exact one (the payoff is convex), so they only widen it.
    """
    if not record.votes:
        return 0.0, 1.0
    won, lost = record.wins + 0.5 * record.ties, record.losses + 0.5 * record.ties
    mixed = math.lgamma(won + 1) + math.lgamma(lost + 1) - math.lgamma(won + lost + 2)

    def ruled_out(p: float) -> bool:
        at = (won * math.log(p) if won else 0.0) + (lost * math.log1p(-p) if lost else 0.0)
        return mixed - at >= -math.log(error)

    def edge(inside: float, outside: float) -> float:
        for _ in range(40):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if ruled_out(middle) else (middle, outside)
        return inside

    tiny = 1e-9
    best = min(1 - tiny, max(tiny, won / (won + lost)))
    low = edge(best, tiny) if ruled_out(tiny) else 0.0
    high = edge(best, 1 - tiny) if ruled_out(1 - tiny) else 1.0
    return low, high


def bradley_terry(votes: Sequence[Vote], versions: Sequence[int]) -> dict[int, float]:
    """Expected win rate of each version against the base, from all votes together.

    Bradley-Terry with the base at 0 and a standard normal prior on the others, so a version
    without votes is at one half. It ranks; it proves nothing.
    """
    place = {v: i for i, v in enumerate(v for v in versions if v)}
    theta = np.zeros(len(place))
    rows = [
        (place.get(a, -1), place.get(b, -1), {"a": 1.0, "b": 0.0}.get(outcome, 0.5))
        for a, b, outcome in votes
        if a != b and (a in place or not a) and (b in place or not b)
    ]
    for _ in range(30):
        slope, curve = -theta, np.eye(len(place))
        for i, j, won in rows:
            gap = (theta[i] if i >= 0 else 0.0) - (theta[j] if j >= 0 else 0.0)
            p = 0.5 * (1 + math.tanh(0.5 * gap))
            for at, sign in ((i, 1.0), (j, -1.0)):
                if at >= 0:
                    slope[at] += sign * (won - p)
                    curve[at, at] += p * (1 - p)
            if i >= 0 and j >= 0:
                curve[i, j] -= p * (1 - p)
                curve[j, i] -= p * (1 - p)
        step = np.linalg.solve(curve, slope) if len(place) else theta
        theta = theta + step
        if not len(step) or float(np.abs(step).max()) < 1e-9:
            break
    return {v: 0.5 * (1 + math.tanh(0.5 * theta[i])) for v, i in place.items()} | {0: 0.5}
