"""Conversations: title, settings, and which branch of the messages is shown (the head)."""

import json
from collections.abc import Collection
from typing import Any

from sqlite_utils import Database

from rlhf_chat.db.codec import (
    as_json,
    clean_text,
    fetch,
    fresh_id,
    insert,
    message_row,
    next_number,
    timestamp,
)
from rlhf_chat.db.connection import Repository
from rlhf_chat.db.deletion import delete_conversations, erase
from rlhf_chat.db.queries import contains, like
from rlhf_chat.db.records import Conversation
from rlhf_chat.errors import NotFound, StoreError


class ConversationRepository(Repository):
    def add(self, kind: str = "chat", title: str = "", system_prompt: str = "") -> str:
        if kind not in ("chat", "compare"):
            raise StoreError("db.invalid", what="kind of conversation", value=str(kind))
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

        return self._db.write(change)

    def all(self, kind: str = "chat", containing: str = "", limit: int = -1) -> list[Conversation]:
        """Newest first: the one that was last added to. `containing`: in its title or messages.
        `limit`: how many at most; -1 for all."""
        if not containing:
            rest = "FROM conversations WHERE kind = ? ORDER BY last_number DESC LIMIT ?"
            return self._db.rows(Conversation, rest, [kind, limit])
        where, value = contains(containing, 3)
        rest = f"""FROM conversations WHERE kind = ?1 AND (title LIKE ?2 ESCAPE '\\'
            OR id IN (SELECT conversation_id FROM messages WHERE {where}))
            ORDER BY last_number DESC LIMIT ?4"""
        return self._db.rows(Conversation, rest, [kind, like(containing), value, limit])

    def get(self, conversation_id: str) -> Conversation:
        found = self._db.rows(Conversation, "FROM conversations WHERE id = ?", [conversation_id])
        if not found:
            raise NotFound("db.conversation_gone")
        return found[0]

    def rename(self, id: str, title: str) -> None:
        def change(db: Database) -> None:
            conversation_row(db, id)
            db.execute("UPDATE conversations SET title = ? WHERE id = ?", [clean_text(title), id])

        self._db.write(change)

    def set_settings(
        self,
        id: str,
        system_prompt: str,
        sampling: dict[str, Any] | None,
        adapter_version: int | None,
    ) -> None:
        """How this conversation is answered from the next reply on."""
        words = None if sampling is None else as_json(sampling)

        def change(db: Database) -> None:
            conversation_row(db, id)
            sql = """UPDATE conversations SET system_prompt = ?, sampling = ?, adapter_version = ?
                WHERE id = ?"""
            db.execute(sql, [clean_text(system_prompt), words, adapter_version, id])

        self._db.write(change)

    def delete(self, id: str) -> None:
        """Remove every trace of it from the file, its WAL and the automatic backups."""

        def this_one(db: Database) -> list[str]:
            conversation_row(db, id)
            return [id]

        delete_conversations(self._db, this_one)

    def chats_among(self, conversation_ids: Collection[str]) -> set[str]:
        """Those of them that are chats, not drafts to compare."""
        sql = """SELECT id FROM conversations
            WHERE kind = 'chat' AND id IN (SELECT value FROM json_each(?))"""
        return set(self._db.ids(sql, json.dumps(sorted(conversation_ids))))

    def set_head(self, conversation_id: str, message_id: str) -> None:
        def change(db: Database) -> None:
            conversation_row(db, conversation_id)
            message_row(db, message_id, conversation_id)
            sql = "UPDATE conversations SET head_id = ? WHERE id = ?"
            db.execute(sql, [message_id, conversation_id])

        self._db.write(change)

    def drop_unanswered(self, before: str) -> int:
        """Delete compared drafts from before that time without any answer; the number of sets."""

        def change(db: Database) -> int:
            sql = """SELECT c.id FROM conversations c WHERE kind = 'compare' AND origin = ''
                AND created_at < ? AND NOT EXISTS (SELECT 1 FROM messages m JOIN preferences
                    ON m.id IN (message_a, message_b) WHERE m.conversation_id = c.id)
                AND NOT EXISTS (SELECT 1 FROM messages m JOIN rankings ON m.id = asked_id
                    WHERE m.conversation_id = c.id)"""
            found = [row[0] for row in fetch(db, sql, [before])]
            erase(db, found)
            return len(found)

        return self._db.write_feedback(change)


def conversation_row(db: Database, conversation_id: str) -> tuple[Any, ...]:
    """(title,) of a conversation that exists."""
    rows = fetch(db, "SELECT title FROM conversations WHERE id = ?", [conversation_id])
    if not rows:
        raise NotFound("db.conversation_gone")
    return rows[0]
