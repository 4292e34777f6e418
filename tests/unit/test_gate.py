"""Properties of the gate: every check can fail a candidate, two tiers, codes with numbers."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from rlhf_chat.errors import Notice
from rlhf_chat.training.gate import (
    DISCARDED,
    PASSED,
    PROVISIONAL,
    EvalResult,
    GateConfig,
    GenerationStats,
    Verdict,
    judge,
    nothing_to_learn,
    reward_tier,
    went_too_far,
)

CONFIG = GateConfig()


def words(verdict: Verdict) -> str:
    return str(Notice(verdict.code, verdict.params))


BASE = GenerationStats(
    low_logprob_rate=0.03, degeneration=0.0, unfinished=0.0, empty=0.0, distinct=0.3, tokens=30
)
GOOD = EvalResult(
    labels=36,
    p_value=0.001,
    log_loss=0.5,
    bootstrap_gain=0.8,
    bootstrap_gain_low=0.4,
    win_rate=0.8,
    kl=1.2,
    kl_target=1.5,
    base=BASE,
    candidate=BASE,
    finite=True,
)


def inference_tree(**changes: float) -> EvalResult:
    return dataclasses.replace(GOOD, candidate=dataclasses.replace(BASE, **changes))  # type: ignore[arg-type]


def test_each_look_at_growing_ratings_asks_for_more() -> None:
    first, fourth = CONFIG.at_interim_test(1), CONFIG.at_interim_test(4)
    assert first == CONFIG == CONFIG.at_interim_test(0)
    assert (fourth.provisional_p, fourth.passed_p) == (
        CONFIG.provisional_p / 2,
        CONFIG.passed_p / 2,
    )
    assert reward_tier(36, 0.9 * CONFIG.provisional_p, first) == PROVISIONAL
    assert reward_tier(36, 0.9 * CONFIG.provisional_p, fourth) == DISCARDED
    assert reward_tier(36, 0.4 * CONFIG.passed_p, fourth) == PASSED


def test_a_good_candidate_is_served_with_the_numbers_in_words() -> None:
    verdict = judge(GOOD, CONFIG)
    assert verdict.tier == PASSED and verdict.promoted
    assert verdict.params == {"win_rate": 0.8, "kl": 1.2} and "80%" in words(verdict)


@pytest.mark.parametrize(
    "gain, low, passed",
    [(0.3, -0.04, True), (0.3, -0.06, False), (1.6, -0.06, True), (1.6, -0.17, False)],
)
def test_judges_may_be_as_far_apart_as_the_candidate_went(gain, low, passed) -> None:
    found = dataclasses.replace(GOOD, bootstrap_gain=gain, bootstrap_gain_low=low)
    assert judge(found, CONFIG).promoted == passed


def test_the_tier_follows_the_ratings() -> None:
    assert reward_tier(36, 0.001, CONFIG) == PASSED
    assert reward_tier(36, 0.08, CONFIG) == PROVISIONAL
    assert reward_tier(36, 0.4, CONFIG) == DISCARDED
    assert reward_tier(3, 0.001, CONFIG) == DISCARDED
    assert reward_tier(36, math.nan, CONFIG) == DISCARDED
    hint = judge(dataclasses.replace(GOOD, p_value=0.08), CONFIG)
    assert hint.tier == PROVISIONAL and "on trial" in words(hint)


@pytest.mark.parametrize(
    "measured",
    [
        dataclasses.replace(GOOD, finite=False),
        dataclasses.replace(GOOD, p_value=0.5),
        dataclasses.replace(GOOD, bootstrap_gain=0.04, bootstrap_gain_low=0.01),
        dataclasses.replace(GOOD, bootstrap_gain_low=-0.1),
        dataclasses.replace(GOOD, bootstrap_gain_low=math.nan),
        dataclasses.replace(GOOD, kl=9.0),
        dataclasses.replace(GOOD, kl=math.nan),
        inference_tree(low_logprob_rate=0.5),
        inference_tree(degeneration=0.2),
        inference_tree(unfinished=0.1),
        inference_tree(empty=0.05),
        inference_tree(distinct=0.05),
        inference_tree(tokens=4),
        inference_tree(tokens=200),
        inference_tree(low_logprob_rate=math.nan),
    ],
)
def test_each_fault_alone_closes_the_door_and_is_named(measured: EvalResult) -> None:
    verdict = judge(measured, CONFIG)
    assert verdict.tier == DISCARDED and not verdict.promoted
    [failed] = [check for check in verdict.checks if not check.passed]
    assert verdict.params["name"] == {"code": f"gate.check.{failed.name}"}
    assert verdict.params["found"]["params"] == failed.params
    if isinstance(failed.value, float) and isinstance(failed.limit, float):  # the number tells why
        least = failed.name in ("gain", "judges", "variety")
        inside = failed.value > failed.limit if least else failed.value <= failed.limit
        assert not inside


def test_where_the_base_itself_runs_on_being_cut_off_is_no_fault() -> None:
    """Real models are often cut off by the limit; whoever likes long replies has more of it."""
    talkative = dataclasses.replace(BASE, unfinished=0.4)
    longer = dataclasses.replace(BASE, unfinished=0.7)
    assert judge(dataclasses.replace(GOOD, base=talkative, candidate=longer), CONFIG).promoted


def test_only_a_fault_of_distance_is_worth_a_smaller_step() -> None:
    """Halfway back helps a candidate that went too far; it cannot mend what the ratings lack."""
    for measured in (
        dataclasses.replace(GOOD, kl=9.0),
        inference_tree(low_logprob_rate=0.5),
        inference_tree(tokens=4),
    ):
        assert went_too_far(judge(measured, CONFIG))
    too_weak = dataclasses.replace(GOOD, kl=9.0, bootstrap_gain_low=-0.1)
    for measured in (GOOD, too_weak, dataclasses.replace(GOOD, p_value=0.5)):
        assert not went_too_far(judge(measured, CONFIG))


def test_nothing_to_learn_says_what_is_missing() -> None:
    assert "Only 2 ratings" in words(nothing_to_learn(2, 1.0, CONFIG))
    assert "p = 0.40" in words(nothing_to_learn(30, 0.4, CONFIG))


def test_a_verdict_can_be_stored() -> None:
    stored: dict[str, Any] = judge(GOOD, CONFIG).as_dict()
    assert stored["tier"] == PASSED and json.loads(json.dumps(stored)) is not None
    assert {tuple(check) for check in stored["checks"]} == {("name", "passed", "value", "limit")}


def test_a_judge_that_saw_no_signal_does_not_outvote_the_others() -> None:
    """On half of few ratings some heads stay at zero, and the gain by them is a little noise."""
    hint = dataclasses.replace(GOOD, bootstrap_gain=0.08, bootstrap_gain_low=-0.02)
    assert judge(hint, CONFIG).promoted
    against = dataclasses.replace(GOOD, bootstrap_gain=0.08, bootstrap_gain_low=-0.06)
    nothing = dataclasses.replace(GOOD, bootstrap_gain=0.01, bootstrap_gain_low=0.005)
    assert not judge(against, CONFIG).promoted and not judge(nothing, CONFIG).promoted
