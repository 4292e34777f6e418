"""Examples of good replies without a rating: thumbs up that nobody gave, and that say so.

- {"instruction", "input", "output"} (Alpaca);
- {"conversations": [{"from", "value"}]} or {"messages": [{"role", "content"}]} (ShareGPT): the last
  reply.
"""

from __future__ import annotations

from collections.abc import Iterator

from rlhf_chat.importers.messages import dialogue, imported, messages, split_reply
from rlhf_chat.importers.pairs import asked
from rlhf_chat.importers.problems import Entry, Options, Outcome

EXAMPLE = "example"  # the comment of such a thumb


def recognises(entry: Entry) -> bool:
    whole = any(isinstance(entry.get(name), list) for name in ("conversations", "messages"))
    return whole or ("instruction" in entry and "output" in entry)


def read(entry: Entry, options: Options) -> Iterator[Outcome]:
    if "output" in entry and "instruction" in entry:
        turns, reply = split_reply(asked(entry) + dialogue(entry["output"]))
    else:
        told = messages(entry["conversations"] if "conversations" in entry else entry["messages"])
        while told and told[-1][0] != "assistant":
            told = told[:-1]  # a question that was not answered any more
        turns, reply = split_reply(told)
    yield imported("thumb", turns, (reply,), 1, comment=EXAMPLE, implied=True)
