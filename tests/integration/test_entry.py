"""The door of the running app: without its cookie nothing is answered, and a second start opens the
first one's window."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from rlhf_chat import cli
from rlhf_chat.ui import app, entry, open_routes, running_app, window
from rlhf_chat.ui.entry import Entry
from rlhf_chat.ui.loading_page import LoadingPage
from tests.entered import base_of, entered
from tests.fake_app import ToyChat, parts


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield app.launch(
        *parts(ToyChat(word_seconds=0)),
        port=free_port(),
        prevent_thread_lock=True,
        data_dir=tmp_path_factory.mktemp("data"),
    )
    app.close()


@pytest.fixture(scope="module")
def stranger(url: str) -> Iterator[httpx.Client]:
    """Another account of this machine: it can reach the port, and has no cookie."""
    with httpx.Client(base_url=base_of(url), timeout=60) as client:
        yield client


def asked() -> list[tuple[str, str]]:
    examples = [
        (route.method, re.sub(r"\\(.)", r"\1", route.path).replace(open_routes.FILE, "x.js"))
        for route in open_routes.OPEN
    ]
    more = [
        ("POST", "/gradio_api/run/search"),
        ("GET", "/config"),
        ("GET", "/nothing"),
        ("PUT", "/"),
    ]
    return [one for one in [*examples, *more] if one[1] not in entry.OPEN_TO_ALL]


@pytest.mark.parametrize("method, path", asked())
def test_another_account_gets_nothing_but_how_to_get_in(stranger, method, path):
    answer = stranger.request(method, path, json={"data": ["hello"]} if method == "POST" else None)
    assert answer.status_code == 401 and "set-cookie" not in answer.headers
    assert "RLHF" not in answer.text or path == "/"
    assert method == "HEAD" or "terminal" in answer.text


def test_a_stranger_is_told_in_the_language_of_the_browser(stranger):
    told = stranger.get("", headers={"Accept-Language": "zh"})
    assert '<html lang="zh">' in told.text and "终端" in told.text


@pytest.mark.parametrize("path", sorted(entry.OPEN_TO_ALL))
def test_what_a_browser_asks_for_without_cookies_is_answered(stranger, path):
    assert stranger.get(path).status_code == 200


def test_the_token_brings_the_page_itself_and_the_cookie(url):
    answer = httpx.get(url)
    assert answer.status_code == 200 and "gradio" in answer.text and not answer.history
    (cookie,) = answer.headers.get_list("set-cookie")
    assert f"_{httpx.URL(url).port}=" in cookie and "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie and "Path=/" in cookie
    assert entry.SCRIPT in answer.text.partition("</head>")[0]  # takes it out of the address
    assert answer.headers["cache-control"] == "no-store"


def test_the_cookie_opens_the_rest(url):
    with entered(url) as web:
        assert web.get("").status_code == 200 and "set-cookie" not in web.get("").headers
        assert web.get("theme.css").status_code == 200
        assert web.post("gradio_api/run/search", json={}).status_code == 404


@pytest.mark.parametrize("query", ["?token=x", "?token=", "?token={t}x"])
def test_a_wrong_token_does_not_open_and_says_nothing_else(url, stranger, query):
    token = httpx.URL(url).params["token"]
    wrong, none = stranger.get(query.replace("{t}", token)), stranger.get("")
    assert wrong.status_code == 401 and wrong.text == none.text


def test_a_cookie_of_another_app_on_this_host_does_not_open(url, stranger):
    token, port = httpx.URL(url).params["token"], httpx.URL(url).port
    assert port
    for cookie in (f"rlhf_chat_{port + 1}={token}", f"rlhf_chat_{port}={'x' * len(token)}"):
        assert stranger.get("", headers={"Cookie": cookie}).status_code == 401


def test_a_foreign_host_or_site_is_refused_with_the_token_too(url):
    assert httpx.get(url, headers={"Host": "evil.example"}).status_code == 400
    with entered(url) as web:
        assert web.get("theme.css", headers={"Origin": "http://evil.example"}).status_code == 403


def test_anybody_may_ask_which_app_this_is_and_learns_no_more(url, stranger):
    key = Entry(1, token=httpx.URL(url).params["token"])
    assert stranger.get("proof?nonce=hello").text == key.proof("hello")
    for query in ("", "?nonce=", f"?nonce={'x' * 65}", "?nonce=a&nonce=b"):
        assert stranger.get(f"proof{query}").status_code == 404
    assert stranger.post("proof?nonce=hello").status_code == 401


def test_without_a_token_everybody_may_enter(tmp_path):
    before = app._running
    url = app.launch(
        *parts(ToyChat(word_seconds=0)),
        port=(port := free_port()),
        entry=Entry(port, required=False),
        prevent_thread_lock=True,
        data_dir=tmp_path,
    )
    try:
        assert url == f"http://127.0.0.1:{port}/"
        assert httpx.get(url).status_code == httpx.get(f"{url}theme.css").status_code == 200
        assert httpx.get(url, headers={"Host": "evil.example"}).status_code == 400
    finally:
        app.close()
        app._running = before


# ---- the loading page --------------------------------------------------------------------------


def test_the_loading_page_has_the_same_door():
    door = Entry(free_port())
    with LoadingPage(door.port, door) as page:
        for path in ("", "loading.json", "nothing", "?token=x"):
            answer = httpx.get(page.url + path)
            assert answer.status_code == 401 and "terminal" in answer.text
        assert httpx.get(page.url + "proof?nonce=hello").text == door.proof("hello")
        for address in (door.address(), door.ticket_address()):
            with entered(address) as web:
                assert entry.SCRIPT in web.get("").text
                assert web.get("loading.json").json()["step"] == "starting"
        with entered(door.address("localhost")) as web:
            assert web.base_url.host == "localhost" and web.get("").status_code == 200


# ---- a second start ----------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that a browser would have been started with."""
    found: list[str] = []
    monkeypatch.setattr(window, "show", lambda url, **_: bool(found.append(url)) or True)
    return found


