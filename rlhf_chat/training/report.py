"""Why a candidate is as it is, in plain numbers and words: kept with its round.

Left out: how it is drawn (ui/learning_screen.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlhf_chat.errors import as_plain
from rlhf_chat.feedback.snapshot import Snapshot, describe
from rlhf_chat.reward import dataset, reward_model, text_features
from rlhf_chat.reward.features import Floats
from rlhf_chat.training.context import RoundContext


def build_report(context: RoundContext, snapshot: Snapshot, direction: Floats) -> dict[str, Any]:
    """Why the candidate is as it is: the answers that moved it most (log-odds of its gain over the
    base owed to each, and the conversation whose end takes its words along), what changed in its
    replies, and three prompts answered before and after."""
    rows, rankings = reward_model.influence(context.told, context.fit.head, direction)
    owed = np.zeros(len(snapshot.items))
    row_of, ranking_of = dataset.sources(snapshot)
    np.add.at(owed, row_of, rows)
    np.add.at(owed, ranking_of, rankings)
    most = np.argsort(-np.abs(owed), kind="stable")[:5]
    head, named = context.fit.head, context.scorer.feature_map.named
    change = direction[:named]
    shown = np.argsort(-np.abs(change * head.weights[:named]), kind="stable")[:4]
    return {
        "moved": [
            [as_plain(describe(one)), round(float(owed[i]), 3), one.conversation]
            for i, one in ((i, snapshot.items[i]) for i in most)
        ],
        "changed": [
            [text_features.NAMES[i], round(float(change[i]), 2), round(float(head.weights[i]), 2)]
            for i in shown
        ],
        "examples": _before_and_after(context),
    }


def _before_and_after(context: RoundContext) -> list[list[str]]:
    """[prompt, reply of what is live, reply of the candidate] for the first three probe prompts."""
    model, asked = context.extractor.model, context.base_stats.probes[:3]
    sampling = model.sampling.limited(context.config.ppo.max_new_tokens)
    told = []
    for view in (model.live, model.inference_policy()):
        drawn = context.extractor.generator.sample(
            view, [p.ids for p in asked], sampling, seed=context.seed, check=context.check
        )
        told.append([model.decode(r.ids) for r in drawn])
    return [[p.text, before, after] for p, before, after in zip(asked, *told, strict=True)]
