"""Properties of the taste: the fit, its uncertainty, people who share it, the test for a signal."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rlhf_chat.reward import likelihood, reward_model
from rlhf_chat.reward.likelihood import (
    COMPARISON,
    CORRECTION,
    LAPSE,
    STARS,
    THUMB,
    PreferenceDataset,
    make_dataset,
    sigmoid,
)
from rlhf_chat.reward.reward_model import RewardConfig, fit, fit_head, influence
from tests.unit.test_likelihood import mixed, probability, reference_ranking, row

QUICK = RewardConfig(permutations=199, prior_steps=6, folds=4)


def permutation_p(dataset: PreferenceDataset, permutations: int, rng: np.random.Generator) -> float:
    return reward_model.permutation_p(dataset, permutations, rng, np.full(dataset.dim, 0.1))


def pairs(x: np.ndarray, outcome: np.ndarray, group: np.ndarray | None = None) -> PreferenceDataset:
    group = np.arange(len(x)) if group is None else group
    rows = [row(a, COMPARISON, b, group=int(g)) for a, b, g in zip(x, outcome, group, strict=True)]
    return make_dataset(x.shape[1], rows)


def votes(n: int, seed: int, dim: int = 12, strength: float = 2.0) -> PreferenceDataset:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim))
    p = sigmoid(strength * x[:, 0])
    return pairs(x, np.where(rng.random(n) < p, 1.0, -1.0))


# ---------------------------------------------------------------------- the fit


def reference_posterior(dataset: PreferenceDataset, theta: np.ndarray, prior: np.ndarray) -> float:
    """The negative log posterior with loops and the case by case likelihood, nothing shared."""
    dim, people = dataset.dim, dataset.raters
    w, level, side = theta[:dim], theta[dim : dim + people], theta[dim + people :]
    total = 0.5 * float((prior * theta**2).sum())
    for i in range(len(dataset.x)):
        who, kind = dataset.rater[i], dataset.kind[i]
        margin = float(dataset.x[i] @ w) + dataset.side[i] * side[who]
        if kind in (THUMB, STARS):
            margin += level[who]
        p, count = probability(kind, float(dataset.label[i]), margin, dataset.cuts[who])
        lapse = dataset.lapse[i]
        total -= dataset.weight[i] * math.log((1 - lapse) * p + lapse / count)
    for x, places, weight in zip(
        dataset.ranked, dataset.place, dataset.ranking_weight, strict=True
    ):
        there = places >= 0
        total += weight * reference_ranking(x[there] @ w, places[there])
    return total


@pytest.mark.parametrize("only", [None, COMPARISON, THUMB, STARS, CORRECTION, "ranking"])
def test_every_kind_pulls_as_the_brute_force_posterior_says(only) -> None:
    dataset = mixed(40, 3, raters=2)
    if only is not None:
        rankings = np.full(len(dataset.ranked), only == "ranking")
        rows = dataset.kind == (only if isinstance(only, int) else -1)
        dataset = dataset.where(rows, rankings)
    problem = reward_model._Problem(dataset)
    precision = np.full(dataset.dim, 2.0)
    prior = np.concatenate([precision, problem.habits])
    theta = np.random.default_rng(0).normal(size=len(prior)) * 0.4
    objective, gradient, _ = problem.posterior(theta, prior)
    assert objective == pytest.approx(reference_posterior(dataset, theta, prior), rel=1e-9)
    for i, h in ((i, 1e-5) for i in range(len(theta))):
        step = h * np.eye(len(theta))[i]
        up, down = (reference_posterior(dataset, theta + s, prior) for s in (step, -step))
        assert gradient[i] == pytest.approx((up - down) / (2 * h), abs=1e-5)
    best, _ = problem.solve(precision)
    lowest = reference_posterior(dataset, best, prior)
    rng = np.random.default_rng(1)
    for _ in range(50):  # no better point nearby
        other = best + rng.normal(size=len(best)) * 0.05
        assert reference_posterior(dataset, other, prior) >= lowest - 1e-7


def test_the_order_of_answers_does_not_matter() -> None:
    dataset = mixed(80, 1)
    rng = np.random.default_rng(0)
    rows: Any = rng.permutation(len(dataset.x))  # an index array works like a mask here
    rankings: Any = rng.permutation(len(dataset.ranked))
    shuffled = dataset.where(rows, rankings)
    a, b = (fit_head(e, 4, RewardConfig()) for e in (dataset, shuffled))
    assert np.abs(a.weights - b.weights).max() < 1e-4


def test_a_few_votes_find_a_clear_taste_and_more_find_it_better() -> None:
    truth = votes(400, 99)
    right = {}
    for n in (20, 200):
        scores = [
            np.mean(
                np.sign(truth.x @ fit_head(votes(n, s), 6, QUICK).weights) == np.sign(truth.x[:, 0])
            )
            for s in range(5)
        ]
        right[n] = np.mean(scores)
    assert right[20] > 0.75 and right[200] > right[20] and right[200] > 0.9


@pytest.mark.parametrize("kind", [COMPARISON, THUMB, STARS, CORRECTION, "ranking"])
def test_every_kind_alone_finds_the_taste(kind) -> None:
    dataset = mixed(500, 5)
    dataset = dataset.where(dataset.kind == kind, np.full(len(dataset.ranked), kind == "ranking"))
    head = fit_head(dataset, 4, QUICK)
    assert np.argmax(np.abs(head.weights)) == 0 and head.weights[0] > 0.4


def test_swapping_the_sides_of_every_pair_turns_nothing_round() -> None:
    dataset = votes(30, 2)
    a, b = (fit_head(e, 6, QUICK) for e in (dataset, pairs(-dataset.x, -dataset.label)))
    assert np.allclose(a.weights, b.weights, atol=1e-8)


def test_a_lean_to_one_side_is_no_taste() -> None:
    rng = np.random.default_rng(4)
    side = rng.choice([-1.0, 1.0], 200)
    x = rng.normal(size=(200, 5))
    chose = np.sign(0.8 * x[:, 0] + 1.5 * side + rng.logistic(size=200))
    rows = [
        row(a, COMPARISON, b, side=s, group=i)
        for i, (a, b, s) in enumerate(zip(x, chose, side, strict=True))
    ]
    head = fit_head(make_dataset(5, rows), 5, QUICK)
    assert head.side[0] > 0.4 and np.argmax(np.abs(head.weights)) == 0
    swapped = [
        row(a, COMPARISON, b, side=-s, group=i)
        for i, (a, b, s) in enumerate(zip(x, chose, side, strict=True))
    ]
    other = fit_head(make_dataset(5, swapped), 5, QUICK)
    assert other.side[0] == pytest.approx(-head.side[0], abs=1e-6)
    assert np.allclose(other.weights, head.weights, atol=1e-6)


def test_thumbs_teach_too_and_their_base_rate_is_not_taste() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(150, 8))
    thumb = np.where(rng.random(150) < sigmoid(2 * x[:, 1] + 1.5), 1.0, -1.0)
    dataset = make_dataset(
        8, [row(a, THUMB, b, group=i) for i, (a, b) in enumerate(zip(x, thumb, strict=True))]
    )
    head = fit_head(dataset, 4, QUICK)
    assert np.argmax(np.abs(head.weights)) == 1 and head.weights[1] > 0.5
    assert head.level[0] > 0.5
    assert permutation_p(dataset, 199, rng) <= 0.02


def test_doubt_falls_with_evidence_and_is_zero_at_the_zero_point() -> None:
    x = np.random.default_rng(4).normal(size=(50, 12))
    few, many = (fit_head(votes(n, 5), 6, QUICK).score(x)[1].mean() for n in (15, 300))
    assert many < few
    mean, sigma = fit_head(votes(15, 5), 6, QUICK).score(np.zeros((1, 12)))
    assert mean[0] == 0 and sigma[0] == 0


def test_strange_replies_are_doubted_more() -> None:
    head = fit_head(votes(100, 6), 6, QUICK)
    x = np.random.default_rng(0).normal(size=(200, 12))
    assert head.score(4 * x)[1].mean() > head.score(x)[1].mean()


def test_ties_pull_scores_together() -> None:
    x = np.zeros((40, 3))
    x[:, 0] = 2.0
    tied = fit_head(pairs(x, np.zeros(40)), 3, QUICK)
    chosen = fit_head(pairs(x, np.ones(40)), 3, QUICK)
    assert abs(tied.weights[0]) < 0.05 < chosen.weights[0]


def test_much_better_says_more_than_better_and_slightly_less() -> None:
    x = np.tile([1.0, 0.0], (20, 1))
    told = {
        size: fit_head(pairs(x, np.full(20, size)), 2, QUICK).weights[0]
        for size in (likelihood.SLIGHT, likelihood.PLAIN, likelihood.MUCH)
    }
    assert told[likelihood.SLIGHT] < told[likelihood.PLAIN] < told[likelihood.MUCH]


def test_5000_mixed_answers_are_refitted_within_a_second() -> None:
    dataset = mixed(5000, 9, dim=44)
    fit_head(dataset.of_groups(dataset.groups[:200]), 28, RewardConfig())
    times = []
    for _ in range(3):
        began = time.process_time()
        fit_head(dataset, 28, RewardConfig())
        times.append(time.process_time() - began)
    assert min(times) < 1.0


# ---------------------------------------------------------------------- several people


def people(flips: list[bool], each: int = 80, seed: int = 0) -> PreferenceDataset:
    rng = np.random.default_rng(seed)
    rows = []
    for who, flip in enumerate(flips):
        for i in range(each):
            x = rng.normal(size=8)
            chose = np.sign(2 * x[0] + rng.logistic()) * (-1 if flip else 1)
            rows.append(row(x, COMPARISON, chose, group=i, rater=who))
    return make_dataset(8, rows, raters=len(flips))


def test_who_answers_at_random_counts_less() -> None:
    rng = np.random.default_rng(2)
    dataset = people([False, False, False])
    noise = np.where(dataset.rater == 2, rng.choice([-1.0, 1.0], len(dataset.x)), dataset.label)
    dataset = PreferenceDataset(**{**dataset.__dict__, "label": noise})
    head = fit_head(dataset, 8, QUICK)
    assert head.sensitivity[2] < 0.6 * head.sensitivity[:2].min()
    assert np.argmax(np.abs(head.weights)) == 0


def test_one_person_alone_has_no_sensitivity_to_fit() -> None:
    assert fit_head(votes(30, 0), 6, QUICK).sensitivity.tolist() == [1.0]


# ---------------------------------------------------------------------- is there a signal?


def test_a_coin_flipper_is_found_out() -> None:
    """At 36 votes: p <= .02 in at most 5 % of 200 coin flippers, p <= .12 in at most 20 %."""
    rng = np.random.default_rng(7)
    p = []
    for _ in range(200):
        x = rng.normal(size=(36, 20))
        p.append(permutation_p(pairs(x, rng.choice([-1.0, 1.0], size=36)), 199, rng))
    assert np.mean(np.array(p) <= 0.02) <= 0.05
    assert 0.04 <= np.mean(np.array(p) <= 0.12) <= 0.20


def test_random_answers_of_every_kind_are_found_out() -> None:
    rng = np.random.default_rng(8)
    p = []
    for i in range(150):
        dataset = mixed(50, 1000 + i, dim=10)
        turned = dataset.label * rng.choice([-1.0, 1.0], len(dataset.x))
        stars = dataset.kind == STARS
        turned[stars] = rng.permutation(dataset.label[stars])
        thumbs = dataset.kind == THUMB
        turned[thumbs] = rng.permutation(dataset.label[thumbs])
        places = np.array([_shuffled(row_, rng) for row_ in dataset.place])
        random = PreferenceDataset(**{**dataset.__dict__, "label": turned, "place": places})
        p.append(permutation_p(random, 99, rng))
    assert np.mean(np.array(p) <= 0.05) <= 0.10
    assert 0.3 <= np.mean(np.array(p) <= 0.5) <= 0.7


def test_how_well_a_taste_predicts_is_judged_with_each_persons_own_sensitivity() -> None:
    """Two people of one taste, one of whom answers at random: what is said of the whole is better
    where the random one's answers are not expected to follow the taste."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 6))
    sure = sigmoid(3 * x[:, 0]) > rng.random(200)
    dataset = np.where(np.arange(200) % 2 == 0, sure, rng.random(200) < 0.5)
    rows = [
        row(a, COMPARISON, 1.0 if up else -1.0, group=i, rater=i % 2)
        for i, (a, up) in enumerate(zip(x, dataset, strict=True))
    ]
    both = make_dataset(6, rows, raters=2)
    head = fit_head(both, 6, QUICK)
    assert head.sensitivity[1] < 0.6 * head.sensitivity[0]
    [margins] = [m for m in reward_model._margins(both, head) if len(m)]
    labels = both.label
    expected = (both.scaled(head.sensitivity).x @ head.weights) * labels
    assert np.allclose(margins, expected)
    assert reward_model._log_loss(margins) < reward_model._log_loss((x @ head.weights) * labels)


