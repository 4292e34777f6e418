"""Imported feedback: many answers with the messages they are about, stored in one transaction.

Each answer gets a conversation of kind "compare" whose `origin` is the id of the import; a thumb,
stars and corrections of one reply share it. The same answer twice is stored once. Answers in such
conversations are kept and do not count until the import is accepted. Files of other tools are read
in rlhf_chat/importers.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from sqlite_utils import Database

from rlhf_chat import faults
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
from rlhf_chat.db.events import add_event
from rlhf_chat.db.feedback_tables import TABLES
from rlhf_chat.db.records import ImportBatch, ImportedFeedback

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
        counts: bool = False,
    ) -> tuple[str, int]:
        """Stores, in one transaction, those that are not here yet. Returns the origin, which
        `accept` and `undo` take, and how many were new. A long file comes in parts: with the
        `origin` of the first one, and with one dictionary `known` for all of them. `counts`:
        accepted at once."""
        origin, known = origin or fresh_id(), {} if known is None else known

        seen: Known = {}

        def change(db: Database) -> int:
            seen.clear()  # what an earlier try added was rolled back
            seen.update(known)
            new = sum(_add(db, one, one.rater or rater, origin, seen) for one in imports)
            if new and not one_value(db, "SELECT 1 FROM imports WHERE id = ?", [origin]):
                insert(db, "imports", id=origin, counts_from=None, created_at=timestamp())
            if counts:
                _accept(db, origin)
            return new

        new = self._db.write_feedback(change)
        known.update(seen)
        return origin, new

    def has(self, one: ImportedFeedback, rater: str) -> bool:
        """Whether this answer about these texts by this rater is here. Token ids do not matter."""
        sql = f"SELECT 1 FROM {TABLES[one.kind].name} WHERE event_id = ?"
        with self._db.read() as db:
            return one_value(db, sql, [event_id(one, rater)]) is not None

    def newest(self, limit: int) -> list[ImportBatch]:
        """The newest imports that have not been undone or deleted one by one, newest first."""
        sql = """SELECT origin, min(c.created_at), count(*), counts_from IS NOT NULL
            FROM conversations c JOIN imports i ON i.id = origin WHERE origin <> ''
            GROUP BY origin ORDER BY min(last_number) DESC LIMIT ?"""
        with self._db.read() as db:
            found = fetch(db, sql, [limit])
        return [ImportBatch(id, at, count, bool(counts)) for id, at, count, counts in found]

    def accept(self, origin: str) -> None:
        """From now on its answers count, as new ones for the next round."""
        self._db.write_feedback(lambda db: _accept(db, origin))

    def counting(self) -> set[str]:
        """Ids of the imports that are learned from and of which something is still here."""
        sql = """SELECT id FROM imports i WHERE counts_from IS NOT NULL
            AND EXISTS (SELECT 1 FROM conversations WHERE origin = i.id AND origin <> '')"""
        with self._db.read() as db:
            return {row[0] for row in fetch(db, sql)}

    def undo(self, origin: str) -> int:
        """Delete what one import added, as `ConversationRepository.delete` does; the number of
        conversations deleted."""

        def of_import(db: Database) -> list[str]:
            db.execute("DELETE FROM imports WHERE id = ?", [origin])
            sql = "SELECT id FROM conversations WHERE origin = ? AND origin <> ''"
            return [row[0] for row in fetch(db, sql, [origin])]

        return delete_conversations(self._db, of_import)

    def origins(self) -> dict[str, str]:
        """Id of each imported message -> id of its import."""
        sql = """SELECT m.id, origin FROM conversations c JOIN messages m ON c.id = conversation_id
            WHERE origin <> ''"""
        with self._db.read() as db:
            return dict(fetch(db, sql))


def event_id(one: ImportedFeedback, rater: str) -> str:
    """The same for the same answer about the same texts by the same rater."""
    kind = FIRST_NAMES.get(one.kind, one.kind)
    told = [rater, kind, one.answer, one.system, one.turns, one.replies]
    return "arrival " + hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def _accept(db: Database, origin: str) -> None:
    sql = "SELECT 1 FROM imports WHERE id = ? AND counts_from IS NULL"
    if one_value(db, sql, [origin]):
        number = next_number(db, "feedback")
        db.execute("UPDATE imports SET counts_from = ? WHERE id = ?", [number, origin])
        add_event(db, "import_accepted", origin, {})


def _add(db: Database, one: ImportedFeedback, rater: str, origin: str, known: Known) -> bool:
    """Whether it was new."""
    event, table = event_id(one, rater), TABLES[one.kind]
    if one_value(db, f"SELECT 1 FROM {table.name} WHERE id = ? OR event_id = ?", [one.id, event]):
        return False
    asked, replies = _placed(db, one, origin, known)
    faults.point("import.placed")
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
