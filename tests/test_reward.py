"""Properties of the taste: likelihoods, the fit, its uncertainty, and the test for a signal."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlhf_chat import reward
from rlhf_chat.reward import Evidence, RewardConfig, fit, fit_head, permutation_p

QUICK = RewardConfig(permutations=199, prior_steps=6, folds=4)


def evidence(
    pairs: np.ndarray,
    outcome: np.ndarray,
    thumbs: np.ndarray | None = None,
    thumb: np.ndarray | None = None,
) -> Evidence:
    thumbs = np.zeros((0, pairs.shape[1])) if thumbs is None else thumbs
    thumb = np.zeros(0) if thumb is None else thumb
    return Evidence(
        pairs,
        outcome,
        np.ones(len(pairs)),
        np.arange(len(pairs)),
        thumbs,
        thumb,
        np.ones(len(thumbs)),
        1000 + np.arange(len(thumbs)),
    )


def votes(n: int, seed: int, dim: int = 12, strength: float = 2.0) -> Evidence:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim))
    p = reward.sigmoid(strength * x[:, 0])
    return evidence(x, np.where(rng.random(n) < p, 1.0, -1.0))


def test_pair_outcomes_sum_to_one_and_reduce_to_bradley_terry_without_ties() -> None:
    margin = np.linspace(-6, 6, 50)
    assert np.allclose(reward.pair_probabilities(margin).sum(-1), 1, atol=1e-12)
    plain = reward.pair_probabilities(margin, tie_width=0.0)
    assert np.allclose(plain[:, 0], reward.sigmoid(margin)) and np.allclose(plain[:, 1], 0)
    t = reward.TIE_WIDTH
    ties = (1 - math.exp(-2 * t)) * reward.sigmoid(margin + t) * reward.sigmoid(t - margin)
    assert np.allclose(reward.pair_probabilities(margin)[:, 1], ties, atol=1e-7)


@pytest.mark.parametrize("loss", [reward.pair_loss, reward.thumb_loss])
@pytest.mark.parametrize("label", [1.0, -1.0, 0.0])
def test_slopes_and_curvatures_are_derivatives(loss, label: float) -> None:
    if loss is reward.thumb_loss and label == 0:
        pytest.skip("a thumb is up or down")
    margin, h = np.linspace(-3, 3, 25), 1e-5
    labels = np.full(25, label)
    _, slope, curve = loss(margin, labels)
    up, down = loss(margin + h, labels), loss(margin - h, labels)
    assert np.allclose(slope, (up[0] - down[0]) / (2 * h), atol=1e-6)
    second = (up[1] - down[1]) / (2 * h)
    assert np.allclose(curve, np.maximum(second, 0), atol=1e-5)


def test_the_map_is_where_the_gradient_is_zero() -> None:
    told = votes(40, 0)
    precision = np.full(12, 3.0)
    head = reward.fit_map(told, precision)
    theta = np.append(head.weights, head.thumb_bias)
    rows = np.concatenate([told.pairs, np.zeros((40, 1))], 1)
    prior = np.append(precision, 1 / 1.5**2)
    _, gradient, _ = reward._posterior(theta, rows, told, prior)
    assert np.abs(gradient).max() < 1e-4


def test_the_order_of_ratings_does_not_matter() -> None:
    told = votes(60, 1)
    shuffled = np.random.default_rng(0).permutation(60)
    again = evidence(told.pairs[shuffled], told.outcome[shuffled])
    a, b = (fit_head(e, 6, RewardConfig()) for e in (told, again))
    assert np.abs(a.weights - b.weights).max() < 1e-4


def test_a_few_votes_find_a_clear_taste_and_more_find_it_better() -> None:
    truth = votes(400, 99)
    right = {}
    for n in (20, 200):
        scores = [
            np.mean(
                np.sign(truth.pairs @ fit_head(votes(n, s), 6, QUICK).weights)
                == np.sign(truth.pairs[:, 0])
            )
            for s in range(5)
        ]
        right[n] = np.mean(scores)
    assert right[20] > 0.75 and right[200] > right[20] and right[200] > 0.9


def test_swapping_the_sides_of_every_pair_turns_nothing_round() -> None:
    told = votes(30, 2)
    swapped = evidence(-told.pairs, -told.outcome)
    a, b = fit_head(told, 6, QUICK), fit_head(swapped, 6, QUICK)
    assert np.allclose(a.weights, b.weights, atol=1e-8)


def test_thumbs_teach_too_and_their_base_rate_is_not_taste() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(150, 8))
    thumb = np.where(rng.random(150) < reward.sigmoid(2 * x[:, 1] + 1.5), 1.0, -1.0)
    told = evidence(np.zeros((0, 8)), np.zeros(0), x, thumb)
    head = fit_head(told, 4, QUICK)
    assert np.argmax(np.abs(head.weights)) == 1 and head.weights[1] > 0.5
    assert head.thumb_bias > 0.5
    assert permutation_p(told, 199, rng) <= 0.02


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


def test_a_coin_flipper_is_found_out() -> None:
    """At 36 votes: p <= .02 in at most 5 % of 200 coin flippers, p <= .12 in at most 20 %."""
    rng = np.random.default_rng(7)
    p = []
    for _ in range(200):
        x = rng.normal(size=(36, 20))
        told = evidence(x, rng.choice([-1.0, 1.0], size=36))
        p.append(permutation_p(told, 199, rng))
    assert np.mean(np.array(p) <= 0.02) <= 0.05
    assert 0.04 <= np.mean(np.array(p) <= 0.12) <= 0.20


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
    one = reward.fit_feature_map(style, pooled, groups)
    two = reward.fit_feature_map(style, pooled + shift, groups)
    assert np.allclose(np.abs(one.components), np.abs(two.components), atol=1e-6)


def test_nobody_rated_anything() -> None:
    told = evidence(np.zeros((0, 4)), np.zeros(0))
    assert len(told) == 0 and told.effective == 0


def test_ties_pull_scores_together() -> None:
    x = np.zeros((40, 3))
    x[:, 0] = 2.0
    tied = fit_head(evidence(x, np.zeros(40)), 3, QUICK)
    chosen = fit_head(evidence(x, np.ones(40)), 3, QUICK)
    assert abs(tied.weights[0]) < 0.05 < chosen.weights[0]


def test_cross_validation_never_has_a_prompt_on_both_sides(monkeypatch) -> None:
    told = votes(40, 1)
    told = Evidence(**{**told.__dict__, "pair_group": np.arange(40) // 4})
    seen = []
    real = reward.fit_head

    def watch(part, named, config):
        seen.append(set(part.pair_group.tolist()))
        return real(part, named, config)

    monkeypatch.setattr(reward, "fit_head", watch)
    reward._cross_fitted(told, 6, QUICK, np.random.default_rng(0))
    assert len(seen) == QUICK.folds
    for train in seen:
        assert all((told.pair_group == g).sum() == 4 for g in train)


def test_a_fit_reports_what_it_knows() -> None:
    known = fit(votes(120, 3), 6, QUICK, seed=0)
    assert known.accuracy > 0.7 and known.log_loss < math.log(2) and known.p_value <= 0.01
    rng = np.random.default_rng(1)
    noise = fit(evidence(rng.normal(size=(120, 12)), rng.choice([-1.0, 1.0], 120)), 6, QUICK, 0)
    assert noise.accuracy < 0.7 and noise.log_loss > 0.6
