"""Claude's export: conversations.json in a .zip.

[{"uuid", "chat_messages": [{"uuid", "parent_message_uuid", "sender": "human" or "assistant",
"text", "content": [{"type", "text"}], "chat_feedback": {"type": "upvote" or "downvote",
"reason"}}]}]: thumbs, where messages hold them (also as "feedback"). A reply from which the chat
went on is slightly better than other versions of it. Thoughts and calls of tools are left out; text
of attached files belongs to the message.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from rlhf_chat.db import ImportedFeedback
from rlhf_chat.importers.branches import Tree, selections
from rlhf_chat.importers.messages import (
    Turns,
    beside,
    imported,
    moment,
    role_of,
    text_of,
    without_thoughts,
)
from rlhf_chat.importers.problems import Entry, Options, Outcome, UnreadableError, attempt

THUMBS = {"upvote": 1, "positive": 1, "downvote": -1, "negative": -1}
ROOT = "00000000-0000-4000-8000-000000000000"  # the parent of a first message


def recognises(entry: Entry) -> bool:
    return isinstance(entry.get("chat_messages"), list)


def read(entry: Entry, options: Options) -> Iterator[Outcome]:
    told: list[Entry] = entry["chat_messages"]
    by_id = {str(one["uuid"]): one for one in told}
    tree = Tree(_parents(told), lambda id: _turn(by_id[id]))
    for id, one in by_id.items():
        if feedback := _feedback(one):
            yield attempt(partial(_thumb, tree, id, feedback))
    if not told:
        return
    current = str(entry.get("current_leaf_message_uuid") or told[-1]["uuid"])
    yield from selections(tree, current, lambda id: _is_reply(by_id[id]))


def _parents(told: list[Entry]) -> dict[str, str | None]:
    """By id; messages that name no parent follow each other."""
    found: dict[str, str | None] = {}
    before: str | None = None
    for one in told:
        id, parent = str(one["uuid"]), one.get("parent_message_uuid", before)
        found[id] = None if parent == ROOT else parent
        before = id
    return found


def _is_reply(message: Entry) -> bool:
    return role_of(message["sender"]) == "assistant"


def _turn(message: Entry) -> Turns:
    role = role_of(message["sender"])
    text = text_of(message["content"]) if message.get("content") else ""
    text = text or text_of(message.get("text"))
    if role == "assistant":
        text = without_thoughts(text)
        return ((role, text),) if text else ()
    attached = message.get("attachments") or []
    if message.get("files") and not attached:
        raise UnreadableError("imports.not_text")
    text = "\n\n".join([text, *(one["extracted_content"] for one in attached)]).strip()
    return ((role, text),) if text else ()


def _feedback(message: Entry) -> Entry | None:
    found: Any = message.get("chat_feedback") or message.get("feedback")
    return {"type": found} if isinstance(found, str) else found


def _thumb(tree: Tree, id: str, feedback: Entry) -> ImportedFeedback:
    given = THUMBS.get(str(feedback.get("type", feedback.get("rating"))).lower())
    if given is None:
        raise UnreadableError("imports.no_thumb")
    turns, reply = tree.rated(id)
    comment = beside(feedback, "reason") or beside(feedback, "comment")
    when = moment(feedback.get("created_at"))
    return imported("thumb", turns, (reply,), given, comment=comment, created_at=when)
