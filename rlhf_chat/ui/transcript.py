"""A conversation as the page has it: bubbles and thumbs for the chat window, and the `view`.

The view is one value that describes what is drawn: the conversation and, for each message, its id.
It is also what handlers get back, so a thumb is always tied to the message the person saw, even if
another tab has changed the conversation since. Pure: turns in, values out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlhf_chat.chat.chat import ReplyChunk
from rlhf_chat.chat.conversations import Turn
from rlhf_chat.ui import markdown_escape
from rlhf_chat.ui.components import version_label
from rlhf_chat.ui.language import message, text

ENDINGS = {
    "length": "chat.length_limit",
    "cancelled": "chat.stopped",
    "error": "chat.reply_failed",
}
THUMBS = {1: "Like", -1: "Dislike", 0: None}


def bubble(role: str, text: str, message_id: str = "") -> dict[str, Any]:
    """A reply is Markdown, a person's own text is shown to the letter."""
    drawn = markdown_escape.literal(text)
    if role == "assistant":
        drawn = markdown_escape.shown(text)
    # A content part, not a bare string: Gradio strips and re-indents bare strings.
    return {
        "role": role,
        "content": [{"type": "text", "text": drawn}],
        "metadata": {"id": message_id},
    }


def bubbles(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    return [bubble(turn.role, turn.content, turn.message_id) for turn in turns]


def offered(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """The same, with a button to continue the last reply where it was cut."""
    drawn = bubbles(turns)
    if turns and turns[-1].can_continue:
        drawn[-1]["options"] = [{"value": "continue", "label": text("chat.continue")}]
    return drawn


def thumbs(turns: Sequence[Turn]) -> list[str | None]:
    """One for each reply, in order, as Gradio wants them."""
    return [THUMBS[turn.rating] for turn in turns if turn.role == "assistant"]


def view(
    conversation_id: str,
    turns: Sequence[Turn],
    *,
    rater: str = "me",
    sent: bool = False,
    speed: float | None = None,
) -> dict[str, Any]:
    """`rater`: whose thumbs are drawn; `sent`: the last message was typed just now; `speed`: of the
    last reply, tokens a second."""
    rows = [_row(turn) for turn in turns]
    if speed and rows and rows[-1]["role"] == "assistant":
        rows[-1]["stamp"] = text("chat.stamp_speed", stamp=rows[-1]["stamp"], speed=speed)
    return {"conversation": conversation_id, "turns": rows, "rater": rater, "sent": sent}


def _row(turn: Turn) -> dict[str, Any]:
    stamp = version_label(turn.adapter_version) if turn.role == "assistant" else ""
    if turn.role == "assistant" and turn.adapter_version is None:
        stamp = text("chat.stamp_corrected")
    if turn.role == "assistant" and turn.finish_reason == "cancelled":
        stamp = text("chat.stamp_stopped", stamp=stamp)
    return {
        "id": turn.message_id,
        "role": turn.role,
        "stamp": stamp,
        "sibling": turn.sibling,
        "siblings": turn.siblings,
        "sibling_ids": list(turn.sibling_ids),
    }


def ending(partial: ReplyChunk) -> str:
    """What to say under a reply that has ended; mostly nothing."""
    if partial.finish_reason == "cancelled" and not partial.message_id:
        return text("chat.nothing_written")
    if partial.note:
        return message(partial.note)
    code = ENDINGS.get(partial.finish_reason or "")
    return text(code) if code else ""
