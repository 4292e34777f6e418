"""A chat template and its tokenizer: how messages become a prompt, and tokens the text of a reply.

Templates differ in which roles they accept (some refuse a system message, some drop it without a
word), in what ends a turn (often not the tokenizer's end token), in whether they write the token
that begins a text, and in how thoughts are marked. All of it is found out once, by using the
template. Thinking is switched off where the template can do that, and hidden where it cannot
(reasoning.py); training still sees every token that was sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_chat.errors import AppError
from rlhf_chat.inference.partial_text import REPLACEMENT, stable_text, without_tail
from rlhf_chat.inference.reasoning import CHANNEL, Reasoning, find_reasoning, special_ids
from rlhf_chat.inference.template_sandbox import TemplateLimitError, check_limits

# Used only for base models that bring no chat template of their own (GPT-2 and the like).
PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] | capitalize }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
NO_THINKING = {"enable_thinking": False, "thinking": False}  # templates ignore what they don't know
THINKING = {"enable_thinking": True, "thinking": True}
# Words to look for in what a template writes.
QUESTION, REPLY, NEXT, THOUGHT = "hazelnut", "plumtree", "cedarwood", "buttercup"
LONG_TALK = 24  # messages of the longest conversation that a template is tried with
LIMITS = {  # what is said of a template that goes beyond one
    "time": "model.template_time",
    "memory": "model.template_memory",
    "length": "model.template_length",
}
STOP_WINDOW = 16  # tokens in which a stop text is looked for: at least its bytes

Messages = Sequence[Mapping[str, str]]


class ChatTemplateError(AppError):
    """This template cannot hold a conversation."""


@dataclass(frozen=True)
class ChatTemplate:
    """What was learned about one tokenizer and its template. Tokenizers are passed in: they are
    not thread-safe, so each thread has its own."""

    supports_system: bool  # else it is put at the start of the first user message
    reasoning: Reasoning
    reply_prefix: str  # what a reply begins with before its text: it closes a thought, for one
    stop_ids: frozenset[int]  # special tokens that the template puts after a reply
    stop_texts: tuple[str, ...]  # what begins the next turn, where no token ends a reply
    adds_bos: bool  # the tokenizer begins every text with its BOS token

    @property
    def opens_thought(self) -> bool:
        """Whether the prompt itself ends inside a thought."""
        return self.reasoning.opened is not None

    def encode(self, tokenizer: Any, messages: Messages) -> list[int]:
        """Chat messages -> prompt ids, ending where the assistant begins to write. They begin with
        one BOS token if the template or the tokenizer wants one, never with two."""
        encoded = tokenizer.apply_chat_template(
            [dict(m) for m in messages] if self.supports_system else _fold_system(messages),
            add_generation_prompt=True,
            tokenize=True,
            sanitize_control_tokens=True,
            return_dict=True,
            **NO_THINKING,
        )
        ids, bos = list(encoded["input_ids"]), tokenizer.bos_token_id
        if bos is None:
            return ids
        while ids[:2] == [bos, bos]:
            del ids[0]
        return [bos, *ids] if self.adds_bos and ids[:1] != [bos] else ids

    def encode_text(self, tokenizer: Any, text: str) -> list[int]:
        """A reply somebody typed -> ids that `decode_reply` reads back as it, without an end token.
        Nothing typed becomes a control token."""
        ids = tokenizer.encode(self.reply_prefix, add_special_tokens=False)
        for piece in self.reasoning.split_markers(text):
            ids += tokenizer.encode(piece, add_special_tokens=False, split_special_tokens=True)
        return list(ids)

    def decode_reply(self, tokenizer: Any, ids: Sequence[int], *, partial: bool = False) -> str:
        """Sampled ids -> the text for the person: nothing while the model still thinks, and nothing
        from the next turn on. `partial`: more tokens will come, so an end that they may change
        (half of a character, of a word or of a marker) is held back."""
        final = self.reasoning.final_ids(tokenizer, ids)
        text = tokenizer.decode(final, skip_special_tokens=True)
        if len(final) < len(ids):
            text = text.lstrip()
        if partial and self.reasoning.may_begin_thought(text):
            return ""
        text = self.reasoning.final_text(text)
        if (cut := self._stop_position(text)) is not None:
            return text[:cut].rstrip()
        if partial and final:
            text = stable_text(text, tokenizer.decode(final[-1:], skip_special_tokens=True))
            for stop_text in self.stop_texts:
                text = without_tail(text, stop_text)
        return text.rstrip(REPLACEMENT)

    def stop_length(self, tokenizer: Any, ids: Sequence[int]) -> int | None:
        """How many of these ids are the reply, if the last one completed a stop text or the message
        on the final channel: at least one, because a reply of no tokens cannot be learned from.
        None if the reply goes on."""
        if (channels := self.reasoning.channels) and ids[-1] == channels.end:
            return len(ids) if self.reasoning.final_ids(tokenizer, ids) else None
        if not self.stop_texts:
            return None
        recent = tokenizer.decode(list(ids[-STOP_WINDOW:]), skip_special_tokens=True)
        if self._stop_position(recent) is None:
            return None
        text = tokenizer.decode(list(ids), skip_special_tokens=True)
        reply = text[: self._stop_position(text)].rstrip()
        for length in range(max(1, len(ids) - STOP_WINDOW), len(ids)):
            start = tokenizer.decode(list(ids[:length]), skip_special_tokens=True)
            if len(start.rstrip(REPLACEMENT).rstrip()) >= len(reply):
                return length
        return len(ids)

    def _stop_position(self, text: str) -> int | None:
        found = [text.find(stop_text) for stop_text in self.stop_texts]
        return min((position for position in found if position >= 0), default=None)


def inspect_template(tokenizer: Any) -> ChatTemplate:
    """Reads the template by using it. Raises ChatTemplateError if it cannot hold a conversation."""
    talk = [_message("user", QUESTION), _message("assistant", REPLY), _message("user", NEXT)]
    template = str(tokenizer.get_chat_template())
    try:
        check_limits(template, _renderings(tokenizer, talk))
        _render(tokenizer, talk, ask=True)
        asked = _render(tokenizer, talk[:1], ask=True)
        told = _render(tokenizer, talk[:2], ask=False)
    except TemplateLimitError as error:
        raise ChatTemplateError(LIMITS[error.limit]) from error
    except Exception as error:  # a template may raise whatever Python does
        raise ChatTemplateError("model.chat_template", error=_first_line(error)) from error
    opening = asked.rpartition(QUESTION)[2]
    reasoning = find_reasoning(tokenizer, template, opening, _with_thought(tokenizer), THOUGHT)
    stop_ids = _turn_ends(tokenizer, told, reasoning)
    ends_by_token = bool(stop_ids) or reasoning.channels is not None
    return ChatTemplate(
        supports_system=_takes_system(tokenizer),
        reasoning=reasoning,
        reply_prefix=_reply_prefix(reasoning, asked, told),
        stop_ids=stop_ids,
        stop_texts=() if ends_by_token else _next_turns(tokenizer, talk[:2]),
        adds_bos=tokenizer.bos_token_id in tokenizer.encode("x")[:1],
    )


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(" .")


def _render(tokenizer: Any, messages: Messages, *, ask: bool, **options: Any) -> str:
    return str(
        tokenizer.apply_chat_template(
            [dict(m) for m in messages],
            add_generation_prompt=ask,
            tokenize=False,
            **(NO_THINKING | options),
        )
    )


def _renderings(tokenizer: Any, talk: list[dict[str, str]]) -> list[dict[str, Any]]:
    """The variables that the template is tried with: short and long conversations."""
    tokens = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    system = [_message("system", REPLY), talk[0]]
    talks = (talk[:1], talk[:2], talk, system, talk[:2] * (LONG_TALK // 2) + talk[:1])
    options = {**tokens, **NO_THINKING, "tools": None, "documents": None}
    return [
        {"messages": messages, "add_generation_prompt": ask, **options}
        for messages in talks
        for ask in (True, False)
    ]


def _takes_system(tokenizer: Any) -> bool:
    try:
        system = [_message("system", REPLY), _message("user", QUESTION)]
        return REPLY in _render(tokenizer, system, ask=True)
    except Exception:
        return False


def _with_thought(tokenizer: Any) -> str:
    """What the template writes after a question, of a reply that was thought about; "" if it takes
    no thoughts."""
    reply = _message("assistant", REPLY) | {"reasoning_content": THOUGHT, "thinking": THOUGHT}
    try:
        text = _render(tokenizer, [_message("user", QUESTION), reply], ask=False, **THINKING)
    except Exception:
        return ""
    before, found, _ = text.rpartition(QUESTION)[2].partition(REPLY)
    return before if found else ""


def _reply_prefix(reasoning: Reasoning, asked: str, told: str) -> str:
    """What stands between the prompt and the text of a reply."""
    if reasoning.opened:
        return f"{reasoning.opened.end}\n\n"
    if reasoning.channels and told.startswith(asked):
        prefix = told[len(asked) :].partition(REPLY)[0]
        return prefix if CHANNEL in prefix else ""
    return ""


def _turn_ends(tokenizer: Any, told: str, reasoning: Reasoning) -> frozenset[int]:
    """The first special token after a reply, if it comes before any other word and does not end a
    thought as well."""
    special = special_ids(tokenizer)
    after = told.rpartition(REPLY)[2]
    for i in tokenizer.encode(after, add_special_tokens=False):
        if i in special:
            ends_thought = reasoning.channels is not None and i == reasoning.channels.end
            return frozenset() if ends_thought else frozenset({i})
        if tokenizer.decode([i]).strip():
            break
    return frozenset()


def _next_turns(tokenizer: Any, talk: list[dict[str, str]]) -> tuple[str, ...]:
    """What the template writes between a reply and the next message, of each role it takes."""
    found = []
    for role in ("user", "system", "assistant"):
        try:
            told = _render(tokenizer, [*talk, _message(role, NEXT)], ask=False)
        except Exception:
            continue
        header, known, _ = told.rpartition(REPLY)[2].partition(NEXT)
        if known and header.strip():
            found.append(header.rstrip())
    return tuple(dict.fromkeys(found))


def _fold_system(messages: Messages) -> list[dict[str, str]]:
    """The system message at the start of the first user message."""
    rest = [dict(m) for m in messages if m["role"] != "system"]
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    if system and rest:
        rest[0]["content"] = f"{system}\n\n{rest[0]['content']}"
    return rest
