"""Comparing in a browser: answers that stream and can be voted on at once, the next pair by itself,
and a journey by keys alone.
"""

from __future__ import annotations

import re
import time

import pytest

from tests.browser.window import button, draft, go_to, open_tab, press, send, wait_for, watched

pytestmark = pytest.mark.browser


@pytest.fixture
def half(served):
    """Answers stay at their first half until `half.ending` is set."""
    served.compare.ending.clear()
    yield served.compare
    served.compare.ending.set()


def asked(page) -> str:
    return page.locator("#asked .status-message").inner_text()


def next_pair(page, after: str) -> None:
    """Until another prompt than this one has answers that can be voted on."""
    wait_for(page, lambda: asked(page) not in ("", after))
    page.wait_for_selector("#vote-a:enabled")


def test_two_answers_are_written_as_soon_as_the_screen_opens_and_can_be_read_at_once(opened, half):
    page = opened()
    before = len(half.asked)
    page.wait_for_timeout(300)
    assert len(half.asked) == before  # not while another screen is open
    go_to(page, "compare")
    page.wait_for_selector("#vote-a:enabled")
    assert page.locator("#stop-drafts").is_visible()  # they are still being written
    wait_for(page, lambda: len(page.locator("#draft-a").inner_text().split()) > 10)
    assert len(half.asked) == before + 1  # the next ones begin when these are complete
    first = page.locator("#draft-a").inner_text()
    half.ending.set()
    wait_for(page, lambda: len(page.locator("#draft-a").inner_text()) > len(first) + 20)
    assert page.locator("#prompt").count() == 0 and asked(page)  # the prompt, once
    assert page.get_by_text(asked(page), exact=True).count() == 1


def test_a_vote_while_it_streams_is_saved_when_it_ends_and_the_next_pair_comes(opened, half):
    from playwright.sync_api import expect

    page, votes = opened(), len(half.votes)
    go_to(page, "compare")
    page.wait_for_selector("#vote-a:enabled")
    first = asked(page)
    press(page, "1")
    expect(page.locator("#asking")).to_contain_text("saved when both answers are complete")
    expect(page.locator("#vote-a")).to_have_class(re.compile("primary"))
    assert len(half.votes) == votes
    assert "Saved" not in page.locator("#verdict .status-message").inner_text()
    press(page, "n")  # by habit; the vote is not lost by it
    page.wait_for_timeout(300)
    half.ending.set()
    expect(page.locator("#verdict")).to_contain_text("Saved: A is better. A was v1, B was base.")
    assert list(half.votes.values())[votes:] == ["a"]
    next_pair(page, first)
    expect(page.locator("#verdict")).to_contain_text("A was v1")  # of the pair before


@pytest.mark.parametrize("key", ["Escape", "u"])
def test_an_early_vote_is_withdrawn_by_key_and_the_answers_go_on(opened, half, key):
    from playwright.sync_api import expect

    page, votes = opened(), len(half.votes)
    go_to(page, "compare")
    page.wait_for_selector("#vote-a:enabled")
    press(page, "2")
    expect(page.locator("#vote-b")).to_have_class(re.compile("primary"))
    press(page, key)
    expect(page.locator("#verdict")).to_contain_text("Withdrawn")
    expect(page.locator("#vote-b")).not_to_have_class(re.compile("primary"))
    half.ending.set()
    page.wait_for_selector("#stop-drafts", state="detached")
    expect(page.locator("#asking")).to_contain_text("Which answer is better?")
    expect(page.locator("#vote-b")).to_be_enabled()
    assert len(half.votes) == votes


def test_escape_without_a_vote_stops_the_answers(opened, half):
    from playwright.sync_api import expect

    page, votes = opened(), len(half.votes)
    go_to(page, "compare")
    button(page, "Stop").wait_for()
    press(page, "Escape")
    expect(page.locator("#asking")).to_contain_text("Stopped")
    expect(page.locator("#vote-a")).to_be_disabled()
    assert len(half.votes) == votes


def test_a_tab_that_is_closed_keeps_no_vote_that_was_not_saved(browser, served, half):
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    page, votes = watched(context, served.url), len(half.votes)
    go_to(page, "compare")
    page.wait_for_selector("#vote-a:enabled")
    press(page, "1")
    page.locator("#asking", has_text="complete").wait_for()
    context.close()
    time.sleep(1)  # the server learns of it
    half.ending.set()
    time.sleep(2)
    assert len(half.votes) == votes


