"""What blind votes may claim: never too much, whenever one looks, and enough when it is true.
Left out: where votes come from (test_chat.py), what follows from them (test_worker.py).
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_chat.versions.standings import (
    Record,
    between,
    bradley_terry,
    e_value,
    interval,
    is_proved,
    is_worse,
)

COUNTS = st.integers(0, 60)


def watched(chance: float, votes: int, rng: random.Random, ties: float = 0.0):
    """Records after each vote, as somebody sees them who looks every time."""
    wins = losses = even = 0
    for _ in range(votes):
        if rng.random() < ties:
            even += 1
        elif rng.random() < chance:
            wins += 1
        else:
            losses += 1
        yield Record(wins, losses, even)


@pytest.mark.parametrize("ties", [0.0, 0.3])
def test_a_version_that_is_no_better_is_proved_at_most_once_in_twenty(ties):
    """With a look after each of 300 votes."""
    rng = random.Random(1)
    runs = 1500
    false = sum(any(map(is_proved, watched(0.5, 300, rng, ties))) for _ in range(runs))
    assert false / runs <= 0.05


def test_going_back_is_proposed_wrongly_at_most_once_in_ten():
    rng = random.Random(2)
    runs = 1000
    assert sum(any(map(is_worse, watched(0.5, 300, rng))) for _ in range(runs)) / runs <= 0.10


@pytest.mark.parametrize("truth", [0.5, 0.7, 0.95])
def test_the_interval_holds_the_truth_at_every_moment(truth):
    rng = random.Random(3)
    missed = 0
    for _ in range(400):
        for record in watched(truth, 120, rng):
            low, high = interval(record)
            if not low <= truth <= high:
                missed += 1
                break
    assert missed / 400 <= 0.05


def test_a_version_that_is_better_is_proved_soon():
    rng = random.Random(4)
    needed = []
    for _ in range(200):
        seen = watched(0.75, 400, rng)
        needed.append(next(r.votes for r in seen if is_proved(r)))
    assert sorted(needed)[100] <= 30  # the median


@given(COUNTS, COUNTS, COUNTS)
def test_the_interval_is_around_the_win_rate_and_turns_with_the_record(wins, losses, ties):
    record = Record(wins, losses, ties)
    low, high = interval(record)
    assert 0 <= low <= record.win_rate <= high <= 1
    other_low, other_high = interval(record.turned())
    assert other_low == pytest.approx(1 - high, abs=1e-6)
    assert other_high == pytest.approx(1 - low, abs=1e-6)


@given(COUNTS, COUNTS, COUNTS)
def test_ties_neither_prove_nor_disprove(wins, losses, ties):
    assert e_value(Record(wins, losses, ties)) == e_value(Record(wins, losses))


def test_no_votes_say_nothing():
    assert interval(Record()) == (0.0, 1.0)
    assert e_value(Record()) == pytest.approx(1.0)
    assert not is_proved(Record()) and not is_worse(Record())


def test_a_vote_counts_for_the_version_that_wrote_the_draft():
    votes = [(1, 0, "a"), (0, 1, "a"), (1, 0, "tie"), (0, 1, "both_bad"), (2, 0, "b"), (1, 1, "a")]
    assert between(votes, 1, 0) == Record(1, 1, 2)
    assert between(votes, 0, 1) == Record(1, 1, 2).turned()
    assert between(votes, 2, 0) == Record(0, 1, 0)


def test_the_ranking_follows_the_votes_also_through_a_third_version():
    votes = [(1, 0, "a")] * 8 + [(0, 1, "a")] * 2 + [(2, 1, "a")] * 8 + [(1, 2, "a")] * 2
    ranked = bradley_terry(votes, [0, 1, 2, 3])
    assert ranked[2] > ranked[1] > ranked[0] == 0.5 == ranked[3]
    assert bradley_terry([], [0]) == {0: 0.5}
