"""The list of conversations, and what one of them shows: its active branch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from rlhf_chat import db
from rlhf_chat.chat import exporters
from rlhf_chat.chat.deferred_deletion import DeferredDeletion
from rlhf_chat.chat.excerpts import Excerpt, excerpt
from rlhf_chat.chat.settings import SettingsService
from rlhf_chat.db import Conversation, Message, Store
from rlhf_chat.errors import AppError, NotFound

EXCERPTS = 30  # chats that a search shows a hit of
CUT = ("length", "cancelled")  # finish reasons of replies that can be continued
CONTINUES = "continues"  # in the sampling of a continued reply: the id of the cut one


@dataclass(frozen=True)
class Turn:
    """One message as it is shown."""

    message_id: str
    role: str
    content: str
    adapter_version: int | None
    rating: int
    reason: str
    comment: str
    sibling: int  # 1-based place among its alternatives
    siblings: int
    finish_reason: str
    sibling_ids: tuple[str, ...]
    can_continue: bool = False  # a reply of the model that was cut


class Conversations:
    def __init__(self, store: Store, settings: SettingsService, deletion: DeferredDeletion) -> None:
        self.store, self.settings, self.deletion = store, settings, deletion

    def all(
        self, containing: str = "", *, with_deleted: bool = False, limit: int = -1
    ) -> list[Conversation]:
        """Newest first, at most `limit` (-1: all) and those that are pinned; without those whose
        deletion can still be undone, unless asked for."""
        gone = {} if with_deleted else self.deletion.pending()
        found = self.store.conversations.all(containing=containing.strip(), limit=limit)
        if len(found) == limit and not containing.strip():
            newest = {c.id for c in found}
            for pinned in [id for id in self.pinned() if id not in newest]:
                with suppress(NotFound):
                    found.append(self.store.conversations.get(pinned))
        return [c for c in found if c.id not in gone]

    def excerpts(self, words: str, found: Sequence[Conversation]) -> dict[str, Excerpt]:
        """Where the words stand in what these chats show, by id; a hit in a title has none."""
        hits = {}
        for conversation in found[:EXCERPTS]:
            head = conversation.head_id
            for message in self.store.messages.path_to(head) if head else []:
                if hit := excerpt(message.content, words):
                    hits[conversation.id] = hit
                    break
        return hits

    def pinned(self) -> list[str]:
        """Ids of the chats that stay at the top of the list."""
        return list(self.store.settings.get("pinned_chats", []))

    def pin(self, conversation_id: str, pinned: bool = True) -> None:
        others = [id for id in self.pinned() if id != conversation_id]
        self.store.settings.set("pinned_chats", [conversation_id, *others] if pinned else others)

    def new(self) -> str:
        """An empty one, with the default settings."""
        made = self.store.conversations.add(system_prompt=self.settings.default().system_prompt)
        self.settings.store_default(made)
        return made

    def rename(self, conversation_id: str, title: str) -> None:
        title = " ".join(title.split())[:120]
        if not title:
            raise AppError("chat.no_name")
        self.store.conversations.rename(conversation_id, title)

    def chats_among(self, conversation_ids: Collection[str]) -> set[str]:
        """Those of them that are chats, not drafts to compare."""
        return self.store.conversations.chats_among(conversation_ids)

    def delete(self, conversation_id: str) -> None:
        self.store.conversations.delete(conversation_id)

    def exported(self, conversation_id: str, ending: str) -> tuple[str, str]:
        """A name for the file and its contents; `ending`: "md" or "json"."""
        make = exporters.chat_as_json if ending == "json" else exporters.chat_as_markdown
        title = self.store.conversations.get(conversation_id).title
        return exporters.file_name(title, ending), make(self.store, conversation_id)

    def history(self, conversation_id: str, rater: str = "") -> list[Turn]:
        """The active branch, root to leaf, with the ratings of `rater`; if that is "", the
        newest of any rater. Raises NotFound, also while its deletion can be undone."""
        if conversation_id in self.deletion.pending():
            raise NotFound("db.conversation_gone")
        head = self.store.conversations.get(conversation_id).head_id
        path = self.store.messages.path_to(head) if head else []
        rated = self.store.feedback.rating_of([m.id for m in path], rater)
        return [self._turn(m, rated.get(m.id)) for m in path]

    def select(self, message_id: str) -> None:
        """Shows the branch of this message: down to its newest leaf."""
        message = self.store.messages.get(message_id)
        self.store.conversations.set_head(message.conversation_id, self._newest_leaf(message_id))

    def _newest_leaf(self, message_id: str) -> str:
        while children := self.store.messages.children(message_id):
            message_id = children[-1]
        return message_id

    def _turn(self, message: Message, rating: db.Rating | None) -> Turn:
        siblings = self._alternatives(message.id)
        return Turn(
            message_id=message.id,
            role=message.role,
            content=message.content,
            adapter_version=message.adapter_version,
            rating=rating.value if rating else 0,
            reason=rating.reason if rating else "",
            comment=rating.comment if rating else "",
            sibling=siblings.index(message.id) + 1,
            siblings=len(siblings),
            finish_reason=message.finish_reason or "",
            sibling_ids=tuple(siblings),
            can_continue=can_continue(message),
        )

    def _alternatives(self, message_id: str) -> list[str]:
        """The message and its siblings, oldest first, without cut replies that were continued:
        their whole text is in the longer one."""
        siblings = self.store.messages.siblings(message_id)
        if len(siblings) == 1:
            return siblings
        stored = self.store.messages.get_many(siblings).values()
        continued = {(m.sampling or {}).get(CONTINUES) for m in stored} - {message_id}
        return [id for id in siblings if id not in continued]


def can_continue(message: Message) -> bool:
    """Whether it is a reply of the model that was cut, and what it answers is still stored: with a
    withdrawn correction the prompts go that held it."""
    written = message.adapter_version is not None and bool(message.prompt_ids)
    return written and message.finish_reason in CUT
