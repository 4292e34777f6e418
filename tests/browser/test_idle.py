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


AFTER = """act => new Promise(done => {
    const ask = window.fetch;
    let asked = 0;
    window.fetch = (...what) => {
        if (String(what[0]).endsWith('changes')) {
            if (asked) { window.fetch = ask; done(performance.now() - asked); }
            else { asked = performance.now(); eval(act); }
        }
        return ask(...what);
    };
})"""


def test_what_is_done_on_the_page_shows_soon(page):
    """A rating is counted in the status bar before the page would have asked by itself, which is
    three seconds after it asked last."""
    for act in (
        "document.body.click()",
        "document.body.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true}))",
    ):
        assert page.evaluate(AFTER, act) < 2000
