"""The state of training: one of seven, whatever the facts, and in words that agree with it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rlhf_chat import locale
from rlhf_chat.errors import Notice
from rlhf_chat.training.round_conditions import CONDITIONS
from rlhf_chat.training.schedule import RoundSchedule
from rlhf_chat.training.status import (
    CRASHED,
    FAILED,
    OFF,
    PAUSED,
    PHASES,
    READY,
    STATES,
    STOPPED,
    TRAINING,
    WAITING,
    Status,
)

IDLE = Status(waiting=3, needed=12, next_round=4, live_version=2, live_tier="passed")
PROBLEM = Notice("round.app_ended")


def facts() -> st.SearchStrategy[Status]:
    notices = st.none() | st.just(PROBLEM)
    return st.builds(
        Status,
        waiting=st.integers(0, 40),
        needed=st.integers(1, 20),
        next_round=st.integers(1, 9),
        live_version=st.integers(0, 9),
        live_tier=st.just("passed"),
        off=notices,
        paused=st.booleans(),
        asked=st.booleans(),
        held=st.sampled_from(["", STOPPED, FAILED, CRASHED]),
        awaits=st.sampled_from(["", *CONDITIONS]),
        error=notices,
        simulated=st.booleans(),
        own=st.integers(0, 40),
        round_id=st.none() | st.integers(1, 9),
        phase=st.sampled_from(PHASES),
        progress=st.floats(-1, 2),
        seconds_left=st.none() | st.floats(0, 1e5),
        gives_way=st.booleans(),
    )


@given(facts())
def test_any_facts_are_one_state_with_words_in_every_language(status: Status) -> None:
    assert status.state in STATES and 0 <= status.share <= 1
    for notice in (status.name, status.count, status.sentence, status.sentence_for_people):
        for language in locale.LANGUAGES:
            words = locale.render(notice.code, notice.params, language)
            assert words and words != notice.code and "{" not in words and "–" not in words


@given(facts())
def test_a_state_is_what_the_facts_say(status: Status) -> None:
    state, running = status.state, status.round_id is not None
    assert (state == FAILED) >= bool(status.error)
    if status.error:
        return
    assert (state == TRAINING) == (running and not status.paused)
    assert (state == OFF) == (bool(status.off) and not running)
    if state == WAITING:
        assert status.missing > 0 and not (status.paused or status.held or status.asked)
    if state == READY:
        assert status.asked or not status.missing
    if state == STOPPED:
        assert status.held == STOPPED


@given(facts())
def test_the_sentence_counts_what_the_ring_shows(status: Status) -> None:
    words = str(status.sentence)
    if status.state == WAITING:
        assert f"{status.waiting} of {status.needed} ratings" in words
        assert status.share == pytest.approx(status.waiting / status.needed)
        assert ("One more" in words) == (status.missing == 1)
    if status.state == TRAINING:
        assert f"{status.share:.0%}" in words and str(status.count) == f"{status.share:.0%}"
    assert (status.round_id is None) or str(status.count).endswith("%")


@given(facts(), st.integers(1, 30))
def test_a_rating_never_takes_a_round_farther_away(status: Status, more: int) -> None:
    later = replace(status, waiting=status.waiting + more, held="")
    assert later.missing <= status.missing and later.share >= status.share
    if status.state == READY:
        assert later.state == READY


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "3 of 12 ratings. 9 more start round 4."),
        ({"waiting": 11}, "11 of 12 ratings. One more starts round 4."),
        ({"waiting": 12}, "12 ratings, enough: round 4 starts now."),
        ({"asked": True}, "Round 4 starts now."),
        ({"paused": True}, "Learning is paused. 3 ratings are kept for round 4."),
        ({"held": STOPPED}, "The last round was stopped. 3 of 12 ratings. 9 more start round 4."),
        (
            {"held": FAILED, "waiting": 13},
            "The last round failed. 13 ratings. One more, or Train now, starts round 4.",
        ),
        (
            {"off": Notice("training.read_only"), "waiting": 1},
            "The database is read-only: nothing can be rated or learned, and chats are not kept. "
            "1 rating is kept for round 4.",
        ),
        (
            {"round_id": 4, "next_round": 5, "phase": "ppo", "progress": 0.4, "seconds_left": 200},
            "Round 4, 40%, about 3 min left: training (PPO). New ratings count for round 5.",
        ),
        (
            {"round_id": 4, "next_round": 5, "phase": "gate", "paused": True, "progress": 0.9},
            "Round 4 is paused at 90%. New ratings count for round 5.",
        ),
    ],
)
def test_a_state_in_a_sentence(changes: dict[str, object], words: str) -> None:
    status = replace(IDLE, **changes)  # type: ignore[arg-type]
    assert str(status.sentence) == str(status.sentence_for_people) == words


def test_beside_a_simulation_people_are_told_of_their_own_ratings() -> None:
    status = replace(IDLE, simulated=True, own=1, waiting=8)
    assert str(status.sentence_for_people) == (
        "1 of your ratings waits until the simulation is removed."
    )
    assert str(status.sentence).startswith("8 of 12 ratings.")


class Learning(RuleBasedStateMachine):
    """The schedule of rounds with its database counted in memory, beside the state it is told as:
    a round begins by itself exactly where the state says so."""

    def __init__(self) -> None:
        super().__init__()
        self.ratings, self.watermark, self.round, self.paused, self.rounds = 0, 0, 0, False, 0
        store = SimpleNamespace(feedback=SimpleNamespace(count=lambda: self.ratings))
        history = SimpleNamespace(waiting=lambda rater: self.ratings - self.watermark, store=store)
        self.schedule = RoundSchedule(history, 3)  # type: ignore[arg-type]

    @property
    def status(self) -> Status:
        return replace(
            IDLE,
            waiting=self.schedule.waiting(),
            needed=self.schedule.needed,
            paused=self.paused,
            asked=self.schedule.request is not None,
            held=self.schedule.held,
            round_id=self.round or None,
            phase="ppo",
        )

    @rule()
    def rate(self) -> None:
        before = self.status
        self.ratings += 1
        assert self.status.missing == max(before.missing - 1, 0)
        assert self.round or self.status.state not in (STOPPED, FAILED)

    @rule()
    def pause(self) -> None:
        self.paused = not self.paused
        assert (self.status.state == PAUSED) == self.paused

    @precondition(lambda self: not self.round)
    @rule()
    def step(self) -> None:
        """Of the worker's thread."""
        state = self.status.state
        request = self.schedule.due(automatic=not self.paused)
        assert bool(request) == (state == READY)
        if request:
            self.rounds += 1
            self.round, self.began_at = self.rounds, self.ratings
            self.schedule.opened()
            self.schedule.begun(request)
            assert self.status.state == TRAINING

    @precondition(lambda self: self.round)
    @rule(how=st.sampled_from(["promoted", "discarded", "stopped", "failed"]))
    def end(self, how: str) -> None:
        self.round = 0
        if how in ("promoted", "discarded"):
            self.watermark = self.began_at
        self.schedule.ended(how, self.began_at)
        if how in (STOPPED, FAILED) and self.ratings == self.began_at and not self.paused:
            assert self.status.state == how

    @invariant()
    def the_state_is_one_of_those_that_can_be(self) -> None:
        assert self.status.state in STATES


TestLearning = Learning.TestCase


@pytest.mark.parametrize("awaits", CONDITIONS)
def test_what_ratings_wait_for_is_named_once_there_are_enough(awaits: str) -> None:
    few = replace(IDLE, awaits=awaits)
    assert few.sentence == IDLE.sentence
    enough = replace(few, waiting=12)
    assert enough.state == READY and enough.sentence.code == f"state.awaits_{awaits}"
    assert "Train now" in str(enough.sentence)
    assert replace(enough, asked=True).sentence.code == "state.asked"
