"""Open Assistant: trees of messages that people ranked, marked with emojis and labelled.

{"message_tree_id", "prompt": {"text", "role", "replies": [{"text", "rank", "emojis", "labels",
"replies"}]}}, or the same messages flat, one a row with "message_id" and "parent_id", those of one
tree after each other.

- Ranked replies to one message: a ranking, rank 0 best; of more than eight the best eight.
- Emojis +1 and -1: a thumb, as the majority has it.
- Labels: 0 to 1 as stars by the aspect asked, where that is named; without a name the label
  "quality", of replies that no ranking holds.

Deleted messages are left out; what answers them stays unread.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from rlhf_chat.db import ImportedFeedback
from rlhf_chat.importers.messages import (
    Turns,
    imported,
    moment,
    ordered,
    role_of,
    stars,
    without_thoughts,
    words,
)
from rlhf_chat.importers.problems import Entry, Options, Outcome, UnreadableError, attempt
from rlhf_chat.importers.row import Row, row_of

DEFAULT_ASPECT = "quality"


def recognises(entry: Entry) -> bool:
    return "message_tree_id" in entry and isinstance(entry.get("prompt"), dict)


def read(entry: Entry, options: Options) -> Iterator[Outcome]:
    yield from _below(entry["prompt"], (), options)


def _below(message: Entry, before: Turns, options: Options) -> Iterator[Outcome]:
    """All ratings of replies to this message and below."""
    if message.get("deleted"):
        return
    turns = (*before, (role_of(message["role"]), _text(message)))
    replies = [one for one in message.get("replies") or [] if not one.get("deleted")]
    ranked = [one for one in replies if one.get("rank") is not None and _is_reply(one)]
    if len(ranked) > 1:
        yield attempt(partial(_ranking, turns, ranked))
    for one in replies:
        if _is_reply(one):
            yield from _single(turns, one, options, alone=len(ranked) < 2 or one not in ranked)
        yield from _below(one, turns, options)


def _is_reply(message: Entry) -> bool:
    return role_of(message["role"]) == "assistant"


def _text(message: Entry) -> str:
    text = words(message["text"])
    return words(without_thoughts(text)) if _is_reply(message) else text


def _ranking(turns: Turns, ranked: list[Entry]) -> ImportedFeedback:
    return ordered(turns, [(_text(one), -float(one["rank"])) for one in ranked])


def _single(turns: Turns, reply: Entry, options: Options, alone: bool) -> Iterator[Outcome]:
    when = moment(reply.get("created_date"))
    counts = _by_name(reply.get("emojis"), "count")
    votes = int(counts.get("+1") or 0) - int(counts.get("-1") or 0)
    if votes:
        make = partial(imported, "thumb", turns, (_text(reply),), 1 if votes > 0 else -1)
        yield attempt(partial(make, created_at=when))
    label = _by_name(reply.get("labels"), "value").get(options.aspect or DEFAULT_ASPECT)
    if label is not None and (alone or options.aspect):
        value = label["value"] if isinstance(label, dict) else label
        given = stars(value, 0, 1)
        yield attempt(partial(imported, "stars", turns, (_text(reply),), given, created_at=when))


def _by_name(given: Any, values: str) -> Entry:
    """{"+1": 3}, or as columns {"name": ["+1"], "count": [3]}."""
    given = given or {}
    if isinstance(given.get("name"), list):
        return dict(zip(given["name"], given[values], strict=True))
    return dict(given)


class FlatMessages:
    """Rows of messages, put together to a tree when the next tree begins."""

    MOST = 20_000  # messages of one tree

    def __init__(self, options: Options) -> None:
        self.options = options
        self.tree = ""
        self.found: dict[str, Entry] = {}
        self.line = 0  # where the tree begins

    @staticmethod
    def accepts(entry: Entry) -> bool:
        return "message_id" in entry and "parent_id" in entry and "text" in entry

    def add(self, line: int, entry: Entry) -> Iterator[Row]:
        tree = str(entry.get("message_tree_id") or "")
        if tree != self.tree or not self.found or len(self.found) >= self.MOST:
            yield from self.close()
            self.tree, self.line = tree, line
        parent = self.found.get(str(entry["parent_id"])) if entry["parent_id"] else None
        if entry["parent_id"] and parent is None:
            yield Row(line, problems=(UnreadableError("imports.message_missing").notice,))
            return
        self.found[str(entry["message_id"])] = entry | {"replies": []}
        if parent:
            parent["replies"].append(self.found[str(entry["message_id"])])

    def close(self) -> Iterator[Row]:
        roots = [one for one in self.found.values() if not one["parent_id"]]
        self.found = {}
        for root in roots:
            yield row_of(self.line, _below(root, (), self.options))
