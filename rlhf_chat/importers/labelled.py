"""Single replies that are good or bad: thumbs.

- {"prompt", "completion", "label": true} (TRL, unpaired preference);
- {"messages", "label"} or {"conversations", "kto_tag"}, the last message being the reply, and
  {"instruction", "input", "output", "kto_tag"} (LLaMA-Factory).

A label is true, false, 1, 0, or these as text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rlhf_chat.importers.messages import dialogue, imported, messages, split_reply
from rlhf_chat.importers.pairs import asked
from rlhf_chat.importers.problems import Entry, Options, Outcome, UnreadableError

LABELS = ("label", "kto_tag")
REPLIES = ("completion", "response", "output")
WHOLE = ("messages", "conversations")
VALUES = {"true": 1, "1": 1, "false": -1, "0": -1}


def recognises(entry: Entry) -> bool:
    return bool(entry.keys() & {*LABELS}) and bool(
        entry.keys() & {*REPLIES} or any(isinstance(entry.get(name), list) for name in WHOLE)
    )


def read(entry: Entry, options: Options) -> Iterator[Outcome]:
    thumb = _thumb(next(entry[name] for name in LABELS if name in entry))
    replied = next((entry[name] for name in REPLIES if name in entry), None)
    if replied is None:
        turns, reply = split_reply(messages(next((entry[n] for n in WHOLE if n in entry), None)))
    else:
        turns, reply = split_reply(asked(entry) + dialogue(replied))
        if turns != asked(entry):
            raise UnreadableError("imports.no_prompt")
    yield imported("thumb", turns, (reply,), thumb)


def _thumb(label: Any) -> int:
    thumb = VALUES.get(str(label).lower()) if isinstance(label, bool | int | str) else None
    if thumb is None:
        raise UnreadableError("imports.label_value")
    return thumb
