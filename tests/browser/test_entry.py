"""The door in Chromium: the token leaves the address, the cookie stays, and who has neither is told
how to get in."""

from __future__ import annotations

import http.server
import threading

from playwright.sync_api import expect

from rlhf_chat.ui.entry import Entry
from rlhf_chat.ui.loading_page import LoadingPage
from tests.browser.window import open_page
from tests.entered import base_of
from tests.integration.test_app import free_port


def test_the_token_leaves_the_address_and_a_reload_still_enters(browser, served):
    context = browser.new_context()
    page = context.new_page()
    open_page(page, served.url.replace("?", "?c=&"))
    assert "token" not in page.url and page.url.endswith("?c=")
    for again in (page.reload, lambda: page.evaluate("location.reload()")):
        again()
        page.wait_for_selector("#message textarea")
    (cookie,) = context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    assert page.evaluate("document.cookie") == ""
    context.close()


def test_a_window_without_the_cookie_says_how_to_get_in(browser, served):
    context = browser.new_context()
    page = context.new_page()
    assert page.goto(base_of(served.url)).status == 401
    expect(page.locator("p").first).to_contain_text("terminal")
    open_page(page, served.url)
    other = context.new_page()
    open_page(other, base_of(served.url))  # the same browser is in
    context.close()


def test_a_link_from_a_file_or_another_site_enters_and_stays_in(browser, served, tmp_path):
    """The browser sends no cookie with such a request, and must have the page and its cookie from
    the first answer: SameSite=Strict."""
    link = tmp_path / "link.html"
    link.write_text(f'<a id="go" href="{served.url}">open</a>')
    context = browser.new_context()
    page = context.new_page()
    page.goto(link.as_uri())
    page.click("#go")
    page.wait_for_selector("#message textarea")
    page.wait_for_selector(".status-bar span:last-child")
    assert "token" not in page.url
    page.reload()
    page.wait_for_selector("#message textarea")
    context.close()


def test_the_manifest_and_its_icons_come_without_a_complaint(browser, served):
    context = browser.new_context()
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    refused: list[str] = []
    page.on("response", lambda r: refused.append(r.url) if r.status in (401, 403) else None)
    open_page(page, served.url)
    session = context.new_cdp_session(page)
    manifest = session.send("Page.getAppManifest")
    assert "RLHF Chat" in manifest["data"] and manifest["errors"] == []
    assert wrong == [] and refused == []
    context.close()


class App(http.server.BaseHTTPRequestHandler):
    """What answers once the app is there: the app to who has the cookie."""

    door: Entry

    def do_GET(self) -> None:
        known = self.door.set_cookie().partition(";")[0] in (self.headers["Cookie"] or "")
        self.send_response((200 if self.path == "/" else 404) if known else 401)
        self.end_headers()
        self.wfile.write(b"the app" if known else b"no entry")

    def log_message(self, *_: object) -> None:
        pass


def test_the_loading_page_hands_its_visitor_on_to_the_app(browser, tmp_path):
    App.door = door = Entry(free_port())
    link = tmp_path / "link.html"
    link.write_text(f'<a id="go" href="{door.ticket_address()}">open</a>')
    context = browser.new_context()
    tab, other = context.new_page(), context.new_page()
    with LoadingPage(door.port, door):
        other.goto(link.as_uri())
        other.click("#go")  # the ticket is used up, the cookie is there
        for page in (other, tab):
            if page is tab:
                tab.goto(f"http://127.0.0.1:{door.port}/")
            expect(page.locator("#step")).to_have_text("Starting")
            assert "token" not in page.url
    server = http.server.ThreadingHTTPServer(("127.0.0.1", door.port), App)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for page in (tab, other):
            expect(page.locator("body")).to_have_text("the app")
    finally:
        server.shutdown()
        server.server_close()
        context.close()
