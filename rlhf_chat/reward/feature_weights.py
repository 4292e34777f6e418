"""Weights of the named features in a reward head: what the app can say a person likes.

Stored with the feedback, so that they outlast a restart.
"""

from __future__ import annotations

from rlhf_chat.db import Store
from rlhf_chat.reward import text_features
from rlhf_chat.reward.reward_model import RewardHead

# name of a text feature, weight and its standard deviation, in log-odds per standard deviation
FeatureWeight = tuple[str, float, float]


def from_head(head: RewardHead) -> list[FeatureWeight]:
    """All named features, the largest |weight| / sigma first."""
    named = len(text_features.NAMES)
    sigmas = head.covariance.diagonal()[:named] ** 0.5
    weights = [
        (name, float(weight), float(sigma))
        for name, weight, sigma in zip(
            text_features.NAMES, head.weights[:named], sigmas, strict=True
        )
    ]
    return sorted(weights, key=lambda item: -abs(item[1]) / max(item[2], 1e-9))


def remember(store: Store, head: RewardHead | None) -> None:
    """Stores the weights of a head; none where no feedback counts any more (no head)."""
    store.settings.set("feature_weights", [list(item) for item in from_head(head)] if head else [])


def remembered(store: Store) -> list[FeatureWeight]:
    stored = store.settings.get("feature_weights", [])
    return [(str(name), float(weight), float(sigma)) for name, weight, sigma in stored]
