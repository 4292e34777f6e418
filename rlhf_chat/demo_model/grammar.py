"""Judges replies by the rules the corpus was written with; no model is involved.

`well_formed`: known segments in order, real facts of one topic, none twice, nothing left over.
`on_topic`: the reply answers the prompt. `styles`: the style features that a rater may prefer. A
prompt is its text, or the messages of a conversation up to it. Replies of other models cannot be
judged by these rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from . import wording as w
from .corpus import Message, examples, first_sentences, further_sentences
from .questions import bare, canonical, key_of_text, singular
from .topics import TOPICS

Prompt = str | Sequence[Message]
STYLES = (
    "short", "medium", "long", "formal", "casual", "warm", "list", "hedge", "example", "wish",
    "question", "emoji",
)  # fmt: skip


@dataclass(frozen=True)
class Parse:
    """What one well-formed reply consists of."""

    keys: frozenset[str]
    opening: str
    warm: bool
    listed: bool
    sentences: int
    hedge: bool
    example: bool
    wish: bool
    question: bool
    emoji: bool


@dataclass(frozen=True)
class Request:
    """What a prompt asks for: the acceptable keys, and whether it wants an example."""

    keys: frozenset[str]
    example: bool = False


def _one_of(texts: Iterable[str]) -> str:
    return "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))


def _segment(name: str, texts: Iterable[str]) -> str:
    """An optional segment, followed by a space or the end."""
    return rf"(?:(?P<{name}>{_one_of(texts)})(?: (?=.)|\Z))?"


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    keys = [*TOPICS, *w.TALK]
    all_examples = {
        lead + text for lead in w.EXAMPLE_LEADS for key in keys for text in examples(key)
    }
    before = _segment("formal", w.FORMAL) + _segment("casual", w.CASUAL) + _segment("warm", w.WARM)
    after = (
        _segment("hedge", w.HEDGES) + _segment("example", all_examples)
        + _segment("wish", w.WISHES) + _segment("question", w.QUESTIONS)
        + _segment("emoji", w.EMOJI)
    )  # fmt: skip
    return re.compile(before), re.compile(after + r"\Z")


@lru_cache(maxsize=1)
def _body_tables() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Sentence -> keys it may open, and sentence -> keys it may continue."""
    first: dict[str, set[str]] = {}
    later: dict[str, set[str]] = {}
    for key in (*TOPICS, *w.TALK):
        for sentence in first_sentences(key):
            first.setdefault(sentence, set()).add(key)
        for sentence in further_sentences(key):
            later.setdefault(sentence, set()).add(key)
    return first, later


def _take(text: str, table: dict[str, set[str]]) -> str | None:
    """The sentence of `table` that `text` begins with. Jokes hold a question mark inside."""
    for match in re.finditer(r"[.]", text):
        if text[: match.end()] in table:
            return text[: match.end()]
    return None


def _prose(text: str) -> tuple[list[str], str]:
    """The body sentences at the start of `text`, and what follows them."""
    first, later = _body_tables()
    sentences: list[str] = []
    while sentence := _take(text, later if sentences else first):
        sentences.append(sentence)
        text = text[len(sentence) :]
        if not text.startswith(" "):
            break
        text = text[1:]
        if not text:
            return sentences, " "
    return sentences, text


def _split(text: str) -> tuple[str, list[str], str, bool] | None:
    """Text before the body, the body's sentences, the text after, and whether it is a list."""
    before, _ = _patterns()
    if text.startswith("- ") or "\n\n- " in text:
        head, _, rest = ("", "", text[2:]) if text.startswith("- ") else text.partition("\n\n- ")
        block, gap, tail = rest.partition("\n\n")
        if gap and not tail:
            return None
        return head, block.split("\n- "), tail, True
    end = before.match(text).end()  # type: ignore[union-attr]  # it matches the empty text too
    head, sentences_and_tail = text[:end], text[end:]
    sentences, tail = _prose(sentences_and_tail)
    return head.removesuffix(" "), sentences, tail, False


