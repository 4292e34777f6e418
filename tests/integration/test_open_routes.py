"""What the running app answers: the list of open routes against the routes that Gradio has, and odd
requests, which leave no traceback.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from rlhf_chat.chat.message_feedback import MessageFeedback
from rlhf_chat.ui import app, changes, open_routes, transcript
from rlhf_chat.ui.checked_blocks import fits
from rlhf_chat.ui.rating_panel import chips_for
from tests.entered import entered
from tests.fake_app import ToyChat, parts

# What is open, written down a second time: a change of the list is a decision.
OPEN = {
    "GET /",
    "HEAD /",
    "GET /gradio_api/startup-events",
    "GET /gradio_api/app_id",
    "GET /assets/{path:path}",
    "GET /static/{path:path}",
    "GET /theme.css",
    "GET /favicon.ico",
    "GET /manifest.json",
    "POST /gradio_api/run/{api_name}",
    "POST /gradio_api/queue/join",
    "GET /gradio_api/queue/data",
}
LINK = {
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    url = app.launch(
        *parts(ToyChat(word_seconds=0)),
        port=free_port(),
        prevent_thread_lock=True,
        data_dir=tmp_path_factory.mktemp("data"),
    )
    with entered(url) as client:
        yield client
    app.close()


def routes(router: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(method, path) of everything a router serves, those it includes and mounts too."""
    for route in router.routes:
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        if hasattr(route, "methods"):
            yield from ((method, prefix + route.path) for method in route.methods or ())
        elif hasattr(inner, "routes"):
            within = getattr(route, "prefix", "") or getattr(route, "path", "")
            yield from routes(inner, prefix + within)


def filled(path: str, word: str) -> str:
    return re.sub(r"\{[^}]*\}", word, path)


def test_of_the_routes_that_gradio_has_only_the_listed_ones_answer(web):
    from gradio.routes import API_PREFIX

    found = set(routes(app._running.app))
    paths = {path for _, path in found}
    assert len(found) > 60 and f"{API_PREFIX}/upload" in paths and "/pwa_icon/{size}" in paths
    answering = set()
    for method, path in sorted(found):
        for word in ("predict", "20000", "js/iframeResizer.contentWindow.min.js", "index.js"):
            asked = httpx.URL(filled(path, word)).path
            if open_routes.open_route(method, asked) is not None:
                answering.add(f"{method} {path}")
        if f"{method} {path}" not in OPEN:
            answer = web.request(method, filled(path, "20000"))
            assert answer.status_code == 404, (method, path)
            assert method == "HEAD" or answer.text == "There is nothing here."
    assert answering == OPEN


def test_every_open_route_is_one_that_gradio_has(web):
    found = [
        (m, re.compile(re.sub(r"\\\{[^}]*\\\}", ".+", re.escape(p))))
        for m, p in routes(app._running.app)
    ]
    for route in open_routes.OPEN:
        if route.path == changes.PATH:
            continue  # answered by us
        example = re.sub(r"\\(.)", r"\1", route.path).replace(open_routes.FILE, "x.js")
        assert any(m == route.method and p.fullmatch(example) for m, p in found), route


@pytest.mark.parametrize(
    "asked",
    [
        ("GET", "pwa_icon/20000"),
        ("GET", "pwa_icon"),
        ("GET", "pwa_icon/-1"),
        ("POST", "gradio_api/upload"),
        ("GET", "gradio_api/proxy=https://example.com"),
        ("GET", "gradio_api/file=/etc/passwd"),
        ("POST", "gradio_api/vibe-edit"),
        ("GET", "gradio_api/dev/reload"),
        ("GET", "gradio_api/info"),
        ("GET", "gradio_api/heartbeat/x"),
        ("POST", "gradio_api/run/search"),
        ("POST", "gradio_api/api/predict"),
        ("POST", "gradio_api/call/search"),
        ("POST", "gradio_api/cancel"),
        ("GET", "config"),
        ("GET", "logout"),
        ("GET", "static/img/logo.svg"),
        ("GET", "assets/../index.html"),
        ("GET", "assets/.hidden"),
        ("PUT", ""),
        ("DELETE", "theme.css"),
        ("GET", "theme.css/"),
    ],
)
def test_what_the_page_does_not_use_is_not_there(web, asked):
    assert web.request(*asked).status_code == 404


def test_only_the_window_itself_is_opened_by_a_link_from_elsewhere(web):
    assert web.get("", headers=LINK).status_code == 200
    for path in ("pwa_icon/512", "theme.css", "manifest.json", "gradio_api/startup-events"):
        assert web.get(path, headers=LINK).status_code == 403


def test_icons_come_from_files_in_the_sizes_that_the_manifest_names(web):
    manifest = web.get("manifest.json").json()
    assert [icon["sizes"] for icon in manifest["icons"]] == ["192x192", "512x512"]
    for size, file in open_routes.ICONS.items():
        assert Image.open(file).size == (size, size)
        assert web.get(f"pwa_icon/{size}").content == file.read_bytes()


def test_an_unknown_handler_is_not_there(web):
    for body in ({"fn_index": 99999, "data": []}, {"data": []}):
        assert web.post("gradio_api/run/predict", json=body).status_code == 404
    joined = {"fn_index": 99999, "data": [], "session_hash": "x"}
    assert web.post("gradio_api/queue/join", json=joined).status_code == 404


def test_a_file_that_an_event_names_is_refused_without_a_traceback(web, capfd):
    named = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    number = next(i for i, fn in app._running.fns.items() if fn.name == "rate")
    data = [{"conversation": "x", "turns": [], "sent": False}, "me", ""]
    body = {"fn_index": number, "data": data, "event_data": named, "session_hash": "x"}
    answer = web.post("gradio_api/run/predict", json=body)
    assert answer.status_code == 500 and "root:" not in answer.text
    assert "Traceback" not in "".join(capfd.readouterr())


