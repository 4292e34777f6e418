"""Messages of any tool as (role, text) turns, without thoughts and calls of tools.

What a person saw and judged is the text; thoughts, calls of tools and their results are the way to
it, and are left out. A message that holds something else than text (an image, a file) is refused:
without it the rating would be about another question.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rlhf_chat.db import MOST_RANKED, ImportedFeedback, clean_text
from rlhf_chat.importers.problems import Entry, UnreadableError
from rlhf_chat.inference.reasoning import PAIRS, THINK

Turns = tuple[tuple[str, str], ...]  # (role, text)

TOOL = "tool"
_NAMES = {
    "user": ("user", "human", "prompter", "customer", "instruction"),
    "assistant": ("assistant", "gpt", "model", "bot", "chatgpt", "ai", "chatbot", "bing", "bard"),
    "system": ("system", "developer"),
    TOOL: ("tool", "function", "function_call", "tool_call", "tool_response", "observation"),
}
ROLES = {name: role for role, names in _NAMES.items() for name in names}

# Parts of a message that are not what the person reads.
_UNSEEN_PARTS = re.compile("thinking|redacted_thinking|reasoning.*|thought.*|tool_.*|function_.*")
_TEXT_PARTS = ("text", "input_text", "output_text", "")

_SPEAKERS = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant): ?")  # as hh-rlhf marks turns

# Open WebUI writes thoughts, calls of tools and runs of code into the reply.
_DETAILS = re.compile(
    r'<details\b[^>]{0,300}\btype="(?:reasoning|tool_calls|code_interpreter)"[^>]{0,300}>.*?(?:</details>|\Z)',
    re.S,
)
_THOUGHTS = [
    re.compile(rf"\s*{re.escape(start)}.*?(?:{re.escape(end)}|\Z)", re.S)
    for start, end in (THINK, *PAIRS)
]
_OPENED_BY_PROMPT = re.compile(r"\A(?:(?!<think>).)*?</think>\s*\n", re.S)
_FINAL_CHANNEL = re.compile(
    r"<\|channel\|>final\b.{0,200}?<\|message\|>(.*?)(?:<\|[a-z]+\|>|\Z)", re.S
)


# ---- text ------------------------------------------------------------------------------------


def words(text: Any) -> str:
    """A text as it is stored. Raises UnreadableError where there is none."""
    if not isinstance(text, str) or not text.strip():
        raise UnreadableError("imports.empty_message")
    return clean_text(text).strip()


def text_of(content: Any) -> str:
    """The text of a message: a string, parts of one, or nothing."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, dict):
        content = content.get("parts", [content])
    if not isinstance(content, list):
        raise UnreadableError("imports.empty_message")
    return "\n\n".join(part for part in map(_part, content) if part.strip())


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    kind = str(part.get("type") or "")
    if _UNSEEN_PARTS.fullmatch(kind):
        return ""
    text = part.get("text")
    if kind not in _TEXT_PARTS or not isinstance(text, str):
        raise UnreadableError("imports.not_text")
    return text


def without_thoughts(text: str) -> str:
    """A reply without thoughts: in blocks anywhere, between markers at its beginning."""
    if final := _FINAL_CHANNEL.search(text):
        return final[1].strip()
    text = _DETAILS.sub("", text)
    opened = _OPENED_BY_PROMPT.match(text)
    at = opened.end() if opened else 0
    while found := next((m for m in (t.match(text, at) for t in _THOUGHTS) if m), None):
        at = found.end()
    return text[at:].strip()


def beside(entry: Entry, name: str) -> str:
    """A text field beside the answer."""
    text = entry.get(name)
    return clean_text(text) if isinstance(text, str) else ""


def moment(stamp: Any) -> str:
    """ISO 8601 of a time written so, or as seconds or milliseconds since 1970; "" for anything
    else."""
    try:
        if isinstance(stamp, str):
            return datetime.fromisoformat(stamp).astimezone(UTC).isoformat(timespec="milliseconds")
        seconds = stamp / 1000 if stamp > 1e11 else stamp
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    except (TypeError, ValueError, OverflowError, OSError):
        return ""


# ---- turns -----------------------------------------------------------------------------------


def role_of(name: Any) -> str:
    role = ROLES.get(str(name).lower())
    if role is None:
        raise UnreadableError("imports.unknown_role")
    return role


def messages(given: Any) -> Turns:
    """The visible turns of a list of messages: {"role", "content"} or {"from", "value"}."""
    found = []
    for one in [given] if isinstance(given, dict) else given:
        role, text, called = message(one)
        if not (called and not text) and not (role == "system" and not text.strip()):
            found.append((role, words(text)))
    return tuple(found)


def message(one: Entry) -> tuple[str, str, bool]:
    """Role and visible text of a message, and whether it belongs to a call of a tool."""
    role = role_of(one["role"] if "role" in one else one["from"])
    content = next((one[name] for name in ("content", "value", "text") if name in one), None)
    if role == TOOL:
        return role, "", True
    text = text_of(content)
    calls = bool(one.get("tool_calls") or one.get("function_call"))
    calls = calls or (isinstance(content, list) and not text)
    return role, without_thoughts(text) if role == "assistant" else text, calls


