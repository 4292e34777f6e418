"""A thumb, up or down, for one reply. FeedbackItem: answer +1 or -1, one reply."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from rlhf_chat.db import Feedback, Store
from rlhf_chat.errors import Notice
from rlhf_chat.feedback.evidence import Contrast, Evidence
from rlhf_chat.feedback.item import FeedbackItem
from rlhf_chat.feedback.kinds.base import FeedbackKind, ImportedAnswer, StoredItem

VALUES = {"up": 1, "down": -1}


class Thumb(FeedbackKind):
    code = "thumb"
    answers = choices = ("up", "down")

    def read(self, store: Store, rater: str, imported: Collection[str]) -> Iterator[StoredItem]:
        """Without the thumbs of raters who gave the same reply stars, which hold the same on a
        finer scale."""
        starred = {(one.message_id, one.rater) for one in store.feedback.scores(rater)}
        for row in store.feedback.ratings(rater):
            if (row.message_id, row.rater) not in starred:
                item = FeedbackItem(row.id, self.code, (), row.value, row.rater)
                yield StoredItem(item, (row.message_id,))

    def change(self, store: Store, feedback: Feedback, answer: str) -> None:
        store.feedback.add_rating(
            feedback.message_id,
            VALUES.get(answer, 0),
            reason=feedback.reason if answer == feedback.answer else "",
            comment=feedback.comment,
            rater=feedback.rater,
        )

    def evidence(self, item: FeedbackItem, both_weight: float = 1.0) -> Evidence:
        assert isinstance(item.answer, int)
        return (Contrast("thumb", item.answer),)

    def parse(self, answer: str, entry: Mapping[str, Any]) -> ImportedAnswer:
        if answer not in VALUES:
            raise self.unknown(answer)
        return ImportedAnswer(VALUES[answer], (entry["reply"],))

    def labels(self, feedback: Feedback) -> Iterator[tuple[str, bool]]:
        yield feedback.message_id, feedback.answer == "up"

    def shared_question(self, feedback: Feedback) -> str:
        return feedback.message_id

    def describe(self, item: FeedbackItem, texts: Sequence[str]) -> Notice:
        return Notice("feedback.thumb", {"value": item.answer, "text": texts[0]})
