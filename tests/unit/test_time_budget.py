"""A round ends in about its time, however slow the machine turns out to be."""

import pytest

from rlhf_chat.training.time_budget import MIN_UPDATES, TimeBudget


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def updates_taken(
    seconds: float, each: float, gate: float, before: float = 0.0
) -> tuple[int, float]:
    """How many updates of `each` seconds a budget allows, and when the gate is done."""
    clock = Clock()
    budget = TimeBudget(seconds, clock)
    clock.now += before
    budget.updates_begin()
    done = 0
    while done < 1000 and budget.allows_another(done, gate):
        clock.now += each
        done += 1
    return done, clock.now - 100.0 + gate * each


@pytest.mark.parametrize("each", [1.0, 7.0, 30.0, 50.0])
@pytest.mark.parametrize("before", [0.0, 60.0])
def test_the_verdict_comes_in_time_and_the_time_is_used(each: float, before: float) -> None:
    done, end = updates_taken(600.0, each, 2.0, before)
    assert end <= 600.0
    assert done == 1000 or end > 600.0 - 1.001 * each


def test_even_the_slowest_machine_takes_enough_updates_to_change_something() -> None:
    assert updates_taken(600.0, 500.0, 2.0)[0] == MIN_UPDATES


def test_without_a_limit_nothing_ends_early() -> None:
    assert updates_taken(0.0, 500.0, 2.0)[0] == 1000


def test_the_time_left_is_known_until_it_is_over() -> None:
    clock = Clock()
    budget = TimeBudget(60.0, clock)
    clock.now += 45
    assert budget.seconds_left == pytest.approx(15)
    clock.now += 45
    assert budget.seconds_left is None
    assert TimeBudget(0.0, clock).seconds_left is None
