"""A browser, the window with a toy chat in it, and the real app with the bundled model.

Needs Playwright's Python package and a Chromium; without them these tests are skipped, except
where CI is set.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import axe_playwright_python
import pytest

from rlhf_chat.ui import app
from tests import chromium
from tests.browser.window import PATIENCE, SIZES, free_port, watched
from tests.fake_app import ToyChat, parts
from tests.processes import end

ROOT = Path(__file__).parents[2]
HOW = "no browser: pip install playwright, then playwright install chromium"


def without_browser() -> None:
    if os.environ.get("CI"):
        pytest.fail(HOW)
    pytest.skip(HOW)


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        without_browser()
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        if not Path(chromium.program(playwright)).exists():
            without_browser()
        browser = chromium.started(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    chat = ToyChat()
    chat.url = app.launch(
        *parts(chat),
        port=free_port(),
        prevent_thread_lock=True,
        data_dir=tmp_path_factory.mktemp("data"),
    )
    yield chat
    app.close()


@pytest.fixture
def page(browser, served):
    """An open window. At the end of each test: no error in the page, nothing asked of another
    host.
    """
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    page = watched(context, served.url)
    yield page
    context.close()
    assert page.wrong == [] and page.outside == []


@pytest.fixture
def opened(browser, served):
    """opened(size, **context) -> a window; each is checked for errors and outside requests."""
    contexts, pages = [], []

    def one(size: str = "laptop", **options):
        width, height = SIZES[size]
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        pages.append(watched(contexts[-1], served.url))
        return pages[-1]

    yield one
    for context in contexts:
        context.close()
    for page in pages:
        assert page.wrong == [] and page.outside == []


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core, which checks a page for accessibility."""
    return Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()


@pytest.fixture
def real_app(tmp_path):
    port = free_port()
    command = [
        sys.executable,
        "app.py",
        "--port",
        str(port),
        "--data",
        str(tmp_path / "data"),
        "--no-browser",
        "--ratings-per-round",
        "6",
    ]
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        until = time.monotonic() + 300
        while not (ready := re.search(r"Ready at (http://\S+)", Path(log.name).read_text())):
            assert process.poll() is None and time.monotonic() < until, Path(log.name).read_text()
            time.sleep(0.5)
        yield ready[1]
    finally:
        end(process, signal.SIGTERM)
        log.close()
