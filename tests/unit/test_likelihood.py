"""One likelihood for every kind of answer, against a plain reference written without cleverness."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from rlhf_chat.reward import likelihood
from rlhf_chat.reward.likelihood import (
    COMPARISON,
    CORRECTION,
    CORRECTION_LAPSE,
    LAPSE,
    MUCH,
    MUCH_WIDTH,
    PLAIN,
    SLIGHT,
    STARS,
    THUMB,
    TIE_WIDTH,
    PreferenceDataset,
    make_dataset,
)


def row(x, kind: int, label: float, *, weight=1.0, group=0, rater=0, side=0.0, lapse=LAPSE):
    return (np.asarray(x, dtype=float), kind, label, weight, group, rater, side, lapse)


def mixed(n: int, seed: int, dim: int = 6, raters: int = 1) -> PreferenceDataset:
    """A little of everything, labels by a hidden taste on the first feature."""
    rng = np.random.default_rng(seed)
    rows, rankings = [], []
    for i in range(n):
        x, who = rng.normal(size=dim), int(rng.integers(raters))
        noisy = 2 * x[0] + rng.logistic()
        kind = (COMPARISON, THUMB, STARS, CORRECTION, "ranking")[i % 5]
        if kind == COMPARISON:
            label = float(np.sign(noisy)) * (PLAIN, SLIGHT, MUCH, 0.0)[i // 5 % 4]
            rows.append(row(x, COMPARISON, label, group=i, rater=who, side=rng.choice([-1.0, 1.0])))
        elif kind == THUMB:
            rows.append(row(x, THUMB, float(np.sign(noisy)), group=i, rater=who))
        elif kind == STARS:
            stars = float(np.clip(round(3 + noisy), 1, 5))
            rows.append(row(x, STARS, stars, group=i, rater=who))
        elif kind == CORRECTION:
            x[0] = abs(x[0])
            rows.append(
                row(x, CORRECTION, 1.0, group=i, rater=who, weight=0.6, lapse=CORRECTION_LAPSE)
            )
        else:
            replies = rng.normal(size=(3 + i // 5 % 2, dim))
            worth = 2 * replies[:, 0] + rng.gumbel(size=len(replies))
            places = [int(sum(w > mine for w in worth)) for mine in worth]
            rankings.append((replies, places, 1.0, i, who))
    return make_dataset(dim, rows, rankings, raters)  # type: ignore[arg-type]


def F(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def probability(kind: int, label: float, margin: float, cuts=None) -> tuple[float, int]:
    """P(answer | margin) written out case by case, and how many answers there were."""
    if kind == THUMB:
        return F(label * margin), 2
    if kind == CORRECTION:
        return F(margin), 2
    if kind == STARS:
        below = [0.0, *(F(c - margin) for c in cuts), 1.0]
        return below[int(label)] - below[int(label) - 1], 5
    if label < 0:
        return probability(kind, -label, -margin)
    p_tie = 1 - F(margin - TIE_WIDTH) - F(-margin - TIE_WIDTH)
    much = F(margin - MUCH_WIDTH)
    return {
        0.0: (p_tie, 3),
        PLAIN: (F(margin - TIE_WIDTH), 3),
        MUCH: (much, 5),
        SLIGHT: (F(margin - TIE_WIDTH) - much, 5),
    }[label]


KINDS = [
    *((COMPARISON, label) for label in (0.0, PLAIN, -PLAIN, SLIGHT, -SLIGHT, MUCH, -MUCH)),
    *((THUMB, label) for label in (1.0, -1.0)),
    *((STARS, float(stars)) for stars in range(1, 6)),
    (CORRECTION, 1.0),
]


@pytest.mark.parametrize("kind, label", KINDS)
@pytest.mark.parametrize("lapse", [0.0, LAPSE])
def test_a_row_is_worth_what_the_written_out_case_says(kind, label, lapse) -> None:
    for margin in (-30.0, -3.0, -0.4, 0.0, 0.7, 4.0, 30.0):
        dataset = make_dataset(1, [row([1.0], kind, label, lapse=lapse), row([0.0], STARS, 2.0)])
        low, high, outcomes = (b[:1] for b in likelihood.bounds(dataset))
        loss, *_ = likelihood.row_loss(np.array([margin]), low, high, dataset.lapse[:1], outcomes)
        p, count = probability(kind, label, margin, dataset.cuts[0])
        q = max((1 - lapse) * p + lapse / count, 1e-12)
        assert loss[0] == pytest.approx(-math.log(q), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("kind, label", KINDS)
def test_slopes_and_curvatures_are_derivatives(kind, label) -> None:
    margin, h = np.linspace(-3, 3, 25), 1e-5
    dataset = make_dataset(1, [row([1.0], kind, label)] * 25)
    low, high, outcomes = likelihood.bounds(dataset)

    def at(m):
        return likelihood.row_loss(m, low, high, dataset.lapse, outcomes)

    _, slope, curve = at(margin)
    assert np.allclose(slope, (at(margin + h)[0] - at(margin - h)[0]) / (2 * h), atol=1e-6)
    second = (at(margin + h)[1] - at(margin - h)[1]) / (2 * h)
    assert np.allclose(curve, np.maximum(second, 0), atol=1e-5)


@pytest.mark.parametrize("margin", [-4.0, -0.3, 0.0, 1.2])
def test_the_answers_to_one_question_sum_to_one(margin: float) -> None:
    cuts = [-2.0, -0.5, 0.4, 1.8]
    pairs = [(0.0,), (PLAIN, -PLAIN)]
    assert sum(
        probability(COMPARISON, x, margin)[0] for x in itertools.chain(*pairs)
    ) == pytest.approx(1)
    strong = (0.0, SLIGHT, -SLIGHT, MUCH, -MUCH)
    assert sum(probability(COMPARISON, x, margin)[0] for x in strong) == pytest.approx(1)
    assert sum(probability(STARS, s, margin, cuts)[0] for s in range(1, 6)) == pytest.approx(1)
    t = TIE_WIDTH  # Rao-Kupper's own way of writing the tie
    tie = (1 - math.exp(-2 * t)) * F(margin + t) * F(t - margin)
    assert probability(COMPARISON, 0.0, margin)[0] == pytest.approx(tie, abs=1e-7)


def reference_ranking(scores, places) -> float:
    """-log P, choice by choice, with lapses."""
    loss = 0.0
    for mine, place in zip(scores, places, strict=True):
        rest = [s for s, p in zip(scores, places, strict=True) if p >= place]
        p = math.exp(mine) / sum(math.exp(s) for s in rest)
        loss -= math.log((1 - LAPSE) * p + LAPSE / len(rest))
    return loss


@pytest.mark.parametrize("places", [(0, 1, 2), (2, 0, 1, 3), (0, 0, 1), (0, 1, 1, 1), (1, 0)])
def test_a_ranking_is_a_choice_of_the_best_then_of_the_next(places) -> None:
    scores = np.random.default_rng(len(places)).normal(size=len(places)) * 2
    loss, slope, curve = likelihood.ranking_loss(scores[None], np.array([places]))
    assert loss[0] == pytest.approx(reference_ranking(scores, places))
    h = 1e-6
    for i in range(len(scores)):
        up, down = scores.copy(), scores.copy()
        up[i] += h
        down[i] -= h
        numeric = (reference_ranking(up, places) - reference_ranking(down, places)) / (2 * h)
        assert slope[0, i] == pytest.approx(numeric, abs=1e-6)
    assert np.linalg.eigvalsh(curve[0]).min() > -1e-9


def test_two_ranked_replies_are_a_choice_between_them_and_padding_changes_nothing() -> None:
    scores = np.array([[0.7, -0.4]])
    loss, slope, _ = likelihood.ranking_loss(scores, np.array([[0, 1]]))
    assert loss[0] == pytest.approx(-math.log((1 - LAPSE) * F(1.1) + LAPSE / 2))
    wide, more, _ = likelihood.ranking_loss(
        np.array([[0.7, -0.4, 9.0, -9.0]]), np.array([[0, 1, -1, -1]])
    )
    assert wide[0] == pytest.approx(loss[0])
    assert np.allclose(more[0, :2], slope[0]) and not more[0, 2:].any()


def test_stars_are_cut_where_the_person_cuts_them() -> None:
    """A strict person's 3 is another person's 5: the cut points are each person's own."""
    rows = [row([0.0], STARS, s, rater=0) for s in (4.0, 5.0, 5.0, 5.0)]
    rows += [row([0.0], STARS, s, rater=1) for s in (1.0, 1.0, 2.0, 3.0)]
    cuts = make_dataset(1, rows, raters=2).cuts
    assert (cuts[0] < cuts[1]).all() and (np.diff(cuts, axis=1) > 0).all()


def test_parts_of_evidence_add_up() -> None:
    dataset = mixed(50, 0)
    assert len(dataset) == 50 and len(dataset.groups) == 50
    half = dataset.of_groups(dataset.groups[:20])
    rest = dataset.of_groups(dataset.groups[20:])
    assert len(half) == 20 and len(half) + len(rest) == len(dataset)
    assert half.effective + rest.effective == pytest.approx(dataset.effective)
    assert half.labels + rest.labels == dataset.labels
    assert (
        len(make_dataset(4)) == 0 and make_dataset(4).effective == 0 and make_dataset(4).labels == 0
    )
