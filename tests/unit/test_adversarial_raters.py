"""Who says the opposite of all others: found among every kind of answer, and nobody wronged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlhf_chat.reward import adversarial_raters
from rlhf_chat.reward.adversarial_raters import opposed, suspect
from rlhf_chat.reward.likelihood import (
    CORRECTION,
    MAX_STARS,
    STARS,
    PreferenceDataset,
    make_dataset,
)
from rlhf_chat.reward.reward_model import RewardConfig
from tests.unit.test_likelihood import mixed

QUICK = RewardConfig(prior_steps=6)


def flipped(dataset: PreferenceDataset, rater: int) -> PreferenceDataset:
    """The same with everything this person said turned into its opposite."""
    mine, theirs = dataset.rater == rater, dataset.ranking_rater == rater
    label = np.where(mine, -dataset.label, dataset.label)
    stars, edits = mine & (dataset.kind == STARS), mine & (dataset.kind == CORRECTION)
    label[stars] = MAX_STARS + 1 - dataset.label[stars]
    label[edits] = 1.0
    x = np.where(edits[:, None], -dataset.x, dataset.x)
    last = dataset.place.max(1, keepdims=True)
    upside_down = theirs[:, None] & (dataset.place >= 0)
    place = np.where(upside_down, last - dataset.place, dataset.place)
    return replace(dataset, label=label, x=x, place=place)


@pytest.mark.parametrize("seed", range(5))
def test_who_turns_every_kind_of_answer_round_is_found(seed) -> None:
    dataset = flipped(mixed(120, seed, raters=3), 1)
    assert suspect(dataset, 6, QUICK) == 1


@pytest.mark.parametrize("seed", range(6))
def test_nobody_else_is_taken_for_that_person_while_little_is_known(seed) -> None:
    assert suspect(flipped(mixed(24, 200 + seed, raters=3), 1), 6, QUICK) in (1, None)


@pytest.mark.parametrize("seed", range(10))
def test_nobody_is_suspected_among_people_who_mean_the_same(seed) -> None:
    assert suspect(mixed(90, 50 + seed, raters=3), 6, QUICK) is None


def test_of_two_who_disagree_neither_is_the_odd_one_out() -> None:
    assert suspect(flipped(mixed(120, 3, raters=2), 1), 6, QUICK) is None


def test_somebody_who_said_nothing_yet_is_no_opponent() -> None:
    dataset = replace(mixed(60, 4, raters=2), raters=3, cuts=np.zeros((3, MAX_STARS - 1)))
    assert opposed(dataset, 6, QUICK)[2] == 0
    assert suspect(make_dataset(4, raters=3), 4, QUICK) is None


def test_leaving_a_person_out_closes_the_numbers_up() -> None:
    dataset = mixed(60, 5, raters=3)
    left = adversarial_raters.without(dataset, 1)
    assert left.raters == 2 and set(left.rater) == {0, 1} and len(left.cuts) == 2
    assert len(left) + len(adversarial_raters.only(dataset, 1)) == len(dataset)
