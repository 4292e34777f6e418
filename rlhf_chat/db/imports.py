"""Imported feedback: many answers with the messages they are about, stored in one transaction.

Each answer gets a conversation of kind "compare" whose `origin` is the id of the import; a thumb,
stars and corrections of one reply share it. The same answer twice is stored once. Files of other
tools are read in rlhf_chat/importers.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from sqlite_utils import Database

from rlhf_chat.db.codec import (
    content_key,
    fetch,
    fresh_id,
    ids_blob,
    insert,
    next_number,
    one_value,
    timestamp,
)
from rlhf_chat.db.connection import Repository
from rlhf_chat.db.deletion import delete_conversations
from rlhf_chat.db.feedback_tables import TABLES
from rlhf_chat.db.schema import ImportBatch, ImportedFeedback

# In the ids of imported answers, which must not change: the same file again adds nothing.
FIRST_NAMES = {"comparison": "vote", "correction": "edit"}

# Digest of system prompt, turns and reply -> ids of its conversation, its question and itself
Known = dict[bytes, tuple[str, str, str]]


class ImportRepository(Repository):
    def add(
        self,
        imports: Sequence[ImportedFeedback],
        rater: str = "me",
        *,
        origin: str = "",
        known: Known | None = None,
    ) -> tuple[str, int]:
        """Stores, in one transaction, those that are not here yet. Returns the origin, which
        `undo` takes, and how many were new. A long file comes in parts: with the `origin` of the
        first one, and with one dictionary `known` for all of them."""
        origin, known = origin or fresh_id(), {} if known is None else known

        def change(db: Database) -> int:
            return sum(_add(db, one, one.rater or rater, origin, known) for one in imports)

        return origin, self._db.write_feedback(change)

    def newest(self, limit: int) -> list[ImportBatch]:
        """The newest imports that have not been undone or deleted one by one, newest first."""
        sql = """SELECT origin, min(created_at), count(*) FROM conversations WHERE origin <> ''
            GROUP BY origin ORDER BY min(last_number) DESC LIMIT ?"""
        with self._db.read() as db:
            return [ImportBatch(*row) for row in fetch(db, sql, [limit])]

    def undo(self, origin: str) -> int:
        """Delete what one import added, as `ConversationRepository.delete` does; the number of
        conversations deleted."""

        def of_import(db: Database) -> list[str]:
            sql = "SELECT id FROM conversations WHERE origin = ? AND origin <> ''"
            return [row[0] for row in fetch(db, sql, [origin])]

        return delete_conversations(self._db, of_import)

    def message_ids(self) -> set[str]:
        """Ids of the imported messages."""
        sql = """SELECT m.id FROM messages m JOIN conversations c ON c.id = conversation_id
            WHERE origin <> ''"""
        with self._db.read() as db:
            return {row[0] for row in fetch(db, sql)}


def event_id(one: ImportedFeedback, rater: str) -> str:
    """The same for the same answer about the same texts by the same rater."""
    kind = FIRST_NAMES.get(one.kind, one.kind)
    told = [rater, kind, one.answer, one.system, one.turns, one.replies]
    return "arrival " + hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def _add(db: Database, one: ImportedFeedback, rater: str, origin: str, known: Known) -> bool:
    """Whether it was new."""
    event, table = event_id(one, rater), TABLES[one.kind]
    if one_value(db, f"SELECT 1 FROM {table.name} WHERE id = ? OR event_id = ?", [one.id, event]):
        return False
    asked, replies = _placed(db, one, origin, known)
    told: dict[str, Any] = {"id": one.id or fresh_id(), "event_id": event, "rater": rater}
    told |= {"created_at": one.created_at or timestamp(), "number": next_number(db, "feedback")}
    insert(db, table.name, **told, **table.imported(one, asked, replies))
    return True


def _placed(
    db: Database, one: ImportedFeedback, origin: str, known: Known
) -> tuple[str, list[str]]:
    """Message ids of the question and of each reply, stored now or with an earlier answer."""
    told = json.dumps([one.system, one.turns, one.replies[0]])
    about = hashlib.sha256(told.encode()).digest()
    place = known.get(about) if TABLES[one.kind].of_one_reply else None
    if place is None:
        conversation, asked = _conversation(db, one, origin), ""
        for role, words in one.turns:
            asked = _message(db, conversation, asked, role, words)
        first = _message(db, conversation, asked, "assistant", one.replies[0], _made(one, 0))
        place = conversation, asked, first
        if TABLES[one.kind].of_one_reply:
            known[about] = place
    conversation, asked, first = place
    others = [
        _message(db, conversation, asked, "assistant", words, _made(one, i))
        for i, words in enumerate(one.replies[1:], 1)
    ]
    return asked, [first, *others]


def _conversation(db: Database, one: ImportedFeedback, origin: str) -> str:
    id, now = fresh_id(), timestamp()
    row = {"id": id, "kind": "compare", "title": "", "system_prompt": one.system, "origin": origin}
    number = next_number(db, "conversation")
    insert(db, "conversations", **row, last_number=number, created_at=now, updated_at=now)
    return id


def _made(one: ImportedFeedback, reply: int) -> dict[str, Any]:
    """The columns of a reply beside its text."""
    ids = one.response_ids[reply]
    key = content_key(one.prompt_ids, ids)
    both = {"prompt_ids": ids_blob(one.prompt_ids), "response_ids": ids_blob(ids)}
    return {**both, "content_key": key, "finish_reason": "stop"}


def _message(
    db: Database,
    conversation: str,
    parent: str,
    role: str,
    words: str,
    made: dict[str, Any] | None = None,
) -> str:
    id = fresh_id()
    row = {"id": id, "conversation_id": conversation, "parent_id": parent or None, "role": role}
    insert(db, "messages", **row, content=words, created_at=timestamp(), **(made or {}))
    return id
