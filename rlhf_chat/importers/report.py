"""What became of a file."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlhf_chat.errors import Notice
from rlhf_chat.importers.row import Row


@dataclass
class ImportReport:
    read: int = 0  # ratings
    new: int = 0  # of them, where they were stored
    unread: list[tuple[Row, Notice]] = field(default_factory=list)
    origin: str = ""  # names what was stored, to undo it