def test_undo_brings_the_voted_pair_back_and_then_the_one_that_was_shown(opened, served):
    from playwright.sync_api import expect

    page, votes = opened(), len(served.compare.votes)
    go_to(page, "compare")
    page.wait_for_selector("#vote-a:enabled")
    page.wait_for_selector("#stop-drafts", state="detached")
    first = asked(page)
    press(page, "1")
    next_pair(page, first)
    second = asked(page)
    press(page, "u")
    expect(page.locator("#asked .status-message")).to_have_text(first)
    expect(page.locator("#verdict")).to_contain_text("Withdrawn")
    expect(page.locator("#vote-a")).to_be_enabled()
    expect(page.locator("#undo")).to_have_count(0)
    assert len(served.compare.votes) == votes
    page.wait_for_timeout(600)
    press(page, "2")
    expect(page.locator("#verdict")).to_contain_text("Saved: B is better.")
    expect(page.locator("#asked .status-message")).to_have_text(second)


@pytest.mark.parametrize("where", ["tab", "radio", "draft", "vote"])
def test_keys_work_wherever_the_focus_is(opened, served, where):
    """After a click on the tab, N and 1 bring the next pair each, and Enter skips none."""
    page, votes = opened(), len(served.compare.votes)
    go_to(page, "compare")
    page.wait_for_selector("#vote-a:enabled")
    place = {"tab": "#tab-compare-button", "radio": "#source label >> nth=0", "draft": "#draft-a",
             "vote": "#vote-tie"}[where]  # fmt: skip
    first = asked(page)
    if where == "vote":
        page.locator(place).focus()
    elif where != "radio":
        page.locator(place).click()
    else:
        page.locator("#source input").first.focus()
    press(page, "n")
    next_pair(page, first)
    page.wait_for_selector("#stop-drafts", state="detached")
    second = asked(page)
    press(page, "1")
    next_pair(page, second)
    third = asked(page)
    if where in ("tab", "draft"):
        press(page, "Enter")
        page.wait_for_timeout(700)
        assert asked(page) == third and not page.locator("#vote-a").is_disabled()
    assert len(served.compare.votes) == votes + 1


STROKE = """([x, y]) => {
    const target = document.querySelector('#draft-a'), box = target.getBoundingClientRect();
    const send = (type, clientX, clientY) => {
        const one = new Touch({identifier: 1, target, clientX, clientY});
        const touches = type === 'touchstart' ? [one] : [];
        target.dispatchEvent(new TouchEvent(type, {touches, changedTouches: [one], bubbles: true}));
    };
    send('touchstart', box.x + 90, box.y + 20);
    send('touchend', box.x + 90 + x, box.y + 20 + y);
}"""


def test_on_a_phone_a_stroke_to_a_side_is_a_vote_and_a_scroll_is_none(opened, served):
    from playwright.sync_api import expect

    page, votes = opened("phone", has_touch=True, is_mobile=True), served.compare.votes
    go_to(page, "compare")
    for stroke, told in (((-120, 10), "A is better"), ((120, 10), "B is better")):
        page.wait_for_selector("#vote-a:enabled")
        page.wait_for_selector("#stop-drafts", state="detached")
        first, count = asked(page), len(votes)
        page.wait_for_timeout(600)
        for none in ((40, 0), (120, 90), (0, 200)):
            page.evaluate(STROKE, none)
        page.wait_for_timeout(200)
        assert len(votes) == count
        page.evaluate(STROKE, stroke)
        expect(page.locator("#verdict")).to_contain_text(f"Saved: {told}")
        assert len(votes) == count + 1
        next_pair(page, first)


def test_maths_in_answers_is_drawn_as_in_chat(opened):
    from playwright.sync_api import expect

    page = opened()
    go_to(page, "compare")
    draft(page, "echo Is $E=mc^2$ or \\(a\\) worth $5 and $6?")
    expect(page.locator("#draft-a .katex-html")).to_have_count(2)
    expect(page.locator("#draft-a")).to_contain_text("worth $5 and $6?")


