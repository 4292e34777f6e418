"""Prompts and replies that feedback is about, as token ids and text."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from rlhf_chat.db import Store, content_key


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model saw it, and the words the person typed last."""

    ids: tuple[int, ...]
    text: str

    @property
    def key(self) -> str:
        return content_key(self.ids)


@dataclass(frozen=True)
class Reply:
    prompt: Prompt
    ids: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class StoredReply:
    reply: Reply
    conversation_id: str


def load_replies(
    store: Store, message_ids: Iterable[str], damaged: Collection[str] = ()
) -> dict[str, StoredReply]:
    """Stored replies with their exact token ids, by message id, in two queries. Messages that have
    no token ids, or are gone, are left out, and what replies to a damaged one."""
    found = {
        m.id: m
        for m in store.messages.get_many(message_ids).values()
        if m.prompt_ids and m.response_ids and m.parent_id
    }
    asked = store.messages.get_many({m.parent_id for m in found.values() if m.parent_id})
    return {
        m.id: StoredReply(
            Reply(
                Prompt(tuple(m.prompt_ids or ()), asked[m.parent_id].content),
                tuple(m.response_ids or ()),
                m.content,
            ),
            m.conversation_id,
        )
        for m in found.values()
        if m.parent_id in asked and m.parent_id not in damaged
    }


def reply_of(store: Store, message_id: str) -> Reply | None:
    """One stored reply; None for a message that has no token ids or is gone."""
    found = load_replies(store, [message_id]).get(message_id)
    return found.reply if found else None
