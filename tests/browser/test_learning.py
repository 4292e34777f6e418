"""The Learning screen in a browser, and the state of training as the whole window tells it."""

from __future__ import annotations

import pytest

from rlhf_chat.errors import Notice
from tests.browser.window import button, go_to, send, wait_for

pytestmark = pytest.mark.browser


def told(page) -> str:
    """The state as the header says it."""
    return page.locator(".status-bar").get_attribute("title")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"waiting": 4}, "5 of 12 ratings. 7 more start round"),
        ({"waiting": 10}, "11 of 12 ratings. One more starts round"),
        ({"waiting": 11}, "12 ratings, enough: round"),
        ({"waiting": 4, "paused": True}, "Learning is paused. 5 ratings are kept"),
        ({"waiting": 4, "stopped_at": 5}, "The last round was stopped. 5 of 12 ratings."),
        ({"waiting": 4, "error": Notice("round.app_ended")}, "The app ended during this round. 5"),
    ],
)
def test_the_header_chat_compare_and_learning_say_the_same(page, served, facts, words):
    from playwright.sync_api import expect

    usual = {"waiting": 3, "paused": False, "stopped_at": -1, "error": None}
    try:
        vars(served.worker).update(usual | facts)
        send(page, "echo rate this")
        page.get_by_label("Like", exact=True).last.click()
        expect(page.locator("#chat-note")).to_contain_text(f"Saved. {words}")
        sentence = page.locator("#chat-note").inner_text().removeprefix("Saved. ")
        wait_for(page, lambda: told(page) == sentence)
        share = page.locator(".status-bar .ring").evaluate(
            "e => e.style.getPropertyValue('--share')"
        )
        assert float(share) == pytest.approx(min(served.worker.waiting / 12, 1), abs=0.01)
        go_to(page, "compare")
        expect(page.locator("#count")).to_have_text(sentence)
        go_to(page, "learning")
        expect(page.locator("#now")).to_contain_text(sentence)
    finally:
        vars(served.worker).update(usual)


def test_while_a_round_runs_all_four_tell_its_progress_and_time_left(page, served):
    from playwright.sync_api import expect

    seconds, served.worker.round_seconds = served.worker.round_seconds, 1000.0
    try:
        go_to(page, "learning")
        button(page, "Train now").click()
        for place in ("#now", "#count"):
            go_to(page, {"#now": "learning", "#count": "compare"}[place])
            expect(page.locator(place)).to_contain_text("min left: reading your ratings")
        wait_for(page, lambda: "New ratings count for round" in told(page))
        expect(page.locator(".status-bar.busy")).to_contain_text("Training")
        go_to(page, "chat")
        send(page, "echo go on")
        page.get_by_label("Like", exact=True).last.click()
        expect(page.locator("#chat-note")).to_contain_text("min left: reading your ratings")
    finally:
        served.worker.round_seconds = seconds
        served.worker.stop_round()
        served.worker.stopped_at = -1


def test_a_new_version_puts_a_dot_on_the_tab_until_it_is_looked_at(page, served):
    from playwright.sync_api import expect

    tab, live, seconds = page.locator("#tab-learning-button"), served.worker.live, 0.2
    expect(tab).not_to_have_attribute("data-new", "")
    before, served.worker.round_seconds = served.worker.round_seconds, seconds
    try:
        served.worker.train_now()
        expect(page.locator("#status-bar")).to_contain_text(f"v{live + 1} live")
        expect(tab).to_have_attribute("data-new", "")
        assert tab.get_attribute("title") == "A new version since you last looked"
        page.reload()
        expect(tab).to_have_attribute("data-new", "")
        tab.click()
        expect(tab).not_to_have_attribute("data-new", "")
        page.reload()
        page.locator(".status-bar span:last-child").wait_for()
        page.wait_for_timeout(300)
        expect(tab).not_to_have_attribute("data-new", "")
    finally:
        served.worker.round_seconds, served.worker.live = before, live
        served.worker.waiting = 3
