"""The loading page in Chromium: its script runs under its own policy, and gives way to the app."""

from __future__ import annotations

import http.server
import threading

from playwright.sync_api import expect

from rlhf_chat.errors import ModelError
from rlhf_chat.ui.loading_page import LoadingPage
from tests.integration.test_app import free_port


class App(http.server.BaseHTTPRequestHandler):
    """What answers once the app is there."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 404)
        self.end_headers()
        self.wfile.write(b"the app")

    def log_message(self, *_: object) -> None:
        pass


def test_the_page_follows_the_steps_and_becomes_the_app(browser):
    port = free_port()
    context = browser.new_context(locale="en-GB", color_scheme="dark")
    tab, wrong = context.new_page(), []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    with LoadingPage(port) as page:
        tab.goto(page.entry.address())
        expect(tab.locator("#step")).to_have_text("Starting")
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 17, 19)"
        page.step("self_test")
        expect(tab.locator("#step")).to_have_text("Testing the model")
        expect(tab.locator("#seconds")).to_contain_text("so far")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), App)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        expect(tab.locator("body")).to_have_text("the app")
    finally:
        server.shutdown()
        server.server_close()
        context.close()
    assert wrong == []


def test_a_failed_start_stays_on_the_page(browser):
    context = browser.new_context(locale="zh-CN")
    tab = context.new_page()
    try:
        with LoadingPage(free_port()) as page:
            tab.goto(page.entry.address())
            expect(tab.locator("#step")).to_have_text("正在启动")
            # The script asks by itself, so nothing waits here but the page.
            threading.Thread(target=page.fail, args=[ModelError("model.demo_missing")]).start()
            expect(tab.locator("main.failed #step")).to_contain_text("模型")
        expect(tab.locator("main.failed #seconds")).to_be_hidden()
    finally:
        context.close()
