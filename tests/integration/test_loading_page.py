"""The page that is shown while the app starts: what it answers and to whom, the steps it names, why
a start failed, and that the app really gets its port."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from rlhf_chat.errors import ModelError, PortError
from rlhf_chat.inference.model import Model
from rlhf_chat.ui import running_app, security
from rlhf_chat.ui.loading_page import STEPS, LoadingPage
from tests import processes
from tests.entered import entered
from tests.integration.test_app import PATIENCE, command, environment, free_port

FIRST_ANSWER_SECONDS = 10  # 0.3 on a quiet machine


@pytest.fixture
def page() -> Iterator[LoadingPage]:
    with LoadingPage(free_port()) as opened:
        yield opened


def ask(page: LoadingPage, path: str = "", method: str = "GET", **headers: str) -> httpx.Response:
    """As the page does that was opened with the token."""
    cookie = page.entry.set_cookie().partition(";")[0]
    return httpx.request(method, page.url + path, headers={"Cookie": cookie, **headers})


def state(page: LoadingPage, language: str = "en") -> dict:
    return ask(page, "loading.json", **{"Accept-Language": language}).json()


@pytest.mark.parametrize("step", STEPS)
def test_each_step_is_named_in_the_language_of_the_page(page, step):
    page.step(step)
    english, chinese = state(page), state(page, "zh-CN")
    assert english["step"] == chinese["step"] == step
    assert re.search("[a-z]", english["text"]) and not re.search("[a-z]{3}", chinese["text"])
    assert english["text"] in ask(page).text
    assert "so far" in english["time"] and not english["failed"]


def test_the_page_asks_nobody_else_and_runs_only_its_own_script(page):
    answer = ask(page, **{"Accept-Language": "zh"})
    assert '<html lang="zh">' in answer.text and "http" not in answer.text
    assert not re.search(r"\bsrc=|@import|url\(", answer.text)
    policy = answer.headers["content-security-policy"]
    for tag in ("script", "style"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_only_two_paths_answer(page):
    for path in ("config", "favicon.ico", "loading.json/x", "../README.md", "gradio_api/info"):
        assert ask(page, path).status_code == 404, path
    for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS"):
        assert ask(page, method=method).status_code == 404, method
    assert ask(page, "?__theme=dark").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1:1", ""])
@pytest.mark.parametrize("path", ["", "loading.json"])
def test_a_foreign_host_is_refused(page, host, path):
    port = httpx.URL(page.url).port
    answer = ask(page, path, Host=host.format(port=port))
    assert answer.status_code == 400 and not answer.text
    assert ask(page, Host=f"localhost:{port}").status_code == 200


def test_another_sites_page_is_refused(page):
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = ask(page, "loading.json", **headers)
        assert answer.status_code == 403
        for name in security.HEADERS:
            assert name in answer.headers


def test_a_failed_start_is_told_to_a_page_that_is_open_and_waits_for_no_other():
    began = time.monotonic()
    with pytest.raises(ModelError), LoadingPage(free_port()):
        raise ModelError("model.demo_missing")
    assert time.monotonic() - began < 2

    seen: list[dict] = []
    with pytest.raises(ModelError), LoadingPage(free_port()) as page:
        assert not state(page)["failed"]
        later = threading.Timer(0.3, lambda: seen.append(state(page)))
        later.start()
        raise ModelError("model.not_found", name="<b>x</b>")
    later.join()
    assert seen[0]["failed"]
    assert seen[0]["text"] == str(ModelError("model.not_found", name="<b>x</b>"))


def test_a_port_in_use_is_refused(page):
    with pytest.raises(PortError, match="in use"):
        LoadingPage(int(httpx.URL(page.url).port or 0))


def test_the_port_is_free_at_once_while_pages_go_on_asking():
    """As for Gradio: SO_REUSEADDR, bind, listen."""
    port, ended = free_port(), threading.Event()

    def ask() -> None:
        while not ended.is_set():
            with socket.socket() as client:
                client.settimeout(0.2)
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    client.sendall(
                        f"GET /loading.json HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()
                    )
                    time.sleep(0.01)  # the request is not complete

    pages = [threading.Thread(target=ask) for _ in range(8)]
    for one in pages:
        one.start()
    try:
        for _ in range(10):
            with LoadingPage(port):
                time.sleep(0.05)
            with socket.socket() as app:
                app.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                app.bind(("127.0.0.1", port))
                app.listen()
    finally:
        ended.set()
        for one in pages:
            one.join()


def test_loading_reports_its_steps(toy_folder):
    steps: list[str] = []
    Model.load(str(toy_folder), quantization="nf4", report=steps.append)
    assert steps == ["reading", "packing"]
    steps.clear()
    Model.load(str(toy_folder), quantization="none", report=steps.append)
    assert steps == ["reading"]


def test_the_page_answers_long_before_the_app_and_hands_over_its_port(tmp_path):
    began = time.monotonic()
    with started(tmp_path, free_port()) as process:
        while not (entry := running_app.find(tmp_path)):
            assert process.poll() is None and time.monotonic() - began < FIRST_ANSWER_SECONDS
            time.sleep(0.05)
        web = entered(entry.ticket_address())
        steps: list[str] = []
        while True:
            try:
                answer = web.get("loading.json", timeout=30)
            except httpx.TransportError:
                assert process.poll() is None
                assert steps or time.monotonic() - began < FIRST_ANSWER_SECONDS
                assert time.monotonic() - began < PATIENCE
                continue
            if answer.status_code != 200:
                break
            if (step := answer.json()["step"]) not in steps:
                steps.append(step)
            time.sleep(0.02)
        assert steps[0] == "starting" and steps == [step for step in STEPS if step in steps]
        assert len(steps) > 2  # one that is over within 20 ms is not seen
        assert "gradio" in web.get("").text.lower()  # the cookie of the loading page is good here


@pytest.fixture
def default_sighup() -> Iterator[None]:
    """Tests that run under `nohup` would hand it down to the app, which then does not mind."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
@pytest.mark.usefixtures("default_sighup")
@pytest.mark.parametrize(
    ("name", "seconds"), [("SIGINT", 0.3), ("SIGTERM", 0.0), ("SIGTERM", 0.5), ("SIGHUP", 1.0)]
)
def test_a_signal_while_the_app_loads_ends_it_in_order(tmp_path, name, seconds):
    """So long after its page is up: amid imports, or as the model is loaded."""
    with started(tmp_path, free_port(), getattr(signal, name)) as process:
        began = time.monotonic()
        while not running_app.find(tmp_path):
            assert process.poll() is None and time.monotonic() - began < PATIENCE
            time.sleep(0.05)
        time.sleep(seconds)
    assert not running_app.find(tmp_path)
    left = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    assert not {name for name in left if name.endswith(("-wal", "-shm", ".new"))}, left


class started:
    """The app with the bundled model, in a process of its own; ended with Ctrl+C, or as told."""

    def __init__(self, data: Path, port: int, end: signal.Signals = signal.SIGINT) -> None:
        self._end = end
        self.process = subprocess.Popen(
            command(data, "demo", "--port", str(port)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )

    def __enter__(self) -> subprocess.Popen:
        return self.process

    def __exit__(self, *_: object) -> None:
        processes.end(self.process, self._end, 120)
        assert self.process.returncode == 0
