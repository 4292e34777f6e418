"""Feedback as other tools read it: JSON lines, a spreadsheet, pairs and labelled replies for TRL;
and a chat as Markdown or JSON.

Pairs have the columns prompt, chosen and rejected in the conversational format that TRL's
RewardTrainer and DPOTrainer read; labelled replies have prompt, completion and label, for its
KTOTrainer. The turns before the reply are included. Which pairs and labels an answer names is up to
its kind (feedback/kinds): thumbs, stars and ties name no pair, votes and rankings label no reply.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rlhf_chat.chat.context_window import Words, chat_message, with_system
from rlhf_chat.db import Conversation, Feedback, Message, Store
from rlhf_chat.feedback.kinds import kind_of

COLUMNS = (
    "created_at",
    "kind",
    "answer",
    "prompt",
    "reply",
    "other",
    "reason",
    "comment",
    "version",
    "other_version",
    "rater",
    "order",
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


def json_lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def answers(store: Store, rows: Iterable[Feedback]) -> list[dict[str, Any]]:
    """Each answer with all that is known of it, and under "before" the messages before its prompt:
    what `importers.read` reads back."""
    return [asdict(told) | {"before": _prompt(store, told.message_id)[:-1]} for told in rows]


def _prompt(store: Store, reply: str) -> list[Words]:
    """The messages that a reply answers, the system prompt first."""
    *before, message = store.messages.path_to(reply)
    system = store.conversations.get(message.conversation_id).system_prompt
    return with_system(system, [chat_message(m.role, m.content) for m in before])


def csv_table(rows: Iterable[Feedback], heading: bool = True) -> str:
    """For spreadsheets: a cell that one would run as a formula begins with a quote."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    if heading:
        table.writerow(COLUMNS)
    for row in rows:
        table.writerow([_cell(getattr(row, name)) for name in COLUMNS])
    return text.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, list):  # of a ranking, one line a reply, the best first
        value = "\n".join(f"{placed.place + 1}. {placed.reply}" for placed in value)
    words = "" if value is None else str(value)
    return f"'{words}" if words.startswith(FORMULA) else words


def preference_pairs(store: Store, rows: Iterable[Feedback]) -> list[dict[str, Any]]:
    """One {"prompt", "chosen", "rejected"} for each better and worse reply these answers name."""
    pairs = []
    for told in rows:
        for better, worse in kind_of(told.kind).ordered_pairs(store, told):
            chosen, rejected = (_completion(store.messages.get(id)) for id in (better, worse))
            prompt = _prompt(store, better)
            pairs.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return pairs


def labelled_replies(store: Store, rows: Iterable[Feedback]) -> list[dict[str, Any]]:
    """One {"prompt", "completion", "label"} for each reply that these answers call good or bad."""
    return [
        {
            "prompt": _prompt(store, id),
            "completion": _completion(store.messages.get(id)),
            "label": good,
        }
        for told in rows
        for id, good in kind_of(told.kind).labels(told)
    ]


def _completion(reply: Message) -> list[Words]:
    return [chat_message("assistant", reply.content)]


def chat_as_json(store: Store, conversation_id: str) -> str:
    """The branch that is shown, with what is known of each message."""
    chat, turns = _branch(store, conversation_id)
    first = [chat_message("system", chat.system_prompt)] if chat.system_prompt else []
    rows = [
        {"role": m.role, "content": m.content, "created_at": m.created_at}
        | ({"version": m.adapter_version} if m.role == "assistant" else {})
        for m in turns
    ]
    told = {"title": chat.title, "created_at": chat.created_at, "messages": [*first, *rows]}
    return json.dumps(told, ensure_ascii=False, indent=1) + "\n"


def chat_as_markdown(store: Store, conversation_id: str) -> str:
    """The branch that is shown, to be read: a heading for each message, its text as it is."""
    chat, turns = _branch(store, conversation_id)
    parts = [f"# {chat.title}"]
    if chat.system_prompt:
        parts += ["## System", chat.system_prompt]
    for m in turns:
        by = "You" if m.role == "user" else "Model"
        version = f" (v{m.adapter_version})" if m.adapter_version else ""
        parts += [f"## {by}{version}", m.content]
    return "\n\n".join(parts) + "\n"


def _branch(store: Store, conversation_id: str) -> tuple[Conversation, list[Message]]:
    chat = store.conversations.get(conversation_id)
    return chat, store.messages.path_to(chat.head_id) if chat.head_id else []


def file_name(title: str, ending: str) -> str:
    """A name for the file of a chat that every system takes."""
    words = re.sub(r"[^\w -]+", "", title).strip(" -")[:60].strip()
    return f"{words or 'chat'}.{ending}"
