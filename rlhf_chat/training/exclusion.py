"""Feedback that a retraining leaves out, as if it had never been given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_chat.errors import Refused
from rlhf_chat.feedback.item import FeedbackItem


@dataclass(frozen=True)
class Exclusion:
    """Items by their ids, all of a rater's, and all of a conversation's."""

    ids: frozenset[str]
    rater: str = ""
    conversation: str = ""

    def __call__(self, item: FeedbackItem) -> bool:
        return (
            item.id in self.ids
            or item.rater == self.rater
            or item.conversation == self.conversation
        )

    def refusal(self, items: Sequence[FeedbackItem]) -> Refused | None:
        """Why a retraining without them would be pointless; None where it is not."""
        if not any(map(self, items)):
            return Refused("training.nothing_excluded")
        if all(map(self, items)):
            return Refused("training.nothing_left")
        return None
