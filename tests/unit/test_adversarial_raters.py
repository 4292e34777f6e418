"""Who says the opposite of all others: found among every kind of answer, and nobody wronged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlhf_chat.reward import adversarial_raters
from rlhf_chat.reward.adversarial_raters import opposed, suspect
from rlhf_chat.reward.likelihood import EDIT, PAIR, SCORE, STARS, PreferenceDataset, make_dataset
from rlhf_chat.reward.reward_model import RewardConfig, fit_head
from tests.unit.test_likelihood import mixed, row

QUICK = RewardConfig(prior_steps=6)


def flipped(dataset: PreferenceDataset, rater: int) -> PreferenceDataset:
    """The same with everything this person said turned into its opposite."""
    mine, theirs = dataset.rater == rater, dataset.ranking_rater == rater
    label = np.where(mine, -dataset.label, dataset.label)
    stars, edits = mine & (dataset.kind == SCORE), mine & (dataset.kind == EDIT)
    label[stars] = STARS + 1 - dataset.label[stars]
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


def test_who_answers_by_a_coin_is_rarely_taken_for_an_opponent() -> None:
    taken = 0
    for seed in range(20):
        dataset = mixed(120, 100 + seed, raters=3)
        rng = np.random.default_rng(seed)
        signs = np.where(dataset.rater == 2, rng.choice([-1.0, 1.0], len(dataset.x)), 1.0)
        pairs_only = dataset.where(dataset.kind == PAIR, np.zeros(len(dataset.ranked), bool))
        signs = signs[dataset.kind == PAIR]
        taken += suspect(replace(pairs_only, label=pairs_only.label * signs), 6, QUICK) is not None
    assert taken <= 3


def test_of_two_who_disagree_neither_is_the_odd_one_out() -> None:
    assert suspect(flipped(mixed(120, 3, raters=2), 1), 6, QUICK) is None


def test_somebody_who_said_nothing_yet_is_no_opponent() -> None:
    dataset = replace(mixed(60, 4, raters=2), raters=3, cuts=np.zeros((3, STARS - 1)))
    assert opposed(dataset, 6, QUICK)[2] == 0
    assert suspect(make_dataset(4, raters=3), 4, QUICK) is None


def test_leaving_a_person_out_closes_the_numbers_up() -> None:
    dataset = mixed(60, 5, raters=3)
    left = adversarial_raters.without(dataset, 1)
    assert left.raters == 2 and set(left.rater) == {0, 1} and len(left.cuts) == 2
    assert len(left) + len(adversarial_raters.only(dataset, 1)) == len(dataset)


def test_setting_the_saboteur_aside_restores_what_was_learned() -> None:
    """200 honest pairs of four people with 10 % noise; one of them turns round a hundred of theirs.
    Accuracy on held-out pairs comes back to within 2 points of never having had them."""
    lost, after, clean, shared = [], [], [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=8)
        test = rng.normal(size=(2000, 8))

        def right(rows, truth=truth, test=test):
            order = {who: i for i, who in enumerate(sorted({r[5] for r in rows}))}
            rows = [(*r[:5], order[r[5]], *r[6:]) for r in rows]
            weights = fit_head(make_dataset(8, rows, raters=len(order)), 8, QUICK).weights
            return np.mean((test @ weights > 0) == (test @ truth > 0))

        rows: list[tuple] = []
        for i in range(60):
            x = rng.normal(size=8)
            for who in range(4) if i < 12 else [i % 3, 3]:  # the first twelve are shared by all
                honest = np.sign(x @ truth) * (1 if rng.random() < 0.9 else -1)
                rows.append(row(x, PAIR, -honest if who == 3 else honest, group=i, rater=who))
        caught = suspect(make_dataset(8, rows, raters=4), 8, QUICK)
        lost.append(right([(*r[:5], 0, *r[6:]) for r in rows]))  # as if one person had said it all
        shared.append(right(rows))
        after.append(right([r for r in rows if r[5] != caught]))
        clean.append(right([r for r in rows if r[5] != 3]))
    assert np.mean(after) >= np.mean(clean) - 0.02
    assert np.mean(after) > np.mean(lost) + 0.02
    assert np.mean(shared) > np.mean(lost) + 0.02  # fitted sensitivities already help
