"""Single replies with a number: {"prompt", "response", "score"}, and the same under other names.

`stars` is a number from 1 to 5. What scale `score` and `rating` are on, a file does not say: it is
read when `Options.scale` names the best score (5, 10 or 100; the worst is 1, of 100 it is 0 or 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rlhf_chat.importers.messages import dialogue, imported, split_reply, stars
from rlhf_chat.importers.pairs import asked
from rlhf_chat.importers.problems import Entry, Options, Outcome, UnreadableError

REPLIES = ("response", "completion", "output", "answer", "reply")
SCORES = ("stars", "score", "rating")


def recognises(entry: Entry) -> bool:
    return any(n in entry for n in REPLIES) and any(n in entry for n in SCORES)


def read(entry: Entry, options: Options) -> Iterator[Outcome]:
    name = next(name for name in SCORES if name in entry)
    given = stars_on_scale(entry[name], 5 if name == "stars" else options.scale)
    replied = next(entry[name] for name in REPLIES if name in entry)
    turns, reply = split_reply(asked(entry) + dialogue(replied))
    yield imported("stars", turns, (reply,), given)


def stars_on_scale(score: Any, best: int) -> int:
    if not best:
        raise UnreadableError("imports.no_scale")
    return stars(score, 0 if best == 100 else 1, best)
