"""HelpSteer 1, 2 and 3.

- {"prompt", "response", "helpfulness", "correctness", ...}, each 0 to 4: stars by the aspect asked
  (HelpSteer, HelpSteer2). Several turns of a prompt are parted by "<extra_id_1>User" lines;
- {"prompt", "response_1", "response_2", "preference_strength"} from -3 (the first one is much
  better) to 3 (HelpSteer2-Preference), {"context", "response1", "response2", "overall_preference"}
  (HelpSteer3): comparisons, 1 as slightly and 3 as much better;
- {"context", "original_response", "edited_response"} (HelpSteer3-Edit): corrections.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rlhf_chat.importers.messages import Turns, dialogue, imported, role_of, stars, words
from rlhf_chat.importers.problems import Entry, Options, Outcome, UnreadableError, asked_aspect

ASPECTS = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
BEST = 4
TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n?")
STRENGTHS = {1: "slightly", 2: "", 3: "much"}
PREFERENCES = ("preference_strength", "overall_preference")


def recognises(entry: Entry) -> bool:
    scored = "response" in entry and "helpfulness" in entry
    compared = any(name in entry for name in PREFERENCES)
    return scored or compared or {"original_response", "edited_response"} <= entry.keys()


def read(entry: Entry, options: Options) -> Iterator[Outcome]:
    turns = _asked(entry)
    if "edited_response" in entry:
        two = words(entry["original_response"]), words(entry["edited_response"])
        yield imported("correction", turns, two, 1)
    elif found := next((name for name in PREFERENCES if name in entry), ""):
        yield _comparison(entry, turns, int(entry[found]))
    else:
        aspect = asked_aspect(options, ASPECTS)
        given = stars(entry[aspect], 0, BEST)
        yield imported("stars", turns, (_reply(entry["response"]),), given)


def _comparison(entry: Entry, turns: Turns, preference: int) -> Outcome:
    """`preference`: below 0 the first reply is better."""
    if not -3 <= preference <= 3:
        raise UnreadableError("imports.off_scale", value=str(preference), low=-3, high=3)
    names = ("response1", "response2") if "response1" in entry else ("response_1", "response_2")
    two = tuple(_reply(entry[name]) for name in names)
    if preference == 0:
        return imported("comparison", turns, two, "tie")
    answer, strength = "a" if preference < 0 else "b", STRENGTHS[abs(preference)]
    return imported("comparison", turns, two, answer, strength=strength)


def _asked(entry: Entry) -> Turns:
    told = entry["context"] if "context" in entry else entry["prompt"]
    if not isinstance(told, str) or not TURN.search(told):
        return dialogue(told, "user")
    first, *rest = TURN.split(told)
    turns = [("user", words(first))]
    turns += [(role_of(who), text.strip()) for who, text in zip(rest[::2], rest[1::2], strict=True)]
    return tuple(turn for turn in turns if turn[1])


def _reply(text: str) -> str:
    return dialogue(text)[-1][1]
