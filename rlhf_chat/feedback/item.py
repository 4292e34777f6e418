"""One item of feedback, whatever its kind."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_chat.feedback.replies import Prompt, Reply


@dataclass(frozen=True)
class FeedbackItem:
    """One item of feedback with the replies it is about.

    What `answer` means, and the order of `replies`, is up to the kind (feedback/kinds).
    """

    id: str
    kind: str  # code of a FeedbackKind
    replies: tuple[Reply, ...]
    answer: int | str | tuple[int, ...]
    rater: str
    strength: str = ""  # of a comparison: slightly, much, or not said
    first: int = 0  # +1 where a was shown first, -1 where b was, 0 where unknown
    conversation: str = ""
    origin: str = ""  # id of the import that brought it; "" for answers given in this app

    @property
    def prompt(self) -> Prompt:
        return self.replies[0].prompt
