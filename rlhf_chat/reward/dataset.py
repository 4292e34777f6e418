"""The training data of the reward model: a snapshot of feedback as rows of numbers.

Each kind of feedback says which replies its answer is about and how (feedback/evidence.py); here
that becomes rows of the likelihood (likelihood.py). The fit is in reward_model.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rlhf_chat.feedback.evidence import Contrast, Order
from rlhf_chat.feedback.item import FeedbackItem
from rlhf_chat.feedback.kinds import kind_of
from rlhf_chat.feedback.replies import Prompt, Reply
from rlhf_chat.feedback.snapshot import Snapshot
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
    RankingRow,
    Row,
)

TYPO_SHARE = 0.2  # a correction that changes a smaller share of the words weighs less
CORRECTION_SURENESS = 3.0  # factor on the margin: a correction is more deliberate than a click
CORRECTION_LENGTH = 0.3  # factor on the length feature: most corrections add or cut


NOISES = {
    "comparison": COMPARISON,
    "thumb": THUMB,
    "stars": STARS,
    "correction": CORRECTION,
}
STRENGTHS = {"slightly": SLIGHT, "": PLAIN, "much": MUCH}


@dataclass(frozen=True)
class _Context:
    """What a row needs beside the evidence itself."""

    features: Floats  # (replies of the answer, D)
    baseline: Floats | None  # (D,) mean of the reference's replies; None where no term needs it
    named: int  # how many of the D features are named
    group: int  # number of the prompt
    rater: int
    lapse: float  # of this rater


def _row(term: Contrast, item: FeedbackItem, context: _Context) -> Row:
    who = context.group, context.rater
    features = context.features
    if term.noise == "correction":
        x = correction(features[term.replies[0]], features[term.against[0]], context.named)
        weight = term.weight * correction_weight(item)
        return Row(x, CORRECTION, term.label, weight, *who, 0.0, CORRECTION_LAPSE)
    if term.against:
        zero = features[list(term.against)].mean(0)
    else:
        assert context.baseline is not None
        zero = context.baseline
    x = reward_model.bounded(features[list(term.replies)].mean(0) - zero)
    size = STRENGTHS[term.strength] if term.noise == "comparison" else 1.0
    lapse = context.lapse if term.rater_lapse else LAPSE
    side = float(term.first)
    return Row(x, NOISES[term.noise], size * term.label, term.weight, *who, side, lapse)


def _ranking_row(term: Order, context: _Context) -> RankingRow:
    x = reward_model.bounded(context.features - context.features.mean(0))
    return RankingRow(x, term.places, 1.0, context.group, context.rater)


def build_dataset(
    snapshot: Snapshot,
    extractor: FeatureExtractor,
    feature_map: reward_model.FeatureMap,
    max_new_tokens: int,
    both_weight: float,
    check: Callable[[], None],
) -> PreferenceDataset:
    """Rows and rankings of every answer, in the snapshot's order.

    Computes the features that are not cached yet, slice by slice; `check` is called in between and
    ends it by raising. `both_weight`: weight of the tie in "both bad" and "both good".
    """
    dim = feature_map.named + feature_map.components.shape[1]
    every = list(dict.fromkeys(reply for item in snapshot.items for reply in item.replies))
    if not every:
        return likelihood.make_dataset(dim)
    x = dict(zip(every, feature_map(*extractor.measure(every, check)), strict=True))
    baselines = _baselines(snapshot, extractor, feature_map, max_new_tokens, check)
    groups = {p.key: i for i, p in enumerate(snapshot.prompts)}
    raters = {name: i for i, name in enumerate(snapshot.raters)}
    rows: list[Row] = []
    rankings: list[RankingRow] = []
    for item in snapshot.items:
        context = _Context(
            features=np.stack([x[reply] for reply in item.replies]),
            baseline=baselines.get(item.prompt),
            named=feature_map.named,
            group=groups[item.prompt.key],
            rater=raters[item.rater],
            lapse=snapshot.lapse.get(item.rater, LAPSE),
        )
        for term in kind_of(item.kind).evidence(item, both_weight):
            if isinstance(term, Contrast):
                rows.append(_row(term, item, context))
            else:
                rankings.append(_ranking_row(term, context))
    return likelihood.make_dataset(dim, rows, rankings, len(snapshot.raters))


def _baselines(
    snapshot: Snapshot,
    extractor: FeatureExtractor,
    feature_map: reward_model.FeatureMap,
    max_new_tokens: int,
    check: Callable[[], None],
) -> Mapping[Prompt, Floats]:
    """(D,) for each prompt of a reply that is rated on an absolute scale."""
    prompts = list(
        dict.fromkeys(r.prompt for item in snapshot.items for r in absolute_replies(item))
    )
    if not prompts:
        return {}
    found = baseline_features(prompts, extractor, feature_map, max_new_tokens, check)
    return dict(zip(prompts, found, strict=True))


def sources(snapshot: Snapshot) -> tuple[list[int], list[int]]:
    """Index in `snapshot.items` of each row, and of each ranking, of its dataset."""
    rows: list[int] = []
    rankings: list[int] = []
    for i, item in enumerate(snapshot.items):
        for term in kind_of(item.kind).evidence(item):
            (rows if isinstance(term, Contrast) else rankings).append(i)
    return rows, rankings


def absolute_replies(item: FeedbackItem) -> tuple[Reply, ...]:
    """The replies that this item rates on an absolute scale."""
    return kind_of(item.kind).absolute_replies(item)


def correction_weight(item: FeedbackItem) -> float:
    """Weight of a correction: small for a typo, 1 for a rewritten reply."""
    edited, original = item.replies
    return min(1.0, text_features.changed_share(original.text, edited.text) / TYPO_SHARE)


def correction(edited: Floats, original: Floats, named: int) -> Floats:
    """(D,) features of a correction. Nearly all corrections change the length, and with thirty of
    them nothing rules out that length was all that was wanted, so it counts little. Hidden states
    are 0: the model did not write these words."""
    x = CORRECTION_SURENESS * reward_model.bounded(edited - original)
    x[text_features.LENGTH] *= CORRECTION_LENGTH
    x[named:] = 0
    return x
