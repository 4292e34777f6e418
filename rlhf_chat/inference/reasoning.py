"""Reasoning in a reply: what marks it, and what is left of the reply without it.

Models write their thoughts between two markers (`<think>` and `</think>`, in Gemma 4 `<|channel>`
and `<channel|>`) or as messages on a channel of their own (in gpt-oss first
`<|channel|>analysis<|message|>`, then `<|channel|>final<|message|>`). A marker that the tokenizer
holds as a token counts only as that token: the same letters in a reply merely mention it. Where it
is no token, letters count at the beginning of a reply. Training sees every token; only the text for
the person is cut.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

THINK = ("<think>", "</think>")  # assumed of every model: many learn it without their template
PAIRS = (  # used where the template or the tokenizer has both
    ("<|channel>", "<channel|>"),
    ("[THINK]", "[/THINK]"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
CHANNEL, MESSAGE, END, FINAL = "<|channel|>", "<|message|>", "<|end|>", "final"
TAG = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]|◁[^◁▷\s]+▷")


class Markers(NamedTuple):
    """Where a thought begins and ends. The ids are None where the markers are ordinary letters."""

    start: str
    end: str
    start_id: int | None
    end_id: int | None
    special: bool  # a control token, which counts anywhere; others count at the beginning


class Channels(NamedTuple):
    """Token ids of replies that consist of messages on named channels."""

    channel: int  # before the channel's name
    message: int  # before the message
    end: int | None  # after a message that another one follows
    special: frozenset[int]  # any of these ends a message


@dataclass(frozen=True)
class Reasoning:
    """How one model marks its thoughts."""

    markers: tuple[Markers, ...]
    opened: Markers | None = None  # the prompt itself ends inside a thought
    channels: Channels | None = None

    def final_ids(self, tokenizer: Any, ids: Sequence[int]) -> list[int]:
        """The ids outside thoughts that tokens mark; none while the model still thinks."""
        if self.channels and not self.channels.special.isdisjoint(ids[:1]):
            return _final_messages(tokenizer, ids, self.channels)
        by_start = {m.start_id: m for m in self.markers if m.start_id is not None}
        inside = self.opened if self.opened and self.opened.end_id is not None else None
        final: list[int] = []
        for i in ids:
            if inside:
                inside = None if i == inside.end_id else inside
            elif (found := by_start.get(i)) and (found.special or _is_blank(tokenizer, final)):
                inside = found
            else:
                final.append(i)
        return final

    def final_text(self, text: str) -> str:
        """The text outside thoughts that letters mark, of a reply or of its beginning."""
        letters = [m for m in self.markers if m.start_id is None]
        inside = self.opened if self.opened and self.opened.end_id is None else None
        while inside or (inside := _begins_with(text, letters)):
            text = text.partition(inside.end)[2].lstrip()
            inside = None
        return text

    def may_begin_thought(self, text: str) -> bool:
        """Whether these letters can still become a marker."""
        start = text.lstrip()
        letters = [m.start for m in self.markers if m.start_id is None]
        return bool(start) and any(s.startswith(start) for s in letters)

    def split_markers(self, text: str) -> list[str]:
        """The text in pieces, none of which holds a marker that is a token: where it is no control
        token, a tokenizer makes it one even of typed text."""
        tokens = [t for m in self.markers if m.start_id is not None for t in (m.start, m.end)]
        inside = [f"(?<={re.escape(t[0])})(?={re.escape(t[1:])})" for t in tokens]
        return re.split("|".join(inside), text) if inside else [text]


def find_reasoning(
    tokenizer: Any, template: str, opening: str, with_thought: str, thought: str
) -> Reasoning:
    """What marks thoughts. `template`: its source; `opening`: what it writes between the user's
    message and a reply; `with_thought`: what it writes from there on of a reply with a `thought`
    ("" if it refuses one)."""
    special = special_ids(tokenizer)
    channels = _channels(tokenizer, special) if CHANNEL in template else None
    pairs = [THINK, *(p for p in PAIRS if all(_known(tokenizer, template, m) for m in p))]
    if not channels and (found := _written_around(with_thought, thought)):
        pairs.append(found)
    markers = tuple(_markers(tokenizer, *pair, special) for pair in dict.fromkeys(pairs))
    opened = (m for m in markers if opening.rfind(m.start) > opening.rfind(m.end))
    return Reasoning(markers, next(opened, None), channels)


def special_ids(tokenizer: Any) -> frozenset[int]:
    """All control tokens, also those that the tokenizer's configuration does not name."""
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(added | set(tokenizer.all_special_ids))


def _final_messages(tokenizer: Any, ids: Sequence[int], channels: Channels) -> list[int]:
    """The messages on the final channel."""
    final: list[int] = []
    name: list[int] | None = None  # of the channel, while it is being read
    shown = False
    for i in ids:
        if i == channels.channel:
            name, shown = [], False
        elif i == channels.message:
            shown = name is not None and tokenizer.decode(name).split()[:1] == [FINAL]
            name = None
        elif i in channels.special:
            shown = False
        elif name is not None:
            name.append(i)
        elif shown:
            final.append(i)
    return final


def _is_blank(tokenizer: Any, ids: list[int]) -> bool:
    return not ids or not tokenizer.decode(ids, skip_special_tokens=True).strip()


def _begins_with(text: str, markers: Sequence[Markers]) -> Markers | None:
    return next((m for m in markers if text.lstrip().startswith(m.start)), None)


def _token_id(tokenizer: Any, text: str) -> int | None:
    """The id of the token that is this text; None if there is none."""
    i = tokenizer.convert_tokens_to_ids(text)
    return i if isinstance(i, int) and tokenizer.convert_ids_to_tokens(i) == text else None


def _known(tokenizer: Any, template: str, marker: str) -> bool:
    return marker in template or _token_id(tokenizer, marker) is not None


def _channels(tokenizer: Any, special: frozenset[int]) -> Channels | None:
    channel, message = _token_id(tokenizer, CHANNEL), _token_id(tokenizer, MESSAGE)
    if channel is None or message is None:
        return None
    return Channels(channel, message, _token_id(tokenizer, END), special | {channel, message})


def _markers(tokenizer: Any, start: str, end: str, special: frozenset[int]) -> Markers:
    start_id, end_id = _token_id(tokenizer, start), _token_id(tokenizer, end)
    if start_id is None or end_id is None:
        return Markers(start, end, None, None, False)
    return Markers(start, end, start_id, end_id, start_id in special)


def _written_around(text: str, thought: str) -> tuple[str, str] | None:
    """The tags that a template writes before and after a thought, if it shows one."""
    before, found, after = text.partition(thought)
    starts, ends = TAG.findall(before), TAG.findall(after)
    if not found or not starts or not ends:
        return None
    start, end = starts[-1], ends[0]
    return (start, end) if before.rstrip().endswith(start) and start != end else None
