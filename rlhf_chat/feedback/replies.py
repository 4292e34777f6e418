"""Prompts and replies as token ids beside their text: what every rating is about."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_chat.db import NotFound, Store, content_key


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


def reply_of(store: Store, message_id: str) -> Reply | None:
    """A stored reply with its exact token ids; None for a message that has none or is gone."""
    try:
        message = store.messages.get(message_id)
        if not message.prompt_ids or not message.response_ids or message.parent_id is None:
            return None
        asked = store.messages.get(message.parent_id).content
    except NotFound:
        return None
    prompt = Prompt(tuple(message.prompt_ids), asked)
    return Reply(prompt, tuple(message.response_ids), message.content)
