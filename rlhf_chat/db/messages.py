"""Messages: a tree for each conversation. Messages are added and never changed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlite_utils import Database

from rlhf_chat.db.codec import (
    as_json,
    clean_text,
    content_key,
    fresh_id,
    ids_blob,
    insert,
    message_row,
    next_number,
    one_value,
    timestamp,
)
from rlhf_chat.db.connection import Repository
from rlhf_chat.db.conversations import conversation_row
from rlhf_chat.db.queries import recent_prompts
from rlhf_chat.db.records import Message
from rlhf_chat.errors import NotFound, StoreError

TITLE_LENGTH = 60
WHITE = " \t\r\n"


def token_columns(
    prompt_ids: Sequence[int] | None, response_ids: Sequence[int] | None
) -> dict[str, Any]:
    """The columns of a message that say which tokens it was written with."""
    key = None
    if prompt_ids is not None and response_ids is not None:
        key = content_key(prompt_ids, response_ids)
    ids = {"prompt_ids": ids_blob(prompt_ids), "response_ids": ids_blob(response_ids)}
    return {**ids, "content_key": key}


def add_message(db: Database, row: Mapping[str, Any], *, make_head: bool) -> str:
    """Inserts a message and touches its chat. Returns its id, or that of the message that its
    event stored before."""
    sql = "SELECT id FROM messages WHERE event_id = ?"
    stored: str | None = one_value(db, sql, [row["event_id"]])
    if stored is not None:
        return stored
    conversation = row["conversation_id"]
    title = conversation_row(db, conversation)[0]
    if row["parent_id"] is not None:
        message_row(db, row["parent_id"], conversation)
    insert(db, "messages", **row)
    if row["role"] == "user" and not title:
        title = clean_text(" ".join(row["content"].split())[:TITLE_LENGTH])
    sql = "UPDATE conversations SET title = ?, last_number = ?, updated_at = ? WHERE id = ?"
    number = next_number(db, "conversation")
    db.execute(sql, [title, number, row["created_at"], conversation])
    id: str = row["id"]
    if make_head:
        db.execute("UPDATE conversations SET head_id = ? WHERE id = ?", [id, conversation])
    return id


class MessageRepository(Repository):
    def add(
        self,
        conversation_id: str,
        role: str,
        content: str,
        *,
        parent_id: str | None = None,
        prompt_ids: Sequence[int] | None = None,
        response_ids: Sequence[int] | None = None,
        adapter_version: int | None = None,
        sampling: dict[str, Any] | None = None,
        finish_reason: str | None = None,
        event_id: str | None = None,
        make_head: bool = True,
        message_id: str = "",
    ) -> str:
        """Store one message under its parent; the same event_id again gives the same id.
        `message_id`: a fresh id that was handed out before; one is drawn if it is ""."""
        if role not in ("system", "user", "assistant"):
            raise StoreError("db.invalid", what="role", value=str(role))
        row: dict[str, Any] = {
            "id": message_id or fresh_id(),
            "conversation_id": conversation_id,
            "parent_id": parent_id,
            "role": role,
            "content": content,
            **token_columns(prompt_ids, response_ids),
            "adapter_version": adapter_version,
            "sampling": None if sampling is None else as_json(sampling),
            "finish_reason": finish_reason,
            "event_id": event_id,
            "created_at": timestamp(),
        }
        return self._db.write(lambda db: add_message(db, row, make_head=make_head))

    def get(self, id: str) -> Message:
        found = self._db.rows(Message, "FROM messages WHERE id = ?", [id])
        if not found:
            raise NotFound("db.message_gone")
        return found[0]

    def get_many(self, ids: Iterable[str]) -> dict[str, Message]:
        """By id, in one query; those that are gone are left out."""
        rest = "FROM messages WHERE id IN (SELECT value FROM json_each(?))"
        return {m.id: m for m in self._db.rows(Message, rest, [json.dumps(list(ids))])}

    def of_event(self, event_id: str) -> Message | None:
        """What an event stored, if it did."""
        found = self._db.rows(Message, "FROM messages WHERE event_id = ?", [event_id])
        return found[0] if found else None

    def newest_reply(self, text: str | None = None) -> Message | None:
        """The reply in a chat that the model wrote last. `text`: with these words, white space at
        its ends aside."""
        rest = """FROM messages WHERE role = 'assistant' AND prompt_ids IS NOT NULL
            AND adapter_version IS NOT NULL AND conversation_id IN
            (SELECT id FROM conversations WHERE kind = 'chat' AND origin = '')
            AND (?1 IS NULL OR trim(content, ?2) = ?1) ORDER BY number DESC LIMIT 1"""
        found = self._db.rows(Message, rest, [text and text.strip(WHITE), WHITE])
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
        found = self._db.rows(Message, rest, [message_id])
        if not found:
            raise NotFound("db.message_gone")
        return found

    def siblings(self, message_id: str) -> list[str]:
        """Messages with the same parent and role, oldest first, this one included."""
        sql = """SELECT s.id FROM messages m JOIN messages s
            ON s.parent_id IS m.parent_id AND s.role = m.role
            AND s.conversation_id = m.conversation_id
            WHERE m.id = ? ORDER BY s.number"""
        found = self._db.ids(sql, message_id)
        if not found:
            raise NotFound("db.message_gone")
        return found

    def children(self, message_id: str) -> list[str]:
        """Messages right under this one, oldest first."""
        return self._db.ids(
            "SELECT id FROM messages WHERE parent_id = ? ORDER BY number", message_id
        )

    def drafts(self) -> set[str]:
        """Ids of all drafts that Compare wrote, with the prompts and corrections beside them."""
        sql = """SELECT m.id FROM conversations c JOIN messages m ON c.id = conversation_id
            WHERE kind = ? AND origin = ''"""
        return set(self._db.ids(sql, "compare"))

    def roots(self, conversation_id: str) -> list[str]:
        """Messages of a conversation with no parent, oldest first."""
        sql = """SELECT id FROM messages WHERE conversation_id = ? AND parent_id IS NULL
            ORDER BY number"""
        return self._db.ids(sql, conversation_id)

    def recent_prompts(self, limit: int) -> list[str]:
        """What was asked in chats, newest first, each once."""
        with self._db.read() as db:
            return recent_prompts(db, limit)
