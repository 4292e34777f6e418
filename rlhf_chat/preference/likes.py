"""What a taste says a person likes, in words anybody knows: one weight for each named feature.

Kept with the feedback, so that a restart does not forget what was learned. Left out: how a taste is
fitted (reward.py), what the features measure (style.py).
"""

from __future__ import annotations

from rlhf_chat.preference import style
from rlhf_chat.preference.reward import RewardHead
from rlhf_chat.store import Store

Liking = tuple[str, float, float]  # style feature, weight and its sigma (log-odds a std deviation)


def of(head: RewardHead) -> list[Liking]:
    """All named features; sure ones first."""
    named = len(style.NAMES)
    sigmas = head.covariance.diagonal()[:named] ** 0.5
    told = [
        (name, float(weight), float(sigma))
        for name, weight, sigma in zip(style.NAMES, head.weights[:named], sigmas, strict=True)
    ]
    return sorted(told, key=lambda one: -abs(one[1]) / max(one[2], 1e-9))


def remember(store: Store, head: RewardHead | None) -> None:
    """Where nothing counts any more (no head), nothing is liked."""
    store.set_setting("likes", [list(one) for one in of(head)] if head else [])


def remembered(store: Store) -> list[Liking]:
    told = store.setting("likes", [])
    return [(str(name), float(weight), float(sigma)) for name, weight, sigma in told]
