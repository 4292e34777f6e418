"""Several replies to one prompt in order. FeedbackItem: answer a place for each reply, 0 is best,
equal places are tied."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from rlhf_chat.db import MOST_RANKED, Feedback, Store
from rlhf_chat.errors import Notice
from rlhf_chat.feedback.evidence import Evidence, Order
from rlhf_chat.feedback.item import FeedbackItem
from rlhf_chat.feedback.kinds.base import FeedbackKind, ImportedAnswer, InvalidAnswer, StoredItem


class Ranking(FeedbackKind):
    code = "ranking"
    answers = ("ranked",)

    def read(self, store: Store, rater: str, imported: Collection[str]) -> Iterator[StoredItem]:
        for row in store.feedback.rankings(rater):
            item = FeedbackItem(row.id, self.code, (), tuple(row.places.values()), row.rater)
            yield StoredItem(item, tuple(row.places))

    def change(self, store: Store, feedback: Feedback, answer: str) -> None:
        """Can only be withdrawn."""
        asked = store.messages.get(feedback.message_id).parent_id
        store.feedback.add_ranking(asked or "", {}, rater=feedback.rater)

    def evidence(self, item: FeedbackItem, both_weight: float = 1.0) -> Evidence:
        assert isinstance(item.answer, tuple)
        return (Order(item.answer),)

    def parse(self, answer: str, entry: Mapping[str, Any]) -> ImportedAnswer:
        placed = entry["order"]
        places = tuple(int(one["place"]) for one in placed)
        if not 2 <= len(places) <= MOST_RANKED or not all(0 <= p < MOST_RANKED for p in places):
            raise InvalidAnswer("imports.ranking_size", limit=MOST_RANKED)
        return ImportedAnswer(places, tuple(one["reply"] for one in placed))

    def describe(self, item: FeedbackItem, texts: Sequence[str]) -> Notice:
        places = item.answer if isinstance(item.answer, tuple) else ()
        order = sorted(zip(places, texts, strict=True))
        return Notice("feedback.ranked", {"texts": ", ".join(f"“{text}”" for _, text in order)})

    def ordered_pairs(self, store: Store, feedback: Feedback) -> Iterator[tuple[str, str]]:
        stored = store.feedback.ranking(feedback.id)
        places = stored.places if stored else {}
        for one, other in combinations(places, 2):
            if places[one] != places[other]:
                better, worse = sorted((one, other), key=lambda reply: places[reply])
                yield better, worse
