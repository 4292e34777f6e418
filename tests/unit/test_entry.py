"""Who may enter: the token, tickets, the cookie; and how a second start finds the app."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rlhf_chat.ui import entry, running_app
from rlhf_chat.ui.entry import Entry, Verdict


def judge(door: Entry, query: str = "", cookie: str = "", path: str = "/") -> Verdict:
    return door.judge("GET", path, query, {"cookie": cookie} if cookie else {})


def query(address: str) -> str:
    return urlsplit(address).query


def cookie(door: Entry) -> str:
    return door.set_cookie().partition(";")[0]


def test_each_start_has_a_token_of_its_own() -> None:
    tokens = {Entry(7860).token for _ in range(50)}
    assert len(tokens) == 50 and all(len(token) >= 43 for token in tokens)  # 32 random bytes


def test_the_cookie_is_for_this_port_and_out_of_reach_of_scripts_and_other_sites() -> None:
    first, *more = Entry(7861, token="t").set_cookie().split("; ")
    assert first == "rlhf_chat_7861=t" and more == ["HttpOnly", "SameSite=Strict", "Path=/"]


def test_the_token_opens_the_page_and_the_cookie_everything() -> None:
    door = Entry(7860)
    assert judge(door, query(door.address())) is Verdict.NEWCOMER
    for path in ("/", "/theme.css", "/nothing"):
        assert judge(door, cookie=cookie(door), path=path) is Verdict.KNOWN
        assert judge(door, cookie=f"a=b; {cookie(door)}; c", path=path) is Verdict.KNOWN
    assert door.judge("POST", "/gradio_api/run/predict", "", {"cookie": cookie(door)}) is (
        Verdict.KNOWN
    )


@pytest.mark.parametrize(
    "given",
    [
        "",
        "token=",
        "token=x",
        "token={t}x",
        "token={t}&token={t}",
        "t={t}",
        "token=%ff%00",
        "&" * 99,
    ],
)
def test_a_word_that_is_not_the_token_opens_nothing(given: str) -> None:
    door = Entry(7860)
    assert judge(door, given.replace("{t}", door.token)) is Verdict.STRANGER


@pytest.mark.parametrize(
    "given",
    ["rlhf_chat_7860=", "rlhf_chat_7860=\xff\udc80", "rlhf_chat_7861={t}", "{t}", "={t}", ";;=;"],
)
def test_a_cookie_that_is_not_the_token_opens_nothing(given: str) -> None:
    door = Entry(7860)
    assert judge(door, cookie=given.replace("{t}", door.token)) is Verdict.STRANGER


def test_the_token_opens_the_page_only() -> None:
    door = Entry(7860)
    word = query(door.address())
    for method, path in (("GET", "/theme.css"), ("POST", "/"), ("HEAD", "/"), ("GET", "//")):
        assert door.judge(method, path, word, {}) is Verdict.STRANGER


def test_what_needs_no_cookie_says_nothing_about_anybody() -> None:
    door = Entry(7860)
    for path in entry.OPEN_TO_ALL:
        assert judge(door, path=path) is Verdict.KNOWN
        assert door.judge("POST", path, "", {}) is Verdict.STRANGER
    assert not any(word in path for path in entry.OPEN_TO_ALL for word in ("run", "queue", "theme"))


def test_a_ticket_is_good_once() -> None:
    """It stands in the list of processes, where the token must not."""
    door = Entry(7860)
    address = door.ticket_address()
    assert door.token not in address
    assert judge(door, query(address)) is Verdict.NEWCOMER
    assert judge(door, query(address)) is Verdict.STRANGER
    assert judge(door, query(door.ticket_address())) is Verdict.NEWCOMER


def test_a_ticket_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    door, begin = Entry(7860), 1_000_000
    monkeypatch.setattr(entry.time, "time", lambda: begin)
    early, late = door.ticket_address(), door.ticket_address()
    monkeypatch.setattr(entry.time, "time", lambda: begin + entry.TICKET_SECONDS)
    assert judge(door, query(early)) is Verdict.NEWCOMER
    monkeypatch.setattr(entry.time, "time", lambda: begin + entry.TICKET_SECONDS + 1)
    assert judge(door, query(late)) is Verdict.STRANGER


def test_a_ticket_cannot_be_made_longer_or_elsewhere() -> None:
    door = Entry(7860)
    until, nonce, signature = query(door.ticket_address()).removeprefix("token=").split(".")
    for made in (
        f"{int(until) + 1}.{nonce}.{signature}",
        f"{until}.{nonce}x.{signature}",
        f"{until}.{nonce}.{door.proof(f'{until}.{nonce}')}",  # what anybody may ask for
        f"{until}.{nonce}.",
        "..",
    ):
        assert judge(door, f"token={made}") is Verdict.STRANGER
    assert judge(door, query(Entry(7860).ticket_address())) is Verdict.STRANGER


def test_every_secret_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def never(given: bytes, right: bytes) -> bool:
        asked.append(right)
        return False

    door = Entry(7860)
    addresses = door.address(), door.ticket_address()
    monkeypatch.setattr(entry.hmac, "compare_digest", never)
    assert {judge(door, query(one)) for one in addresses} == {Verdict.STRANGER}
    assert judge(door, cookie=cookie(door)) is Verdict.STRANGER
    assert asked.count(door.token.encode()) >= 3


def test_without_a_token_nobody_is_asked_and_no_address_has_one() -> None:
    door = Entry(7860, required=False)
    assert judge(door, path="/gradio_api/run/predict") is Verdict.KNOWN
    assert door.address() == door.ticket_address() == "http://127.0.0.1:7860/"


# ---- a second start ----------------------------------------------------------------------------


class Port:
    """Something that answers on a port, and remembers what it was asked."""

    def __init__(self, answer: str | None, key: Entry | None = None) -> None:
        asked: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path + str(self.headers))
                nonce = entry.nonce_of(urlsplit(self.path).query)
                body = (key.proof(nonce) if key else answer or "").encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.asked = asked
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.number = int(self.server.server_port)
        threading.Thread(target=self.server.serve_forever, args=[0.02], daemon=True).start()


@pytest.fixture
def port() -> Iterator[Port]:
    made = Port("yes")
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_the_running_app_is_found_and_its_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    key = Entry(1, token="secret")
    port = Port(None, key)
    try:
        running_app.tell(tmp_path, Entry(port.number, token="secret"))
        (file,) = tmp_path.iterdir()
        assert os.name != "posix" or file.stat().st_mode & 0o777 == 0o600
        found = running_app.find(tmp_path)
        assert found and (found.port, found.token, found.required) == (port.number, "secret", True)
        assert "secret" not in "".join(port.asked)
    finally:
        port.server.shutdown()
        port.server.server_close()


def test_another_program_on_that_port_is_not_taken_for_it(tmp_path: Path, port: Port) -> None:
    running_app.tell(tmp_path, Entry(port.number, token="secret"))
    assert running_app.find(tmp_path) is None
    assert port.asked and "secret" not in "".join(port.asked)


@pytest.mark.parametrize(
    "kept",
    [
        "",
        "{",
        "[]",
        "null",
        '{"port": 1}',
        '{"port": "1", "token": "t", "token_required": true}',
        '{"port": 99999, "token": "t", "token_required": true}',
        '{"port": true, "token": "t", "token_required": true}',
        '{"port": 1, "token": "", "token_required": true}',
        '{"port": 1, "token": "t", "token_required": true}',
        "[" * 5000,
    ],
)
def test_a_file_that_is_left_over_or_odd_finds_nothing(tmp_path: Path, kept: str) -> None:
    (tmp_path / running_app.FILE).write_text(kept)
    assert running_app.find(tmp_path) is None


def test_only_the_own_file_is_removed(tmp_path: Path) -> None:
    file = tmp_path / running_app.FILE
    first, second = Entry(7860), Entry(7861)
    with running_app.told(tmp_path, first):
        running_app.tell(tmp_path, second)
    assert json.loads(file.read_text())["token"] == second.token
    running_app.forget(tmp_path, second)
    assert not file.exists()
    running_app.forget(tmp_path, second)


def test_a_folder_that_cannot_be_written_is_no_reason_not_to_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_app.told(tmp_path / "nowhere", Entry(7860)):
        pass
    assert "will not find this app" in caplog.text
