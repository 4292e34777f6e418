"""A vote between two replies to one prompt. FeedbackItem: answer one of VOTES, replies a and b."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from rlhf_chat.db import VOTES, Feedback, Store
from rlhf_chat.errors import Notice
from rlhf_chat.feedback.evidence import Contrast, Evidence
from rlhf_chat.feedback.item import FeedbackItem
from rlhf_chat.feedback.kinds.base import FeedbackKind, ImportedAnswer, StoredItem

BOTH = {"both_bad": -1, "both_good": 1}


class Comparison(FeedbackKind):
    code = "comparison"
    answers = choices = VOTES
    has_other = True
    older_codes = ("vote",)
    first_code = "pair"

    def read(self, store: Store, rater: str, imported: Collection[str]) -> Iterator[StoredItem]:
        for row in store.feedback.preferences(rater):
            # Which of two imported replies was shown first is not known.
            first = 0 if row.message_a in imported else 1 if row.shown_first == "a" else -1
            item = FeedbackItem(row.id, self.code, (), row.outcome, row.rater, row.strength, first)
            yield StoredItem(item, (row.message_a, row.message_b))

    def change(self, store: Store, feedback: Feedback, answer: str) -> None:
        """The sides stay as they were shown, and so does the comment."""
        before = store.feedback.preference(feedback.id)
        store.feedback.add_preference(
            feedback.message_id,
            feedback.other_id,
            answer,
            shown_first=before.shown_first if before else "a",
            comment=feedback.comment,
            rater=feedback.rater,
        )

    def evidence(self, item: FeedbackItem, both_weight: float = 1.0) -> Evidence:
        """One comparison. "Both bad" and "both good" are half a tie and a thumb for the two
        together, on their mean: one thumb, so that the permutation test does not see two that
        agree."""
        answer = str(item.answer)
        label, weight = {"a": 1, "b": -1}.get(answer, 0), both_weight if answer in BOTH else 1.0
        apart = Contrast("comparison", label, (0,), (1,), item.strength, weight, item.first)
        if answer not in BOTH:
            return (apart,)
        together = Contrast(
            "thumb", BOTH[answer], (0, 1), weight=2 * both_weight, rater_lapse=False
        )
        return apart, together

    def parse(self, answer: str, entry: Mapping[str, Any]) -> ImportedAnswer:
        if answer not in VOTES:
            raise self.unknown(answer)
        return ImportedAnswer(answer, (entry["reply"], entry["other"]))

    def describe(self, item: FeedbackItem, texts: Sequence[str]) -> Notice:
        if item.answer not in ("a", "b"):
            params = {"outcome": str(item.answer), "one": texts[0], "other": texts[1]}
            return Notice("feedback.pair", params)
        better, worse = texts if item.answer == "a" else texts[::-1]
        params = {"strength": item.strength, "better": better, "worse": worse}
        return Notice("feedback.better", params)

    def better_side(self, feedback: Feedback) -> str:
        return {"a": "reply", "b": "other"}.get(feedback.answer, "")

    def ordered_pairs(self, store: Store, feedback: Feedback) -> Iterator[tuple[str, str]]:
        if feedback.answer == "a":
            yield feedback.message_id, feedback.other_id
        elif feedback.answer == "b":
            yield feedback.other_id, feedback.message_id

    def labels(self, feedback: Feedback) -> Iterator[tuple[str, bool]]:
        if feedback.answer in BOTH:
            yield feedback.message_id, feedback.answer == "both_good"
            yield feedback.other_id, feedback.answer == "both_good"

    def shared_question(self, feedback: Feedback) -> str:
        return f"{feedback.message_id} {feedback.other_id}"
