"""The kinds of feedback. Whatever depends on the kind goes through this registry.

Its table is in db/feedback_tables.py, under the same code.
"""

from rlhf_chat.feedback.kinds.base import WITHDRAWN, FeedbackKind, InvalidAnswer
from rlhf_chat.feedback.kinds.comparison import Comparison
from rlhf_chat.feedback.kinds.correction import Correction
from rlhf_chat.feedback.kinds.ranking import Ranking
from rlhf_chat.feedback.kinds.stars import Stars
from rlhf_chat.feedback.kinds.thumb import Thumb

# By code. A snapshot lists its items in this order.
KINDS: dict[str, FeedbackKind] = {
    kind.code: kind for kind in (Comparison(), Thumb(), Stars(), Ranking(), Correction())
}


def kinds() -> tuple[FeedbackKind, ...]:
    return tuple(KINDS.values())


def kind_of(code: str) -> FeedbackKind:
    """Raises KeyError."""
    return KINDS[code]


def kind_of_import(code: str) -> FeedbackKind | None:
    """The kind that an export names, an earlier version's export included."""
    older = (kind for kind in KINDS.values() if code in kind.older_codes)
    return KINDS.get(code) or next(older, None)


__all__ = [
    "KINDS",
    "WITHDRAWN",
    "Comparison",
    "Correction",
    "FeedbackKind",
    "InvalidAnswer",
    "Ranking",
    "Stars",
    "Thumb",
    "kind_of",
    "kind_of_import",
    "kinds",
]
