"""What a model could do before training and should still be able to: facts, instructions, prose.

The data is in bench/abilities/: 100 questions whose answers are beyond dispute, 50 instructions
that a program can check, and a page of prose for the loss per token. Here are the data's shapes and
the checks of a reply; running them on a model is up to the caller.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "abilities"


@dataclass(frozen=True)
class Question:
    """A short question; `answers` are regular expressions, one of which a right reply contains."""

    kind: str  # capitals, opposites, arithmetic, colours, days, animals, facts
    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Instruction:
    """A prompt and what a reply must satisfy: names of checkers (CHECKERS) with their parameters.
    `good` is a reply that follows it, `bad` one that does not."""

    text: str
    checks: Mapping[str, Mapping[str, Any]]
    good: str
    bad: str


@cache
def questions() -> tuple[Question, ...]:
    """All 100, those of one kind together."""
    rows = json.loads((FOLDER / "questions.json").read_text(encoding="utf-8"))
    return tuple(Question(r["kind"], r["question"], tuple(r["answers"])) for r in rows)


@cache
def instructions() -> tuple[Instruction, ...]:
    """All 50, those with similar checks together."""
    rows = json.loads((FOLDER / "instructions.json").read_text(encoding="utf-8"))
    return tuple(Instruction(r["prompt"], r["checks"], r["good"], r["bad"]) for r in rows)


@cache
def page() -> str:
    """About 500 words of ordinary prose, paragraphs separated by an empty line."""
    return (FOLDER / "page.txt").read_text(encoding="utf-8").strip()


def is_right(question: Question, reply: str) -> bool:
    """Whether an accepted answer occurs in the reply, as whole words, in either case."""
    return any(_finds(answer, reply) for answer in question.answers)


def is_followed(instruction: Instruction, reply: str) -> bool:
    """Whether the reply passes all checks. An empty reply and a repeated prompt never do."""
    text = reply.strip()
    if not text or _bare(text) == _bare(instruction.text):
        return False
    return all(CHECKERS[name](text, **how) for name, how in instruction.checks.items())


# ---------------------------------------------------------------------- checkers
# Each takes a reply without surrounding spaces, not empty, and the parameters in the data.


def sentences(text: str, at_least: int, at_most: int) -> bool:
    """So many sentences, the last one finished."""
    return at_least <= len(_sentences(text)) <= at_most and bool(FINISHED.search(text))


def words(text: str, at_least: int, at_most: int | None = None) -> bool:
    """So many words."""
    count = len(_words(text))
    return at_least <= count and (at_most is None or count <= at_most)


def names(text: str, count: int, of: Sequence[str]) -> bool:
    """So many different ones of these (regular expressions), no more."""
    return len({name for name in of if _finds(name, text)}) == count


def contains(text: str, words: Sequence[str]) -> bool:
    """All of these words (regular expressions)."""
    return all(_finds(word, text) for word in words)


def avoids(text: str, letters: str = "", words: Sequence[str] = ()) -> bool:
    """None of these letters or signs, in either case, and none of these words."""
    free = not any(letter in text.lower() for letter in letters.lower())
    return free and not any(_finds(word, text) for word in words)


def in_order(text: str, words: Sequence[str]) -> bool:
    """These words one after the other, whatever is between them."""
    found = _words(text)
    place = 0
    for word in words:
        if word not in found[place:]:
            return False
        place = found.index(word, place) + 1
    return True


def begins(text: str, text_at_start: str) -> bool:
    """The first words, as written; markup and quotes before them do not count."""
    rest = text.lstrip(MARKS)
    return rest.startswith(text_at_start) and not rest[len(text_at_start) :][:1].isalnum()


def ends(text: str, text_at_end: str) -> bool:
    """The last words, in either case; a full stop, markup and quotes after them do not count."""
    rest = text.rstrip(MARKS if text_at_end == "?" else MARKS + ".!?").lower()
    wanted = text_at_end.lower()
    before = rest.removesuffix(wanted)[-1:]
    return rest.endswith(wanted) and (wanted == "?" or not before.isalnum())


def upper_case(text: str) -> bool:
    """At least three letters, no small one."""
    return text == text.upper() and sum(map(str.isalpha, text)) >= 3


def lower_case(text: str) -> bool:
    """At least three letters, no capital one."""
    return text == text.lower() and sum(map(str.isalpha, text)) >= 3


def lines(text: str, count: int, begin: str = "") -> bool:
    """So many lines that begin with this (a regular expression) and contain more than that; without
    `begin` no other lines, with it one line to introduce them."""
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not begin:
        return len(found) == count
    fitting = [line for line in found if re.match(rf"(?:{begin})\s+\S", line)]
    return len(fitting) == count and len(found) <= count + 1


def exactly(text: str, pattern: str) -> bool:
    """Nothing but this (a regular expression), in either case; a full stop may follow."""
    return bool(re.fullmatch(rf"(?:{pattern})[.!]?", text, re.I))


CHECKERS: Mapping[str, Callable[..., bool]] = {
    checker.__name__: checker
    for checker in (
        sentences,
        words,
        names,
        contains,
        avoids,
        in_order,
        begins,
        ends,
        upper_case,
        lower_case,
        lines,
        exactly,
    )
}

MARKS = " \n\t*_\"'“”‘’`#"
FINISHED = re.compile(r"[.!?][\"'”’*_)]*$")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’*_)]*\s+|\n+")
ABBREVIATION = re.compile(r"\b(e\.g|i\.e|etc|mr|mrs|ms|dr|st|vs)\.(?=\s)", re.I)
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _sentences(text: str) -> list[str]:
    parts = SENTENCE_END.split(ABBREVIATION.sub(r"\1", text))
    return [part for part in parts if WORD.search(part)]


def _finds(pattern: str, text: str) -> bool:
    """Whether the pattern occurs as whole words: not inside a longer word, number or compound."""
    left, right = r"(?<![^\W_])(?<![^\W_]-)(?<!\d[.,])", r"(?![^\W_])(?!-[^\W_])(?![.,]\d)"
    return re.search(rf"{left}(?:{pattern}){right}", text, re.I) is not None


def _bare(text: str) -> str:
    return " ".join(_words(text))
