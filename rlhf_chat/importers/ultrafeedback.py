"""UltraFeedback: {"instruction", "completions": [{"response", "overall_score", "annotations"}]}.

One ranking of the completions by the aspect asked: "overall" (overall_score, 1 to 10), or an
annotation with a "Rating" of 1 to 5 (helpfulness, honesty, instruction_following, truthfulness).
Completions without that score ("N/A") are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from rlhf_chat.importers.messages import dialogue, ordered
from rlhf_chat.importers.pairs import asked
from rlhf_chat.importers.problems import Entry, Options, Outcome, asked_aspect

ASPECTS = ("overall", "helpfulness", "honesty", "instruction_following", "truthfulness")


def recognises(entry: Entry) -> bool:
    return isinstance(entry.get("completions"), list) and "instruction" in entry


def read(entry: Entry, options: Options) -> Iterator[Outcome]:
    aspect = asked_aspect(options, ASPECTS)
    scored = [(one["response"], _score(one, aspect)) for one in entry["completions"]]
    given = [(dialogue(text)[-1][1], score) for text, score in scored if score is not None]
    yield ordered(asked({"instruction": entry["instruction"]}), given)


def _score(completion: Entry, aspect: str) -> float | None:
    if aspect == "overall":
        given = completion.get("overall_score", completion.get("fine-grained_score"))
    else:
        given = completion["annotations"][aspect]["Rating"]
    try:
        score = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return score if math.isfinite(score) else None
