"""ChatGPT's export: conversations.json, with the ratings in files beside it.

- conversations.json: [{"id", "mapping": {id: {"message", "parent", "children"}}, "current_node"}];
- message_feedback.json: [{"id" or "message_id", "conversation_id", "rating": "thumbs_up" or
  "thumbsUp", "content": JSON with "tags" and "text"}]: thumbs with reason and comment;
- model_comparisons.json: [{"input": {"conversation_id"}, "output": {"feedback_step_2":
  {"original_turn", "new_turn", "completion_comparison_rating": "original", "new" or "same"}}}]:
  comparisons.

Both files are read before the conversations, out of the .zip or the folder they came in. A
regenerated reply from which the chat went on is slightly better than the versions that were left.
Calls of tools, their results, thoughts and hidden messages are left out.
"""

from __future__ import annotations

import json
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
    split_reply,
    text_of,
    without_thoughts,
    words,
)
from rlhf_chat.importers.problems import Entry, Options, Outcome, UnreadableError, attempt

THUMBS = {"thumbsup": 1, "thumbsdown": -1}
OUTCOMES = {"original": "a", "new": "b", "same": "tie"}
SHOWN = ("text", "multimodal_text")  # types of content that are messages


class Ratings:
    """What the files beside the conversations say, by conversation; read ahead."""

    def __init__(self) -> None:
        self.thumbs: dict[str, list[Entry]] = {}
        self.comparisons: dict[str, list[Entry]] = {}

    def add(self, entry: Entry) -> bool:
        """Whether the entry is such a rating; it is kept for its conversation."""
        if is_thumb(entry):
            self.thumbs.setdefault(str(entry["conversation_id"]), []).append(entry)
        elif is_comparison(entry):
            at = str(entry["input"]["conversation_id"])
            self.comparisons.setdefault(at, []).append(entry)
        else:
            return False
        return True

    def take(self, conversation: str) -> tuple[list[Entry], list[Entry]]:
        """The ratings of a conversation; each is given once."""
        thumbs = self.thumbs.pop(conversation, [])
        return thumbs, self.comparisons.pop(conversation, [])

    def left(self) -> int:
        """How many ratings are of conversations that did not come."""
        both = [*self.thumbs.values(), *self.comparisons.values()]
        return sum(map(len, both))


def is_thumb(entry: Entry) -> bool:
    return "conversation_id" in entry and "rating" in entry and "mapping" not in entry


def is_comparison(entry: Entry) -> bool:
    output, given = entry.get("output"), entry.get("input")
    return (
        isinstance(output, dict)
        and "feedback_step_2" in output
        and isinstance(given, dict)
        and "conversation_id" in given
    )


def recognises(entry: Entry) -> bool:
    return isinstance(entry.get("mapping"), dict)


def read(entry: Entry, options: Options, ratings: Ratings | None = None) -> Iterator[Outcome]:
    nodes: dict[str, Entry] = {
        id: one for id, one in entry["mapping"].items() if isinstance(one, dict)
    }
    tree = Tree({id: one.get("parent") for id, one in nodes.items()}, lambda id: _turn(nodes[id]))
    about = str(entry.get("conversation_id") or entry.get("id") or "")
    thumbs, comparisons = (ratings or Ratings()).take(about)
    for one in thumbs:
        yield attempt(partial(_thumb, tree, one))
    compared = set()
    for one in comparisons:
        yield attempt(partial(_comparison, tree, one))
        compared |= {str(m.get("id")) for m in _turns_of(one, "new_turn")}
    current = str(entry.get("current_node") or "")
    yield from selections(tree, current, lambda id: _is_reply(nodes[id]), compared=compared)


def _turn(node: Entry) -> Turns:
    """What a person sees of one message."""
    message = node.get("message")
    if not message:
        return ()
    role = role_of(message["author"]["role"])
    content, beside_it = message["content"], message.get("metadata") or {}
    hidden = beside_it.get("is_visually_hidden_from_conversation")
    to_tool = message.get("recipient") not in (None, "all")
    if role not in ("user", "assistant") or hidden or to_tool:
        return ()
    if content.get("content_type") not in SHOWN:
        return ()
    text = text_of(content)
    text = without_thoughts(text) if role == "assistant" else text.strip()
    return ((role, text),) if text else ()


def _is_reply(node: Entry) -> bool:
    try:
        return any(role == "assistant" for role, _ in _turn(node))
    except UnreadableError:
        return False


def _thumb(tree: Tree, told: Entry) -> ImportedFeedback:
    given = THUMBS.get(str(told["rating"]).replace("_", "").lower())
    if given is None:
        raise UnreadableError("imports.no_thumb")
    id = str(told["message_id"] if "message_id" in told else told["id"])
    turns, reply = tree.rated(id)
    why, comment = _words_beside(told.get("content"))
    when = moment(told.get("create_time"))
    return imported("thumb", turns, (reply,), given, reason=why, comment=comment, created_at=when)


def _words_beside(content: Any) -> tuple[str, str]:
    """Tags and text of a thumb."""
    if isinstance(content, str):
        try:
            content = json.loads(content)
        except (ValueError, RecursionError):
            content = {"text": content}
    if not isinstance(content, dict):
        return "", ""
    tags = content.get("tags")
    tags = ", ".join(map(str, tags)) if isinstance(tags, list) else ""
    return tags.replace("-", " "), beside(content, "text")


def _turns_of(told: Entry, which: str) -> list[Entry]:
    turn = told["output"]["feedback_step_2"].get(which) or []
    return [one for one in turn if isinstance(one, dict)]


def _comparison(tree: Tree, told: Entry) -> ImportedFeedback:
    answer = OUTCOMES.get(str(told["output"]["feedback_step_2"]["completion_comparison_rating"]))
    if answer is None:
        raise UnreadableError("imports.no_preference")
    replies, asked = [], None
    for which in ("original_turn", "new_turn"):
        turn = _turns_of(told, which)
        shown = tuple(seen for one in turn for seen in _turn({"message": one}))
        replies.append(words(split_reply((("user", "asked"), *shown))[1]))
        asked = asked or _asked(tree, turn)
    if asked is None:
        raise UnreadableError("imports.message_missing")
    return imported(
        "comparison", asked, replies, answer, created_at=moment(told.get("create_time"))
    )


def _asked(tree: Tree, turn: list[Entry]) -> Turns | None:
    """The turns before one of these messages, where the conversation holds it."""
    id = next((str(one["id"]) for one in turn if str(one.get("id")) in tree.parent), None)
    return tree.rated(id)[0] if id else None
