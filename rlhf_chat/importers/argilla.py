"""Argilla: records with fields, and answers of several annotators, each a rater.

- {"fields": {"prompt", "response-1", ...}, "responses": {"ranking": [{"value", "user_id"}]}} (2.x);
- {"fields", "responses": [{"values": {"ranking": {"value"}}, "user_id", "status"}]} (1.x);
- as columns: {"prompt", "response-1", "ranking": [{"value", "user_id", "status"}]} and
  {"ranking.responses", "ranking.responses.users", "ranking.responses.status"}.

A ranking names fields, the best first or with ranks: a ranking, or a comparison of two. A number is
stars for the only reply, on the scale that `Options.scale` names. Drafts and discarded answers are
left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from rlhf_chat.db import ImportedFeedback
from rlhf_chat.importers.messages import Turns, dialogue, imported, ordered
from rlhf_chat.importers.problems import Entry, Options, Outcome, UnreadableError, attempt
from rlhf_chat.importers.scored import stars_on_scale

PROMPTS = ("prompt", "instruction", "question", "input", "query", "context", "chat", "history")
COLUMN = ".responses"


class Answer(NamedTuple):
    value: Any
    rater: str


def recognises(entry: Entry) -> bool:
    if isinstance(entry.get("fields"), dict) and "responses" in entry:
        return True
    return any(_is_question(name, value) for name, value in entry.items())


def _is_question(name: str, value: Any) -> bool:
    if not isinstance(value, list):
        return False
    listed = bool(value) and isinstance(value[0], dict) and {"user_id", "value"} <= value[0].keys()
    return listed or name.endswith(COLUMN)


def read(entry: Entry, options: Options) -> Iterator[Outcome]:
    fields = entry["fields"] if isinstance(entry.get("fields"), dict) else entry
    answers = list(_answers(entry))
    if not answers:
        return  # nobody has answered yet
    asked = next((name for name in PROMPTS if fields.get(name)), "")
    if not asked:
        raise UnreadableError("imports.no_prompt")
    turns = dialogue(fields[asked], "user")
    rated = [one for one in answers if isinstance(one.value, list | dict | int | float)]
    if not rated:
        raise UnreadableError("imports.no_preference")
    for one in rated:
        yield attempt(partial(_feedback, turns, fields, asked, one, options))


def _feedback(
    turns: Turns, fields: Entry, asked: str, answer: Answer, options: Options
) -> ImportedFeedback:
    if isinstance(answer.value, int | float):
        [reply] = [n for n, v in fields.items() if n != asked and isinstance(v, str) and v]
        given = stars_on_scale(answer.value, options.scale)
        text = dialogue(fields[reply])[-1][1]
        return imported("stars", turns, (text,), given, rater=answer.rater)
    ranks = _ranks(answer.value)
    if not all(isinstance(fields.get(name), str) for name in ranks):
        raise UnreadableError("imports.no_reply")
    scored = [(dialogue(fields[name])[-1][1], -rank) for name, rank in ranks.items()]
    return ordered(turns, scored, rater=answer.rater)


def _ranks(value: Any) -> dict[str, float]:
    """The rank of each named field, 1 being best."""
    if isinstance(value, dict):
        return dict(zip(value["value"], map(float, value["rank"]), strict=True))
    if all(isinstance(one, str) for one in value):
        return {name: float(place) for place, name in enumerate(value)}
    return {str(one["value"]): float(one["rank"]) for one in value}


def _answers(entry: Entry) -> Iterator[Answer]:
    given = entry.get("responses") if isinstance(entry.get("fields"), dict) else None
    if isinstance(given, list):  # 1.x
        for one in given:
            if _submitted(one):
                for answer in one["values"].values():
                    yield Answer(answer["value"], str(one.get("user_id") or ""))
    elif isinstance(given, dict):  # 2.x
        for answers in given.values():
            yield from _listed(answers)
    else:
        for name, value in entry.items():
            if _is_question(name, value):
                yield from _column(entry, name, value)


def _listed(answers: list[Entry]) -> Iterator[Answer]:
    for one in answers:
        if _submitted(one):
            yield Answer(one["value"], str(one.get("user_id") or ""))


def _column(entry: Entry, name: str, values: list[Any]) -> Iterator[Answer]:
    if not name.endswith(COLUMN):
        yield from _listed(values)
        return
    raters = entry.get(f"{name}.users") or [""] * len(values)
    status = entry.get(f"{name}.status") or ["submitted"] * len(values)
    for value, rater, state in zip(values, raters, status, strict=True):
        if state == "submitted":
            yield Answer(value, str(rater or ""))


def _submitted(answer: Entry) -> bool:
    return answer.get("status") in (None, "submitted")