def _shuffled(places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    out = places.copy()
    out[places >= 0] = rng.permutation(places[places >= 0])
    return out


def test_a_real_taste_is_usually_seen_at_36_votes() -> None:
    rng = np.random.default_rng(8)
    seen = [permutation_p(votes(36, s, dim=30), 199, rng) <= 0.12 for s in range(30)]
    assert np.mean(seen) > 0.8


def test_what_is_constant_within_a_prompt_changes_nothing() -> None:
    """Scores are relative: a shift of all replies to a prompt is no information."""
    rng = np.random.default_rng(9)
    groups = np.repeat(np.arange(20), 4)
    style, pooled = rng.normal(size=(80, 5)), rng.normal(size=(80, 30))
    shift = rng.normal(size=(20, 30))[groups] * 5
    one = reward_model.fit_feature_map(style, pooled, groups)
    two = reward_model.fit_feature_map(style, pooled + shift, groups)
    assert np.allclose(np.abs(one.components), np.abs(two.components), atol=1e-6)


def test_replies_unlike_any_of_the_bases_are_told_apart() -> None:
    """The base's replies are cut at about 190 words; people want 15 rather than 40, or 300."""
    rng = np.random.default_rng(10)
    groups = np.repeat(np.arange(20), 4)
    style = np.log(rng.normal(190, 15, size=(80, 1)))
    known = reward_model.fit_feature_map(style, np.zeros((80, 2)), groups, np.array([0.2]))
    x = known(np.log(np.array([[15.0], [40.0], [100.0], [300.0]])), np.zeros((4, 2)))[:, 0]
    assert (reward_model.bounded(np.diff(x)) > 2).all()
    assert reward_model.bounded(x[3] - x[0]) == reward_model.FARTHEST
    assert known.style_std[0] == 0.2  # and no difference of a few words is blown up


def test_nobody_said_anything() -> None:
    nothing = make_dataset(4)
    known = fit(nothing, 4, QUICK, seed=0)
    assert known.labels == 0 and known.p_value == 1.0 and not known.head.weights.any()


def test_cross_validation_never_has_a_prompt_on_both_sides(monkeypatch) -> None:
    dataset = pairs(votes(40, 1).x, votes(40, 1).label, np.arange(40) // 4)
    seen = []
    real = reward_model.fit_head

    def watch(part, named, config):
        seen.append(set(part.groups.tolist()))
        assert all((part.group == g).sum() == 4 for g in part.groups)
        return real(part, named, config)

    monkeypatch.setattr(reward_model, "fit_head", watch)
    margins = reward_model._cross_fitted(dataset, 6, QUICK, np.random.default_rng(0))
    assert len(seen) == QUICK.folds and len(margins) == 40


def test_a_fit_reports_what_it_knows() -> None:
    known = fit(votes(120, 3), 6, QUICK, seed=0)
    assert known.accuracy > 0.7 and known.log_loss < math.log(2) and known.p_value <= 0.01
    rng = np.random.default_rng(1)
    noise = fit(pairs(rng.normal(size=(120, 12)), rng.choice([-1.0, 1.0], 120)), 6, QUICK, 0)
    assert noise.accuracy < 0.7 and noise.log_loss > 0.6


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_influence_is_what_leaving_an_answer_out_would_change(shift: float) -> None:
    """Also where the replies themselves are off the base's, as after a version has gone live."""
    dataset = mixed(60, 4)
    moved = dataset.x.copy()
    moved[dataset.alone, 0] += shift
    dataset = replace(dataset, x=moved)
    precision = np.full(dataset.dim, 2.0)
    direction = np.eye(dataset.dim)[0]
    _, head = reward_model._Problem(dataset).solve(precision)
    rows, rankings = influence(dataset, head, direction)

    def without(i: int, j: int) -> float:
        keep, ranks = np.ones(len(dataset.x), bool), np.ones(len(dataset.ranked), bool)
        if i >= 0:
            keep[i] = False
        if j >= 0:
            ranks[j] = False
        left = reward_model._Problem(dataset.where(keep, ranks)).solve(precision)[1]
        return float((head.weights - left.weights) @ direction)

    exact = np.array([without(i, -1) for i in range(len(rows))])
    assert np.corrcoef(rows, exact)[0, 1] > 0.97
    alone = dataset.alone
    assert np.corrcoef(rows[alone], exact[alone])[0, 1] > 0.97
    exact = np.array([without(-1, j) for j in range(len(rankings))])
    assert np.corrcoef(rankings, exact)[0, 1] > 0.9


def test_lapses_bound_what_one_answer_can_do() -> None:
    """However wrong it looks, one click moves no mountain: its slope is bounded."""
    margin = np.array([-50.0, -8.0, 0.0])
    _, slope, _ = likelihood.row_loss(
        margin, np.zeros(3), np.full(3, np.inf), np.full(3, LAPSE), np.full(3, 2.0)
    )
    assert abs(slope[0]) < 1e-6 and np.abs(slope).max() < 1
