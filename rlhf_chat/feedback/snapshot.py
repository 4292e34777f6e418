"""The feedback that counts now, read from the database as one snapshot.

reward/dataset.py turns it into numbers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from rlhf_chat.db import Store
from rlhf_chat.errors import Notice
from rlhf_chat.feedback.replies import Prompt, Reply, load_replies


@dataclass(frozen=True)
class FeedbackItem:
    """One item of feedback with the replies it is about.

    kind "thumb" (answer +1, -1), "score" (1 to 5), "pair" (an outcome of the store, replies a, b),
    "ranking" (a place for each reply), "edit" (replies: the edited text, the original).
    """

    id: str
    kind: str
    replies: tuple[Reply, ...]
    answer: int | str | tuple[int, ...]
    rater: str
    strength: str = ""
    first: int = 0  # +1 where a was shown first, -1 where b was, 0 where unknown
    conversation: str = ""

    @property
    def prompt(self) -> Prompt:
        return self.replies[0].prompt


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
    simulated rater. Skips feedback on replies that have no token ids or are not `usable`, and a
    thumb where the same rater gave the reply stars, which hold the same on a finer scale."""
    watermark = store.feedback.count()
    items: list[FeedbackItem] = []
    current = list(_current(store, rater))
    stored = load_replies(store, {id for _, ids in current for id in ids})
    fits = {id: usable(one.reply) for id, one in stored.items()}
    for item, ids in current:
        if all(fits.get(id) for id in ids):
            replies = tuple(stored[id].reply for id in ids)
            conversation = stored[ids[0]].conversation_id
            items.append(replace(item, replies=replies, conversation=conversation))
    aside = store.feedback.quarantined()
    kept = tuple(one for one in items if one.rater not in aside)
    raters = tuple(sorted({one.rater for one in kept}))
    return Snapshot(watermark, kept, raters, lapses(store, rater), _hash(kept))


def _current(store: Store, rater: str) -> Iterator[tuple[FeedbackItem, tuple[str, ...]]]:
    """All feedback that counts now, still without its replies, and their message ids."""
    imported = store.imports.message_ids()  # which reply was shown first is unknown there
    for p in store.feedback.preferences(rater):
        first = 0 if p.message_a in imported else 1 if p.shown_first == "a" else -1
        item = FeedbackItem(p.id, "pair", (), p.outcome, p.rater, p.strength, first)
        yield item, (p.message_a, p.message_b)
    scores = store.feedback.scores(rater)
    starred = {(score.message_id, score.rater) for score in scores}
    for thumb in store.feedback.ratings(rater):
        if (thumb.message_id, thumb.rater) not in starred:
            item = FeedbackItem(thumb.id, "thumb", (), thumb.value, thumb.rater)
            yield item, (thumb.message_id,)
    for score in scores:
        yield FeedbackItem(score.id, "score", (), score.stars, score.rater), (score.message_id,)
    for ranking in store.feedback.rankings(rater):
        places = tuple(ranking.places.values())
        item = FeedbackItem(ranking.id, "ranking", (), places, ranking.rater)
        yield item, tuple(ranking.places)
    for edit in store.feedback.edits(rater):
        yield FeedbackItem(edit.id, "edit", (), 1, edit.rater), (edit.edited_id, edit.message_id)


def _hash(items: Sequence[FeedbackItem]) -> str:
    rows = sorted((s.id, s.kind, str(s.answer), s.strength, s.rater) for s in items)
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


def describe(one: FeedbackItem) -> Notice:
    """One rating with the texts it is about, shortened."""
    texts = [shortened(r.text) for r in one.replies]
    if one.kind == "pair":
        if one.answer in ("a", "b"):
            better, worse = texts if one.answer == "a" else texts[::-1]
            params = {"strength": one.strength, "better": better, "worse": worse}
            return Notice("feedback.better", params)
        params = {"outcome": str(one.answer), "one": texts[0], "other": texts[1]}
        return Notice("feedback.pair", params)
    if one.kind == "thumb":
        return Notice("feedback.thumb", {"value": one.answer, "text": texts[0]})
    if one.kind == "score":
        return Notice("feedback.stars", {"count": one.answer, "text": texts[0]})
    if one.kind == "edit":
        return Notice("feedback.corrected", {"before": texts[1], "after": texts[0]})
    order = sorted(zip(one.answer, texts, strict=True)) if isinstance(one.answer, tuple) else []
    quoted = ", ".join(f"“{text}”" for _, text in order)
    return Notice("feedback.ranked", {"texts": quoted})


def shortened(text: str, length: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
