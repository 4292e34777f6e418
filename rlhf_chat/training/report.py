"""What explains a candidate: the feedback that moved it, what changed, and examples. It is stored
with the round and drawn by the ui."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlhf_chat.errors import as_plain
from rlhf_chat.feedback.snapshot import Snapshot, describe
from rlhf_chat.reward import dataset, reward_model, text_features
from rlhf_chat.reward.features import Floats
from rlhf_chat.training.context import RoundContext


def build_report(context: RoundContext, snapshot: Snapshot, direction: Floats) -> dict[str, Any]:
    """moved: the five items of feedback with the most influence, each with its share of the
    gain over the base (log-odds), its conversation and its id, with which the quoted words are
    deleted. changed: the four named features that matter most, with their change and weight.
    examples: three prompts answered before and after."""
    rows, rankings = reward_model.influence(context.dataset, context.fit.head, direction)
    influence = np.zeros(len(snapshot.items))
    row_of, ranking_of = dataset.sources(snapshot)
    np.add.at(influence, row_of, rows)
    np.add.at(influence, ranking_of, rankings)
    most = np.argsort(-np.abs(influence), kind="stable")[:5]
    head, named = context.fit.head, context.scorer.feature_map.named
    change = direction[:named]
    shown = np.argsort(-np.abs(change * head.weights[:named]), kind="stable")[:4]
    return {
        "moved": [
            [as_plain(describe(item)), round(float(influence[i]), 3), item.conversation, item.id]
            for i, item in ((i, snapshot.items[i]) for i in most)
        ],
        "changed": [
            [text_features.NAMES[i], round(float(change[i]), 2), round(float(head.weights[i]), 2)]
            for i in shown
        ],
        "examples": _before_and_after(context),
    }


def _before_and_after(context: RoundContext) -> list[list[str]]:
    """[prompt, reply of the live version, reply of the candidate] for three probe prompts."""
    model, prompts = context.extractor.model, context.base_stats.prompts.probes[:3]
    sampling = model.sampling.limited(context.config.ppo.max_new_tokens)
    replies = []
    for view in (model.live, model.inference_policy()):
        drawn = context.extractor.generator.sample(
            view, [p.ids for p in prompts], sampling, seed=context.seed, check=context.check
        )
        replies.append([model.decode(r.ids) for r in drawn])
    return [[p.text, before, after] for p, before, after in zip(prompts, *replies, strict=True)]
