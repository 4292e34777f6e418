"""The Learning screen in a browser, and the state of training as the whole window tells it."""

from __future__ import annotations

import pytest

from rlhf_chat.errors import Notice
from tests.browser.window import button, go_to, send, wait_for

pytestmark = pytest.mark.browser


def as_at_first(worker) -> None:
    """Two rounds and one version, as before other tests."""
    del worker._rounds[2:], worker._versions[2:]
    vars(worker).update(live=1, waiting=3, began=None, stopped_at=-1)


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
            expect(page.locator(place)).to_contain_text("min left: writing the base")
        wait_for(page, lambda: "New ratings count for round" in told(page))
        expect(page.locator(".status-bar.busy")).to_contain_text("Training")
        go_to(page, "chat")
        send(page, "echo go on")
        page.get_by_label("Like", exact=True).last.click()
        expect(page.locator("#chat-note")).to_contain_text("min left: writing the base")
    finally:
        served.worker.round_seconds = seconds
        served.worker.stop_round()
        served.worker.stopped_at = -1


def test_what_is_told_of_a_moment_goes_when_it_has_passed(page, served):
    """An action's note is no longer there once the state it told of is another one."""
    from playwright.sync_api import expect

    as_at_first(served.worker)
    seconds, served.worker.round_seconds = served.worker.round_seconds, 4.0
    try:
        send(page, "echo rate this")
        page.get_by_label("Like", exact=True).last.click()
        expect(page.locator("#chat-note")).to_contain_text("Saved. 4 of 12 ratings.")
        served.worker.waiting = 7
        expect(page.locator("#chat-note")).to_have_text("Saved.")
        go_to(page, "versions")
        button(page, "Make live: base").click()
        expect(page.locator("#versions-note")).to_have_text("The original model is live.")
        expect(page.locator("#status-bar")).to_contain_text("base live")
        served.worker.live = 1
        expect(page.locator("#versions-note")).to_have_text("")
        go_to(page, "learning")
        button(page, "Train now").click()
        expect(page.locator("#learning-note")).to_contain_text("A round starts now.")
        expect(page.locator("#status-bar")).to_contain_text("v2 live")
        expect(page.locator("#learning-note")).to_have_text("")
    finally:
        served.worker.round_seconds = seconds
        as_at_first(served.worker)


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


def test_what_changed_is_told_before_any_number(page, served):
    from playwright.sync_api import expect

    as_at_first(served.worker)
    go_to(page, "learning")
    expect(page.locator("#changed .told")).to_contain_text("shorter replies, fewer lists")
    expect(page.locator("#changed .example")).to_have_count(2)
    expect(page.locator("#changed del").first).to_be_visible()
    expect(page.locator("#plots")).to_be_hidden()
    expect(page.locator("#now .last")).to_contain_text("it moved too far from the original model")
    for word in ("log-odds", "nats", "KL", "p ="):  # for anybody: the numbers are among the details
        expect(page.locator("#first-layer")).not_to_contain_text(word)
    open_details(page)
    page.locator("#rounds .round").first.locator("summary").first.click()
    expect(page.locator("#rounds .missed")).to_contain_text("9.3 nats")


def test_the_next_step_is_one_button_and_opens_a_blind_duel(page, served):
    from playwright.sync_api import expect

    as_at_first(served.worker)
    go_to(page, "learning")
    step = page.locator("#next-step")
    expect(step).to_have_text("Vote blind")
    expect(page.locator("#tab-learning button.primary:visible")).to_have_count(1)
    step.click()
    expect(page.locator("#tab-compare-button")).to_have_attribute("aria-selected", "true")
    page.wait_for_selector("#vote-a:enabled")
    assert served.compare.asked[-1][1] == (0, 1)


def open_details(page):
    go_to(page, "learning")
    page.get_by_role("button", name="Details for those who know RLHF").click()
    page.locator("#plots svg.marks").first.wait_for()
    page.wait_for_timeout(500)


def test_charts_tell_values_zoom_together_and_lay_rounds_over_each_other(page, served):
    """Under the window's own policy, and with nothing asked of another host (the fixture)."""
    from playwright.sync_api import expect

    as_at_first(served.worker)
    open_details(page)
    charts = page.locator("#plots svg.marks:visible")
    expect(charts).to_have_count(3)  # the toy stores no "reward"
    expect(page.locator("#absent")).to_contain_text("Not stored by these rounds: Reward.")
    charts.first.scroll_into_view_if_needed()
    box = charts.first.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.5, middle)
    expect(page.locator("#vg-tooltip-element, .vg-tooltip").first).to_contain_text("Round 2")
    expect(page.locator("#whole-range")).to_be_hidden()
    page.mouse.move(box["x"] + box["width"] * 0.4, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, middle, steps=5)
    page.mouse.up()
    expect(page.locator("#whole-range")).to_be_visible()
    expect(page.locator("#measures-zoom")).to_have_count(0)
    page.locator("#whole-range").click()
    expect(page.locator("#whole-range")).to_be_hidden()
    page.get_by_label("Rounds to compare").click()
    for name in ("Round 1", "Round 2"):
        page.get_by_role("option", name=name).click()
    expect(charts.first).to_contain_text("Round 1")
    strokes = "all => all.map(e => e.getAttribute('stroke')).filter(Boolean)"
    wait_for(
        page, lambda: len({*charts.first.locator(".mark-line path").evaluate_all(strokes)}) == 2
    )
    expect(page.locator("#measures thead")).to_contain_text("Round 1")
    page.keyboard.press("Escape")
    page.get_by_label("rounds", exact=True).check()
    expect(page.locator("#plots svg.marks:visible").first).to_contain_text("round")
    page.get_by_label("Policy", exact=True).check()
    expect(page.locator("#absent")).to_contain_text("Entropy")


def test_details_follow_a_running_round_and_rest_while_they_are_shut(page, served):
    from playwright.sync_api import expect

    seconds, served.worker.round_seconds = served.worker.round_seconds, 8.0
    try:
        open_details(page)
        newest = page.locator("#measures thead th").last
        before = newest.inner_text()
        button(page, "Train now").click()
        expect(newest).not_to_have_text(before)
        page.get_by_role("button", name="Details for those who know RLHF").click()
        expect(page.locator("#plots")).to_be_hidden()
        wait_for(page, lambda: served.worker.status().round_id is None)
        page.wait_for_timeout(1500)
        open_details(page)
        expect(page.locator("#rounds .round").first).to_contain_text("Promoted")
    finally:
        served.worker.round_seconds, served.worker.live = seconds, 1


def test_conditions_for_rounds_are_saved_as_they_are_ticked(page, served):
    from playwright.sync_api import expect

    go_to(page, "learning")
    box = page.get_by_label("on mains power")
    box.check()
    expect(page.locator("#learning-note")).to_contain_text("Saved. Train now")
    wait_for(page, lambda: served.worker.conditions == ["mains"])
    box.uncheck()
    expect(page.locator("#learning-note")).to_contain_text("Ratings start a round at any time")
    wait_for(page, lambda: served.worker.conditions == [])
