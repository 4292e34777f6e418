"""One likelihood of scores for all kinds of feedback.

A comparison depends on the margin s(a) - s(b), a rating of one reply on its own score. In both the
margin plus logistic noise fell between two cut points: a thumb up above 0, a tie between -t and t,
"much better" above a higher one, 3 stars between the second and the third. A ranking of several
replies is a Plackett-Luce choice of the best, then of the next best, and so on. Some clicks are
random (a lapse). Numbers in, numbers out; the fit is in reward_model.py.

Sources: Rao & Kupper 1967 (ties); McCullagh 1980 (cumulative logit); Luce 1959, Plackett 1975;
Breslow 1974 (tied places).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

COMPARISON, THUMB, STARS, CORRECTION = 0, 1, 2, 3  # `kind` of a row
MAX_STARS = 5

LAPSE = 0.10  # share of clicks that do not depend on the reply (slips)
CORRECTION_LAPSE = 0.02  # nobody rewrites a reply by accident
CORRECTION_WORTH = 2.0  # labels that a correction counts as; it takes three times as long as one
TIE_WIDTH = math.log1p(math.exp(-0.5))  # Rao-Kupper t: softplus of its prior mean
MUCH_WIDTH = TIE_WIDTH + 1.5  # where "better" becomes "much better", log-odds
SLIGHT, PLAIN, MUCH = 0.5, 1.0, 2.0  # labels of a pair: how far the first is ahead; 0 is a tie


class Row(NamedTuple):
    """One answer as PreferenceDataset holds it."""

    x: Floats  # (D,)
    kind: int
    label: float
    weight: float
    group: int
    rater: int
    side: float
    lapse: float


class RankingRow(NamedTuple):
    """One ranking as PreferenceDataset holds it."""

    x: Floats  # (m, D) features of m replies
    places: Sequence[int]  # (m,)
    weight: float
    group: int
    rater: int


@dataclass(frozen=True)
class PreferenceDataset:
    """Feedback as numbers: N rows and R rankings of up to M replies.

    x (N, D): features of a minus those of b for a comparison (COMPARISON, CORRECTION), of the reply
    minus the reference's mean for a rating of one reply (THUMB, STARS). label (N,): see above;
    CORRECTION is +1, where the edited text is a. side (N,): +1 where a was shown first, -1 where b
    was, 0 where nothing was side by side. group is the prompt, rater the person, both from 0.
    ranked (R, M, D): features of the replies of each ranking, centred; place (R, M): 0 is best,
    equal is tied, -1 is no reply.
    """

    x: Floats
    kind: Ints
    label: Floats
    weight: Floats
    group: Ints
    rater: Ints
    side: Floats
    lapse: Floats
    ranked: Floats
    place: Ints
    ranking_weight: Floats
    ranking_group: Ints
    ranking_rater: Ints
    raters: int = 1
    cuts: Floats = field(
        default_factory=lambda: np.zeros((1, MAX_STARS - 1))
    )  # (raters, 4) of stars

    def __len__(self) -> int:
        return len(self.x) + len(self.ranked)

    @property
    def dim(self) -> int:
        result: int = self.x.shape[1]
        return result

    @property
    def alone(self) -> Mask:
        """Rows that rate a single reply."""
        result: Mask = (self.kind == THUMB) | (self.kind == STARS)
        return result

    @property
    def labels(self) -> int:
        """Number of items that prefer something to something else."""
        return int((self.label[self.kind != STARS] != 0).sum() + (self.kind == STARS).sum()) + len(
            self.ranked
        )

    @property
    def effective(self) -> float:
        """Effective number of labels: a tie counts less than a choice, a ranking more."""
        worth = np.select(
            [self.kind == THUMB, self.kind == STARS, self.kind == CORRECTION, self.label == 0],
            [0.5, 0.7, CORRECTION_WORTH, 0.0],
            1.0,
        )
        choices = np.array([len(set(p[p >= 0].tolist())) - 1 for p in self.place], dtype=float)
        return float(self.weight @ worth + 0.8 * (self.ranking_weight @ choices))

    def where(self, rows: Mask, rankings: Mask) -> PreferenceDataset:
        """The rows in rows (N,) and the rankings in rankings (R,); cut points stay."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("x", "kind", "label", "weight", "group", "rater", "side", "lapse"):
            named[name] = named[name][rows]
        for name in ("ranked", "place", "ranking_weight", "ranking_group", "ranking_rater"):
            named[name] = named[name][rankings]
        return PreferenceDataset(**named)

    def of_groups(self, kept: Ints) -> PreferenceDataset:
        """The feedback on these prompts."""
        return self.where(np.isin(self.group, kept), np.isin(self.ranking_group, kept))

    @property
    def groups(self) -> Ints:
        return np.unique(np.concatenate([self.group, self.ranking_group]))

    def scaled(self, sensitivity: Floats) -> PreferenceDataset:
        """A copy with each rater's margins multiplied by their sensitivity (raters,)."""
        return replace(
            self,
            x=self.x * sensitivity[self.rater][:, None],
            ranked=self.ranked * sensitivity[self.ranking_rater][:, None, None],
        )


