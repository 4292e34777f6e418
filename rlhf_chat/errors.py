"""What cannot be done is refused in one sentence for the person. Left out: faults of our own."""

from __future__ import annotations

from rlhf_chat import db

MAX_CHARACTERS = 8000
LONGEST_REASON = 200  # characters


class AppError(Exception):
    """Something the person should know, in one sentence."""


class Refused(str):
    """A sentence that says why something was not done, where others say that it was."""


class sentences:
    """Turns the store's refusals into what the person is told."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, db.StoreError):
            raise AppError(str(error)) from error


def checked(text: str) -> str:
    """A message as it is stored, and so as the model reads it."""
    if not text.strip():
        raise AppError("Write something first: the message is empty.")
    if len(text) > MAX_CHARACTERS:
        raise AppError(
            f"This is too long: {len(text):,} characters; {MAX_CHARACTERS:,} are allowed."
        )
    return db.clean_text(text).strip()
