"""Parsers for feedback files of other tools: text in, answers out.

Understood, each as JSON lines or as one JSON list:
- our own export: {"kind", "answer", "prompt", "reply", ...} (exporters.py);
- preference pairs: {"prompt", "chosen", "rejected"}, the prompt explicit or the part both begin
  with, as text, as messages ({"role", "content"}) or as "Human: ... Assistant: ..."
  (huggingface.co/docs/trl/dataset_formats, Anthropic's hh-rlhf);
- single replies: {"prompt", "completion", "label"} (the same page, "unpaired preference");
- feedback of Open WebUI: {"data": {"rating": 1 or -1}, "meta": {"message_id"}, "snapshot"}.
Whether the model can encode the texts is checked in imports.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rlhf_chat.chat.message_text import MAX_CHARACTERS, MAX_REASON
from rlhf_chat.db import SIMULATED, ImportedFeedback, clean_text
from rlhf_chat.errors import AppError, Notice
from rlhf_chat.feedback.kinds import InvalidAnswer, kind_of_import

Turns = tuple[tuple[str, str], ...]  # (role, text)
SPEAKERS = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant): ?")  # as hh-rlhf marks turns
ROLES = {"Human": "user", "Assistant": "assistant"}


class UnreadableError(AppError):
    """Why one entry is no rating."""


@dataclass
class Found:
    """What a file holds."""

    items: list[tuple[int, ImportedFeedback]] = field(
        default_factory=list
    )  # (number from 1, answer)
    unread: list[tuple[int, Notice]] = field(default_factory=list)  # (number, why)


def read(text: str) -> Found:
    """Never raises: what cannot be read is listed with its number in the file."""
    found = Found()
    for number, entry in enumerate(_entries(text), 1):
        try:
            if isinstance(entry, UnreadableError):
                raise entry
            found.items.append((number, _parsed(entry)))
        except (UnreadableError, InvalidAnswer) as error:
            found.unread.append((number, error.notice))
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
            found.unread.append((number, Notice("imports.wrong_shape")))
    return found


def _entries(text: str) -> Iterator[Any]:
    """The entries of a JSON list, or of lines of JSON. Only a line feed ends a line:
    texts may hold other separators."""
    text = text.lstrip("\ufeff").strip()
    try:
        whole = json.loads(text)
        yield from whole if isinstance(whole, list) else [whole]
    except (ValueError, RecursionError):
        for line in filter(str.strip, text.split("\n")):
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                yield UnreadableError("imports.not_json")


def _parsed(entry: Any) -> ImportedFeedback:
    if not isinstance(entry, dict):
        raise UnreadableError("imports.not_a_rating")
    for fields, reader in READERS:
        if all(name in entry for name in fields):
            return reader(entry)
    raise UnreadableError("imports.unknown_format")


# ---- our own export --------------------------------------------------------------------------


def _own(entry: dict[str, Any]) -> ImportedFeedback:
    given = str(entry["answer"] if "answer" in entry else entry["said"])
    kind = kind_of_import(str(entry["kind"]))
    if kind is None:
        raise UnreadableError("imports.unknown_answer", kind=str(entry["kind"]), answer=given)
    before, reply = _messages(entry.get("before") or []), _words(entry["reply"])
    answer, replies = kind.parse(given, {**entry, "reply": reply})
    strength = _beside(entry, "strength", 20)
    return _imported(
        kind.code,
        (*before, ("user", _words(entry["prompt"]))),
        tuple(map(_words, replies)),
        answer,
        strength=strength if strength in ("slightly", "much") and answer in ("a", "b") else "",
        reason=_beside(entry, "reason", MAX_REASON),
        comment=_beside(entry, "comment", MAX_CHARACTERS),
        rater=_rater(entry.get("rater")),
        created_at=_moment(entry.get("created_at")),
        id=str(entry.get("id") or ""),
    )


def _rater(name: Any) -> str:
    """The rater of an entry. "me" is the person who imports it."""
    name = str(name or "")
    if name.startswith(SIMULATED):
        raise UnreadableError("imports.simulated")
    return "" if name == "me" else name


# ---- other tools' --------------------------------------------------------------------------


def _pair(entry: dict[str, Any]) -> ImportedFeedback:
    chosen, rejected = _dialogue(entry["chosen"]), _dialogue(entry["rejected"])
    if chosen[0][0] == "assistant" and entry.get("prompt"):  # else both hold the prompt already
        before = _dialogue(entry["prompt"], "user")
        chosen, rejected = before + chosen, before + rejected
    if chosen[:-1] != rejected[:-1]:
        raise UnreadableError("imports.different_prompts")
    if chosen[-1][0] != "assistant" or rejected[-1][0] != "assistant":
        raise UnreadableError("imports.no_reply")
    return _imported("comparison", chosen[:-1], (chosen[-1][1], rejected[-1][1]), "a")


def _single(entry: dict[str, Any]) -> ImportedFeedback:
    if not isinstance(entry["label"], bool | int) or entry["label"] not in (0, 1):
        raise UnreadableError("imports.label_value")
    turns = _dialogue(entry["prompt"], "user")
    [(role, reply)] = _dialogue(entry["completion"])
    if role != "assistant":
        raise UnreadableError("imports.no_reply")
    return _imported("thumb", turns, (reply,), 1 if entry["label"] else -1)


def _open_webui(entry: dict[str, Any]) -> ImportedFeedback:
    data, meta = entry["data"], entry["meta"]
    rating = {"1": 1, "-1": -1}.get(str(data["rating"]))
    if rating is None:
        raise UnreadableError("imports.no_thumb")
    chat = (entry["snapshot"] or {}).get("chat") or {}
    chat = chat.get("chat") or chat
    messages = (chat.get("history") or {}).get("messages") or {}
    path: list[dict[str, Any]] = []
    at = messages.get(meta["message_id"])
    while at and len(path) < len(messages):
        path.append(at)
        at = messages.get(at.get("parentId"))
    if not path:
        raise UnreadableError("imports.message_missing")
    turns = _messages(path[::-1])
    system = str((chat.get("params") or {}).get("system") or chat.get("system") or "")
    if turns[-1][0] != "assistant":
        raise UnreadableError("imports.no_reply")
    return _imported(
        "thumb",
        ((("system", system),) if system.strip() else ()) + turns[:-1],
        (turns[-1][1],),
        rating,
        reason=_beside(data, "reason", MAX_REASON).replace("_", " "),
        comment=_beside(data, "comment", MAX_CHARACTERS),
        created_at=_moment(entry.get("created_at")),
    )


READERS: tuple[tuple[Sequence[str], Callable[[dict[str, Any]], ImportedFeedback]], ...] = (
    (("kind", "answer", "prompt", "reply"), _own),
    (("kind", "said", "prompt", "reply"), _own),  # as exported before version 0.2
    (("chosen", "rejected"), _pair),
    (("prompt", "completion", "label"), _single),
    (("data", "meta", "snapshot"), _open_webui),
)


# ---- small parts -----------------------------------------------------------------------------


def _dialogue(given: Any, alone: str = "assistant") -> Turns:
    """Messages, a marked dialogue, or plain text, which then has the role `alone`."""
    if not isinstance(given, str):
        return _messages(given)
    if not SPEAKERS.match(given):
        return ((alone, _words(given)),)
    _, *marked = SPEAKERS.split(given)
    roles = [ROLES[speaker] for speaker in marked[::2]]
    words = marked[1::2]
    if alone == "user" and roles[-1] == "assistant" and not words[-1].strip():
        roles, words = roles[:-1], words[:-1]  # a prompt that ends where the reply begins
    return tuple((role, _words(text)) for role, text in zip(roles, words, strict=True))


def _messages(given: Any) -> Turns:
    kept = [one for one in given if one["role"] != "system" or one["content"]]
    turns = tuple((str(one["role"]), _words(one["content"])) for one in kept)
    if not all(role in ("system", "user", "assistant") for role, _ in turns):
        raise UnreadableError("imports.unknown_role")
    return turns


def _words(text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        raise UnreadableError("imports.empty_message")
    return clean_text(text).strip()


def _beside(entry: dict[str, Any], name: str, most: int) -> str:
    """A text field beside the answer, cut to what the app itself accepts."""
    text = entry.get(name)
    return clean_text(text)[:most] if isinstance(text, str) else ""


def _moment(stamp: Any) -> str:
    """ISO 8601 of a time written so or as seconds since 1970; "" for anything else."""
    try:
        if isinstance(stamp, str):
            return datetime.fromisoformat(stamp).astimezone(UTC).isoformat(timespec="milliseconds")
        return datetime.fromtimestamp(stamp, UTC).isoformat(timespec="milliseconds")
    except (TypeError, ValueError, OverflowError, OSError):
        return ""


def _imported(
    kind: str,
    turns: Turns,
    replies: tuple[str, ...],
    answer: int | str | tuple[int, ...],
    **more: Any,
) -> ImportedFeedback:
    """The same with the system prompt apart and turns that alternate, the person's first and
    last."""
    system = "\n\n".join(words for role, words in turns if role == "system")
    told: list[tuple[str, str]] = []
    for role, words in turns:
        if role == "system" or (role == "assistant" and not told):
            continue  # a reply before the first message answers nothing
        if told and told[-1][0] == role:
            told[-1] = (role, f"{told[-1][1]}\n\n{words}")
        else:
            told.append((role, words))
    if not told or told[-1][0] != "user":
        raise UnreadableError("imports.no_prompt")
    if len(set(replies)) < len(replies):
        raise UnreadableError("imports.equal_replies")
    return ImportedFeedback(kind, tuple(told), replies, answer, system, **more)
