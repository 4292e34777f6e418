"""PKU-SafeRLHF: {"prompt", "response_0", "response_1", "better_response_id", "safer_response_id"}.

One comparison by the aspect asked: "helpful" (better_response_id) or "safe" (safer_response_id).
"""

from __future__ import annotations

from collections.abc import Iterator

from rlhf_chat.importers.messages import dialogue, imported
from rlhf_chat.importers.problems import Entry, Options, Outcome, UnreadableError, asked_aspect

FIELDS = {"helpful": "better_response_id", "safe": "safer_response_id"}


def recognises(entry: Entry) -> bool:
    return "response_0" in entry and bool(entry.keys() & {*FIELDS.values()})


def read(entry: Entry, options: Options) -> Iterator[Outcome]:
    better = int(entry[FIELDS[asked_aspect(options, tuple(FIELDS))]])
    if better not in (0, 1):
        raise UnreadableError("imports.no_preference")
    two = tuple(dialogue(entry[name])[-1][1] for name in ("response_0", "response_1"))
    yield imported("comparison", dialogue(entry["prompt"], "user"), two, "ab"[better])