def _body_keys(sentences: list[str]) -> frozenset[str]:
    """The keys these sentences all belong to; empty when they are no body."""
    first, later = _body_tables()
    if not 1 <= len(sentences) <= 3:
        return frozenset()
    keys = set(first.get(sentences[0], ()))
    for sentence in sentences[1:]:
        keys &= later.get(sentence, set())
    predicates = {key: [_predicate(key, s) for s in sentences] for key in keys}
    return frozenset(k for k, texts in predicates.items() if len(set(texts)) == len(texts))


def _predicate(key: str, sentence: str) -> str:
    """A topic's sentence without its subject, so that "Cats purr." and "They purr." are one."""
    if key in w.TALK:
        return sentence
    topic = TOPICS[key]
    return sentence.removeprefix(topic.subject + " ").removeprefix(topic.pronoun + " ")


def parse(reply: str) -> Parse | None:
    """The parts of a well-formed reply, or None."""
    pieces = _split(reply)
    if pieces is None:
        return None
    head, sentences, tail, listed = pieces
    before, after = _patterns()
    opened, closed = before.fullmatch(head), after.match(tail)
    keys = _body_keys(sentences)
    if not (opened and closed and keys) or (opened["formal"] and opened["casual"]):
        return None
    if closed["example"]:
        texts = closed["example"].split(", ", 1)[1]
        keys = frozenset(key for key in keys if texts in examples(key))
    if not keys:
        return None
    opening = "formal" if opened["formal"] else "casual" if opened["casual"] else ""
    flags = {name: bool(closed[name]) for name in ("hedge", "example", "wish", "question", "emoji")}
    return Parse(keys, opening, bool(opened["warm"]), listed, len(sentences), **flags)


@lru_cache(maxsize=1)
def _follow_ups() -> dict[str, str]:
    table = {canonical(text): "more" for text in w.MORE}
    return table | {canonical(text): "example" for text in w.EXAMPLE_ASKED}


@lru_cache(maxsize=1)
def _names() -> tuple[tuple[str, str], ...]:
    """Every name a topic can be mentioned by, with a space on both sides."""
    pairs = []
    for topic in TOPICS.values():
        plain = topic.name.removeprefix("the ")
        one = singular(topic).removeprefix("an ").removeprefix("a ")
        pairs += [(f" {canonical(name)} ", topic.name) for name in {plain, one}]
    return tuple(pairs)


def mentioned(text: str) -> frozenset[str]:
    """The topics a text names."""
    padded = f" {canonical(text)} "
    return frozenset(key for name, key in _names() if name in padded)


def request_of(prompt: Prompt) -> Request:
    """What a prompt asks for; a follow-up such as "Tell me more." inherits the earlier keys."""
    texts = [prompt] if isinstance(prompt, str) else [
        message["content"] for message in prompt if message["role"] == "user"
    ]  # fmt: skip
    request = Request(frozenset({"unknown"}))
    follow_ups = _follow_ups()
    for position, text in enumerate(texts):
        kind = follow_ups.get(bare(text, follow_ups)) if position else None
        if kind:
            request = Request(request.keys, example=kind == "example")
            continue
        key = key_of_text(text)
        request = Request(frozenset({key} if key != "unknown" else {key} | mentioned(text)))
    return request


def well_formed(prompt: Prompt, reply: str) -> bool:
    """Whether the reply parses completely. The prompt plays no part; it is there for symmetry."""
    return parse(reply) is not None


def on_topic(prompt: Prompt, reply: str) -> bool:
    """Whether the reply is about what was asked, with an example where one was asked for."""
    parsed, request = parse(reply), request_of(prompt)
    if parsed is None or not parsed.keys & request.keys:
        return False
    return parsed.example or not request.example


def styles(reply: str) -> dict[str, bool]:
    """The styles of a reply by name; all False when it does not parse."""
    parsed = parse(reply)
    if parsed is None:
        return dict.fromkeys(STYLES, False)
    found = {
        "short": parsed.sentences == 1, "medium": parsed.sentences == 2,
        "long": parsed.sentences == 3, "formal": parsed.opening == "formal",
        "casual": parsed.opening == "casual", "list": parsed.listed,
    }  # fmt: skip
    return found | {name: getattr(parsed, name) for name in STYLES if name not in found}
