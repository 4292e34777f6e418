"""What a client asks for, from the body of its request: messages or a prompt, and how they are to
be answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlhf_chat.api import fields
from rlhf_chat.api.errors import Refusal, bad
from rlhf_chat.api.fields import Body
from rlhf_chat.chat.completions import CompletionRequest
from rlhf_chat.chat.context_window import Words, chat_message
from rlhf_chat.inference.generate import Sampling

MOST_REPLIES = 8  # to one request
MOST_STOPS = 16
MOST_TOP = 20
LEAST_TOP_P = 1e-6  # the likeliest token alone
LONGEST = 1_000_000  # tokens that may be asked for; a reply has as many as the app allows
SEEDS = 2**63 - 1
SYSTEM, SPEAKERS = ("system", "developer"), ("user", "assistant")
# What a client may ask for and the app cannot do, with the values that ask for nothing.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "function_call": ("auto", "none"),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("auto", "none"),
    "web_search_options": (),
}
NO_KEEPING = ("no", "false", "0", "off")  # of the header X-RLHF-Chat-Keep


@dataclass(frozen=True)
class Form:
    """How the client wants the answer written."""

    stream: bool = False
    with_usage: bool = False  # at the end of a stream
    logprobs: bool = False
    top: int = 0  # likeliest tokens beside each token
    echo: bool = False  # the prompt before the text, in completions of a prompt


def chat_request(
    body: Body, version: int | None, default: Sampling, keep_header: str
) -> tuple[CompletionRequest, Form]:
    """Of /v1/chat/completions. Raises Refusal."""
    system, turns = _messages(body)
    top = fields.whole(body, "top_logprobs", 0, MOST_TOP) or 0
    form = _form(body, logprobs=fields.flag(body, "logprobs"), top=top)
    return _request(body, turns, system, version, default, keep_header), form


def prompt_requests(
    body: Body, version: int | None, default: Sampling, keep_header: str
) -> tuple[list[CompletionRequest], Form]:
    """Of /v1/completions: each prompt is one message of the user. Raises Refusal."""
    prompts = fields.texts(body, "prompt", MOST_REPLIES)
    if not prompts:
        raise bad("prompt", "api.missing")
    top = fields.whole(body, "logprobs", 0, MOST_TOP)
    form = _form(body, logprobs=top is not None, top=top or 0)
    made = _request(body, (), None, version, default, keep_header)
    each = [replace(made, turns=(chat_message("user", prompt),)) for prompt in prompts]
    return each, replace(form, echo=fields.flag(body, "echo"))


def _form(body: Body, *, logprobs: bool, top: int) -> Form:
    options = fields.part(body, "stream_options")
    return Form(
        stream=fields.flag(body, "stream"),
        with_usage=fields.flag(options, "include_usage"),
        logprobs=logprobs,
        top=top,
    )


def _refuse_unsupported(body: Body) -> None:
    for name, nothing in UNSUPPORTED.items():
        if body.get(name) is not None and body[name] not in nothing:
            raise bad(name, "api.unsupported")


def _request(
    body: Body,
    turns: Sequence[Words],
    system: str | None,
    version: int | None,
    default: Sampling,
    keep_header: str,
) -> CompletionRequest:
    _refuse_unsupported(body)
    return CompletionRequest(
        turns=tuple(turns),
        sampling=_sampling(body, default),
        system=system,
        version=version,
        seed=fields.whole(body, "seed", -SEEDS, SEEDS),
        stop_texts=fields.texts(body, "stop", MOST_STOPS),
        count=fields.whole(body, "n", 1, MOST_REPLIES) or 1,
        keep=fields.flag(body, "store", True) and keep_header.strip().lower() not in NO_KEEPING,
    )


def _sampling(body: Body, default: Sampling) -> Sampling:
    """What the client leaves out is as in new chats."""
    temperature = fields.number(body, "temperature", 0, 2)
    top_p = fields.number(body, "top_p", 0, 1)
    top_k = fields.whole(body, "top_k", -1, LONGEST)
    old = fields.whole(body, "max_tokens", 1, LONGEST)
    length = fields.whole(body, "max_completion_tokens", 1, LONGEST) or old
    return Sampling(
        temperature=default.temperature if temperature is None else temperature,
        top_p=default.top_p if top_p is None else max(top_p, LEAST_TOP_P),
        top_k=default.top_k if top_k is None else max(top_k, 0),
        max_new_tokens=length or default.max_new_tokens,
    )


def _messages(body: Body) -> tuple[str | None, list[Words]]:
    """The system prompt, None if there is none, and the turns."""
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise bad("messages", "api.no_messages")
    system: list[str] = []
    turns: list[Words] = []
    for i, message in enumerate(given):
        place = f"messages[{i}]"
        if not isinstance(message, dict):
            raise bad(place, "api.not_object")
        role, content = message.get("role"), _content(message.get("content"), place)
        if role in SYSTEM:
            system.append(content)
        elif role in SPEAKERS:
            turns.append(chat_message(str(role), content))
        else:
            choices = ", ".join((*SYSTEM, *SPEAKERS))
            raise bad(f"{place}.role", "api.not_choice", choices=choices)
    if not turns or turns[-1]["role"] != "user":
        raise Refusal(400, "api.last_not_user", field="messages")
    return ("\n\n".join(system) if system else None), turns


def _content(content: Any, place: str) -> str:
    """A text, or the text parts of an array joined."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise bad(f"{place}.content", "api.not_text")
    found = []
    for one in content:
        words = one.get("text", one.get("refusal")) if isinstance(one, dict) else None
        if not isinstance(words, str):
            raise bad(f"{place}.content", "api.text_only")
        found.append(words)
    return "\n".join(found)
