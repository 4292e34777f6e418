"""What every kind of feedback provides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from rlhf_chat.db import Feedback, Store
from rlhf_chat.errors import AppError, Notice
from rlhf_chat.feedback.evidence import Contrast, Evidence
from rlhf_chat.feedback.item import FeedbackItem
from rlhf_chat.feedback.replies import Reply

WITHDRAWN = "withdrawn"  # the answer that takes every kind of answer back


class InvalidAnswer(AppError):
    """An imported answer that its kind cannot have."""


class StoredItem(NamedTuple):
    """An answer as read from its table: the item still without replies, and their message ids."""

    item: FeedbackItem
    message_ids: tuple[str, ...]


class ImportedAnswer(NamedTuple):
    """What an entry of an export says: the answer, and the texts of the replies it is about."""

    answer: int | str | tuple[int, ...]
    replies: tuple[Any, ...]  # not checked yet


class FeedbackKind(ABC):
    """One kind of feedback: how it is read, changed, learned from, exported, imported, described.

    Stateless. ARCHITECTURE.md says what a new kind takes.
    """

    code: ClassVar[str]  # in the database, exports and locale keys
    answers: ClassVar[tuple[str, ...]]  # what `Feedback.answer` can be
    choices: ClassVar[tuple[str, ...]] = ()  # answers it can be changed to
    has_other: ClassVar[bool] = False  # whether `Feedback.other` is a second reply
    other_by_rater: ClassVar[bool] = False  # whether the rater wrote that one
    older_codes: ClassVar[tuple[str, ...]] = ()  # in exports of earlier versions
    first_code: ClassVar[str] = ""  # in hashes of snapshots, if it is not `code`

    @abstractmethod
    def read(self, store: Store, rater: str, imported: Collection[str]) -> Iterator[StoredItem]:
        """The answers that count now, oldest first. `imported`: ids of imported messages."""

    @abstractmethod
    def change(self, store: Store, feedback: Feedback, answer: str) -> None:
        """Store another answer about the same replies, one of `choices` or WITHDRAWN."""

    @abstractmethod
    def evidence(self, item: FeedbackItem, both_weight: float = 1.0) -> Evidence:
        """The terms of the likelihood. `both_weight`: of the tie in "both bad" and "both good"."""

    @abstractmethod
    def parse(self, answer: str, entry: Mapping[str, Any]) -> ImportedAnswer:
        """Read an entry of our own export. Raises InvalidAnswer; KeyError, TypeError or ValueError
        where fields are missing or of the wrong type."""

    @abstractmethod
    def describe(self, item: FeedbackItem, texts: Sequence[str]) -> Notice:
        """The answer in words; `texts` are those of the item's replies, shortened."""

    def ordered_pairs(self, store: Store, feedback: Feedback) -> Iterator[tuple[str, str]]:
        """Message ids of each (better, worse) pair that the answer names: rows for DPO."""
        yield from ()

    def labels(self, feedback: Feedback) -> Iterator[tuple[str, bool]]:
        """Message ids of replies that the answer calls good or bad by themselves: rows for KTO."""
        yield from ()

    def better_side(self, feedback: Feedback) -> str:
        """Which of two replies is better: "reply", "other", or "" for neither."""
        return ""

    def shared_question(self, feedback: Feedback) -> str:
        """What agreement between raters is counted over: the same for all who were asked the same.
        "" where answers of this kind are not counted."""
        return ""

    def absolute_replies(self, item: FeedbackItem) -> tuple[Reply, ...]:
        """The replies that the answer rates on an absolute scale: their prompts need a baseline."""
        return tuple(
            item.replies[i]
            for term in self.evidence(item)
            if isinstance(term, Contrast) and not term.against
            for i in term.replies
        )

    @property
    def label(self) -> Notice:
        return Notice(f"label.kind_{self.code}")

    def unknown(self, answer: str) -> InvalidAnswer:
        return InvalidAnswer("imports.unknown_answer", kind=self.code, answer=answer)
