"""One entry of a file as it was read: its ratings, and what could not be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from rlhf_chat.db import ImportedFeedback
from rlhf_chat.errors import Notice
from rlhf_chat.feedback.kinds import InvalidAnswer
from rlhf_chat.importers.problems import SHAPE_ERRORS, Outcome, UnreadableError


@dataclass(frozen=True)
class Row:
    """An entry with neither items nor problems is well formed and holds no rating."""

    line: int  # where it begins, from 1; in a JSON list its place; 0: the file as a whole
    items: tuple[ImportedFeedback, ...] = ()
    problems: tuple[Notice, ...] = ()
    file: str = ""  # within an archive or a folder


def row_of(line: int, outcomes: Iterable[Outcome]) -> Row:
    """Runs a format's reader. Never raises: what it raises is a problem of the row, and what came
    before is kept."""
    row = Row(line)
    try:
        for one in outcomes:
            row = _with(row, one)
    except (UnreadableError, InvalidAnswer) as error:
        row = _with(row, UnreadableError(error.code, **error.params))
    except SHAPE_ERRORS:
        row = _with(row, UnreadableError("imports.wrong_shape"))
    return row


def _with(row: Row, one: Outcome) -> Row:
    if isinstance(one, ImportedFeedback):
        return replace(row, items=(*row.items, one))
    return replace(row, problems=(*row.problems, one.notice))
