"""Everything that OpenAI's own client can send: it works, it makes no difference, or it is refused
in one sentence. And prompts as long as editors send them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types import completion_create_params as prompt_params
from openai.types.chat import completion_create_params as chat_params

from rlhf_chat.chat.context_window import MOST_PER_TOKEN
from rlhf_chat.chat.message_text import MAX_CHARACTERS
from rlhf_chat.inference.model import Model
from tests.api_server import Running, api_server

HELLO: Any = [{"role": "user", "content": "hello how are you"}]
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "look_up"}}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}

# field -> values that are taken and leave a greedy reply as it is; what others do is in test_api.py
TAKEN: dict[str, list[Any]] = {
    "frequency_penalty": [0],
    "function_call": ["auto", "none"],
    "functions": [[{"name": "look_up", "parameters": {"type": "object"}}]],
    "logit_bias": [{}],
    "max_completion_tokens": [8, 100_000],
    "max_tokens": [8, 100_000],
    "metadata": [{"a": "b"}],
    "modalities": [["text"]],
    "model": ["live", "base"],
    "n": [1],
    "parallel_tool_calls": [True, False],
    "prediction": [{"type": "content", "content": "hello"}],
    "presence_penalty": [0],
    "prompt_cache_key": ["x"],
    "prompt_cache_options": [{}],
    "prompt_cache_retention": ["24h"],
    "reasoning_effort": ["low"],
    "response_format": [{"type": "text"}],
    "safety_identifier": ["x"],
    "seed": [1, -1],
    "service_tier": ["auto"],
    "stop": ["never there", ["never", "there"], []],
    "store": [True, False],
    "stream_options": [{"include_usage": True}, {"include_usage": False}],
    "temperature": [0],
    "tool_choice": ["auto", "none"],
    "tools": [[TOOL], []],
    "top_logprobs": [2],
    "logprobs": [True, False],
    "top_p": [0.5, 1],
    "user": ["x"],
    "verbosity": ["low"],
}
REFUSED: dict[str, list[Any]] = {
    "audio": [{"voice": "alloy", "format": "wav"}],
    "frequency_penalty": [0.5, -0.5],
    "function_call": [{"name": "look_up"}],
    "logit_bias": [{"50256": -100}],
    "modalities": [["text", "audio"]],
    "moderation": [{"model": "x"}],
    "n": [9, 0],
    "presence_penalty": [1],
    "response_format": [{"type": "json_object"}, JSON_SCHEMA],
    "tool_choice": ["required", NAMED],
    "web_search_options": [{}],
}
PROMPT_REFUSED: dict[str, list[Any]] = {
    "best_of": [3],
    "frequency_penalty": [1],
    "logit_bias": [{"5": 1}],
    "presence_penalty": [1],
    "suffix": ["x"],
}


@pytest.fixture(scope="module")
def app(_toy: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with api_server(_toy, tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture(scope="module")
def client(app: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=app.api, api_key=app.token, max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def plain(client: openai.OpenAI) -> str:
    made = client.chat.completions.create(model="live", messages=HELLO, temperature=0)
    return made.choices[0].message.content or ""


def cases(table: dict[str, list[Any]]) -> list[Any]:
    return [pytest.param(n, v, id=f"{n}-{i}") for n, vs in table.items() for i, v in enumerate(vs)]


def test_every_field_of_the_client_is_tried():
    chat = chat_params.CompletionCreateParamsBase.__annotations__.keys()
    assert TAKEN.keys() | REFUSED.keys() | {"messages"} == chat
    prompt = prompt_params.CompletionCreateParamsBase.__annotations__.keys()
    assert prompt - TAKEN.keys() == {"prompt", "best_of", "echo", "suffix"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("field", "value"), cases(TAKEN))
def test_what_is_taken_gets_the_reply(client, plain, field, value, stream):
    if field == "stream_options" and not stream:
        pytest.skip("OpenAI's client sends it with streams")
    asked: dict[str, Any] = {"model": "live", "messages": HELLO, "temperature": 0} | {field: value}
    if not stream:
        text = client.chat.completions.create(**asked).choices[0].message.content
    else:
        pieces = list(client.chat.completions.create(**asked, stream=True))
        text = "".join(c.delta.content or "" for p in pieces for c in p.choices)
        told = [p.usage for p in pieces if p.usage]
        assert len(told) == (field == "stream_options" and value["include_usage"])
    assert text == plain or (value == 100_000 and text.startswith(plain))


@pytest.mark.parametrize(("field", "value"), cases(REFUSED))
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_done_is_refused_in_one_sentence(client, app, field, value, stream):
    before = app.store.counts()
    asked: dict[str, Any] = {"model": "live", "messages": HELLO, "stream": stream, field: value}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**asked)
    error: Any = refused.value
    assert error.param == field and error.type == "invalid_request_error" and error.code
    assert field in error.body["message"] and app.store.counts() == before


@pytest.mark.parametrize(("field", "value"), cases(PROMPT_REFUSED))
def test_what_a_completion_of_a_prompt_cannot_do_is_refused(client, field, value):
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="live", prompt="hello", **{field: value})
    assert refused.value.param == field


def test_a_conversation_in_every_shape_of_messages(client, app):
    """Parts, roles, a refusal, a reply that only called tools."""
    talk: Any = [
        {"role": "developer", "content": [{"type": "text", "text": "you are well"}]},
        {"role": "user", "content": [{"type": "text", "text": "hello"}], "name": "kim"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "thank you"}]},
        {"role": "user", "content": "how are you"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "user", "content": "tell me"},
    ]
    made = client.chat.completions.create(model="live", messages=talk)
    kept = app.store.messages.get(made.id.partition("-")[2])
    words = [m.content for m in app.store.messages.path_to(kept.id)[:-1]]
    assert words == ["hello", "thank you", "how are you", "tell me"]
    for wrong in (
        {"role": "tool", "content": "x", "tool_call_id": "1"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
    ):
        with pytest.raises(openai.BadRequestError, match=r"messages\[0\]"):
            client.chat.completions.create(model="live", messages=[wrong, *HELLO])


def test_other_parts_of_the_client_are_refused_in_the_same_shape(client):
    for ask in (
        lambda: client.embeddings.create(model="live", input="x"),
        lambda: client.responses.create(model="live", input="x"),
        lambda: client.images.generate(prompt="x"),
        lambda: client.moderations.create(input="x"),
        client.files.list,
    ):
        with pytest.raises(openai.NotFoundError, match="nothing at this path"):
            ask()


# ---------------------------------------------------------------------- long prompts


@pytest.fixture
def context(app: Running, monkeypatch: pytest.MonkeyPatch) -> int:
    """As many tokens as a small real model reads."""
    monkeypatch.setattr(app.chat.model, "context_tokens", 4096)
    return 4096


def words(model: Model, tokens: int) -> str:
    """A message with which the whole prompt has so many tokens."""
    alone = len(model.encode([{"role": "user", "content": "hello"}]))
    text = "hello" + " hello" * ((tokens - alone) // 2)
    found = len(model.encode([{"role": "user", "content": text}]))
    assert found <= tokens <= found + 1
    return text


def test_a_prompt_that_fits_is_read_whole_however_many_characters_it_has(client, app, context):
    text = words(app.chat.model, context - 300)
    assert len(text) > MAX_CHARACTERS
    for messages in (
        [{"role": "user", "content": text}],
        [{"role": "system", "content": text[: len(text) - 60]}, *HELLO],
    ):
        made = client.chat.completions.create(model="live", messages=messages, seed=5)
        kept = app.store.messages.get(made.id.partition("-")[2])
        assert kept.prompt_ids == app.chat.model.encode(messages)
        again = [*messages, {"role": "assistant", "content": kept.content}, *HELLO]
        goes_on = client.chat.completions.create(model="live", messages=again)
        path = app.store.messages.path_to(goes_on.id.partition("-")[2])
        assert kept.id in [message.id for message in path]  # one long chat, not two


def test_a_reply_is_shortened_to_what_a_long_prompt_leaves(client, app, context):
    text = words(app.chat.model, context - 20)
    made = client.chat.completions.create(
        model="live", messages=[{"role": "user", "content": text}], max_tokens=2000, temperature=0
    )
    assert 0 < made.usage.completion_tokens <= 21
    assert made.usage.total_tokens <= context


@pytest.mark.parametrize("part", ["user", "system"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_does_not_fit_is_openais_error(client, app, context, part, stream):
    before = app.store.counts()
    for text in (words(app.chat.model, context + 1), "hello " * (MOST_PER_TOKEN * context)):
        told: Any = [{"role": part, "content": text}]
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(
                model="live", messages=[*told, *HELLO][: 1 + (part == "system")], stream=stream
            )
        error: Any = refused.value
        assert error.code == "context_length_exceeded" and error.param == "messages"
        assert str(context // 100) in error.body["message"]  # of about 4,080 tokens
    assert app.store.counts() == before


def test_megabytes_are_answered_at_once(client, app, context):
    """Refused, or of a long conversation the end, without encoding all of it: encoding these 7 MB
    takes seconds."""
    turns: Any = []
    for _ in range(500):
        turns += [{"role": "user", "content": "hello how " * 700}]
        turns += [{"role": "assistant", "content": "thank you " * 700}]
    encoded = []
    model = app.chat.model
    real = type(model).encode
    type(model).encode = lambda self, messages: (
        encoded.append(sum(len(m["content"]) for m in messages)) or real(self, messages)
    )
    try:
        started = time.monotonic()
        made = client.chat.completions.create(
            model="live", messages=[*turns, *HELLO], extra_body={"store": False}
        )
        assert made.usage.total_tokens <= context
        with pytest.raises(openai.BadRequestError, match="far too long"):
            client.chat.completions.create(
                model="live", messages=[{"role": "user", "content": "hello " * 1_200_000}]
            )
        assert time.monotonic() - started < 60
    finally:
        type(model).encode = real
    assert max(encoded) <= MOST_PER_TOKEN * context and len(encoded) < 20