def make_dataset(
    dim: int,
    rows: Sequence[Row] = (),
    rankings: Sequence[RankingRow] = (),
    raters: int = 1,
) -> PreferenceDataset:
    """The rows as arrays; D = dim."""
    columns = list(zip(*rows, strict=True)) or [()] * 8
    longest = max((len(r[1]) for r in rankings), default=2)
    ranked = np.zeros((len(rankings), longest, dim))
    place = np.full((len(rankings), longest), -1, dtype=np.int64)
    for i, (replies, places, *_) in enumerate(rankings):
        ranked[i, : len(places)] = replies - replies.mean(0)
        place[i, : len(places)] = places
    numbers = [np.array(columns[i], dtype=np.float64) for i in (2, 3, 6, 7)]
    whole = [np.array(columns[i], dtype=np.int64) for i in (1, 4, 5)]
    dataset = PreferenceDataset(
        x=np.array(columns[0], dtype=np.float64).reshape(-1, dim),
        kind=whole[0],
        label=numbers[0],
        weight=numbers[1],
        group=whole[1],
        rater=whole[2],
        side=numbers[2],
        lapse=numbers[3],
        ranked=ranked,
        place=place,
        ranking_weight=np.array([r[2] for r in rankings], dtype=np.float64),
        ranking_group=np.array([r[3] for r in rankings], dtype=np.int64),
        ranking_rater=np.array([r[4] for r in rankings], dtype=np.int64),
        raters=max(raters, 1),
    )
    return replace(dataset, cuts=star_cuts(dataset))


def star_cuts(dataset: PreferenceDataset) -> Floats:
    """(raters, 4): cut points between each rater's stars, from their (smoothed) frequencies."""
    cuts = np.zeros((dataset.raters, MAX_STARS - 1))
    for rater in range(dataset.raters):
        given = dataset.label[(dataset.kind == STARS) & (dataset.rater == rater)]
        counts = np.array([(given == star).sum() + 0.5 for star in range(1, MAX_STARS + 1)])
        below = counts.cumsum()[:-1] / counts.sum()
        cuts[rater] = np.log(below / (1 - below))
    return cuts


# ---------------------------------------------------------------------- rows


def bounds(dataset: PreferenceDataset) -> tuple[Floats, Floats, Floats]:
    """Each row's interval [low, high] for the noisy margin, and the number of possible answers."""
    outcomes = np.full(len(dataset.x), 2.0)
    size, up = np.abs(dataset.label), dataset.label > 0
    pair = dataset.kind == COMPARISON
    outcomes[pair] = 3.0
    outcomes[pair & (size != PLAIN) & (size != 0)] = 5.0
    inner = np.select([pair & (size == MUCH), pair], [MUCH_WIDTH, TIE_WIDTH], 0.0)
    outer = np.select([pair & (size == SLIGHT), size == 0], [MUCH_WIDTH, TIE_WIDTH], np.inf)
    inner = np.where(size == 0, -TIE_WIDTH, inner)
    low, high = np.where(up | (size == 0), inner, -outer), np.where(up | (size == 0), outer, -inner)
    star = dataset.kind == STARS
    if star.any():
        ends = np.concatenate(
            [
                np.full((dataset.raters, 1), -np.inf),
                dataset.cuts,
                np.full((dataset.raters, 1), np.inf),
            ],
            axis=1,
        )
        given = dataset.label[star].astype(np.int64)
        low[star], high[star] = (
            ends[dataset.rater[star], given - 1],
            ends[dataset.rater[star], given],
        )
        outcomes[star] = MAX_STARS
    return low, high, outcomes


def row_loss(
    margin: Floats, low: Floats, high: Floats, lapse: Floats, outcomes: Floats
) -> tuple[Floats, Floats, Floats]:
    """-log P(low < margin + noise < high) with lapses, its slope and its curvature, cut at 0.

    All (N,). P = F(high - margin) - F(low - margin), F logistic; computed with F(-x) = 1 - F(x)
    where both ends are positive, to avoid cancellation.
    """
    upper, lower = high - margin, low - margin
    p = np.where(lower > 0, sigmoid(-lower) - sigmoid(-upper), sigmoid(upper) - sigmoid(lower))
    f_upper, f_lower = sigmoid(upper), sigmoid(lower)
    d_upper, d_lower = f_upper * (1 - f_upper), f_lower * (1 - f_lower)
    dp = d_lower - d_upper
    d2p = d_upper * (1 - 2 * f_upper) - d_lower * (1 - 2 * f_lower)
    q = np.maximum((1 - lapse) * p + lapse / outcomes, 1e-12)
    dq, d2q = (1 - lapse) * dp, (1 - lapse) * d2p
    return -np.log(q), -dq / q, np.maximum((dq / q) ** 2 - d2q / q, 0.0)


def sigmoid(x: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(x, dtype=np.float64)))


# ---------------------------------------------------------------------- rankings


def ranking_loss(scores: Floats, place: Ints) -> tuple[Floats, Floats, Floats]:
    """Plackett-Luce with lapses: scores and place (R, M) -> loss (R,), slope (R, M), curvature
    (R, M, M).

    Each reply was chosen among itself, its equals and all that came after it (Breslow). The
    curvature leaves out the (small, sometimes negative) part that comes from the lapse itself.
    """
    there = place >= 0
    among = there[:, :, None] & there[:, None, :] & (place[:, None, :] >= place[:, :, None])
    logits = np.where(among, scores[:, None, :], -np.inf)
    top = np.max(logits, axis=-1, keepdims=True, initial=-1e300)
    odds = np.exp(logits - top) * among
    total = odds.sum(-1, keepdims=True)
    p = odds / np.where(total > 0, total, 1.0)  # (R, stage, reply)
    chosen = np.einsum("rii->ri", p)
    size = np.maximum(among.sum(-1), 1)
    q = np.where(there, (1 - LAPSE) * chosen + LAPSE / size, 1.0)
    share = np.where(there, (1 - LAPSE) * chosen / q, 0.0)  # how much of it was no lapse
    own = np.eye(place.shape[1])[None] * there[:, :, None]
    slope = (share[:, :, None] * (p - own)).sum(1)
    shared = share[:, :, None] * p
    curve = -(shared.transpose(0, 2, 1) @ p)
    np.einsum("rmm->rm", curve)[...] += shared.sum(1)
    return -np.log(q).sum(-1), slope, curve
