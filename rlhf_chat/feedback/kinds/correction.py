"""A reply as the person would have had it. FeedbackItem: answer 1, replies the corrected text and
the original."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from rlhf_chat.db import Feedback, Store
from rlhf_chat.errors import Notice
from rlhf_chat.feedback.evidence import Contrast, Evidence
from rlhf_chat.feedback.item import FeedbackItem
from rlhf_chat.feedback.kinds.base import FeedbackKind, ImportedAnswer, StoredItem


class Correction(FeedbackKind):
    code = "correction"
    answers = ("corrected",)
    has_other = other_by_rater = True
    older_codes = ("edit",)
    first_code = "edit"

    def read(self, store: Store, rater: str, imported: Collection[str]) -> Iterator[StoredItem]:
        for row in store.feedback.edits(rater):
            item = FeedbackItem(row.id, self.code, (), 1, row.rater)
            yield StoredItem(item, (row.edited_id, row.message_id))

    def change(self, store: Store, feedback: Feedback, answer: str) -> None:
        """Can only be withdrawn."""
        store.feedback.add_edit(
            feedback.message_id, feedback.other_id, withdrawn=True, rater=feedback.rater
        )

    def evidence(self, item: FeedbackItem, both_weight: float = 1.0) -> Evidence:
        return (Contrast("correction", 1, (0,), (1,)),)

    def parse(self, answer: str, entry: Mapping[str, Any]) -> ImportedAnswer:
        return ImportedAnswer(1, (entry["reply"], entry["other"]))

    def describe(self, item: FeedbackItem, texts: Sequence[str]) -> Notice:
        return Notice("feedback.corrected", {"before": texts[1], "after": texts[0]})

    def better_side(self, feedback: Feedback) -> str:
        return "other"

    def labels(self, feedback: Feedback) -> Iterator[tuple[str, bool]]:
        yield feedback.other_id, True
        yield feedback.message_id, False

    def ordered_pairs(self, store: Store, feedback: Feedback) -> Iterator[tuple[str, str]]:
        yield feedback.other_id, feedback.message_id
