"""Chatbot Arena: votes between two models.

- {"conversation_a", "conversation_b", "winner"}: model_a, model_b, tie, "tie (bothbad)", both_bad;
- {"prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie"}, the
  texts as lists of turns in JSON.

Where the two conversations differ before the last reply, the vote is about more than that reply
and is refused. `judge` is the rater.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rlhf_chat.importers.messages import (
    Turns,
    beside,
    imported,
    messages,
    moment,
    split_reply,
    words,
)
from rlhf_chat.importers.problems import Entry, Options, Outcome, UnreadableError

OUTCOMES = {
    "model_a": "a",
    "model_b": "b",
    "tie": "tie",
    "tie (bothbad)": "both_bad",
    "both_bad": "both_bad",
    "bothbad": "both_bad",
}
YES = ("1", "1.0", "True", "true")
FLAGS = {"winner_model_a": "a", "winner_model_b": "b", "winner_tie": "tie"}


def recognises(entry: Entry) -> bool:
    return {"conversation_a", "conversation_b", "winner"} <= entry.keys() or (
        "response_a" in entry and "winner_model_a" in entry
    )


def read(entry: Entry, options: Options) -> Iterator[Outcome]:
    outcome = _outcome(entry)
    if "conversation_a" in entry:
        told = [messages(entry[name]) for name in ("conversation_a", "conversation_b")]
    else:
        told = [_in_turns(entry["prompt"], entry[n]) for n in ("response_a", "response_b")]
    (asked, one), (other_asked, other) = map(split_reply, told)
    if asked != other_asked:
        raise UnreadableError("imports.different_prompts")
    when = moment(entry.get("tstamp", entry.get("timestamp")))
    rater = beside(entry, "judge")
    yield imported("comparison", asked, (one, other), outcome, rater=rater, created_at=when)


def _outcome(entry: Entry) -> str:
    if "winner" in entry:
        found = OUTCOMES.get(str(entry["winner"]).strip())
    else:
        found = next((o for name, o in FLAGS.items() if str(entry.get(name)) in YES), None)
    if found is None:
        raise UnreadableError("imports.no_preference")
    return found


def _in_turns(asked: Any, replied: Any) -> Turns:
    """Questions and replies in turns, of lists, lists in JSON, or one text each."""
    found: list[tuple[str, str]] = []
    for question, reply in zip(_texts(asked), _texts(replied), strict=True):
        found += [("user", words(question)), ("assistant", words(reply))]
    return tuple(found)


def _texts(given: Any) -> list[Any]:
    if isinstance(given, str) and given.lstrip().startswith("["):
        given = json.loads(given)
    return given if isinstance(given, list) else [given]
