"""Open WebUI: exported feedback, and exported chats with ratings in their messages.

- feedback: {"data": {"rating": 1 or -1, "reason", "comment", "details": {"rating": 1 to 10}},
  "meta": {"message_id"}, "snapshot": {"chat"}, "user_id"};
- chats: {"chat": {"history": {"messages": {id: {"parentId", "role", "content", "annotation":
  {"rating", "reason", "comment", "details"}}}, "currentId"}, "params": {"system"}}}.

Each becomes a thumb, and stars where `details.rating` is given (of one reply and rater the stars
count). A version from which a chat went on is slightly better than the others. Thoughts, which this
tool writes as <details type="reasoning"> into the reply, are left out. Where a file holds feedback
of several users, each is a rater; of one alone it is the person who imports it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from rlhf_chat.db import clean_text
from rlhf_chat.importers.branches import Tree, selections
from rlhf_chat.importers.messages import (
    Turns,
    beside,
    imported,
    message,
    moment,
    stars,
    words,
)
from rlhf_chat.importers.problems import Entry, Options, Outcome, UnreadableError, attempt
from rlhf_chat.importers.row import Row, row_of

THUMBS = {"1": 1, "-1": -1}


class Feedback:
    """Rows of feedback. They wait until a second user is met, so that a lone one gets no name."""

    MOST = 2000  # rows that wait

    def __init__(self, options: Options) -> None:
        self.users: set[str] = set()
        self.waiting: list[tuple[Row, str]] = []

    @staticmethod
    def accepts(entry: Entry) -> bool:
        return all(name in entry for name in ("data", "meta", "snapshot"))

    def add(self, line: int, entry: Entry) -> Iterator[Row]:
        user = _user(entry)
        self.users |= {user}
        self.waiting.append((row_of(line, read_feedback(entry)), user))
        if len(self.users) > 1 or len(self.waiting) >= self.MOST:
            self.users |= {"", user}  # from here on each has a name
            yield from self.close()

    def close(self) -> Iterator[Row]:
        named = len(self.users) > 1
        for row, user in self.waiting:
            items = (replace(one, rater=user) if named else one for one in row.items)
            yield replace(row, items=tuple(items))
        self.waiting = []


def _user(entry: Entry) -> str:
    user = entry.get("user")
    name = user.get("name") if isinstance(user, dict) else ""
    return clean_text(str(name or entry.get("user_id") or ""))


def read_feedback(entry: Entry) -> Iterator[Outcome]:
    data = entry["data"]
    if str(data.get("rating")) not in THUMBS:
        raise UnreadableError("imports.no_thumb")
    chat = _inner((entry["snapshot"] or {}).get("chat") or {})
    tree = _tree(chat)
    rated = tree.rated(str(entry["meta"]["message_id"]))
    yield from _ratings(rated, chat, data, moment(entry.get("created_at")))


def recognises(entry: Entry) -> bool:
    chat = _inner(entry)
    return isinstance(chat.get("history"), dict) and "messages" in chat["history"]


def read(entry: Entry, options: Options) -> Iterator[Outcome]:
    chat = _inner(entry)
    told: dict[str, Entry] = chat["history"]["messages"]
    tree = _tree(chat)
    for id, one in told.items():
        rating = one.get("annotation") or {}
        if str(rating.get("rating")) in THUMBS or (rating.get("details") or {}).get("rating"):
            yield from _annotated(tree, id, chat, rating, moment(one.get("timestamp")))
    current = str(chat["history"].get("currentId") or "")
    system = _with_system((), chat)
    yield from selections(tree, current, lambda id: _is_reply(told[id]), system)


def _annotated(tree: Tree, id: str, chat: Entry, rating: Entry, when: str) -> Iterator[Outcome]:
    try:
        rated = tree.rated(id)
    except UnreadableError as error:
        yield error
    else:
        yield from _ratings(rated, chat, rating, when)


def _inner(entry: Entry) -> Entry:
    chat = entry.get("chat")
    return chat if isinstance(chat, dict) else entry


def _tree(chat: Entry) -> Tree:
    chat = _inner(chat)
    told = (chat.get("history") or {}).get("messages") or {}
    return Tree({id: one.get("parentId") for id, one in told.items()}, lambda id: _turn(told[id]))


def _is_reply(one: Entry) -> bool:
    return one["role"] == "assistant" and bool(str(one.get("content") or "").strip())


def _turn(one: Entry) -> Turns:
    if any(file.get("type") == "image" for file in one.get("files") or []):
        raise UnreadableError("imports.not_text")
    role, text, called = message(one)
    return () if called and not text else ((role, words(text)),)


def _with_system(turns: Turns, chat: Entry) -> Turns:
    chat = _inner(chat)
    system = str((chat.get("params") or {}).get("system") or chat.get("system") or "")
    return (("system", system), *turns) if system.strip() else turns


def _ratings(rated: tuple[Turns, str], chat: Entry, rating: Entry, when: str) -> Iterator[Outcome]:
    turns, reply = _with_system(rated[0], chat), rated[1]
    reason = beside(rating, "reason").replace("_", " ")
    comment = beside(rating, "comment")
    if thumb := THUMBS.get(str(rating.get("rating"))):
        made = partial(imported, "thumb", turns, (reply,), thumb, reason=reason, comment=comment)
        yield attempt(partial(made, created_at=when))
    details: Any = rating.get("details")
    score = details.get("rating") if isinstance(details, dict) else None
    if score is not None:
        yield attempt(
            lambda: imported("stars", turns, (reply,), stars(score, 1, 10), created_at=when)
        )
