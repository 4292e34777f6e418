"""The feedback that counts now, read from the database as one snapshot.

reward/dataset.py turns it into numbers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from rlhf_chat.db import Store
from rlhf_chat.errors import Notice
from rlhf_chat.feedback.item import FeedbackItem
from rlhf_chat.feedback.kinds import kind_of, kinds
from rlhf_chat.feedback.replies import Prompt, Reply, load_replies


@dataclass(frozen=True)
class Snapshot:
    """The feedback a round works on, fixed at its start."""

    watermark: int
    items: tuple[FeedbackItem, ...]
    raters: tuple[str, ...]
    lapse: Mapping[str, float]  # of each rater's comparisons
    hash: str

    @property
    def prompts(self) -> list[Prompt]:
        """Every distinct prompt of a rated reply."""
        return list({one.prompt.key: one.prompt for one in self.items}.values())

    @property
    def imports(self) -> set[str]:
        """Ids of the imports that some of it came with."""
        return {one.origin for one in self.items if one.origin}

    def without(self, exclude: Callable[[FeedbackItem], bool]) -> Snapshot:
        """The snapshot as if the excluded feedback had never been given."""
        kept = tuple(one for one in self.items if not exclude(one))
        raters = tuple(r for r in self.raters if any(one.rater == r for one in kept))
        return replace(self, items=kept, raters=raters, hash=_hash(kept))


class Measures(Protocol):
    """A `FeatureExtractor` (reward/features.py): its store, and which replies it can read."""

    store: Store

    def can_measure(self, reply: Reply) -> bool: ...


def load_snapshot(extractor: Measures, rater: str = "") -> Snapshot:
    """The feedback that counts now and that the loaded model can learn from."""
    return take_snapshot(extractor.store, rater, extractor.can_measure)


def take_snapshot(
    store: Store, rater: str = "", usable: Callable[[Reply], bool] = lambda reply: True
) -> Snapshot:
    """Reads all feedback that counts now: of people, except quarantined raters, or of one
    simulated rater. Skips imports that were not accepted yet, feedback on replies that have no
    token ids or are not `usable`, and what was damaged on the disk."""
    watermark = store.feedback.count()
    items: list[FeedbackItem] = []
    origins, counting = store.imports.origins(), {"", *store.imports.counting()}
    current = [
        (replace(item, origin=origin), ids)
        for kind in kinds()
        for item, ids in kind.read(store, rater, origins)
        if (origin := origins.get(ids[0], "")) in counting
    ]
    rated = {id for _, ids in current for id in ids}
    damaged = store.integrity.damaged_feedback(rated)
    stored = load_replies(store, rated - damaged.messages, damaged.messages)
    fits = {id: usable(one.reply) for id, one in stored.items()}
    for item, ids in current:
        if item.id not in damaged.answers and all(fits.get(id) for id in ids):
            replies = tuple(stored[id].reply for id in ids)
            conversation = stored[ids[0]].conversation_id
            items.append(replace(item, replies=replies, conversation=conversation))
    quarantined = store.feedback.quarantined()
    kept = tuple(one for one in items if one.rater not in quarantined)
    raters = tuple(sorted({one.rater for one in kept}))
    return Snapshot(watermark, kept, raters, lapses(store, rater), _hash(kept))


def _hash(items: Sequence[FeedbackItem]) -> str:
    """The same in every version of the app: a round is known by it."""
    rows = sorted(
        (s.id, kind_of(s.kind).first_code or s.kind, str(s.answer), s.strength, s.rater)
        for s in items
    )
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def lapses(store: Store, rater: str = "") -> dict[str, float]:
    """How often each rater's choice is a slip, from pairs that were asked again, sides swapped.

    Beta(2, 18) with every second contradiction as a slip: the other half is attributed to close
    calls, which the noise of the likelihood accounts for. Fewer than 30 keep the prior mean.
    """
    first = {
        (p.message_a, p.message_b, p.rater): p.outcome for p in store.feedback.preferences(rater)
    }
    again, slips = Counter[str](), Counter[str]()
    for p in store.feedback.asked_again(rater):
        before = first.get((p.message_a, p.message_b, p.rater))
        if before in ("a", "b") and p.outcome in ("a", "b"):
            again[p.rater] += 1
            slips[p.rater] += before != p.outcome
    return {
        rater: (2 + slips[rater] / 2) / (20 + count)
        for rater, count in again.items()
        if count >= 30
    }


def describe(item: FeedbackItem) -> Notice:
    """One answer with the texts it is about, shortened."""
    return kind_of(item.kind).describe(item, [shortened(r.text) for r in item.replies])


def shortened(text: str, length: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
