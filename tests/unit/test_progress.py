"""Progress of a round: it never falls, ends at 1, and the time left is right early on."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

import pytest

from rlhf_chat.training.progress import CountedCheck, Progress, within

PLAN = [
    {"features": 60.0},
    {"reward head": 5.0},
    {"rollouts": 100.0, "ppo": 60.0},
    {"gate": 30.0},
    {"publishing": 1.0},
]
UNITS = {"features": 7, "reward head": 4, "rollouts": 100, "ppo": 80, "gate": 10, "publishing": 1}


def trace(
    plan: Sequence[Mapping[str, float]], speed: Mapping[str, float], noise: float, seed: int
) -> Iterator[tuple[str, float, float]]:
    """(phase, done, now) of each batch: phases of a stage in turns, durations log-normal."""
    rng, now = random.Random(seed), 1000.0
    for stage in plan:
        done = dict.fromkeys(stage, 0)
        while any(done[p] < UNITS[p] for p in stage):
            for phase in stage:
                for _ in range(max(UNITS[phase] // 20, 1)):
                    yield phase, done[phase] / UNITS[phase], now
                    if done[phase] < UNITS[phase]:
                        done[phase] += 1
                        seconds = stage[phase] / UNITS[phase] * speed.get(phase, 1.0)
                        now += seconds * rng.lognormvariate(0, noise)
                    yield phase, done[phase] / UNITS[phase], now


SPEEDS = {
    "as planned": {},
    "ten times slower": dict.fromkeys(UNITS, 10.0),
    "faster, and training slow": {"features": 0.4, "rollouts": 0.4, "gate": 0.4, "ppo": 0.6},
}


@pytest.mark.parametrize("speed", SPEEDS.values(), ids=SPEEDS)
@pytest.mark.parametrize("seed", range(5))
def test_progress_never_falls_and_time_left_is_right_after_a_fifth(speed, seed) -> None:
    points = list(trace(PLAN, speed, 0.3, seed))
    start, end = points[0][2], points[-1][2]
    progress, before, checked = Progress(PLAN, start), 0.0, 0
    for phase, done, now in points:
        progress.update(phase, done, now)
        assert before <= progress.fraction <= 1
        before = progress.fraction
        if 0.2 * (end - start) <= now - start <= 0.95 * (end - start):
            left = progress.seconds_left(now)
            assert left == pytest.approx(end - now, rel=0.3, abs=0.02 * (end - start))
            checked += 1
    assert checked > 50 and progress.fraction > 0.99


def test_time_left_is_known_from_the_first_batch_on() -> None:
    progress = Progress(PLAN, 0.0)
    assert progress.seconds_left(0.0) is None and progress.fraction == 0
    progress.update("features", 0.0, 0.0)
    assert progress.seconds_left(0.0) is None
    progress.update("features", 0.1, 12.0)  # twice as slow as planned
    assert progress.seconds_left(12.0) == pytest.approx(2 * 250, rel=0.01)
    assert progress.seconds_left(13.0) == pytest.approx(2 * 250 - 1, rel=0.01)


def test_an_earlier_round_gives_an_estimate_before_the_first_batch() -> None:
    first = Progress(PLAN, 0.0)
    for phase, done, now in trace(PLAN, dict.fromkeys(UNITS, 3.0), 0.0, 0):
        first.update(phase, done, now - 1000)
    again = Progress(PLAN, 0.0, first.speeds())
    assert again.seconds_left(0.0) == pytest.approx(3 * 256, rel=0.05)


def test_a_slow_beginning_says_little_of_other_phases_where_the_plan_is_in_seconds() -> None:
    """The round waited for a reply of the chat, say."""

    def told(speeds: Mapping[str, float]) -> float:
        progress = Progress(PLAN, 0.0, speeds)
        progress.update("features", 0.0, 0.0)
        progress.update("features", 0.06, 60.0)  # four seconds by the plan
        return progress.seconds_left(60.0) or 0.0

    assert told({}) > 2000
    assert 200 < told(dict.fromkeys(UNITS, 1.0)) < 1000


def test_work_that_is_not_needed_is_not_waited_for() -> None:
    """The KL target was reached early: the gate begins, and only what follows is left."""
    progress = Progress(PLAN, 0.0)
    progress.update("features", 1.0, 60.0)
    progress.update("reward head", 1.0, 65.0)
    for phase, now in (("rollouts", 65.0), ("ppo", 115.0)):
        progress.update(phase, 0.0, now)
        progress.update(phase, 0.5, now + (50.0 if phase == "rollouts" else 30.0))
    progress.update("gate", 0.0, 145.0)
    assert progress.seconds_left(145.0) == pytest.approx(31, rel=0.1)
    assert progress.fraction == pytest.approx(145 / 176, rel=0.05)


def test_where_the_time_ends_before_the_work_the_share_is_of_the_time() -> None:
    progress = Progress([{"ppo": 100.0}], 0.0, least={"ppo": 0.1})
    progress.update("ppo", 0.0, 0.0)
    for second in range(1, 61):  # a fifth as fast as planned, and a minute is all there is
        progress.update("ppo", second / 500, float(second), most=60.0 - second)
        assert progress.fraction == pytest.approx(second / 60)
        assert progress.seconds_left(second + 0.5) == pytest.approx(max(59.5 - second, 0))


def test_a_round_that_is_late_tells_the_time_of_what_it_does_anyway() -> None:
    """It has to write the base's replies first, which takes nearly all of its ten minutes, and
    takes its least updates all the same: in the end 10 of 40, and the evaluation."""
    plan = [{"features": 400.0}, {"rollouts": 300.0, "ppo": 300.0}, {"gate": 60.0}]
    progress = Progress(plan, 0.0, least={"rollouts": 0.25, "ppo": 0.25})
    anyway = 75.0 + 75.0 + 60.0
    for tenth in range(1, 11):
        now = 50.0 * tenth  # the first phase takes 500 s
        progress.update("features", tenth / 10, now, most=600.0 - now)
        true = 500.0 - now + anyway
        assert true * 0.7 <= (progress.seconds_left(now) or 0), tenth
    progress.update("rollouts", 0.0, 500.0, most=100.0)
    progress.update("rollouts", 0.25, 575.0, most=25.0)
    progress.update("ppo", 0.25, 650.0, most=0.0)
    progress.update("gate", 0.0, 650.0, most=0.0)
    assert progress.seconds_left(650.0) == pytest.approx(60.0, rel=0.2)


def test_a_phase_without_work_in_one_round_says_nothing_about_the_next() -> None:
    """All was written, so that a look at it was the whole phase: that is no speed."""
    plan = [{"features": 0.0}, {"rollouts": 300.0, "ppo": 200.0}, {"gate": 60.0}]
    first = Progress(plan, 0.0)
    first.update("features", 0.0, 0.0)
    first.update("features", 1.0, 2.0)
    first.update("rollouts", 0.0, 2.0)
    again = Progress(
        [{"features": 30.0}, *plan[1:]], 0.0, first.speeds(), {"rollouts": 0.5, "ppo": 0.5}
    )
    again.update("features", 0.0, 0.0, most=600.0)
    assert again.seconds_left(0.0) is None
    again.update("features", 0.5, 15.0, most=585.0)
    assert again.seconds_left(15.0) == pytest.approx(575.0, rel=0.05)
    known = Progress(plan, 0.0, {"features": 1e6, "ppo": 1.0}, {"rollouts": 0.5, "ppo": 0.5})
    known.update("rollouts", 0.1, 30.0, most=570.0)
    assert known.seconds_left(30.0) == pytest.approx(530.0, rel=0.1)


def test_nothing_to_do_in_a_phase_says_nothing_about_the_others() -> None:
    progress = Progress([{"features": 0.0}, {"rollouts": 100.0}], 0.0)
    progress.update("features", 1.0, 0.0)
    progress.update("rollouts", 0.1, 0.1)
    progress.update("rollouts", 0.2, 10.1)
    assert progress.seconds_left(10.1) == pytest.approx(40, rel=0.1)


def test_an_unknown_phase_changes_nothing() -> None:
    progress = Progress(PLAN, 0.0)
    progress.update("features", 0.5, 30.0)
    before = progress.seconds_left(30.0)
    progress.update("something else", 0.5, 30.0)
    assert progress.seconds_left(30.0) == before


def test_a_counted_check_reports_its_share_and_still_stops() -> None:
    shares: list[float] = []
    check = CountedCheck(lambda: None, within(shares.append, 0.5, 1.0), 4)
    for _ in range(6):
        check()
    assert shares == pytest.approx([0.625, 0.75, 0.875, 0.975, 0.975, 0.975])

    def stop() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        CountedCheck(stop, shares.append, 4)()
    assert len(shares) == 6
