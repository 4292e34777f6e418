"""This app's own export (chat/exporters.py): lines of {"kind", "answer", "prompt", "reply", ...}.

Beside them: "before" (the messages before the prompt), "other" (the second reply of a comparison),
"order" (of a ranking), "reason", "comment", "strength", "rater", "created_at", "id". Nothing is
lost. The CSV table of the export has no earlier messages, so it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rlhf_chat.db import SIMULATED
from rlhf_chat.feedback.kinds import kind_of_import
from rlhf_chat.importers.messages import beside, imported, moment, words
from rlhf_chat.importers.problems import Entry, Options, Outcome, UnreadableError


def recognises(entry: Entry) -> bool:
    return all(name in entry for name in ("kind", "prompt", "reply")) and bool(
        entry.keys() & {"answer", "said"}  # "said" before version 0.2
    )


def read(entry: Entry, options: Options) -> Iterator[Outcome]:
    given = str(entry["answer"] if "answer" in entry else entry["said"])
    if isinstance(entry.get("order"), str):
        raise UnreadableError("imports.own_table")
    kind = kind_of_import(str(entry["kind"]))
    if kind is None:
        raise UnreadableError("imports.unknown_answer", kind=str(entry["kind"]), answer=given)
    reply = _text(entry["reply"])
    answer, replies = kind.parse(given, {**entry, "reply": reply})
    strength = beside(entry, "strength")
    yield imported(
        kind.code,
        (*_before(entry.get("before") or []), ("user", words(entry["prompt"]))),
        tuple(map(_text, replies)),
        answer,
        strength=strength if strength in ("slightly", "much") and answer in ("a", "b") else "",
        reason=beside(entry, "reason"),
        comment=beside(entry, "comment"),
        rater=_rater(entry.get("rater")),
        created_at=moment(entry.get("created_at")),
        id=str(entry.get("id") or ""),
    )


def _before(given: list[Entry]) -> tuple[tuple[str, str], ...]:
    """Earlier messages as they were: nothing in them is taken for a thought."""
    kept = [one for one in given if one["role"] != "system" or one["content"]]
    if not all(one["role"] in ("system", "user", "assistant") for one in kept):
        raise UnreadableError("imports.unknown_role")
    return tuple((one["role"], words(one["content"])) for one in kept)


def _text(reply: Any) -> str:
    return "" if reply == "" else words(reply)  # an imported reply may be empty


def _rater(name: Any) -> str:
    """The rater of an entry. "me" is the person who imports it."""
    name = str(name or "")
    if name.startswith(SIMULATED):
        raise UnreadableError("imports.simulated")
    return "" if name == "me" else name
