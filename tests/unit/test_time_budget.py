"""A round ends in about its time, however slow the machine turns out to be."""

import math
import random

import pytest

from rlhf_chat.training import ppo
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


def test_what_only_updates_do_is_not_expected_of_the_evaluation() -> None:
    """Half of each update is spent on something else."""
    clock = Clock()
    budget = TimeBudget(600.0, clock)
    budget.updates_begin()
    done = 0
    while budget.allows_another(done, 2.0):
        with budget.beside():
            clock.now += 25
        clock.now += 25
        done += 1
    assert 500 < clock.now - 100.0 <= 550
    budget.expect(0.0, 2.0)
    assert budget.seconds_left == pytest.approx(50)


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
    assert budget.seconds_left == 0
    assert TimeBudget(0.0, clock).seconds_left is None


def test_updates_that_end_before_their_time_shorten_the_time_left() -> None:
    clock = Clock()
    budget = TimeBudget(600.0, clock)
    clock.now += 60
    budget.updates_begin()
    clock.now += 4 * 30
    assert budget.allows_another(4, 2.0)
    budget.expect(math.inf, 2.0)
    assert budget.seconds_left == pytest.approx(420)
    clock.now += 15  # half of the next update: it makes none of them longer
    budget.expect(3.0, 2.0)
    assert budget.seconds_left == pytest.approx(5 * 30)
    clock.now += 30
    assert budget.seconds_left == pytest.approx(4 * 30)
    budget.expect(100.0, 2.0)
    assert budget.seconds_left == pytest.approx(375)


def test_an_end_at_the_kl_target_is_expected_without_a_limit_of_time_too() -> None:
    clock = Clock()
    budget = TimeBudget(0.0, clock)
    budget.updates_begin()
    clock.now += 10
    assert budget.allows_another(2, 1.0)
    budget.expect(4.0, 1.0)
    assert budget.seconds_left == pytest.approx(25)


@pytest.mark.parametrize("first", [0.0, 0.1])
@pytest.mark.parametrize("end", [6, 9, 14])
def test_the_end_at_the_kl_target_is_foreseen_from_a_fifth_of_the_updates_on(first, end) -> None:
    target, rng = 2.0, random.Random(end)
    step = (math.sqrt(target) - math.sqrt(first)) / end
    for done in range(max(end // 5, 2), end):
        kl = (math.sqrt(first) + step * done) ** 2 * rng.uniform(0.85, 1.15)
        remaining = ppo.updates_to_target(first, kl, done, target)
        assert remaining == pytest.approx(end - done, abs=0.35 * end)


def test_a_kl_that_does_not_grow_foresees_no_end() -> None:
    assert ppo.updates_to_target(0.2, 0.1, 3, 2.0) == math.inf
    assert ppo.updates_to_target(0.0, 0.0, 0, 2.0) == math.inf
    assert ppo.updates_to_target(-0.1, 2.5, 3, 2.0) == 0.0
