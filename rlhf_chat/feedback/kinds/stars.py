"""1 to 5 stars for one reply. FeedbackItem: answer 1 to 5, one reply."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from rlhf_chat.db import Feedback, Store
from rlhf_chat.errors import Notice
from rlhf_chat.feedback.evidence import Contrast, Evidence
from rlhf_chat.feedback.item import FeedbackItem
from rlhf_chat.feedback.kinds.base import WITHDRAWN, FeedbackKind, ImportedAnswer, StoredItem


class Stars(FeedbackKind):
    code = "stars"
    first_code = "score"
    answers = choices = ("1", "2", "3", "4", "5")

    def read(self, store: Store, rater: str, imported: Collection[str]) -> Iterator[StoredItem]:
        for row in store.feedback.scores(rater):
            item = FeedbackItem(row.id, self.code, (), row.stars, row.rater)
            yield StoredItem(item, (row.message_id,))

    def change(self, store: Store, feedback: Feedback, answer: str) -> None:
        stars = 0 if answer == WITHDRAWN else int(answer)
        store.feedback.add_score(feedback.message_id, stars, rater=feedback.rater)

    def evidence(self, item: FeedbackItem, both_weight: float = 1.0) -> Evidence:
        assert isinstance(item.answer, int)
        return (Contrast("stars", item.answer),)

    def parse(self, answer: str, entry: Mapping[str, Any]) -> ImportedAnswer:
        if answer not in self.answers:
            raise self.unknown(answer)
        return ImportedAnswer(int(answer), (entry["reply"],))

    def labels(self, feedback: Feedback) -> Iterator[tuple[str, bool]]:
        """Three stars call it neither."""
        if feedback.answer != "3":
            yield feedback.message_id, feedback.answer > "3"

    def describe(self, item: FeedbackItem, texts: Sequence[str]) -> Notice:
        return Notice("feedback.stars", {"count": item.answer, "text": texts[0]})
