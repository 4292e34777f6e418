"""What was said, as other tools read it: JSON lines, a spreadsheet, and preference pairs for TRL.

Pairs have the columns prompt, chosen and rejected in the conversational format that TRL's
RewardTrainer and DPOTrainer read, the turns before the reply included. Votes, corrections and
rankings make pairs; thumbs, stars and ties do not, for they do not say which of two is better.
Left out: what an answer is worth to our own learning (likelihood.py).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import combinations

from rlhf_chat.chat.context_window import Words, chat_message, with_system
from rlhf_chat.db import Feedback, Ranking, Store

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


def json_lines(rows: Iterable[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def answers(store: Store, rows: Iterable[Feedback]) -> list[dict]:
    """Each answer with all that is known of it, and what had been said "before" its prompt: what
    `elsewhere.read` reads back."""
    return [asdict(told) | {"before": _prompt(store, told.message_id)[:-1]} for told in rows]


def _prompt(store: Store, reply: str) -> list[Words]:
    """The messages that a reply answers, the system prompt first."""
    *before, message = store.messages.path_to(reply)
    system = store.conversations.get(message.conversation_id).system_prompt
    return with_system(system, [chat_message(m.role, m.content) for m in before])


def csv_table(rows: Iterable[Feedback]) -> str:
    """For spreadsheets: a cell that one would run as a formula begins with a quote."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow(COLUMNS)
    for row in rows:
        table.writerow([_cell(getattr(row, name)) for name in COLUMNS])
    return text.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, list):  # of a ranking, one line a reply, the best first
        value = "\n".join(f"{placed.place + 1}. {placed.reply}" for placed in value)
    words = "" if value is None else str(value)
    return f"'{words}" if words.startswith(FORMULA) else words


def preference_pairs(store: Store, rows: Iterable[Feedback]) -> list[dict]:
    """One {"prompt", "chosen", "rejected"} for each better and worse reply these answers name."""
    rankings = {ranking.id: ranking for ranking in store.feedback.rankings()}
    pairs = []
    for told in rows:
        for better, worse in _ordered(told, rankings.get(told.id)):
            chosen, rejected = (_said(store.messages.get(reply)) for reply in (better, worse))
            prompt = _prompt(store, better)
            pairs.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return pairs


def _said(reply) -> list[dict]:
    return [chat_message("assistant", reply.content)]


def _ordered(told: Feedback, ranking: Ranking | None) -> Iterator[tuple[str, str]]:
    """(better, worse) message ids."""
    if told.kind == "vote" and told.answer in ("a", "b"):
        ids = told.message_id, told.other_id
        yield ids if told.answer == "a" else ids[::-1]
    elif told.kind == "edit":
        yield told.other_id, told.message_id
    elif told.kind == "ranking" and ranking:
        for one, other in combinations(ranking.places, 2):
            if ranking.places[one] != ranking.places[other]:
                better, worse = sorted((one, other), key=lambda reply: ranking.places[reply])
                yield better, worse
