"""The log of what the app did: promotions, deletions, changes of the live version."""

from typing import Any

from sqlite_utils import Database

from rlhf_chat.db.codec import as_json, insert, timestamp
from rlhf_chat.db.connection import Repository
from rlhf_chat.db.records import Event


class EventRepository(Repository):
    def add(self, kind: str, ref: str = "", data: dict[str, Any] | None = None) -> None:
        self._db.write(lambda db: add_event(db, kind, str(ref), data or {}))

    def newest(self, limit: int = 100) -> list[Event]:
        """Newest first."""
        return self._db.rows(Event, "FROM events ORDER BY id DESC LIMIT ?", [limit])


def add_event(db: Database, kind: str, ref: str, data: dict[str, Any]) -> None:
    insert(db, "events", kind=kind, ref=ref, data=as_json(data), created_at=timestamp())
