"""Writes the demo model's conversations from a seed: prompts, and replies in random styles.

Every style is drawn independently of the prompt and of every other style, so that a preference for
one of them can be learned on any prompt. Prompts are split by their text: a topic in a wording is
either in `train` or in `held_out`, never in both.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from . import wording as w
from .noise import unknown_prompt
from .questions import canonical, key_of_text, topic_prompt
from .topics import TOPICS

Split = Literal["train", "held_out"]
Message = dict[str, str]

HELD_OUT_ONE_IN = 8  # share of all prompt texts that training never sees
KIND_SHARES = {"topic": 0.62, "talk": 0.20, "unknown": 0.18}
TURNS = (0.60, 0.18, 0.12, 0.07, 0.01, 0.01, 0.005, 0.005)  # chances of 1, 2, ... 8 prompts
SYSTEM_CHANCE = 0.06  # training only: a system prompt, which changes nothing
TYPO_CHANCE = 0.04  # training only: a dropped letter


@dataclass(frozen=True)
class Style:
    """The choices that make one reply; each is independent of the others."""

    opening: Literal["", "formal", "casual"]
    warm: bool
    listed: bool
    sentences: int
    hedge: bool
    example: bool
    wish: bool
    question: bool
    emoji: bool


def sample_style(rng: random.Random) -> Style:
    """Draw every style on its own.

    The shares allow for the sharpening at the end of the build, which favours what begins with one
    token over what begins with many: all of them stay inside 10 to 90 percent.
    """
    return Style(
        opening=rng.choices(("", "formal", "casual"), (0.36, 0.32, 0.32))[0],
        warm=rng.random() < 0.36,
        listed=rng.random() < 0.35,
        sentences=rng.choices((1, 2, 3), (0.40, 0.34, 0.26))[0],
        hedge=rng.random() < 0.32,
        example=rng.random() < 0.24,
        wish=rng.random() < 0.32,
        question=rng.random() < 0.38,
        emoji=rng.random() < 0.42,
    )


def split_of(prompt: str) -> Split:
    """Which split a prompt belongs to, by its canonical text alone."""
    held_out = zlib.crc32(canonical(prompt).encode()) % HELD_OUT_ONE_IN == 0
    return "held_out" if held_out else "train"


def _dress(rng: random.Random, text: str) -> str:
    """The same words as people really type them: greetings in front, no full stop, lower case."""
    chance = rng.random()
    if chance < 0.14:
        text = rng.choice(w.PREFIXES).capitalize() + text[0].lower() + text[1:]
    elif chance < 0.24:
        text = text.rstrip("?.!") + rng.choice(w.SUFFIXES)
    style = rng.random()
    if style < 0.15:
        return text.lower().rstrip("?.!")
    if style < 0.25:
        return text.rstrip("?.!")
    return text


def _draw(rng: random.Random, kind: str) -> tuple[str, str]:
    """One prompt of a kind, and the key of its answer."""
    if kind == "topic":
        name = rng.choice(tuple(TOPICS))
        return _dress(rng, topic_prompt(TOPICS[name], rng.choice(w.TOPIC_WORDINGS))), name
    if kind == "talk":
        key = rng.choice([k for k, talk in w.TALK.items() if talk.prompts])
        text = rng.choice(w.TALK[key].prompts)
        mark = "" if text.endswith("?") else rng.choice((".", "!", ""))
        return _dress(rng, text + mark), key
    return unknown_prompt(rng), "unknown"


def draw_prompt(rng: random.Random, split: Split, kind: str | None = None) -> tuple[str, str]:
    """A first prompt of this split, and the key of its answer: a topic or a kind of talk."""
    wanted = kind or rng.choices(tuple(KIND_SHARES), tuple(KIND_SHARES.values()))[0]
    while True:
        text, key = _draw(rng, wanted)
        if split_of(text) == split and key_of_text(text) == key:
            return text, key


def prompts(split: Split, n: int, seed: int, kind: str | None = None) -> list[str]:
    """`n` different single-turn prompts; `kind` narrows to topic, talk or unknown."""
    rng = random.Random(f"prompts {split} {seed}")
    found: dict[str, None] = {}
    while len(found) < n:
        found.setdefault(draw_prompt(rng, split, kind)[0])
    return list(found)


def first_sentences(key: str) -> tuple[str, ...]:
    """The sentences a body about `key` may begin with."""
    if key in w.TALK:
        return w.TALK[key].leads
    topic = TOPICS[key]
    return tuple(f"{topic.subject} {fact}." for fact in topic.facts)


def further_sentences(key: str) -> tuple[str, ...]:
    """The sentences a body about `key` may go on with; for a topic, in the order of its facts."""
    if key in w.TALK:
        return w.TALK[key].extras
    topic = TOPICS[key]
    return tuple(f"{topic.pronoun} {fact}." for fact in topic.facts)


def examples(key: str) -> tuple[str, ...]:
    """What may follow "For example, " in a reply about `key`."""
    if key in w.TALK:
        return tuple(f"you can ask me about {name}." for name in w.OFFERED)
    return (f"{TOPICS[key].example}.",)


def _round_from(sentences: Sequence[str], start: int, count: int) -> list[str]:
    """`count` of them from `start` on; the first follows the last."""
    return [sentences[(start + i) % len(sentences)] for i in range(count)]


def _body(rng: random.Random, key: str, count: int, earlier: str) -> list[str]:
    """`count` different sentences about `key`, from one not said before if possible.

    Each is followed by the next of the table, the last by the first: what comes then depends on the
    last sentence only, which a tiny model learns far better than "anything but what I have said";
    and there is always a next one, so that a taste for long replies does not end in repetition.
    """
    later = further_sentences(key)
    starts = rng.sample(range(len(later)), len(later))
    if key in w.TALK:
        lead = rng.choice(w.TALK[key].leads)
        return [lead, *_round_from(later, starts[0], count - 1)]
    facts = TOPICS[key].facts
    start = min(starts, key=lambda i: sum(f in earlier for f in _round_from(facts, i, count)))
    return [first_sentences(key)[start], *_round_from(later, start + 1, count - 1)]


def render(rng: random.Random, key: str, style: Style, earlier: str = "") -> str:
    """One reply about `key` in `style`; `said` is the text of earlier replies."""
    before = []
    if style.opening:
        before.append(rng.choice(w.FORMAL if style.opening == "formal" else w.CASUAL))
    if style.warm:
        before.append(rng.choice(w.WARM))
    body = _body(rng, key, style.sentences, earlier)
    after = []
    if style.hedge:
        after.append(rng.choice(w.HEDGES))
    if style.example:
        after.append(rng.choice(w.EXAMPLE_LEADS) + rng.choice(examples(key)))
    if style.wish:
        after.append(rng.choice(w.WISHES))
    if style.question:
        after.append(rng.choice(w.QUESTIONS))
    if style.emoji:
        after.append(rng.choice(w.EMOJI))
    text = "\n".join(f"- {line}" for line in body) if style.listed else " ".join(body)
    parts = [" ".join(before), text, " ".join(after)]
    return ("\n\n" if style.listed else " ").join(part for part in parts if part)


def reply(rng: random.Random, key: str, *, earlier: str = "", example_asked: bool = False) -> str:
    """One reply about `key` in a random style."""
    style = sample_style(rng)
    if example_asked:
        style = Style(**{**vars(style), "example": True})
    return render(rng, key, style, earlier)


def _follow_up(rng: random.Random, split: Split, key: str) -> tuple[str, str, bool]:
    """The next prompt of a conversation about `key`: text, key of its answer, example asked for."""
    chance = rng.random()
    if chance < 0.40:
        return _dress(rng, rng.choice(w.MORE)), key, False
    if chance < 0.52:
        return _dress(rng, rng.choice(w.EXAMPLE_ASKED)), key, True
    if chance < 0.60:
        return _dress(rng, rng.choice(w.TALK["why"].prompts)), "why", False
    if chance < 0.75:
        name = rng.choice(tuple(TOPICS))
        return topic_prompt(TOPICS[name], rng.choice(w.ABOUT_WORDINGS)), name, False
    return *draw_prompt(rng, split), False


def training_conversation(rng: random.Random) -> list[Message]:
    """A conversation of the training split, sometimes under a system prompt."""
    talk = conversation(rng)
    if rng.random() < SYSTEM_CHANCE:
        talk.insert(0, {"role": "system", "content": rng.choice(w.SYSTEM_PROMPTS)})
    return talk


def _typo(rng: random.Random, text: str) -> str:
    spot = rng.randrange(len(text))
    return text[:spot] + text[spot + 1 :] or text


def conversation(
    rng: random.Random, split: Split = "train", turns: Collection[int] = range(1, 9)
) -> list[Message]:
    """A conversation of one to four prompts, seldom up to eight, each with its reply."""
    text, key = draw_prompt(rng, split)
    if split == "train" and rng.random() < TYPO_CHANCE and len(text) > 12:
        text = _typo(rng, text)
    count = rng.choices(tuple(turns), [TURNS[turn - 1] for turn in turns])[0]
    messages: list[Message] = []
    example_asked = False
    for turn in range(count):
        if turn:
            text, key, example_asked = _follow_up(rng, split, key)
        earlier = " ".join(m["content"] for m in messages if m["role"] == "assistant")
        messages.append({"role": "user", "content": text})
        answer = reply(rng, key, earlier=earlier, example_asked=example_asked)
        messages.append({"role": "assistant", "content": answer})
    return messages
