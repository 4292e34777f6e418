"""A page that is open and at which nothing happens."""

from __future__ import annotations

from tests.browser.window import watched

COUNTED = """(() => {
    const ask = window.requestAnimationFrame.bind(window);
    window.framesAsked = 0;
    window.requestAnimationFrame = call => { window.framesAsked++; return ask(call); };
})()"""


def test_an_open_page_rests_until_something_changes(browser, served):
    """A clock that draws and a loading sign that never ends would take a quarter of a core."""
    from playwright.sync_api import expect

    context = browser.new_context()
    try:
        context.add_init_script(COUNTED)
        page, asked = watched(context, served.url), []
        page.wait_for_timeout(5000)
        page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
        before = page.evaluate("window.framesAsked")
        page.wait_for_timeout(4000)
        assert page.evaluate("window.framesAsked") - before < 60  # of 240
        assert asked and set(asked) == {"changes"}
        served.worker.waiting += 1
        expect(page.locator("#status-bar")).to_contain_text(str(served.worker.waiting))
    finally:
        context.close()
