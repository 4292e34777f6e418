"""Why a candidate is as it is, in plain numbers and words: kept with its round.

Left out: how it is drawn (web/learning.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlhf_chat.engine.decode import Sampling
from rlhf_chat.preference import evidence, reward, style
from rlhf_chat.preference.gauge import Floats
from rlhf_chat.preference.said import Snapshot, in_words
from rlhf_chat.training.plan import Plan


def of(plan: Plan, snapshot: Snapshot, direction: Floats) -> dict[str, Any]:
    """Why the candidate is as it is: the answers that moved it most (log-odds of its gain over the
    base owed to each, and the conversation whose end takes its words along), what changed in its
    replies, and three prompts answered before and after."""
    rows, rankings = reward.influence(plan.told, plan.fit.head, direction)
    owed = np.zeros(len(snapshot.said))
    row_of, ranking_of = evidence.sources(snapshot)
    np.add.at(owed, row_of, rows)
    np.add.at(owed, ranking_of, rankings)
    most = np.argsort(-np.abs(owed), kind="stable")[:5]
    head, named = plan.fit.head, plan.taste.feature_map.named
    change = direction[:named]
    shown = np.argsort(-np.abs(change * head.weights[:named]), kind="stable")[:4]
    return {
        "moved": [
            [in_words(one), round(float(owed[i]), 3), one.conversation]
            for i, one in ((i, snapshot.said[i]) for i in most)
        ],
        "changed": [
            [style.NAMES[i], round(float(change[i]), 2), round(float(head.weights[i]), 2)]
            for i in shown
        ],
        "examples": _before_and_after(plan),
    }


def _before_and_after(plan: Plan) -> list[list[str]]:
    """[prompt, reply of what is live, reply of the candidate] for the first three probe prompts."""
    model, asked = plan.gauge.model, plan.ground.probes[:3]
    sampling = Sampling(max_new_tokens=plan.config.ppo.max_new_tokens)
    told = []
    for view in (model.live, model.speaking_policy()):
        drawn = model.sample(
            view, [p.ids for p in asked], sampling, seed=plan.seed, check=plan.check
        )
        told.append([model.decode(r.ids) for r in drawn])
    return [[p.text, before, after] for p, before, after in zip(asked, *told, strict=True)]