def test_what_the_page_sends_fits_and_another_shape_does_not():
    chat = ToyChat(word_seconds=0)
    *_, reply = chat.reply(chat.conversations.new(), "hello", stop=threading.Event())
    turns = chat.conversations.history(chat.conversations.all()[0].id)
    blocks = {getattr(b, "elem_id", ""): b for b in app.build(*parts(chat)).blocks.values()}
    view = transcript.view("x", turns)
    chips = chips_for(reply.message_id, MessageFeedback(-1, "Too long", "", 2))
    assert chips["choices"] and fits(blocks["view"], view) and fits(blocks["reasons"], chips)
    assert fits(blocks["message"], None) and fits(blocks["needed"], 7)
    for odd in (None, [], {}, {**view, "turns": "x"}, {**view, "turns": [{}]}, {**view, "sent": 1}):
        assert not fits(blocks["view"], odd)
    assert not fits(blocks["message"], 5) and not fits(blocks["needed"], "7")


# ---- bounds ------------------------------------------------------------------------------------


async def _call(guard: open_routes.OpenRoutes, path: str, receive: Any) -> int:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    method = "POST" if path.endswith("predict") else "GET"
    await guard({"type": "http", "method": method, "path": path, "headers": []}, receive, send)
    return int(sent[0]["status"])


async def _never() -> None:
    await asyncio.sleep(60)


async def _reads(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass


def test_a_request_that_does_not_arrive_or_end_in_time_is_refused():
    async def drip() -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def works(scope: Any, receive: Any, send: Any) -> None:
        await _never()

    slow = open_routes.OpenRoutes(_reads, body_seconds=0.2)
    assert asyncio.run(_call(slow, "/gradio_api/run/predict", drip)) == 408
    endless = open_routes.OpenRoutes(works, answer_seconds=0.2)
    assert asyncio.run(_call(endless, "/theme.css", _never)) == 408


def test_requests_beyond_the_limit_are_refused_at_once():
    async def works(scope: Any, receive: Any, send: Any) -> None:
        await _never()

    async def both() -> int:
        guard = open_routes.OpenRoutes(works, most=1)
        first = asyncio.create_task(_call(guard, "/gradio_api/queue/data", _never))
        await asyncio.sleep(0)
        status = await _call(guard, "/theme.css", _never)
        first.cancel()
        return status

    assert asyncio.run(both()) == 503


# ---- odd requests ------------------------------------------------------------------------------

ODD: list[Any] = [
    None,
    True,
    -1,
    1e308,
    10**30,
    "",
    "x" * 300,
    "\ud800",
    "\0",
    [],
    [[]],
    {},
    {"a": 1},
    {"conversation": "x", "turns": [], "sent": False},
    {"conversation": "x", "turns": [{"role": "assistant"}], "sent": False},
    {"conversation": 5, "turns": "x", "sent": None},
    {"index": 10**9, "value": None},
    {"index": "x", "value": [], "liked": True},
    {"index": 0, "value": {"text": 1}, "previous_value": None},
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"do": "delete", "id": "nothing", "message_id": "x"},
]
PATHS = ["run/predict", "queue/join", "queue/data", "upload", "cancel", "run/search", "%00", "//"]


def _odd_call(web: httpx.Client, rng: random.Random, fns: dict[int, Any]) -> None:
    number = rng.choice([*fns, *fns, *fns, -1, 10**9, None, "x"])
    takes = len(fns[number].inputs) if number in fns else 2
    body: Any = {
        "fn_index": number,
        "data": [rng.choice(ODD) for _ in range(takes + rng.choice([0, 0, 0, 0, 1, -1]))],
        "event_data": rng.choice(ODD),
        "trigger_id": rng.choice([None, 1, -5]),
        "session_hash": rng.choice([uuid.uuid4().hex, "", None]),
    }
    if rng.random() < 0.15:
        body = rng.choice([*ODD, {**body, "data": rng.choice(ODD)}])
    raw = json.dumps(body).encode()
    if rng.random() < 0.1:
        raw = rng.choice([raw[: len(raw) // 2], b"[" * 5000, b"\xff\xfe", b""])
    path = rng.choice(["run/predict"] * 6 + ["queue/join"] * 3 + PATHS)
    kind = rng.choice(["application/json"] * 5 + ["text/plain", "multipart/form-data"])
    method = rng.choice(["POST"] * 8 + ["GET", "PUT", "OPTIONS"])
    if path == "queue/data":
        method, path = "GET", f"queue/data?session_hash={uuid.uuid4().hex}"
    try:
        answer = web.request(
            method, f"gradio_api/{path}", content=raw, headers={"Content-Type": kind}
        )
    except httpx.RemoteProtocolError:
        raise AssertionError((method, path, raw[:500])) from None
    assert "Traceback" not in answer.text


def test_hundreds_of_odd_requests_leave_no_traceback(web, capfd, caplog):
    rng = random.Random(0)
    fns = dict(app._running.fns)
    for _ in range(400):
        _odd_call(web, rng, fns)
    until = time.monotonic() + 20
    while any(app._running._queue.active_jobs) and time.monotonic() < until:
        time.sleep(0.05)
    told = "".join(capfd.readouterr())
    assert "Traceback" not in told, told[told.index("Traceback") - 200 :][:3000]
    tracebacks = [record.getMessage() for record in caplog.records if record.exc_info]
    assert tracebacks == []
    assert web.get("").status_code == 200