@pytest.mark.parametrize("flags", [[], ["--window"], ["--window", "--no-browser"]])
def test_a_second_start_opens_the_first_ones_window(tmp_path, capsys, shown, flags):
    door = Entry(free_port())
    with LoadingPage(door.port, door) as page, running_app.told(tmp_path, door):
        assert cli.main(["--data", str(tmp_path), "--port", str(free_port()), *flags]) == 0
        (address,) = shown
        assert base_of(address) == page.url and door.token not in address
        entered(address).close()
        assert httpx.get(address).status_code == 401  # once is enough
    told = capsys.readouterr()
    assert f"Already running at {door.address()}" in told.out and not told.err
    assert [file.name for file in tmp_path.iterdir()] == []  # above all no database


def test_a_second_start_that_may_open_no_window_says_where_the_first_one_is(
    tmp_path, capsys, shown
):
    door = Entry(free_port())
    with LoadingPage(door.port, door), running_app.told(tmp_path, door):
        assert cli.main(["--data", str(tmp_path), "--no-browser"]) == 1
    told = capsys.readouterr()
    assert door.address() in told.out and "already open" in told.err and not shown


def test_of_two_starts_at_the_same_moment_one_opens_the_others_window(
    tmp_path: Path, capsys, shown, monkeypatch
):
    """The file is not there yet when the second one looks, and the port is taken when it begins."""
    door = Entry(free_port())
    real, looks = running_app.find, []

    def find(data: Path, wait: float = 0.0) -> Entry | None:
        looks.append(wait)
        if len(looks) == 1:
            return None
        running_app.tell(data, door)
        return real(data, wait)

    monkeypatch.setattr(running_app, "find", find)
    with LoadingPage(door.port, door):
        assert cli.main(["--data", str(tmp_path), "--port", str(door.port)]) == 0
    assert len(shown) == 1 and looks[1] > 0


def test_no_token_says_plainly_what_it_gives_up(capsys):
    with pytest.raises(SystemExit):
        cli.parse(["serve", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "--no-token" in told and "every account" in told and "rate in your name" in told
