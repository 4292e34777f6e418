"""Conversations and messages: a tree of what was said to the model and what it said.

Messages are added and never changed; which branch is shown is the conversation's head. Left out:
what people thought of the replies (ratings.py).
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from sqlite_utils import Database

from rlhf_chat.db.codec import (
    as_json,
    clean_text,
    content_key,
    fetch,
    fresh_id,
    ids_blob,
    insert,
    message_row,
    next_number,
    one_value,
    timestamp,
)
from rlhf_chat.db.connection import DatabaseConnection, add_event
from rlhf_chat.db.db_errors import NotFound, StoreError
from rlhf_chat.db.deletion import erase, erase_from_backups
from rlhf_chat.db.queries import (
    like,
    recent_prompts,
)
from rlhf_chat.db.schema import (
    Conversation,
    Message,
)

TITLE_LENGTH = 60


class ConversationRepository(DatabaseConnection):
    """The part of the store that keeps conversations."""

    def _open(self) -> None:
        super()._open()
        if not self.read_only:
            self._finish_deleting()

    def _finish_deleting(self) -> None:
        """A kill may have come between a deletion and the backups or the WAL."""
        with self._read() as db:
            sql = "SELECT ref FROM events WHERE kind = 'conversation_deleted'"
            deleted = [row[0] for row in fetch(db, sql)]
        with suppress(StoreError):  # no reason not to start; the next start tries again
            try:
                erase_from_backups(self.path, deleted)
            finally:  # a backup that cannot be cleaned must not keep the words in the WAL
                if deleted:
                    self._empty_wal()

    def add_conversation(self, kind: str = "chat", title: str = "", system_prompt: str = "") -> str:
        if kind not in ("chat", "compare"):
            raise StoreError(f"A conversation is of kind chat or compare, not {kind!r}.")
        new_id, now = fresh_id(), timestamp()

        def change(db: Database) -> str:
            insert(
                db,
                "conversations",
                id=new_id,
                kind=kind,
                title=title,
                system_prompt=system_prompt,
                last_number=next_number(db, "conversation"),
                created_at=now,
                updated_at=now,
            )
            return new_id

        return self._write(change)

    def conversations(self, kind: str = "chat", containing: str = "") -> list[Conversation]:
        """Newest first: the one that was last added to. `containing`: in its title or messages."""
        rest = """FROM conversations AS c WHERE kind = ?1 AND (?2 = '%%'
            OR title LIKE ?2 ESCAPE '\\' OR EXISTS (SELECT 1 FROM messages
                WHERE conversation_id = c.id AND content LIKE ?2 ESCAPE '\\'))
            ORDER BY last_number DESC"""
        return self._list(Conversation, rest, [kind, like(containing)])

    def conversation(self, conversation_id: str) -> Conversation:
        found = self._list(Conversation, "FROM conversations WHERE id = ?", [conversation_id])
        if not found:
            raise NotFound("That conversation is not here any more.")
        return found[0]

    def rename_conversation(self, id: str, title: str) -> None:
        def change(db: Database) -> None:
            _conversation_row(db, id)
            db.execute("UPDATE conversations SET title = ? WHERE id = ?", [clean_text(title), id])

        self._write(change)

    def set_settings(
        self, id: str, system_prompt: str, sampling: dict | None, adapter_version: int | None
    ) -> None:
        """How this conversation is answered from the next reply on."""
        words = None if sampling is None else as_json(sampling)

        def change(db: Database) -> None:
            _conversation_row(db, id)
            sql = """UPDATE conversations SET system_prompt = ?, sampling = ?, adapter_version = ?
                WHERE id = ?"""
            db.execute(sql, [clean_text(system_prompt), words, adapter_version, id])

        self._write(change)

    def delete_conversation(self, id: str) -> None:
        """Remove every trace of it from the file, its WAL and the automatic backups."""

        def this_one(db: Database) -> list[str]:
            _conversation_row(db, id)
            return [id]

        self._delete(this_one)

    def undo_import(self, origin: str) -> int:
        """Deletes what one arrival brought, as `delete_conversation` does; how many there were."""

        def brought_by_it(db: Database) -> list[str]:
            sql = "SELECT id FROM conversations WHERE origin = ? AND origin <> ''"
            return [row[0] for row in fetch(db, sql, [origin])]

        return self._delete(brought_by_it)

    def _delete(self, chosen: Callable[[Database], list[str]]) -> int:
        def change(db: Database) -> list[str]:
            ids = chosen(db)
            erase(db, ids)
            for id in ids:
                add_event(db, "conversation_deleted", id, {})
            return ids

        ids = self._write(change)
        try:
            with self.copying:
                erase_from_backups(self.path, ids)
        finally:  # a backup that cannot be cleaned must not keep the words in the WAL
            self._empty_wal()
        return len(ids)

    def set_head(self, conversation_id: str, message_id: str) -> None:
        def change(db: Database) -> None:
            _conversation_row(db, conversation_id)
            message_row(db, message_id, conversation_id)
            sql = "UPDATE conversations SET head_id = ? WHERE id = ?"
            db.execute(sql, [message_id, conversation_id])

        self._write(change)

    # ---- messages

    def add_message(
        self,
        conversation_id: str,
        role: str,
        content: str,
        *,
        parent_id: str | None = None,
        prompt_ids: Sequence[int] | None = None,
        response_ids: Sequence[int] | None = None,
        adapter_version: int | None = None,
        sampling: dict | None = None,
        finish_reason: str | None = None,
        event_id: str | None = None,
        make_head: bool = True,
    ) -> str:
        """Store one message under its parent; the same event_id again gives the same id."""
        if role not in ("system", "user", "assistant"):
            raise StoreError(f"A message is by system, user or assistant, not {role!r}.")
        row: dict[str, Any] = {
            "id": fresh_id(),
            "conversation_id": conversation_id,
            "parent_id": parent_id,
            "role": role,
            "content": content,
            "prompt_ids": ids_blob(prompt_ids),
            "response_ids": ids_blob(response_ids),
            "content_key": None,
            "adapter_version": adapter_version,
            "sampling": None if sampling is None else as_json(sampling),
            "finish_reason": finish_reason,
            "event_id": event_id,
            "created_at": timestamp(),
        }
        if prompt_ids is not None and response_ids is not None:
            row["content_key"] = content_key(prompt_ids, response_ids)

        def change(db: Database) -> str:
            stored = one_value(db, "SELECT id FROM messages WHERE event_id = ?", [event_id])
            if stored is not None:
                return stored
            title = _conversation_row(db, conversation_id)[0]
            if parent_id is not None:
                message_row(db, parent_id, conversation_id)
            insert(db, "messages", **row)
            if role == "user" and not title:
                title = clean_text(" ".join(content.split())[:TITLE_LENGTH])
            sql = "UPDATE conversations SET title = ?, last_number = ?, updated_at = ? WHERE id = ?"
            number = next_number(db, "conversation")
            db.execute(sql, [title, number, row["created_at"], conversation_id])
            if make_head:
                sql = "UPDATE conversations SET head_id = ? WHERE id = ?"
                db.execute(sql, [row["id"], conversation_id])
            return row["id"]

        return self._write(change)

    def message(self, id: str) -> Message:
        found = self._list(Message, "FROM messages WHERE id = ?", [id])
        if not found:
            raise NotFound("That message is not here any more.")
        return found[0]

    def message_of_event(self, event_id: str) -> Message | None:
        """What an event stored, if it did."""
        found = self._list(Message, "FROM messages WHERE event_id = ?", [event_id])
        return found[0] if found else None

    def path_to(self, message_id: str) -> list[Message]:
        """The branch from the root to this message, both included."""
        rest = """FROM messages JOIN (
                WITH RECURSIVE branch (step_id, up, depth) AS (
                    SELECT id, parent_id, 0 FROM messages WHERE id = ?
                    UNION ALL
                    SELECT m.id, m.parent_id, depth + 1 FROM messages m JOIN branch ON m.id = up
                ) SELECT step_id, depth FROM branch
            ) ON id = step_id ORDER BY depth DESC"""
        found = self._list(Message, rest, [message_id])
        if not found:
            raise NotFound("That message is not here any more.")
        return found

    def siblings(self, message_id: str) -> list[str]:
        """Messages with the same parent and role, oldest first, this one included."""
        sql = """SELECT s.id FROM messages m JOIN messages s
            ON s.parent_id IS m.parent_id AND s.role = m.role
            AND s.conversation_id = m.conversation_id
            WHERE m.id = ? ORDER BY s.number"""
        found = self._ids(sql, message_id)
        if not found:
            raise NotFound("That message is not here any more.")
        return found

    def children(self, message_id: str) -> list[str]:
        """Messages right under this one, oldest first."""
        return self._ids("SELECT id FROM messages WHERE parent_id = ? ORDER BY number", message_id)

    def roots(self, conversation_id: str) -> list[str]:
        """Messages of a conversation with no parent, oldest first."""
        sql = """SELECT id FROM messages WHERE conversation_id = ? AND parent_id IS NULL
            ORDER BY number"""
        return self._ids(sql, conversation_id)

    def recent_prompts(self, limit: int) -> list[str]:
        """What was asked in chats, newest first, each once."""
        with self._read() as db:
            return recent_prompts(db, limit)

    def drop_unanswered(self, before: str) -> int:
        """Compared drafts from before that time which nobody answered; how many sets there were."""

        def change(db: Database) -> int:
            sql = """SELECT c.id FROM conversations c WHERE kind = 'compare' AND origin = ''
                AND created_at < ? AND NOT EXISTS (SELECT 1 FROM messages m JOIN preferences
                    ON m.id IN (message_a, message_b) WHERE m.conversation_id = c.id)
                AND NOT EXISTS (SELECT 1 FROM messages m JOIN rankings ON m.id = asked_id
                    WHERE m.conversation_id = c.id)"""
            found = [row[0] for row in fetch(db, sql, [before])]
            erase(db, found)
            return len(found)

        return self._write(change)


def _conversation_row(db: Database, conversation_id: str) -> tuple:
    """(title,) of a conversation that exists."""
    rows = fetch(db, "SELECT title FROM conversations WHERE id = ?", [conversation_id])
    if not rows:
        raise NotFound("That conversation is not here any more.")
    return rows[0]
