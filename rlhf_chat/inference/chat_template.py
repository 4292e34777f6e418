"""How a model is spoken to: its chat template, what ends a turn, and what of its words is a reply.

Templates differ in who may speak (some refuse a system message, some drop it without a word), in
what ends a turn (often not the tokenizer's end token) and in whether the model thinks aloud first.
All of it is found out once, from the template itself. A reply is what comes after the thoughts:
thinking is switched off where the template can do that and hidden where it cannot; training still
sees every token that was sampled. Left out: the weights (model.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from rlhf_chat.errors import AppError

# Used only for base models that bring no chat template of their own (GPT-2 and the like).
PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] | capitalize }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
NO_THINKING = {"enable_thinking": False, "thinking": False}  # templates ignore what they don't know
OPEN, CLOSE = "<think>", "</think>"
MARK = "plumtree"  # a word to look for in what a template makes of it

Messages = Sequence[Mapping[str, str]]


class ChatTemplateError(AppError):
    """This template cannot hold a conversation."""


@dataclass(frozen=True)
class ChatTemplate:
    """What was learned about one tokenizer and its template. Tokenizers are passed in: they are
    not thread-safe, so each thread has its own."""

    supports_system: bool  # else it is said at the start of the first user message
    opens_thought: bool  # the prompt itself ends inside a thought
    stop_ids: frozenset[int]  # special tokens that the template puts after a reply

    def encode(self, tokenizer: Any, messages: Messages) -> list[int]:
        """Chat messages -> prompt ids, ending where the assistant begins to speak."""
        encoded = tokenizer.apply_chat_template(
            _folded(messages) if not self.supports_system else [dict(m) for m in messages],
            add_generation_prompt=True,
            tokenize=True,
            sanitize_control_tokens=True,
            return_dict=True,
            **NO_THINKING,
        )
        return list(encoded["input_ids"])

    def encode_text(self, tokenizer: Any, text: str) -> list[int]:
        """A reply somebody typed -> ids that `reply` reads back as it, without an end: a thought
        that the prompt has opened is closed first. Nothing typed becomes a control token."""
        ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        if self.opens_thought:
            ids = tokenizer.encode(f"{CLOSE}\n\n", add_special_tokens=False) + ids
        return list(ids)

    def decode_reply(self, tokenizer: Any, ids: Sequence[int]) -> str:
        """Sampled ids -> what the person reads: nothing while the model still thinks."""
        text = tokenizer.decode(list(ids), skip_special_tokens=False)
        if self.opens_thought or text.lstrip().startswith(OPEN):
            text = _after_thoughts(tokenizer, list(ids))
        else:
            text = tokenizer.decode(list(ids), skip_special_tokens=True)
        return text.rstrip("\ufffd")  # the first bytes of a character still on its way


def inspect_template(tokenizer: Any) -> ChatTemplate:
    """Reads the template by using it. Raises ChatTemplateError if it cannot hold a conversation."""
    talk = [_said("user", "hello"), _said("assistant", MARK), _said("user", "go on")]
    try:
        _render(tokenizer, talk, ask=True)
        asked = _render(tokenizer, talk[:1], ask=True)
        told = _render(tokenizer, talk[:2], ask=False)
    except TemplateError as error:
        raise ChatTemplateError("model.chat_template", error=str(error)) from error
    return ChatTemplate(
        supports_system=_takes_system(tokenizer),
        opens_thought=asked.rstrip().endswith(OPEN),
        stop_ids=_turn_ends(tokenizer, told),
    )


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _render(tokenizer: Any, messages: Messages, *, ask: bool) -> str:
    return str(
        tokenizer.apply_chat_template(
            [dict(m) for m in messages], add_generation_prompt=ask, tokenize=False, **NO_THINKING
        )
    )


def _takes_system(tokenizer: Any) -> bool:
    try:
        told = _render(tokenizer, [_said("system", MARK), _said("user", "hello")], ask=True)
    except TemplateError:
        return False
    return MARK in told


def _turn_ends(tokenizer: Any, told: str) -> frozenset[int]:
    """The first special token after a reply, if it comes before any other word."""
    special = set(tokenizer.all_special_ids)
    special |= {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    after = told.rpartition(MARK)[2]
    for i in tokenizer.encode(after, add_special_tokens=False):
        if i in special:
            return frozenset({i})
        if tokenizer.decode([i]).strip():
            break
    return frozenset()


def _folded(messages: Messages) -> list[dict[str, str]]:
    """The system message said at the start of the first user message."""
    rest = [dict(m) for m in messages if m["role"] != "system"]
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    if system and rest:
        rest[0]["content"] = f"{system}\n\n{rest[0]['content']}"
    return rest


def _after_thoughts(tokenizer: Any, ids: list[int]) -> str:
    """What is said after the first closing marker, a token or letters; nothing while there is
    none."""
    close = tokenizer.convert_tokens_to_ids(CLOSE)
    if isinstance(close, int) and close in ids:
        message = tokenizer.decode(ids[ids.index(close) + 1 :], skip_special_tokens=True)
    else:
        message = tokenizer.decode(ids, skip_special_tokens=True).partition(CLOSE)[2]
    return str(message.lstrip())
