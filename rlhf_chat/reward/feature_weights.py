"""What a taste says a person likes, in words anybody knows: one weight for each named feature.

Kept with the feedback, so that a restart does not forget what was learned. Left out: how a taste is
fitted (reward_model.py), what the features measure (text_features.py).
"""

from __future__ import annotations

from rlhf_chat.db import Store
from rlhf_chat.reward import text_features
from rlhf_chat.reward.reward_model import RewardHead

FeatureWeight = tuple[
    str, float, float
]  # style feature, weight and its sigma (log-odds a std deviation)


def from_head(head: RewardHead) -> list[FeatureWeight]:
    """All named features; sure ones first."""
    named = len(text_features.NAMES)
    sigmas = head.covariance.diagonal()[:named] ** 0.5
    told = [
        (name, float(weight), float(sigma))
        for name, weight, sigma in zip(
            text_features.NAMES, head.weights[:named], sigmas, strict=True
        )
    ]
    return sorted(told, key=lambda one: -abs(one[1]) / max(one[2], 1e-9))


def remember(store: Store, head: RewardHead | None) -> None:
    """Where nothing counts any more (no head), nothing is liked."""
    store.settings.set("feature_weights", [list(one) for one in from_head(head)] if head else [])


def remembered(store: Store) -> list[FeatureWeight]:
    told = store.settings.get("feature_weights", [])
    return [(str(name), float(weight), float(sigma)) for name, weight, sigma in told]
