"""Builds the preference dataset for the fit (reward_model.py) from a feedback snapshot and the
features of its replies: one row of features, label and weight for each item of feedback.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rlhf_chat.feedback.replies import Prompt, Reply
from rlhf_chat.feedback.snapshot import FeedbackItem, Snapshot
from rlhf_chat.reward import likelihood, reward_model, text_features
from rlhf_chat.reward.features import FeatureExtractor, Floats, baseline_features
from rlhf_chat.reward.likelihood import (
    COMPARISON,
    CORRECTION,
    CORRECTION_LAPSE,
    LAPSE,
    MUCH,
    PLAIN,
    SLIGHT,
    STARS,
    THUMB,
    PreferenceDataset,
)

TYPO_SHARE = 0.2  # an edit that changes a smaller share of the words weighs proportionally less
EDIT_SURENESS = 3.0  # factor on the margin of a correction, which is more deliberate than a click
EDIT_LENGTH = 0.3  # factor on the length feature of a correction: most edits add or cut
ALONE_WEIGHT = 1.0  # of a thumb or a score: a level is less certain than an order

Row = tuple[Floats, int, float, float, int, int, float, float]
RankingRow = tuple[Floats, Sequence[int], float, int, int]


def build_dataset(
    snapshot: Snapshot,
    extractor: FeatureExtractor,
    feature_map: reward_model.FeatureMap,
    max_new_tokens: int,
    both_weight: float,
    check: Callable[[], None],
) -> PreferenceDataset:
    """Snapshot -> dataset, one row for each item, in the snapshot's order.

    "Both bad" and "both good" become half a tie, and one thumb on the mean of the two replies. Two
    thumbs would look like two independent items that agree to the permutation test.
    """
    every = list(dict.fromkeys(reply for one in snapshot.items for reply in one.replies))
    dim = _dim(feature_map)
    if not every:
        return likelihood.make_dataset(dim)
    x = dict(zip(every, feature_map(*extractor.measure(every, check)), strict=True))
    alone = list(dict.fromkeys(r.prompt for one in snapshot.items for r in absolute_replies(one)))
    zero = (
        dict(
            zip(
                alone,
                baseline_features(alone, extractor, feature_map, max_new_tokens, check),
                strict=True,
            )
        )
        if alone
        else {}
    )
    groups = {p.key: i for i, p in enumerate(snapshot.prompts)}
    numbers = {name: i for i, name in enumerate(snapshot.raters)}
    rows: list[Row] = []
    rankings: list[RankingRow] = []
    for one in snapshot.items:
        who = groups[one.prompt.key], numbers[one.rater]
        features = [x[r] for r in one.replies]
        if isinstance(one.answer, tuple):
            ranked = np.stack(features)
            rankings.append((reward_model.bounded(ranked - ranked.mean(0)), one.answer, 1.0, *who))
            continue
        rows.append(_row(one, features, feature_map.named, zero, who, snapshot.lapse, both_weight))
        if one.kind == "pair" and absolute_replies(one):
            up = 1.0 if one.answer == "both_good" else -1.0
            centred = reward_model.bounded(np.mean(features, 0) - zero[one.prompt])
            rows.append((centred, THUMB, up, 2 * both_weight, *who, 0.0, LAPSE))
    return likelihood.make_dataset(dim, rows, rankings, len(snapshot.raters))


def sources(snapshot: Snapshot) -> tuple[list[int], list[int]]:
    """Index of the item in the snapshot from which each row, and each ranking, was built."""
    rows, rankings = [], []
    for i, one in enumerate(snapshot.items):
        if one.kind == "ranking":
            rankings.append(i)
        else:
            rows += [i] * (2 if one.answer in ("both_bad", "both_good") else 1)
    return rows, rankings


def absolute_replies(one: FeedbackItem) -> tuple[Reply, ...]:
    """The replies that this item rates on an absolute scale."""
    if one.kind in ("thumb", "score") or one.answer in ("both_bad", "both_good"):
        return one.replies
    return ()


def correction_weight(one: FeedbackItem) -> float:
    """Weight of a correction: small for a typo, 1 for a rewritten reply."""
    edited, original = one.replies
    return min(1.0, text_features.changed_share(original.text, edited.text) / TYPO_SHARE)


def correction(edited: Floats, original: Floats, named: int) -> Floats:
    """(D,) features of a correction. Nearly all corrections change the length, and with thirty of
    them nothing rules out that length was all that was wanted, so it counts little. Hidden states
    are 0: the model did not write these words."""
    x = EDIT_SURENESS * reward_model.bounded(edited - original)
    x[text_features.LENGTH] *= EDIT_LENGTH
    x[named:] = 0
    return x


def _row(
    one: FeedbackItem,
    features: list[Floats],
    named: int,
    zero: Mapping[Prompt, Floats],
    who: tuple[int, int],
    lapse: Mapping[str, float],
    both_weight: float,
) -> Row:
    """The row of an item that is no ranking."""
    slip = lapse.get(one.rater, LAPSE)
    if one.kind == "edit":
        x = correction(features[0], features[1], named)
        return (x, CORRECTION, 1.0, correction_weight(one), *who, 0.0, CORRECTION_LAPSE)
    if one.kind == "pair":
        size = {"slightly": SLIGHT, "much": MUCH}.get(one.strength, PLAIN)
        label = {"a": size, "b": -size}.get(str(one.answer), 0.0)
        weight = both_weight if one.answer in ("both_bad", "both_good") else 1.0
        apart = reward_model.bounded(features[0] - features[1])
        return (apart, COMPARISON, label, weight, *who, float(one.first), slip)
    kind = THUMB if one.kind == "thumb" else STARS
    centred = reward_model.bounded(features[0] - zero[one.prompt])
    return (centred, kind, float(one.answer), ALONE_WEIGHT, *who, 0.0, slip)  # type: ignore[arg-type]


def _dim(feature_map: reward_model.FeatureMap) -> int:
    return feature_map.named + feature_map.components.shape[1]
