"""PRISM: conversations of many people, each turn with replies of several models, scored 1 to 100.

{"conversation_id", "user_id", "conversation_history": [{"turn", "role": "user" or "model",
"content", "score", "if_chosen"}]}: in each turn one ranking of its replies by score, by the rater
`user_id`. The chat went on from the chosen reply. The rows of utterances.jsonl lack the earlier
turns and are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby

from rlhf_chat.db import ImportedFeedback
from rlhf_chat.importers.messages import Turns, imported, ordered, stars, words
from rlhf_chat.importers.problems import Entry, Options, Outcome, UnreadableError, attempt


def recognises(entry: Entry) -> bool:
    return "conversation_history" in entry or {"user_prompt", "model_response"} <= entry.keys()


def read(entry: Entry, options: Options) -> Iterator[Outcome]:
    if "conversation_history" not in entry:
        raise UnreadableError("imports.prism_utterances")
    rater = str(entry.get("user_id") or "")
    turns: Turns = ()
    for _, group in groupby(entry["conversation_history"], key=lambda one: one["turn"]):
        both = list(group)
        replies = [one for one in both if one["role"] == "model"]
        turns = (
            *turns,
            *(("user", words(one["content"])) for one in both if one["role"] == "user"),
        )
        if any(one.get("score") is not None for one in replies):
            yield attempt(partial(_turn, turns, replies, rater))
        chosen = next((one for one in replies if one.get("if_chosen")), None)
        if chosen is None:
            return  # the chat ended here
        turns = (*turns, ("assistant", words(chosen["content"])))


def _turn(turns: Turns, replies: list[Entry], rater: str) -> ImportedFeedback:
    scored = [
        (words(one["content"]), float(one["score"]))
        for one in replies
        if one.get("score") is not None
    ]
    for _, score in scored:
        stars(score, 0, 100)  # it is on the scale
    if len(scored) == 1:
        [(reply, score)] = scored
        return imported("stars", turns, (reply,), stars(score, 0, 100), rater=rater)
    return ordered(turns, scored, rater=rater)