def test_typing_is_not_voting(opened, served):
    page, votes = opened(), len(served.compare.votes)
    go_to(page, "compare")
    draft(page, "rivers 1234")
    box = page.get_by_label("Prompt", exact=True)
    box.fill("")
    box.press("1")
    assert box.input_value() == "1" and len(served.compare.votes) == votes
    page.locator("#draft-a").click()
    press(page, "ArrowRight")
    page.locator("#verdict", has_text="Saved: B is better.").wait_for()
    assert asked(page) == "rivers 1234"  # with typed prompts the pair stays
    assert box.input_value() == "1"  # and so does what is typed
    box.fill("")
    page.locator("#draft-a").click()
    press(page, "Enter")  # nothing is left to vote on: two more for this prompt
    page.locator("#asking", has_text="Which answer").wait_for()
    press(page, "0")
    page.locator("#verdict", has_text="Saved: Tie.").wait_for()
    assert list(served.compare.votes.values())[votes:] == ["b", "tie"]


def test_the_line_about_sampling_follows_the_settings(opened, served):
    from playwright.sync_api import expect

    page = opened()
    try:
        go_to(page, "compare")
        expect(page.locator("#sampled")).to_contain_text("temperature 1, top-p 1")
        kept = served.settings.get()
        served.kept[""] = kept.of("", 0.3, 0.8, 0, 64, None)
        press(page, "n")
        expect(page.locator("#sampled")).to_contain_text("temperature 0.3, top-p 0.8, 64 tokens")
    finally:
        served.kept.pop("", None)


@pytest.mark.parametrize("size", ("laptop", "phone"))
def test_buttons_are_under_their_answers_and_everything_is_on_the_screen(opened, served, size):
    page = opened(size)
    open_tab(page, "Compare")
    page.wait_for_selector("#vote-b:enabled")
    for side in "ab":
        text = page.locator(f"#draft-{side}").bounding_box()
        vote = page.locator(f"#vote-{side}").bounding_box()
        assert abs(text["x"] - vote["x"]) < 4 and vote["y"] > text["y"]
    for name in ("B is better", "Tie", "Both bad", "Both good"):
        box = button(page, name).bounding_box()
        height = page.viewport_size["height"]
        assert box["y"] + box["height"] <= height and box["height"] >= 36, name
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_another_number_or_source_begins_with_new_answers_at_once(opened, served):
    page = opened()
    send(page, "echo what I asked before")
    go_to(page, "compare")
    page.wait_for_selector("#vote-a:enabled")
    page.get_by_label("From my chats", exact=True).check()
    page.locator("#asked", has_text="echo what I asked before").wait_for()
    page.get_by_label("Suggested", exact=True).check()
    page.wait_for_selector("#vote-a:enabled")
    page.locator("#how-many label", has_text="3").click()
    page.wait_for_selector("#place-c:enabled")
    first = asked(page)
    for key in "312":
        press(page, key)
    page.locator("#verdict", has_text="Saved: C, then A, then B.").wait_for()
    wait_for(page, lambda: asked(page) != first)
    assert list(served.compare.rankings.values())[-1] == (1, 2, 0)


def compare_by_keys_alone(page, served, count: int, undone_at: int) -> None:
    """Each pair is another one, each vote is kept as it was meant, and one is taken back."""
    votes = len(served.compare.votes)
    page.keyboard.press("Escape")
    press(page, "g")
    press(page, "m")
    meant = []
    keys = {"1": "a", "2": "b", "3": "tie", "4": "both_bad", "5": "both_good"}
    for n in range(count):
        page.wait_for_selector("#vote-a:enabled")
        before = asked(page)
        key = "12345"[n % 5]
        press(page, key)
        meant.append(keys[key])
        wait_for(page, lambda: len(served.compare.votes) == votes + len(meant))
        next_pair(page, before)
        if n == undone_at:
            press(page, "u")
            meant.pop()
            wait_for(page, lambda: len(served.compare.votes) == votes + len(meant))
            page.locator("#asked", has_text=before).wait_for()
        page.wait_for_timeout(550)
    assert list(served.compare.votes.values())[votes:] == meant


def test_ten_comparisons_by_keys_alone(opened, served):
    """Thirty of them in tests/slow."""
    compare_by_keys_alone(opened(), served, 10, undone_at=6)
