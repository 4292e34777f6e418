"""Preference pairs: a chosen and a rejected reply to the same messages.

- {"prompt", "chosen", "rejected"} as text or messages, the prompt explicit or in both (TRL, DPO);
- {"chosen": "Human: ... Assistant: ...", "rejected": ...} (hh-rlhf);
- {"conversations": [{"from", "value"}], "chosen": {"from", "value"}, "rejected": ...} and
  {"instruction", "input", "chosen", "rejected"} (LLaMA-Factory);
- {"question", "response_j", "response_k"}, the first one better.

{"score_chosen", "score_rejected"} that are equal make it a tie (UltraFeedback, binarized).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rlhf_chat.importers.messages import Turns, dialogue, imported, split_reply, words
from rlhf_chat.importers.problems import Entry, Options, Outcome, UnreadableError

NAMES = (("chosen", "rejected"), ("response_j", "response_k"))
PROMPTS = ("prompt", "conversations", "messages", "instruction", "question", "context", "input")


def recognises(entry: Entry) -> bool:
    return _names(entry) is not None


def _names(entry: Entry) -> tuple[str, str] | None:
    return next((pair for pair in NAMES if all(name in entry for name in pair)), None)


def read(entry: Entry, options: Options) -> Iterator[Outcome]:
    names = _names(entry)
    assert names
    (prompt, better), (other_prompt, worse) = (_read(entry, entry[name]) for name in names)
    if _alternating(prompt) != _alternating(other_prompt):
        raise UnreadableError("imports.different_prompts")
    scores = entry.get("score_chosen"), entry.get("score_rejected")
    tie = isinstance(scores[0], int | float) and scores[0] == scores[1]
    yield imported("comparison", prompt, (better, worse), "tie" if tie else "a")


def _read(entry: Entry, reply: Any) -> tuple[Turns, str]:
    turns = dialogue(reply)
    if turns and turns[0][0] == "assistant" and (before := asked(entry)):
        if before[-1][0] == "assistant":
            raise UnreadableError("imports.no_prompt")  # the reply goes on within a message
        turns = before + turns  # else the reply holds the prompt already
    return split_reply(turns)


def _alternating(turns: Turns) -> list[tuple[str, str]]:
    return [turn for turn in turns if turn[1]]


def asked(entry: Entry) -> Turns:
    """The messages before a reply, under whatever name a tool keeps them; () if there are none."""
    name = next((name for name in PROMPTS if entry.get(name)), "")
    if not name:
        return ()
    told = entry[name]
    if name == "instruction" and entry.get("input"):
        told = f"{words(told)}\n{words(entry['input'])}"
    turns = dialogue(told, "user")
    for question, answer in reversed(entry.get("history") or []):
        turns = (("user", words(question)), ("assistant", words(answer)), *turns)
    system = next((entry[n] for n in ("system", "system_prompt") if entry.get(n)), "")
    return (("system", words(system)), *turns) if system else turns
