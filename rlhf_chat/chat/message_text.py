"""Text of a message as it is stored: cleaned, not empty, not too long."""

from __future__ import annotations

from rlhf_chat.db import clean_text
from rlhf_chat.errors import AppError

MAX_CHARACTERS = 8000
MAX_REASON = 200  # characters


def checked(text: str, limit: int = MAX_CHARACTERS) -> str:
    """The text as it is stored, and so as the model reads it. Raises AppError."""
    if not text.strip():
        raise AppError("text.empty")
    if len(text) > limit:
        raise AppError("text.too_long", count=len(text), limit=limit)
    return clean_text(text).strip()


def checked_note(words: str) -> str:
    """A note on a vote or ranking as it is stored; may be empty. Raises AppError."""
    if len(words) > MAX_CHARACTERS:
        raise AppError("text.comment_too_long", limit=MAX_CHARACTERS)
    return words.strip()
