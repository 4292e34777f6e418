"""Ratings of replies: thumbs, stars, corrections, their changes and withdrawals.

Every call returns after COMMIT. Votes and rankings are in compare.py, those of
replies shown elsewhere in outside_comparisons.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rlhf_chat.chat import exporters
from rlhf_chat.chat.message_text import MAX_CHARACTERS, MAX_REASON, checked
from rlhf_chat.db import Feedback, FeedbackPage, Store
from rlhf_chat.errors import AppError, NotFound
from rlhf_chat.feedback.kinds import WITHDRAWN, kind_of

REASONS = {
    1: ("Helpful", "Right tone", "Right length", "Well said"),
    -1: ("Wrong", "Off topic", "Too long", "Too short", "Bad tone"),
}
EXPORTS = {
    "lines": exporters.answers,
    "pairs": exporters.preference_pairs,
    "labels": exporters.labelled_replies,
}


@dataclass(frozen=True)
class MessageFeedback:
    """The current ratings of one reply by one rater."""

    value: int = 0
    reason: str = ""
    comment: str = ""
    stars: int = 0


class Ratings:
    def __init__(
        self, store: Store, encode: Callable[[str], list[int]], context_tokens: int
    ) -> None:
        """`encode` gives the token ids of a corrected reply; a prompt and its
        reply may have `context_tokens` together."""
        self.store, self._encode, self._context_tokens = store, encode, context_tokens

    def rate(
        self,
        message_id: str,
        value: int,
        *,
        reason: str = "",
        comment: str = "",
        rater: str = "me",
        event_id: str | None = None,
    ) -> str:
        """A thumb: +1, -1, or 0 to withdraw it. Returns its id, after COMMIT."""
        if value not in (1, -1, 0):
            raise AppError("rating.thumb_value")
        if len(comment) > MAX_CHARACTERS:
            raise AppError("text.comment_too_long", limit=MAX_CHARACTERS)
        return self.store.feedback.add_rating(
            message_id,
            value,
            reason=reason[:MAX_REASON],
            comment=comment,
            rater=rater,
            event_id=event_id,
        )

    def score(
        self, message_id: str, stars: int, *, rater: str = "me", event_id: str | None = None
    ) -> str:
        """1 to 5 stars, or 0 to withdraw them. Returns the id, after COMMIT."""
        return self.store.feedback.add_score(message_id, stars, rater=rater, event_id=event_id)

    def of(self, message_id: str, rater: str = "me") -> MessageFeedback:
        """The current ratings of this reply by this rater."""
        thumb = self.store.feedback.rating_of([message_id], rater).get(message_id)
        stars = self.store.feedback.stars_of(message_id, rater)
        answer = (thumb.value, thumb.reason, thumb.comment) if thumb else (0, "", "")
        return MessageFeedback(*answer, stars)

    def correct(
        self, message_id: str, text: str, *, rater: str = "me", event_id: str | None = None
    ) -> str:
        """A correction of a reply: stored beside the original, shown instead of
        it, and preferred to it from now on. Returns the new message's id, after COMMIT."""
        original = self.store.messages.get(message_id)
        text = checked(text, max(MAX_CHARACTERS, len(original.content)))
        if original.role != "assistant" or original.prompt_ids is None:
            raise AppError("rating.only_replies_corrected")
        if text == original.content.strip():
            raise AppError("rating.nothing_changed")
        ids, limit = self._encode(text), self._context_tokens - len(original.prompt_ids)
        if len(ids) > limit:
            raise AppError("rating.correction_too_long", tokens=len(ids), limit=limit)
        return self.store.feedback.add_correction(
            original, text, ids, rater=rater, event_id=event_id
        )

    def all(self, containing: str = "", kind: str = "", answer: str = "") -> list[Feedback]:
        """Every rating and vote of people that counts now, newest first."""
        return self.store.feedback.all(containing=containing.strip(), kind=kind, answer=answer)

    def page(
        self,
        containing: str = "",
        kind: str = "",
        answer: str = "",
        *,
        limit: int = 50,
        before: int | None = None,
    ) -> FeedbackPage:
        """A part of them: the newest, or those that follow another page."""
        words = containing.strip()
        return self.store.feedback.page(
            containing=words, kind=kind, answer=answer, limit=limit, before=before
        )

    def one(self, id: str) -> Feedback | None:
        """One that counts now."""
        with suppress(NotFound):
            return self.store.feedback.get(id)
        return None

    def tally(self) -> dict[str, int]:
        """How often each answer was given."""
        return self.store.feedback.tally()

    def export(self, form: str, rows: Sequence[Feedback]) -> list[dict[str, Any]]:
        """Some of them as `answers` ("lines"), `preference_pairs` ("pairs") or `labelled_replies`
        ("labels") have them all."""
        return EXPORTS[form](self.store, rows)

    def answers(
        self, containing: str = "", kind: str = "", answer: str = ""
    ) -> list[dict[str, Any]]:
        """The same as plain values, with the messages before (exporters.py)."""
        return exporters.answers(self.store, self.all(containing, kind, answer))

    def preference_pairs(
        self, containing: str = "", kind: str = "", answer: str = ""
    ) -> list[dict[str, Any]]:
        """Which reply is better than which, of those answers, as TRL reads it (exporters.py)."""
        return exporters.preference_pairs(self.store, self.all(containing, kind, answer))

    def labelled_replies(
        self, containing: str = "", kind: str = "", answer: str = ""
    ) -> list[dict[str, Any]]:
        """Which replies those answers call good or bad, as TRL reads it (exporters.py)."""
        return exporters.labelled_replies(self.store, self.all(containing, kind, answer))

    def withdraw(self, feedback_id: str) -> None:
        """Withdraws any answer that counts now. Raises NotFound."""
        self.change(self.store.feedback.get(feedback_id), WITHDRAWN)

    def change(self, feedback: Feedback, answer: str) -> None:
        """Changes a rating, under the name of its rater; "withdrawn" removes it. The log keeps
        both."""
        kind = kind_of(feedback.kind)
        if answer not in (*kind.choices, WITHDRAWN):
            raise AppError("rating.answer_value", choices=", ".join((*kind.choices, WITHDRAWN)))
        kind.change(self.store, feedback, answer)