def dialogue(given: Any, alone: str = "assistant") -> Turns:
    """Messages, a dialogue marked "Human: ... Assistant: ...", or plain text, which then has the
    role `alone`; a reply that only begins with such a mark is plain. A marked dialogue may end with
    an empty reply: somebody judged that silence."""
    if not isinstance(given, str):
        return messages(given)
    marks = _SPEAKERS.findall(given) if _SPEAKERS.match(given) else []
    if not marks or (alone == "assistant" and marks[-1] != "Assistant"):
        return ((alone, words(without_thoughts(given) if alone == "assistant" else given)),)
    _, *marked = _SPEAKERS.split(given)
    turns = [
        (role_of(speaker), text.strip())
        for speaker, text in zip(marked[::2], marked[1::2], strict=True)
    ]
    if alone == "user" and turns[-1] == ("assistant", ""):
        turns.pop()  # a prompt that ends where the reply begins
    last = len(turns) - 1
    kept = [t for i, t in enumerate(turns) if t[1] or i == last or t[0] == "user"]
    if any(role == "user" and not text for role, text in kept):
        raise UnreadableError("imports.empty_message")
    return tuple((role, clean_text(text)) for role, text in kept)


def split_reply(turns: Turns) -> tuple[Turns, str]:
    """What was asked, and the reply at the end: what the assistant wrote since the last message of
    the user."""
    at = len(turns)
    while at and turns[at - 1][0] == "assistant":
        at -= 1
    if at == len(turns):
        raise UnreadableError("imports.no_reply")
    return turns[:at], "\n\n".join(text for _, text in turns[at:])


# ---- a rating --------------------------------------------------------------------------------


def imported(
    kind: str,
    turns: Turns,
    replies: Sequence[str],
    answer: int | str | tuple[int, ...],
    **more: Any,
) -> ImportedFeedback:
    """The rating with the system prompt apart and turns that alternate, the person's first and
    last. Half of a surrogate pair, which JSON can name, becomes a "?" in all texts."""
    replies = tuple(map(clean_text, replies))
    more = {name: clean_text(v) if isinstance(v, str) else v for name, v in more.items()}
    turns = tuple((role, clean_text(text)) for role, text in turns)
    system = "\n\n".join(text for role, text in turns if role == "system" and text)
    told: list[tuple[str, str]] = []
    for role, text in turns:
        if role == "system" or (role == "assistant" and not told):
            continue  # a reply before the first message answers nothing
        if told and told[-1][0] == role:
            told[-1] = (role, f"{told[-1][1]}\n\n{text}")
        else:
            told.append((role, text))
    if not told or told[-1][0] != "user":
        raise UnreadableError("imports.no_prompt")
    if len(set(replies)) < len(replies):
        raise UnreadableError("imports.equal_replies")
    return ImportedFeedback(kind, tuple(told), replies, answer, system, **more)


def stars(value: Any, low: float, high: float) -> int:
    """A score on a scale from `low` to `high` as 1 to 5 stars. Raises UnreadableError outside."""
    number = float(value)
    if not low <= number <= high:
        raise UnreadableError("imports.off_scale", value=str(value), low=low, high=high)
    return 1 + int(4 * (number - low) / (high - low) + 0.5)


def ordered(turns: Turns, scored: Iterable[tuple[str, float]], **more: Any) -> ImportedFeedback:
    """Replies with scores, the highest best: a comparison of two, a ranking of more, equal scores
    tied. The same text twice counts once, and of more than MOST_RANKED the best are taken."""
    best: dict[str, float] = {}
    for reply, score in scored:
        if not math.isfinite(score):
            raise UnreadableError("imports.no_preference")
        best.setdefault(reply, score)
    if len(best) < 2:
        raise UnreadableError("imports.one_reply")
    kept = sorted(best, key=lambda reply: -best[reply])[:MOST_RANKED]
    if len(kept) == 2:
        one, other = (best[reply] for reply in kept)
        return imported("comparison", turns, kept, "a" if one > other else "tie", **more)
    scores = sorted({best[reply] for reply in kept}, reverse=True)
    return imported("ranking", turns, kept, tuple(scores.index(best[r]) for r in kept), **more)


SELECTED = "selected version"  # the comment of a preference that nobody stated


def selected(turns: Turns, kept: str, others: Iterable[str], **more: Any) -> list[ImportedFeedback]:
    """The version that somebody went on with, slightly better than each that they left: weak, and
    its comment says that it is no rating."""
    left = list(dict.fromkeys(other for other in others if other and other != kept))
    return [
        imported(
            "comparison",
            turns,
            (kept, other),
            "a",
            strength="slightly",
            comment=SELECTED,
            implied=True,
            **more,
        )
        for other in left[-(MOST_RANKED - 1) :]
    ]
