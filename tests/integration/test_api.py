"""The API over HTTP, with OpenAI's own client and with curl: replies, receipts, feedback, refusals.

Left out: many clients at once (test_api_load.py), the command line (test_commands.py).
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from docs.open_webui_feedback import Action
from rlhf_chat.api import token
from rlhf_chat.errors import Refused
from rlhf_chat.inference import forward_pass
from rlhf_chat.inference.model import Model
from rlhf_chat.versions.registry import VersionRegistry
from tests import attack
from tests.api_server import TOKENS, Running, api_server, eventually

HELLO = [{"role": "user", "content": "hello how are you"}]


@pytest.fixture(scope="module")
def app(_toy: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with api_server(_toy, tmp_path_factory.mktemp("data"), at_once=2) as running:
        yield running


@pytest.fixture(scope="module")
def client(app: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=app.api, api_key=app.token, max_retries=0, timeout=60)


def post(app: Running, path: str, body: Any, **headers: str) -> Any:
    return app.http.post(f"/v1/{path}", json=body, headers=headers)


def chat(app: Running, content: Any = "hello", **more: Any) -> Any:
    messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
    answer = post(app, "chat/completions", {"model": "live", "messages": messages, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def rate(app: Running, **body: Any) -> Any:
    return post(app, "feedback", body)


def stored(app: Running, response_id: str) -> Any:
    return app.store.messages.get(response_id.partition("-")[2])


# ---------------------------------------------------------------------- replies


def test_the_models_are_the_live_one_the_base_and_each_version(client, app):
    assert [one.id for one in client.models.list()] == ["live", "base"]
    assert client.models.retrieve("base").id == "base"
    with pytest.raises(openai.NotFoundError, match="no model v9"):
        client.models.retrieve("v9")


def test_openais_client_gets_a_reply_whole_and_streamed(client, app):
    ask = {"model": "live", "messages": HELLO, "temperature": 0, "seed": 7}
    whole = client.chat.completions.create(**ask)
    pieces = list(
        client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    )
    streamed = "".join(c.delta.content or "" for p in pieces for c in p.choices)
    assert streamed == whole.choices[0].message.content
    assert pieces[-1].usage == whole.usage and whole.usage.completion_tokens <= TOKENS
    assert all(p.usage is None for p in pieces[:-1])
    ends = [c.finish_reason for p in pieces for c in p.choices if c.finish_reason]
    assert ends == [whole.choices[0].finish_reason]
    assert whole.model == "base" and whole.id.startswith("chatcmpl-")
    assert len({p.id for p in pieces}) == 1
    kept = stored(app, pieces[0].id)
    assert kept.content == streamed and kept.sampling["seed"] == 7


def test_a_completion_of_a_prompt_is_a_reply_to_one_message(client, app):
    ask = {"model": "base", "temperature": 0, "max_tokens": 5}
    made = client.completions.create(prompt=["hello how", "tell me"], **ask)
    assert [c.index for c in made.choices] == [0, 1]
    single = client.completions.create(prompt="tell me", echo=True, logprobs=2, **ask)
    assert single.choices[0].text == "tell me" + made.choices[1].text
    found = single.choices[0].logprobs
    assert len(found.tokens) == len(found.token_logprobs) == len(found.top_logprobs)
    assert all(value <= 0 for value in found.token_logprobs)
    pieces = client.completions.create(prompt="tell me", stream=True, **ask)
    assert "".join(p.choices[0].text for p in pieces) == made.choices[1].text
    kept = stored(app, single.id)
    assert kept.prompt_ids == app.chat.model.encode([{"role": "user", "content": "tell me"}])


def test_logprobs_are_those_of_the_tokens_that_were_drawn(client, app):
    made = client.chat.completions.create(
        model="live", messages=HELLO, temperature=0, logprobs=True, top_logprobs=3
    )
    kept = stored(app, made.id)
    out = app.chat.model
    with out.lease.turn():
        told = forward_pass.forward(
            out, out.reference, [kept.prompt_ids], [kept.response_ids], temperature=1.0
        )
    expected = told.logprobs[0].tolist()
    content = made.choices[0].logprobs.content
    assert [one.logprob for one in content] == pytest.approx(expected[: len(content)], abs=1e-3)
    for one in content:
        assert len(one.top_logprobs) == 3
        assert one.top_logprobs[0].logprob == pytest.approx(one.logprob)  # greedy: the likeliest
    pieces = list(
        client.chat.completions.create(
            model="live", messages=HELLO, temperature=0, logprobs=True, stream=True
        )
    )
    assert len(pieces[-1].choices[0].logprobs.content) == len(content)


def test_several_replies_are_each_a_receipt_of_their_own(client, app):
    made = client.chat.completions.create(model="live", messages=HELLO, n=3, seed=5)
    again = client.chat.completions.create(model="live", messages=HELLO, n=3, seed=5)
    texts = [c.message.content for c in made.choices]
    assert texts == [c.message.content for c in again.choices] and len(set(texts)) > 1
    ids = [c.response_id for c in made.choices]
    assert ids[0] == made.id and len(set(ids)) == 3
    kept = [stored(app, one) for one in ids]
    assert [one.content for one in kept] == texts
    assert len({one.parent_id for one in kept}) == 1
    streamed = client.chat.completions.create(
        model="live", messages=HELLO, n=3, seed=5, stream=True
    )
    told = ["", "", ""]
    for piece in streamed:
        for choice in piece.choices:
            told[choice.index] += choice.delta.content or ""
    assert told == texts


@pytest.mark.parametrize("listed", [False, True])
def test_a_reply_ends_before_a_stop_text(client, app, listed):
    ask = {"model": "live", "messages": HELLO, "temperature": 0}
    whole = client.chat.completions.create(**ask).choices[0].message.content
    stop = whole[len(whole) // 2 : len(whole) // 2 + 2]
    given = [stop, "never there"] if listed else stop
    cut = client.chat.completions.create(**ask, stop=given)
    text = cut.choices[0].message.content
    assert text == whole[: whole.index(stop)] and cut.choices[0].finish_reason == "stop"
    kept = stored(app, cut.id)
    assert app.chat.model.reads_as(kept.response_ids, kept.content)  # so that its rating counts
    pieces = client.chat.completions.create(**ask, stop=given, stream=True)
    assert "".join(p.choices[0].delta.content or "" for p in pieces) == text
    several = client.chat.completions.create(**ask, stop=given, n=2)
    assert [c.message.content for c in several.choices] == [text, text]
    # the client sends back what it was shown, and is understood
    told = [*HELLO, {"role": "assistant", "content": text}, HELLO[0]]
    after = stored(app, client.chat.completions.create(model="live", messages=told).id)
    shown = [m.content for m in app.store.messages.path_to(after.id)[:-2]]
    assert len(shown) == 2 and shown[1].startswith(text)


def test_text_parts_system_prompts_and_unknown_fields(app):
    parts = [{"type": "text", "text": "tell me"}, {"type": "text", "text": "about the sea"}]
    talk = [
        {"role": "system", "content": "you are well"},
        {"role": "developer", "content": "today"},
        {"role": "user", "content": parts, "name": "x"},
    ]
    made = chat(app, talk, temperature=0, tools=[], logit_bias={}, user="x", frequency_penalty=0)
    kept = stored(app, made["id"])
    expected = [
        {"role": "system", "content": "you are well\n\ntoday"},
        {"role": "user", "content": "tell me\nabout the sea"},
    ]
    assert kept.prompt_ids == app.chat.model.encode(expected)
    assert (
        app.store.conversations.get(kept.conversation_id).system_prompt == "you are well\n\ntoday"
    )


# ---------------------------------------------------------------------- refusals

WRONG = [
    ({"messages": "hello"}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": [1]}, "messages[0]"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
    ({"messages": [*HELLO, {"role": "assistant", "content": "x"}]}, "messages"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": -1}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": 1.5}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"seed": "x"}, "seed"),
    ({"stop": 1}, "stop"),
    ({"stop": [1]}, "stop"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": 1}, "stream_options"),
    ({"store": "no"}, "store"),
    ({"model": 3}, "model"),
    ({"logprobs": 2}, "logprobs"),
    ({"top_logprobs": 99}, "top_logprobs"),
]


@pytest.mark.parametrize(("part", "field"), WRONG)
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_type_is_400_with_one_sentence(app, part, field, stream):
    answer = post(app, "chat/completions", {"messages": HELLO, "stream": stream} | part)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["param"] == field and error["type"] == "invalid_request_error"
    assert error["message"].count(".") - error["message"].count("].") <= 2
    assert "Traceback" not in error["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_400(app, body):
    answer = app.http.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "api.no_json"


def test_what_does_not_fit_is_refused_and_nothing_is_stored(app):
    before = app.store.counts()
    for content in ("", "   ", "x" * 9000, "hello how are you " * 400, "x" * 99_999):
        answer = post(app, "chat/completions", {"messages": [{"role": "user", "content": content}]})
        assert answer.status_code == 400, content[:20]
    answer = post(app, "chat/completions", {"messages": HELLO, "model": "v7"})
    assert answer.status_code == 404 and answer.json()["error"]["param"] == "model"
    assert app.store.counts() == before


def test_a_body_that_is_too_long_is_413(app):
    answer = app.http.post("/v1/chat/completions", content=b" " * (9 * 1024 * 1024))
    assert answer.status_code == 413 and answer.json()["error"]["message"]


def test_other_paths_and_methods_answer_in_the_same_shape(app):
    assert app.http.get("/v1/nothing").json()["error"]["code"] == "api.no_route"
    assert app.http.get("/v1/chat/completions").status_code == 405
    assert app.http.post("/v1/models").status_code == 405


def test_without_the_token_nothing_is_answered(app):
    for header in ("", "Bearer", "Bearer x", f"Basic {app.token}", f"Bearer {app.token}x", "ü"):
        for path in ("/v1/models", "/v1/nothing"):
            answer = app.http.get(path, headers={"Authorization": header.encode("latin-1")})
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"] == "Bearer"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=app.api, api_key="x", max_retries=0).models.list()


def test_a_new_token_counts_at_once_and_opens_no_page(app):
    old = app.token
    assert token.make(app.data) == old and (app.data / token.NAME).stat().st_mode & 0o777 == 0o600
    new = token.make(app.data, new=True)
    assert app.http.get("/v1/models").status_code == 401
    app.http.headers["Authorization"] = f"bearer {new}"
    assert app.http.get("/v1/models").status_code == 200
    (app.data / token.NAME).write_text(old)
    app.http.headers["Authorization"] = f"Bearer {old}"
    assert app.http.get("/").status_code == app.http.get("/theme.css").status_code == 401


def test_what_is_not_the_token_of_the_api_opens_nothing_of_it(app):
    target = attack.Target(int(app.http.base_url.port), "x" * 43)
    try:
        assert attack.run(target, (attack.api_without_its_token,)) == []
    finally:
        target.close()


def test_a_foreign_page_is_refused_even_with_the_token(app):
    assert app.http.get("/v1/models", headers={"Origin": "http://evil"}).status_code == 403
    assert app.http.get("/v1/models", headers={"Host": "evil"}).status_code == 400


# ---------------------------------------------------------------------- receipts


def test_a_conversation_goes_on_in_the_chat_where_it_began(app):
    first = chat(app, "today is deep", seed=5)  # of words, so that it is a turn of its own
    told = [
        {"role": "user", "content": "today is deep"},
        {"role": "assistant", "content": first["choices"][0]["message"]["content"]},
        {"role": "user", "content": "and blue"},
    ]
    second, third = chat(app, told), chat(app, told)
    one, two, other = (stored(app, r["id"]) for r in (first, second, third))
    path = app.store.messages.path_to(two.id)
    assert [m.id for m in path[:2]] == [one.parent_id, one.id]
    assert other.parent_id == two.parent_id
    changed = [told[0], {"role": "assistant", "content": "I am well"}, told[2]]
    foreign = app.store.messages.path_to(stored(app, chat(app, changed)["id"]).id)
    assert foreign[0].id == path[0].id and foreign[1].id != one.id
    assert foreign[1].content == "I am well" and foreign[1].prompt_ids is None


def test_what_is_said_in_a_chat_while_its_deletion_can_be_undone_is_not_deleted(app):
    first = chat(app, "the sea is wide", seed=5)
    gone = stored(app, first["id"]).conversation_id
    app.chat.deletion.add(gone)
    told = [
        {"role": "user", "content": "the sea is wide"},
        {"role": "assistant", "content": first["choices"][0]["message"]["content"]},
        {"role": "user", "content": "and deep"},
    ]
    kept = [stored(app, chat(app, turns)["id"]) for turns in (told, told[:1])]
    app.chat.deletion.finish()
    assert all(app.store.messages.get(message.id).conversation_id != gone for message in kept)
    words = [m.content.strip() for m in app.store.messages.path_to(kept[0].id)[:-1]]
    assert words == [turn["content"].strip() for turn in told]
    assert chat(app, told)["choices"]  # the first message is free again


def test_a_version_that_cannot_be_made_live_is_refused(app, monkeypatch):
    told = Refused("simulation.version_is_its_own", {"version": 3})
    monkeypatch.setattr(VersionRegistry, "make_live", lambda *_: told)
    answer = post(app, "versions/live", {"model": "base"})
    assert answer.status_code == 409
    assert "simulation" in answer.json()["error"]["message"]


@pytest.mark.parametrize("how", ["header", "body"])
def test_a_client_may_keep_a_reply_out_of_the_database(app, how):
    before = app.store.counts()
    body = {"messages": HELLO, "temperature": 0, "n": 2 if how == "body" else 1}
    more = {"X-RLHF-Chat-Keep": "no"} if how == "header" else {}
    made = post(app, "chat/completions", body | ({} if more else {"store": False}), **more).json()
    assert made["choices"][0]["message"]["content"]
    assert app.store.counts() == before
    refused = rate(app, response_id=made["id"], thumb="up")
    assert refused.status_code == 404 and "kept" in refused.json()["error"]["message"]


# ---------------------------------------------------------------------- clients that go away


class Held:
    """The lease, held by a training slice until it is released."""

    def __init__(self, app: Running) -> None:
        self.lease, self.begun, self.go = app.chat.model.lease, threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.hold)

    def hold(self) -> None:
        with self.lease.slice():
            self.begun.set()
            self.go.wait(60)

    def __enter__(self) -> Held:
        self.thread.start()
        assert self.begun.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self.thread.join(60)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_place_within_one_slice(app, stream):
    """Two places: both are taken by clients that leave while training holds its slice."""
    long = {"messages": HELLO, "temperature": 0, "max_tokens": 200, "stream": stream}
    with Held(app):
        for _ in range(3):  # the third only waits for a place
            with pytest.raises(httpx.TimeoutException):
                app.http.post("/v1/chat/completions", json=long, timeout=0.3)
        eventually(lambda: app.server.places.taken == 0)
    made = chat(app, "hello")  # the places are free: this would wait for ever otherwise
    assert made["choices"][0]["message"]
    eventually(lambda: app.chat.model.lease._replies == 0)


def test_a_stopped_stream_keeps_what_was_written(app):
    body = {"messages": [{"role": "user", "content": "thank you"}], "stream": True, "seed": 1}
    with app.http.stream("POST", "/v1/chat/completions", json=body | {"max_tokens": 250}) as answer:
        for line in answer.iter_lines():
            piece = json.loads(line.removeprefix("data: ") or "{}")
            if piece and piece["choices"][0]["delta"].get("content"):
                break
    eventually(lambda: app.server.places.taken == 0)
    found = app.store.messages
    id = piece["id"].partition("-")[2]
    eventually(lambda: bool(found.get_many([id])))
    kept = found.get(id)
    assert kept.finish_reason in ("cancelled", "stop", "length") and kept.response_ids


def test_an_error_in_the_middle_is_one_more_event(app, monkeypatch):
    def broken(view: Any, prompts: Any, sampling: Any, *, seed: int) -> Iterator[Any]:
        raise RuntimeError("secret")
        yield

    monkeypatch.setattr(app.chat.generator, "stream", broken)
    answer = post(app, "chat/completions", {"messages": HELLO, "stream": True})
    events = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "data: [DONE]" and "secret" not in answer.text
    assert "error" in json.loads(events[-2].removeprefix("data: "))
    whole = post(app, "chat/completions", {"messages": HELLO})
    assert whole.status_code == 400 and whole.json()["error"]["code"] == "chat.broke_off"


# ---------------------------------------------------------------------- feedback


def test_a_thumb_counts_as_one_on_the_screen_and_can_be_withdrawn(app):
    made = chat(app, "I am well")
    given = rate(app, response_id=made["id"], thumb="up", note="good", reason="Helpful").json()
    on_screen = app.chat.ratings.of(made["id"].partition("-")[2])
    assert (on_screen.value, on_screen.comment, on_screen.reason) == (1, "good", "Helpful")
    noted = rate(app, response_id=made["id"], note="better").json()
    assert app.chat.ratings.of(made["id"].partition("-")[2]).comment == "better"
    assert app.http.delete(f"/v1/feedback/{given['id']}").status_code == 404  # replaced
    assert app.http.delete(f"/v1/feedback/{noted['id']}").json()["deleted"] is True
    assert app.http.delete(f"/v1/feedback/{noted['id']}").status_code == 404
    assert app.chat.ratings.of(made["id"].partition("-")[2]).value == 0


def test_the_same_event_is_stored_once(app):
    made = chat(app, "how deep")
    before = app.store.feedback.count()
    for body in ({"thumb": "down"}, {"stars": 4}, {"correction": "it is deep"}):
        event = f"event {sorted(body)}"
        first = rate(app, response_id=made["id"], event_id=event, **body)
        again = rate(app, response_id=made["id"], event_id=event, **body)
        assert first.status_code == 200, first.text
        assert first.json() == again.json()
    assert app.store.feedback.count() == before + 3


def test_two_replies_to_the_same_messages_are_compared_and_ranked(app):
    ids = [chat(app, "tell me today", seed=seed)["id"] for seed in (1, 2, 3)]
    one = rate(app, better=ids[1], worse=ids[0], strength="much", note="why")
    vote = app.store.feedback.preference(one.json()["id"])
    assert [vote.message_a, vote.message_b] == [id.partition("-")[2] for id in ids[:2]]
    assert (vote.outcome, vote.shown_first, vote.strength) == ("b", "a", "much")
    ranked = rate(app, ranking=[ids[2], ids[0], ids[1]], note="so").json()
    places = app.store.feedback.ranking(ranked["id"]).places
    assert [places[id.partition("-")[2]] for id in ids] == [1, 2, 0]
    elsewhere = chat(app, "tell me")["id"]
    for body in ({"better": ids[0], "worse": elsewhere}, {"ranking": [ids[0], elsewhere]}):
        refused = rate(app, **body)
        assert refused.status_code == 400 and "same message" in refused.json()["error"]["message"]
    assert rate(app, better=ids[0], worse=ids[0]).status_code == 400
    for given in (one.json(), ranked):
        assert app.http.delete(f"/v1/feedback/{given['id']}").status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"thumb": "up"}, 400),
        ({"thumb": "sideways", "response_id": "last"}, 400),
        ({"thumb": "up", "stars": 3, "response_id": "last"}, 400),
        ({"stars": 6, "response_id": "last"}, 400),
        ({"stars": 3, "note": "x", "response_id": "last"}, 400),
        ({"better": "x"}, 400),
        ({"ranking": "x"}, 400),
        ({"ranking": ["last"]}, 400),
        ({"ranking": ["last", "last"]}, 400),
        ({"thumb": "up", "response_id": "chatcmpl-nothing"}, 404),
        ({"thumb": "up", "response_id": "last", "note": "x" * 9000}, 400),
    ],
)
def test_feedback_that_cannot_be_meant_is_refused(app, body, status):
    chat(app, "hello")
    before = app.store.feedback.count()
    answer = rate(app, **body)
    assert answer.status_code == status and answer.json()["error"]["message"]
    assert app.store.feedback.count() == before


def test_feedback_is_listed_in_pages_newest_first(app):
    for stars in (1, 2, 3):
        rate(app, response_id=chat(app, f"sea {stars}")["id"], stars=stars)
    seen, after = [], ""
    while True:
        page = app.http.get("/v1/feedback", params={"limit": 2, "kind": "stars", "after": after})
        seen += [one["answer"] for one in page.json()["data"]]
        if not page.json()["has_more"]:
            break
        after = page.json()["last_id"]
    assert seen[:3] == ["3", "2", "1"]
    assert app.http.get("/v1/feedback", params={"limit": 0}).status_code == 400
    assert app.http.get("/v1/feedback", params={"after": "x"}).status_code == 404


# ---------------------------------------------------------------------- curl


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_streams_and_rates(app):
    def curl(path: str, body: Any) -> str:
        start = ["curl", "-sN", f"{app.api}/{path}", "-H", f"Authorization: Bearer {app.token}"]
        start += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        return subprocess.run(start, capture_output=True, text=True, check=True, timeout=60).stdout

    told = curl("chat/completions", {"messages": HELLO, "stream": True})
    assert told.endswith("data: [DONE]\n\n")
    id = json.loads(told.splitlines()[0].removeprefix("data: "))["id"]
    given = json.loads(curl("feedback", {"response_id": id, "thumb": "up"}))
    assert given["kind"] == "thumb"


# ---------------------------------------------------------------------- Open WebUI


def test_the_function_for_open_webui_rates_the_reply_that_was_shown(app):
    """As Open WebUI calls it, without Open WebUI."""
    function = Action()
    function.valves.url, function.valves.token = app.api, app.token
    made = chat(app, "about the sea", seed=5)  # of words
    shown = made["choices"][0]["message"]["content"]
    body = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": shown}]}
    told: list[Any] = []

    async def emit(event: Any) -> None:
        told.append(event["data"]["description"])

    for button, value in (("down", -1), ("rate_in_rlhf_chat.up", 1)):
        asyncio.run(function.action(body, button, {"name": "Ada"}, emit))
        rated = app.chat.ratings.of(made["id"].partition("-")[2], "Ada")
        assert told[-1] == "Saved in RLHF Chat." and rated.value == value
    asyncio.run(function.action({"messages": []}, "up", None, emit))
    body["messages"][1]["content"] = "never written"
    asyncio.run(function.action(body, "up", None, emit))
    function.valves.token = "x"
    asyncio.run(function.action(body, "up", None, emit))
    function.valves.url = "http://127.0.0.1:1/v1"
    asyncio.run(function.action(body, "up", None, emit))
    assert "no reply" in told[-4] and "No reply" in told[-3] and "token" in told[-2]
    assert "does not answer" in told[-1]
    assert [one["id"] for one in Action.actions] == ["up", "down"]
