"""The window in a real browser: first with a toy chat and trainer, last the whole app with the
bundled model.
"""

from __future__ import annotations

import http.server
import json
import re
import threading
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from rlhf_chat.version_export import background
from rlhf_chat.version_export.exporter import Exported
from tests.browser.window import (
    PATIENCE,
    SCREENS,
    SIZES,
    at_rest,
    button,
    draft,
    go_to,
    open_page,
    open_tab,
    prefer_the_shorter,
    press,
    send,
    wait_for,
    watched,
)
from tests.pdf_files import pdf

pytestmark = pytest.mark.browser
PAYLOADS = (
    "${window.leak=1}",
    "{{window.leak=1}}",
    "<img src=x onerror='window.leak=1'>",
    "`${window.leak=1}`",
    "<svg onload='window.leak=1'>",
    "<script>window.leak=1</script>",
)


def test_every_control_has_one_name(page):
    from playwright.sync_api import expect

    expect(page.get_by_role("tab")).to_have_count(5)
    wanted = {
        "Chat": ["Send"],
        "Compare": ["A is better", "B is better", "Tie", "Both bad", "New answers"],
        "Learning": ["Train now", "Pause", "Stop"],
        "Versions": ["Roll back"],
        "Data": ["Export JSONL", "Export CSV"],
    }
    for tab, names in wanted.items():
        expect(page.get_by_role("tab", name=tab)).to_have_count(1)
        open_tab(page, tab)
        for name in names:
            expect(button(page, name)).to_have_count(1)
            expect(button(page, name)).to_be_visible()
        if tab == "Chat":
            expect(page.get_by_label("Message", exact=True)).to_have_count(1)
            expect(page.get_by_role("textbox", name="Message", exact=True)).to_have_count(1)
        if tab == "Compare":
            page.get_by_label("My own", exact=True).check()
            expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_have_count(1)


def test_chat_rate_reload(page, served):
    from playwright.sync_api import expect

    send(page, "echo first answer")
    expect(page.locator("#bot .stamp").first).to_contain_text("v1")
    page.get_by_label("Dislike", exact=True).last.click()
    expect(page.locator("#chat-note")).to_contain_text("Saved")
    button(page, "Too long").click()
    expect(page.locator("#chat-note")).to_contain_text("Saved with your reason")
    page.get_by_label("Note", exact=True).fill("half as much")
    page.get_by_label("Note", exact=True).press("Enter")
    expect(page.locator("#why")).to_be_hidden()
    assert list(served.rated.values())[-1] == (-1, "Too long", "half as much")

    send(page, "echo second answer")
    expect(page.get_by_label("Disliked", exact=True)).to_have_count(
        1
    )  # the thumb outlives the next reply
    page.keyboard.press("Escape")  # leave the message box
    page.locator("body").click(position={"x": 5, "y": 400})
    page.keyboard.press("+")
    expect(page.locator("#chat-note")).to_contain_text("Saved")
    assert "?c=" in page.url
    page.reload()
    expect(page.locator("#bot .bot-row")).to_have_count(2)
    expect(page.get_by_label("Disliked", exact=True)).to_have_count(1)
    expect(page.get_by_label("Liked", exact=True)).to_have_count(1)
    page.get_by_label("Liked", exact=True).click()
    expect(page.locator("#chat-note")).to_contain_text("withdrawn")
    assert list(served.rated.values())[-1][0] == 0


def test_stop_keeps_the_text(page, served):
    from playwright.sync_api import expect

    send(page, "slow please", wait=False)
    button(page, "Stop").wait_for()
    expect(page.locator("#bot .bot-row")).to_contain_text("Rivers")
    page.keyboard.press("Escape")
    expect(page.locator("#bot .stamp")).to_contain_text("stopped")
    expect(page.locator("#bot .bot-row")).to_contain_text("Rivers")
    button(page, "Send").wait_for()


def test_a_cut_reply_is_continued_in_its_place(page):
    from playwright.sync_api import expect

    send(page, "cut one two three four five")
    reply = page.locator("#bot .bot.message")
    expect(reply).to_have_text("one two")
    button(page, "Continue").click()
    expect(reply).to_have_text("one two three four five")
    expect(button(page, "Continue")).to_have_count(0)
    page.reload()
    expect(reply).to_have_text("one two three four five")


def test_a_reply_goes_on_when_its_page_is_reloaded(page, served):
    from playwright.sync_api import expect

    served.go.clear()
    try:
        send(page, "long story", wait=False)
        button(page, "Stop").wait_for()
        page.reload()
        button(page, "Stop").wait_for()
    finally:
        served.go.set()
    page.locator("#bot .stamp").wait_for()
    expect(page.locator("#bot .bot.message")).to_contain_text("near your home?")
    expect(page.locator("#bot .stamp")).not_to_contain_text("stopped")
    button(page, "Send").wait_for()


def test_a_refused_message_and_its_draft_are_kept(page):
    from playwright.sync_api import expect

    button(page, "Send").click()
    expect(page.locator("#chat-note")).to_contain_text("Write something first")
    box = page.get_by_label("Message", exact=True)
    box.fill("x" * 100_000)
    button(page, "Send").click()
    expect(page.locator("#chat-note")).to_contain_text("too long")
    assert len(box.input_value()) == 100_000
    box.fill("a half-written thought")
    page.reload()
    expect(page.get_by_label("Message", exact=True)).to_have_value("a half-written thought")
    button(page, "Send").click()
    page.locator("#bot .stamp").wait_for()
    page.reload()
    page.locator("#bot .stamp").wait_for()
    expect(page.get_by_label("Message", exact=True)).to_have_value("")


def test_text_never_becomes_script(page, served):
    text = "echo " + " ".join(PAYLOADS)
    send(page, text)
    assert page.locator("#conversations .open").first.inner_text().startswith(text[:20])
    conversation = served.conversations.all()[0]
    for payload in PAYLOADS:
        served.conversations.rename(conversation.id, payload)
        page.reload()
        page.locator("#conversations .current").wait_for()
        assert page.locator("#conversations .current .open").inner_text() == payload
    open_tab(page, "Compare")
    draft(page, text)
    page.wait_for_timeout(300)
    assert page.locator("#asked").inner_text().startswith(text[:20])
    assert page.evaluate("window.leak") is None


def test_every_character_is_seen_copied_and_edited_as_it_was_written(opened):
    from playwright.sync_api import expect

    page = opened("laptop", permissions=["clipboard-read", "clipboard-write"])
    text = "vector<int> v; if (a<b) <div></div> &lt; `x<y>`\n\n```cpp\nList<T> t;\n```"
    send(page, "echo " + text)
    reply = page.locator("#bot .bot.message").last
    for seen in ("vector<int> v; if (a<b) <div></div> &lt; x<y>", "List<T> t;"):
        expect(reply).to_contain_text(seen)
    page.get_by_label("Copy message").last.click()
    assert page.evaluate("navigator.clipboard.readText()").strip() == text
    page.keyboard.press("/")
    page.keyboard.press("ArrowUp")
    box = page.locator("#bot .edit-textarea")
    expect(box).to_be_focused()
    assert box.input_value() == "echo " + text
    size = box.bounding_box()
    assert size["width"] > 480 and size["height"] > 80
    page.keyboard.press("Escape")
    expect(box).to_have_count(0)
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(box).to_be_focused()
    box.fill("echo List<String>")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#bot .bot.message").last).to_have_text("List<String>")


def test_maths_is_drawn_and_prices_and_ones_own_text_stay_as_they_are(opened):
    from playwright.sync_api import expect

    page = opened("laptop", permissions=["clipboard-read", "clipboard-write"])
    formulas = "Is $E=mc^2$ or \\(a<b\\) worth $5 and $6?\n\n$$\nx_1\n$$"
    send(page, f"echo {formulas}")
    reply, own = page.locator("#bot .bot.message"), page.locator("#bot .user.message .prose")
    expect(reply.locator(".katex-html")).to_have_count(3)
    expect(reply.locator(".katex-display")).to_have_count(1)
    expect(reply).to_contain_text("worth $5 and $6?")
    assert own.inner_text().strip() == f"echo {formulas}"
    assert own.locator(".katex, em, code").count() == 0
    page.get_by_label("Copy message").last.click()
    assert page.evaluate("navigator.clipboard.readText()").strip() == formulas


def test_code_names_its_language_and_wraps_and_lists_keep_their_size(page):
    from playwright.sync_api import expect

    code = "x = '" + "long " * 60 + "'"
    send(page, f"echo - a\n  - b\n    - c\n\n```python\n{code}\n```")
    block = page.locator("#bot .bot.message pre")
    expect(block).to_have_attribute("data-language", "python")
    assert block.evaluate("e => e.scrollWidth <= e.clientWidth")
    sizes = page.locator("#bot .bot.message li").evaluate_all(
        "all => all.map(e => getComputedStyle(e).fontSize)"
    )
    assert len(sizes) == 3 and len(set(sizes)) == 1
    expect(page.locator("#bot .bot.message .copy_code_button")).to_have_count(1)


def test_escape_and_a_second_press_close_what_a_reply_opened(page):
    from playwright.sync_api import expect

    send(page, "echo words")
    why, heat = page.locator("#bot .words").last, page.locator("#attribution .attribution")
    for close in (
        why.click,
        page.locator("#attribution .shut").click,
        lambda: press(page, "Escape"),
    ):
        why.click()
        expect(heat).to_have_count(1)
        close()
        expect(heat).to_have_count(0)
    page.locator("#bot .star").last.click()
    page.get_by_label("4 stars").click()
    expect(page.locator("#chat-note")).to_contain_text("4 of 5 stars")
    press(page, "Escape")
    expect(page.locator("#why")).to_be_hidden()
    page.locator("#bot .star").last.click()
    expect(page.get_by_label("4 stars")).to_have_attribute("aria-pressed", "true")


def test_what_is_opened_stands_under_its_reply_and_names_it(page):
    from playwright.sync_api import expect

    send(page, "echo first words")
    send(page, "echo second words")
    why, heat = page.locator("#why"), page.locator("#attribution")
    for i, named in ((0, "first words"), (1, "second words"), (0, "first words")):
        page.locator("#bot .star").nth(i).click()
        expect(why.locator(".about")).to_contain_text(named)
        button(page, "Explain").nth(i).click()
        expect(heat.locator(".about")).to_contain_text(named)
        top = page.locator("#bot .bot-row").nth(i).bounding_box()["y"]
        assert top < why.bounding_box()["y"] < heat.bounding_box()["y"]
        if i == 0:
            below = page.locator("#bot .user-row").nth(1).bounding_box()["y"]
            assert heat.bounding_box()["y"] < below
    button(page, "New chat").click()
    expect(why).to_be_hidden()
    send(page, "echo third")
    page.locator("#bot .star").click()
    expect(why.locator(".about")).to_contain_text("third")


def test_the_last_reply_is_rated_from_the_message_box(page, served):
    from playwright.sync_api import expect

    send(page, "echo rate me")
    box = page.get_by_label("Message", exact=True)
    box.fill("half a thought")
    for key, value in (("ArrowDown", -1), ("ArrowUp", 1)):
        box.press(f"Control+{key}")
        expect(page.locator("#chat-note")).to_contain_text("Saved")
        wait_for(page, lambda value=value: list(served.rated.values())[-1][0] == value)
    expect(box).to_be_focused()
    expect(box).to_have_value("half a thought")


def test_files_are_attached_and_sent(page):
    from playwright.sync_api import expect

    with page.expect_file_chooser() as chooser:
        button(page, "Attach text files or PDFs").click()
    note = {"name": "notes.md", "mimeType": "text/markdown", "buffer": b"# One\n*two*"}
    paper = {"name": "paper.pdf", "mimeType": "application/pdf", "buffer": pdf("All of it")}
    scan = {**paper, "name": "scan.pdf", "buffer": pdf("")}
    chooser.value.set_files([note, paper, scan])
    expect(page.locator("#chat-note")).to_contain_text("scan.pdf holds no text")
    expect(page.locator("#attachments .file")).to_have_count(2)
    expect(page.locator("#attachments .file").last).to_contain_text("paper.pdf1 page")
    expect(page.locator("#attachments .told")).to_contain_text("tokens")
    send(page, "echo read this")
    expect(page.locator("#attachments .file")).to_have_count(0)
    own = page.locator("#bot .user.message .prose").inner_text()
    notes = "notes.md:\n```markdown\n# One\n*two*\n```"
    assert own.strip() == f"echo read this\n\n{notes}\n\npaper.pdf:\n```\nAll of it\n```"


def test_a_reply_cannot_call_out(page, served):
    asked = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)

        def log_message(self, *args): ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    there = f"http://127.0.0.1:{server.server_port}"
    try:
        leak = (
            f"![x]({there}/a.png) ![own](/pwa_icon/512) <img src='{there}/b.png'> "
            f"<div style='background:url({there}/c.png)'>x</div> "
            f"<audio src='{there}/d.mp3' autoplay></audio>"
        )
        send(page, "echo " + leak)
        open_tab(page, "Compare")
        draft(page, "echo " + leak)
        page.wait_for_timeout(800)
        assert asked == [] and page.outside == []
        assert page.locator("#bot .bot-row img, #draft-a img").count() == 0
        open_tab(page, "Chat")
        link = page.locator("#bot .bot-row a", has_text="own")
        assert link.get_attribute("href") == "/pwa_icon/512"
    finally:
        server.shutdown()
        server.server_close()


def test_learning_and_versions(page, served):
    from playwright.sync_api import expect

    served.worker.waiting = max(served.worker.waiting, 2)
    before = served.worker.live
    open_tab(page, "Learning")
    expect(page.locator("#changed .told")).to_be_visible()
    button(page, "Pause").click()
    button(page, "Resume").click()
    button(page, "Pause").wait_for()
    button(page, "Train now").click()
    expect(page.locator("#learning-note")).to_contain_text("starts now")
    expect(page.locator("#now .under")).to_contain_text("left:")
    expect(page.locator("#now .last .promoted")).to_be_visible()
    expect(page.locator("#status-bar")).to_contain_text(f"v{before + 1} live")
    open_tab(page, "Versions")
    expect(page.locator("#versions .version.live .name")).to_have_text(f"v{before + 1}")
    button(page, "Roll back").click()
    expect(page.locator("#versions .version.live .name")).to_have_text(
        f"v{before}" if before else "base"
    )
    button(page, "Make live: base").click()
    expect(page.locator("#versions-note")).to_contain_text("original model is live")
    expect(button(page, "Roll back")).to_be_disabled()
    served.worker.live = before


def test_sidebar_and_branches(page, served):
    from playwright.sync_api import expect

    send(page, "echo one")
    page.get_by_label("Retry", exact=True).click()
    page.get_by_text("2/2").wait_for()
    button(page, "Previous alternative").click()
    page.get_by_text("1/2").wait_for()
    row = page.locator("#conversations li.current")
    row.hover()
    row.get_by_label("Rename chat").click()
    page.get_by_label("Chat name").fill("Renamed")
    page.keyboard.press("Enter")
    expect(row.locator(".open")).to_have_text("Renamed")
    button(page, "New chat").click()
    expect(page.locator("#bot .bot-row")).to_have_count(0)
    assert "?c=" not in page.url
    row = page.locator("#conversations li").filter(has_text="Renamed")
    row.locator(".open").click()
    expect(page.locator("#bot .bot-row")).to_have_count(1)
    row.hover()
    row.get_by_label("Delete chat").click()
    button(page, "Undo: Renamed").click()
    row.hover()
    row.get_by_label("Pin chat", exact=True).click()
    expect(page.locator("#conversations h3").first).to_have_text("Pinned")
    served.deletion.seconds = 1
    row.hover()
    row.get_by_label("Delete chat").click()
    expect(page.locator("#conversations li").filter(has_text="Renamed")).to_have_count(0)
    expect(page.locator("#bot .bot-row")).to_have_count(0)
    expect(page.locator("#conversations li.gone")).to_have_count(0)
    served.deletion.seconds = 10


def test_a_name_in_the_list_outlives_what_arrives_meanwhile(opened):
    from playwright.sync_api import expect

    page = opened()
    row = page.locator("#conversations li.current")
    replies = page.locator("#bot .foot .stamp").count()
    send(page, "long story", wait=False)
    row.locator(".open").wait_for()
    row.hover()
    row.get_by_label("Rename chat").click()
    box = page.get_by_label("Chat name")
    box.fill("Half a name")
    composing = "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true})"
    box.evaluate(f"box => box.dispatchEvent({composing})")
    page.locator("#bot .foot .stamp").nth(replies).wait_for()  # the reply has ended
    page.wait_for_timeout(500)
    expect(box).to_be_focused()
    expect(box).to_have_value("Half a name")
    box.press("Enter")
    expect(row.locator(".open")).to_have_text("Half a name")


def test_what_a_search_found_is_still_listed_after_one_is_opened(opened):
    from playwright.sync_api import expect

    page = opened()
    send(page, "echo " + "so long that no title holds the end of it " * 3 + "needle")
    button(page, "New chat").click()
    page.get_by_label("Search chats").fill("Needle")
    found = page.locator("#conversations .open")
    expect(found).to_have_count(1)
    expect(found).to_contain_text("so long")
    expect(found.locator("mark")).to_have_text("needle")
    found.click()
    expect(page.locator("#bot .bot-row")).to_have_count(1)
    page.wait_for_timeout(500)
    expect(found).to_have_count(1)
    page.get_by_label("Search chats").fill("needless")
    expect(page.locator("#conversations")).to_contain_text("No chat matches.")


def test_the_list_of_chats_never_stays_over_a_narrow_page(browser, served):
    """Gradio lets it cover the page up to a width of 768."""
    context = browser.new_context(viewport={"width": 744, "height": 1000})
    try:
        page = watched(context, served.url)
        shut = "!document.getElementById('side').classList.contains('open')"
        page.wait_for_function(shut)
        send(page, "echo hello")
        for leave in (button(page, "New chat"), page.locator("#conversations .open").first):
            page.evaluate("rlhfSidebar(true)")
            leave.click()
            page.wait_for_function(shut)
            page.wait_for_timeout(300)
        assert page.wrong == [] and page.outside == []
    finally:
        context.close()


def test_the_keyboard_stays_where_it_was_when_a_list_is_drawn_anew(opened, served):
    from playwright.sync_api import expect

    page, here = opened(), "name => document.querySelector(name).contains(document.activeElement)"
    before = served.worker.live
    send(page, "echo keyboard")
    page.locator("#bot .star").last.click()
    page.get_by_label("4 stars").press("Enter")
    expect(page.locator("#chat-note")).to_contain_text("4 of 5 stars")
    expect(page.get_by_label("4 stars")).to_be_focused()
    page.get_by_label("Like", exact=True).last.click()
    page.locator("#chat-note", has_text="Saved").wait_for()
    button(page, "Helpful").press("Enter")
    expect(button(page, "Helpful")).to_have_attribute("aria-pressed", "true")
    expect(button(page, "Helpful")).to_be_focused()

    go_to(page, "data")
    aside = page.locator("#raters li", has_text="Visitor").get_by_role("button").first
    aside.press("Enter")
    expect(page.locator("#people-note")).to_contain_text("does not count")
    expect(aside).to_be_focused()
    aside.press("Enter")
    expect(page.locator("#people-note")).to_contain_text("counts again")
    row = page.locator("#data .row", has_text="keyboard").first
    row.get_by_role("button", name="Delete…").press("Enter")
    button(page, "Keep").press("Enter")
    expect(row.get_by_role("button", name="Delete…")).to_be_focused()
    row.get_by_role("button", name="Withdraw").press("Enter")
    expect(page.locator("#data-note")).to_contain_text("Withdrawn")
    page.wait_for_timeout(300)
    assert page.evaluate(here, "#data") or not page.locator("#data button").count()

    go_to(page, "versions")
    page.wait_for_selector("#versions .version")
    button(page, "Name and notes of base").press("Enter")
    page.get_by_label("Name of base").press("Escape")
    expect(button(page, "Name and notes of base")).to_be_focused()
    live = page.locator("#versions button", has_text="Make live").first
    live.press("Enter")
    expect(page.locator("#versions-note")).to_contain_text("live")
    page.wait_for_timeout(300)
    assert page.evaluate(here, "#versions")
    served.worker.live = before


def test_an_answer_chosen_by_keys_is_saved_when_it_is_left_not_at_each_step(opened, served):
    from playwright.sync_api import expect

    page = opened()
    go_to(page, "compare")
    draft(page, "one of five answers")
    button(page, "A is better").click()
    page.locator("#verdict", has_text="Saved").wait_for()
    vote = list(served.compare.votes)[-1]
    go_to(page, "data")
    votes = page.locator("#data .row").filter(has=page.locator("option[value=tie]"))
    choose = votes.first.get_by_label("Change the rating")
    expect(choose).to_have_value("a")
    for leave, answer in (("Enter", "tie"), ("Tab", "both_good")):
        choose.press("ArrowDown")
        choose.press("ArrowDown")
        page.wait_for_timeout(400)
        assert served.compare.votes[vote] not in ("b", "both_bad", answer)
        choose.press(leave)
        wait_for(page, lambda answer=answer: served.compare.votes[vote] == answer)
        expect(choose).to_have_value(answer)
        page.wait_for_timeout(400)  # the list has been drawn anew
    choose.press("ArrowUp")
    choose.press("Escape")
    page.wait_for_timeout(400)
    assert served.compare.votes[vote] == "both_good"


def test_keys_and_help(page):
    from playwright.sync_api import expect

    page.locator("#status-bar").click()  # the strip leads to Learning
    expect(page.get_by_role("tab", name="Learning")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("?")
    expect(page.locator("dialog#shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog#shortcuts")).to_be_hidden()
    page.keyboard.press("/")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.type("?/1")
    expect(page.get_by_label("Message", exact=True)).to_have_value("?/1")
    go_to(page, "compare")
    page.get_by_label("My own", exact=True).check()
    expect(page.get_by_label("My own", exact=True)).to_be_focused()
    page.keyboard.press("?")  # a choice among buttons is no writing
    expect(page.locator("dialog#shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("c")
    expect(page.locator("#tab-chat-button")).to_have_attribute("aria-selected", "true")


def test_help_is_a_button_and_explains_the_words_and_how_it_learns(page):
    from playwright.sync_api import expect

    button(page, "Help").click()
    sheet = page.locator("dialog#shortcuts")
    for words in ("How it learns", "Reward model", "Predicts how you would rate", "Search chats"):
        expect(sheet).to_contain_text(words)
    sheet.get_by_role("button", name="Close").click()
    expect(sheet).to_be_hidden()


SPY = """() => { window.told = []; window.Notification = class {
    static permission = 'default'; static asked = 0;
    static async requestPermission() {
        Notification.asked += 1; return Notification.permission = '%s';
    }
    constructor(title) { window.told.push(title); }
}}"""
HIDE = """hidden => {
    Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
    document.dispatchEvent(new Event('visibilitychange'));
}"""


def test_a_hidden_page_tells_of_a_new_version_if_it_was_asked_to(page, served):
    from playwright.sync_api import expect

    page.evaluate(SPY % "granted")
    go_to(page, "learning")
    assert page.evaluate("Notification.asked") == 0  # nobody is asked before the setting is used
    page.get_by_label("Tell me when a new version is live").check()
    page.wait_for_function("rlhfNotifies()")
    go_to(page, "chat")
    page.evaluate(HIDE, True)
    seconds, live = served.worker.round_seconds, served.worker.live
    served.worker.round_seconds = 0.1
    try:
        served.worker.waiting = 3
        served.worker.train_now()
        newest = served.worker.status().newest_version + 1
        page.wait_for_function("window.told.length", timeout=40_000)
        assert page.evaluate("window.told") == [f"Version {newest} is ready"]
    finally:
        served.worker.round_seconds, served.worker.live = seconds, live
    page.evaluate(HIDE, False)
    page.evaluate(SPY % "denied")
    go_to(page, "learning")
    page.get_by_label("Tell me when a new version is live").uncheck()
    page.wait_for_function("!rlhfNotifies()")
    page.get_by_label("Tell me when a new version is live").click()
    expect(page.locator("#learning-note")).to_contain_text("does not allow notifications")
    expect(page.get_by_label("Tell me when a new version is live")).not_to_be_checked()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_has_everything_on_the_screen(browser, served, scheme):
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    try:
        page = watched(context, served.url)
        page.wait_for_function("!document.getElementById('side').classList.contains('open')")
        send(page, "echo hello")
        for tab, control in (
            ("Chat", "Send"),
            ("Compare", "Both bad"),
            ("Learning", "Train now"),
            ("Versions", "Roll back"),
            ("Data", "Export CSV"),
        ):
            open_tab(page, tab)
            button(page, control).wait_for()
            box = button(page, control).bounding_box()
            assert (
                box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] + box["height"] <= 844
            ), tab
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
        assert page.locator("#status-bar").is_visible()
        light = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
        )
        assert (light > 200) == (scheme == "light")
        assert page.wrong == [] and page.outside == []
    finally:
        context.close()


def test_on_a_phone_a_long_example_is_whole(opened):
    page = opened("phone", has_touch=True, is_mobile=True)
    examples = page.locator("#bot .example")
    examples.first.wait_for()
    for words in ("My phone battery drains quickly. What can I check?", "word " * 30):
        examples.first.locator("span, div").last.evaluate("(e, w) => e.textContent = w", words)
        box = examples.first.bounding_box()
        around = page.locator("#bot .examples").bounding_box()
        assert around["x"] >= 0 and around["x"] + around["width"] <= 390
        assert box["x"] >= around["x"], words
        assert box["x"] + box["width"] <= around["x"] + around["width"], words
        assert examples.first.evaluate("e => e.scrollWidth <= e.clientWidth"), words


def test_on_a_phone_nothing_is_clipped_and_fingers_find_what_they_press(opened):
    page = opened("phone", has_touch=True, is_mobile=True)
    table = "| a | b |\n|---|---|\n| 1 | " + "word " * 20 + "|"
    code = "```python\n" + "x = 1; " * 30 + "\n```"
    send(page, "echo " + "long" * 60 + f"\n\n{table}\n\n{code}\n\n$${'x+' * 60}y$$")
    send(page, "cut one two three")
    page.locator("#bot .star").first.click()
    page.locator("#why .about").wait_for()
    boxes = page.locator("#bot .message-row, #bot .prose > *, #why").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect()).map(r => [r.left, r.right])"
    )
    beyond = sum(left < 12 or right > 378 for left, right in boxes if right > left)
    assert beyond == 0
    pressed = "#bot .message-buttons button, #bot .options button, #why button, "
    low = page.locator(pressed + "#composer button, #tabs [role=tab]").evaluate_all(
        "all => all.filter(e => e.offsetParent && e.offsetHeight < 44).map(e => e.outerHTML)"
    )
    assert low == []
    question, reply, nxt = (
        page.locator(place).bounding_box()
        for place in (
            "#bot .user-row >> nth=0",
            "#bot .bot-row >> nth=0",
            "#bot .user-row >> nth=1",
        )
    )
    bar = page.locator("#bot .message-buttons-left").first.bounding_box()
    near = reply["y"] - question["y"] - question["height"]
    assert near < nxt["y"] - bar["y"] - bar["height"]


def test_four_tabs_load_and_nothing_is_asked_of_another_host(browser, served):
    context = browser.new_context()
    try:
        pages = [watched(context, served.url) for _ in range(4)]
        for name in ("Compare", "Learning", "Versions"):
            open_tab(pages[-1], name)
            pages[-1].wait_for_timeout(300)
        assert [page.outside for page in pages] == [[]] * 4
    finally:
        context.close()


# ---- more screens, sizes and languages ---------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_every_screen_fits_and_every_key_works(opened, size, served):
    from playwright.sync_api import expect

    page = opened(size)
    send(page, "echo first")
    page.keyboard.press("Escape")
    for letter, screen in zip(
        "mlvdc", ("compare", "learning", "versions", "data", "chat"), strict=True
    ):
        page.keyboard.press("g")
        page.keyboard.press(letter)
        expect(page.locator(f"#tab-{screen}-button")).to_have_attribute("aria-selected", "true")
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), screen
    page.keyboard.press("-")
    expect(page.get_by_label("Disliked", exact=True)).to_have_count(1)
    page.keyboard.press("r")
    page.get_by_text("2/2").wait_for()
    page.keyboard.press("[")
    page.get_by_text("1/2").wait_for()
    page.keyboard.press("]")
    page.get_by_text("2/2").wait_for()
    page.keyboard.press("/")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#bot .edit-textarea")).to_have_value("echo first")
    page.keyboard.press("Escape")
    page.locator("body").click(position={"x": 5, "y": 300})
    page.keyboard.press("?")
    expect(page.locator("dialog#shortcuts")).to_be_visible()
    box = page.locator("dialog#shortcuts").bounding_box()
    assert box["y"] >= 0 and box["x"] >= 0
    assert page.evaluate("document.querySelector('dialog#shortcuts').scrollTop") == 0
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    expect(page.get_by_label("Search chats")).to_be_focused()
    page.keyboard.type("no such words")
    expect(page.locator("#conversations")).to_contain_text("No chat matches.")
    page.get_by_label("Search chats").fill("")
    expect(page.locator("#conversations h3").first).to_have_text("Today")


def test_settings_are_kept_with_the_chat_and_its_draft_with_the_page(opened, served):
    from playwright.sync_api import expect

    page = opened()
    send(page, "echo one")
    page.keyboard.press("Control+.")
    page.get_by_label("System prompt").fill("be brief")
    page.get_by_label("System prompt").blur()
    expect(page.locator("#settings-note")).to_contain_text("Saved for this chat.")
    page.get_by_label("Message", exact=True).fill("half a thought")
    expect(page).to_have_url(re.compile(r"\?c="))  # a reload finds the chat by its address
    page.reload()
    expect(page.get_by_label("System prompt")).to_have_value("be brief")  # the panel is open again
    expect(page.get_by_label("Message", exact=True)).to_have_value("half a thought")
    button(page, "New chat").click()
    expect(page.locator("#settings-about")).to_have_text("New chats")
    expect(page.get_by_label("System prompt")).to_have_value("")


def test_a_starter_makes_the_settings_those_of_its_chat(opened):
    from playwright.sync_api import expect

    page = opened()
    page.keyboard.press("Control+.")
    expect(page.locator("#settings-about")).to_have_text("New chats")
    page.locator("#bot .example").first.click()
    expect(page.locator("#settings-about")).to_have_text("This chat")


def test_what_is_typed_while_the_settings_are_read_again_stays(opened, served, monkeypatch):
    from playwright.sync_api import expect

    page, read = opened(), threading.Event()
    send(page, "echo one")
    page.wait_for_timeout(500)  # what follows a message is over
    get = served.settings.get

    def slow(conversation_id=""):
        settings = get(conversation_id)
        read.wait(PATIENCE / 1000)
        return settings

    monkeypatch.setattr(served.settings, "get", slow)
    page.keyboard.press("Control+.")
    page.get_by_label("System prompt").fill("be brief")
    page.wait_for_timeout(500)  # the typing has been sent
    read.set()
    page.wait_for_timeout(500)  # what was read has arrived
    page.get_by_label("System prompt").blur()
    page.wait_for_timeout(500)
    expect(page.get_by_label("System prompt")).to_have_value("be brief")
    assert get(served.conversations.all()[0].id).system_prompt == "be brief"


def test_a_long_list_of_chats_scrolls_and_covers_nothing(opened, served):
    for i in range(25):
        list(served.reply(served.conversations.new(), f"chat {i}", stop=threading.Event()))
    page = opened()
    page.locator("#conversations .open", has_text="chat 24").wait_for()
    button(page, "Theme").click(trial=True)
    page.get_by_label("Rating as").click(trial=True)
    first = page.locator("#conversations .open").last
    first.scroll_into_view_if_needed()
    first.click(trial=True)


def test_the_theme_is_remembered(opened):
    from playwright.sync_api import expect

    page = opened()
    dark = "document.body.classList.contains('dark')"
    for theme in ("light", "dark"):
        button(page, "Theme").click()
        expect(page.locator("#theme-toggle")).to_have_attribute(
            "title", f"Theme: {theme.capitalize()}"
        )
        assert page.evaluate(dark) is (theme == "dark")
    page.reload()
    page.wait_for_selector(".status-bar span:last-child")
    page.wait_for_function(dark)
    expect(page.locator("#theme-toggle")).to_have_attribute("title", "Theme: Dark")
    button(page, "Theme").click()
    as_it_has_it = "Theme: System"
    expect(page.locator("#theme-toggle")).to_have_attribute("title", as_it_has_it)
    assert page.evaluate(dark) is False  # the system's own, light here


def test_a_version_is_exported_and_the_page_says_where(opened, served, monkeypatch):
    from playwright.sync_api import expect

    asked = []

    class Exporter:
        def __init__(self, *_, **__) -> None: ...

        def run(self, request):
            asked.append((request.version, request.form, request.kind))
            return Exported(Path("/somewhere/made"), {}, None)

    monkeypatch.setattr(background, "Exporter", Exporter)
    toy = served.worker
    for name in ("store", "adapter_store", "model"):
        monkeypatch.setattr(toy, name, MagicMock(), raising=False)
    page, live = opened(), toy.live
    go_to(page, "versions")
    opener = button(page, f"Export v{live}")
    opener.click()
    page.keyboard.press("Escape")
    expect(opener).to_be_focused()
    opener.click()
    page.get_by_label(f"What v{live} is exported for").select_option("gguf-q8_0")
    button(page, "Export").click()
    expect(page.locator("#versions-export")).to_contain_text("exported: /somewhere/made")
    assert asked == [(str(live), "gguf", "q8_0")]
    assert not page.locator("#versions .version button", has_text="Export v0").count()


def test_a_version_is_named_talked_to_and_dueled(opened, served):
    from playwright.sync_api import expect

    page = opened()
    live = served.worker.live
    go_to(page, "versions")
    button(page, f"Name and notes of v{live}").click()
    page.get_by_label(f"Name of v{live}").fill("Short ${window.leak=1}")
    page.get_by_label(f"Notes on v{live}").fill("<img src=x onerror='window.leak=1'>")
    button(page, "Save").click()
    expect(page.locator("#versions .given").first).to_have_text("Short ${window.leak=1}")
    button(page, "Chat with base").click()
    expect(page.locator("#tab-chat-button")).to_have_attribute("aria-selected", "true")
    send(page, "echo hello")
    expect(page.locator("#bot .stamp").last).to_contain_text("base")
    go_to(page, "versions")
    before = len(served.compare.asked)
    button(page, f"Duel for v{live}").click()
    expect(page.locator("#tab-compare-button")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_label("Duel", exact=True)).to_be_checked()
    page.wait_for_selector("#vote-a:enabled")
    assert {versions for _, versions in served.compare.asked[before:]} == {(live, 0)}
    button(page, "Tie").click()
    expect(page.locator("#duel-standing")).to_contain_text("against base")
    assert page.evaluate("window.leak") is None


def four_drafts(page) -> None:
    """To be put in order, on Compare."""
    go_to(page, "compare")
    page.get_by_label("My own", exact=True).check()
    page.locator("#how-many label", has_text="4").click()
    page.locator("#draft-d").wait_for()
    page.get_by_label("Prompt", exact=True).fill("rivers")
    page.locator("#new-drafts").click()
    page.wait_for_selector("#place-d:enabled")


def test_a_prompt_of_ones_own_can_be_chosen_before_the_first_answers_are_asked_for(opened):
    from playwright.sync_api import expect

    page = opened("phone")
    page.evaluate(  # it asks by itself 150 ms after its last part is there: that has to wait
        """() => {
            const set = window.setTimeout;
            const held = new Promise(done => window.rlhfTestAsks = done);
            window.setTimeout = (call, after, ...more) =>
                after === 150 ? held.then(call) : set(call, after, ...more);
        }"""
    )
    page.locator("#tab-compare-button").click()
    page.get_by_label("My own", exact=True).check()
    expect(page.locator("#asking")).to_contain_text("Write a prompt")
    page.evaluate("window.rlhfTestAsks()")
    page.wait_for_timeout(700)  # the page's own first request for answers
    expect(page.locator("#asking")).to_contain_text("Write a prompt")
    page.get_by_label("Prompt", exact=True).fill("rivers")
    page.locator("#new-drafts").click()
    page.wait_for_selector("#vote-a:enabled")
    expect(page.locator("#asked")).to_have_text("rivers")


@pytest.mark.parametrize("size", ("laptop", "phone"))
def test_drafts_are_ranked_by_keys_and_by_buttons(opened, served, size):
    from playwright.sync_api import expect

    page = opened(size)
    four_drafts(page)
    expect(page.locator("#vote-a")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#draft-a").click()
    page.keyboard.press("4")
    expect(page.locator("#place-d")).to_have_text("1: D")
    page.keyboard.press("Enter")  # in the middle of an order it does not go on
    expect(page.locator("#place-d")).to_have_text("1: D")
    button(page, "B").click()
    page.locator("#draft-a").click()
    page.keyboard.press("t")
    expect(page.locator("#verdict")).to_contain_text("Saved: D, then B, then A and C.")
    assert list(served.compare.rankings.values())[-1] == (2, 1, 2, 0)
    page.keyboard.press("u")
    expect(page.locator("#verdict")).to_contain_text("Withdrawn")
    expect(page.locator("#place-d")).to_be_enabled()
    page.locator("#how-many label", has_text="2 answers").click()
    expect(page.locator("#draft-d")).to_have_count(0)
    expect(page.locator("#vote-a")).to_be_visible()
    assert page.locator("#place-a").count() == 0


def test_keys_pressed_faster_than_the_answers_give_the_order_meant_and_one_ranking(opened, served):
    from playwright.sync_api import expect

    def at_once(keys: str) -> None:
        page.evaluate(
            """keys => [...keys].forEach(key =>
                document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true})))""",
            keys,
        )

    page, stored = opened(), served.compare.stored
    four_drafts(page)
    page.locator("#draft-a").click()
    before = len(stored)
    for keys, order, places in (
        ("413", "D, then A, then C, then B", (1, 3, 2, 0)),
        ("3241", "C, then B, then D, then A", (3, 1, 0, 2)),  # the last one places itself
        ("2t41", "B, then A, C and D", (1, 0, 1, 1)),  # the ranking was whole after t
    ):
        at_once(keys)
        expect(page.locator("#verdict")).to_contain_text(f"Saved: {order}.")
        page.wait_for_timeout(300)  # answers to what was pressed too often
        expect(page.locator("#verdict")).to_contain_text(f"Saved: {order}.")
        assert page.locator("#place-a:enabled, #place-b:enabled, #rest-equal:enabled").count() == 0
        assert list(stored.values())[before:] == [places]
        before += 1
        page.keyboard.press("u")
        expect(page.locator("#place-d")).to_be_enabled()


def test_what_training_does_never_lies_over_the_tabs(page):
    for width in (780, 1000, 1024, 1180, 1281, 1366):
        page.set_viewport_size({"width": width, "height": 800})
        line = at_rest(page, "#status-bar .status-bar")
        tab = page.locator("#tab-data-button").bounding_box()
        beside = line["x"] >= tab["x"] + tab["width"]
        assert beside or line["y"] + line["height"] <= tab["y"] + 4, width


def test_a_double_click_is_one_vote_and_nothing_moves(opened, served):
    page = opened("phone")
    for width in (390, 800, 1024, 1440):
        page.set_viewport_size({"width": width, "height": 844})
        go_to(page, "compare")
        draft(page, f"rivers {width}")
        before, before_votes = at_rest(page, "#vote-a"), len(served.compare.votes)
        page.locator("#vote-a").dblclick()
        page.locator("#verdict", has_text="Saved: A is better.").wait_for()
        page.locator("#because textarea").wait_for()
        assert page.locator("#vote-a").bounding_box() == before, width
        assert list(served.compare.strengths.values())[-1] == ""
        assert page.locator("#count").bounding_box()["height"] <= 44
        assert list(served.compare.votes.values())[before_votes:] == ["a"]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width


def test_ratings_from_a_file_are_shown_before_they_are_taken_in(opened, served):
    from playwright.sync_api import expect

    page = opened()
    go_to(page, "data")
    pair = {"prompt": PAYLOADS[2], "chosen": PAYLOADS[0], "rejected": "green"}
    text = "\n".join([json.dumps(pair), "not json", json.dumps([PAYLOADS[4]])])
    file = {"name": "${window.leak=1}.jsonl", "mimeType": "", "buffer": text.encode()}

    def choose() -> None:
        with page.expect_file_chooser() as chooser:
            button(page, "Import").click()
        chooser.value.set_files([file])

    choose()
    box = page.locator("#import-preview")
    expect(box).to_contain_text(file["name"])
    expect(box.locator(".counts")).to_have_text("Votes1")
    expect(box.locator("li")).to_have_text(["2It is not JSON.", "3It is not a rating."])
    assert not served.imports.here
    button(page, "Cancel").click()
    expect(box).to_be_hidden()
    choose()
    button(page, "Import these").press("Enter")
    expect(page.locator("#data-note")).to_contain_text("Imported: 1 new rating.")
    assert len(served.imports.here) == 1
    past = page.locator("#past-imports li")
    expect(past).to_contain_text("1 chat")
    choose()
    button(page, "Cancel").click()
    expect(past).to_have_count(1)
    page.reload()
    go_to(page, "data")
    expect(past).to_have_count(1)
    button(page, "Undo the import").click()
    past.get_by_role("button", name="Keep").press("Enter")  # has the focus
    expect(button(page, "Undo the import")).to_be_focused()
    assert len(served.imports.here) == 1
    button(page, "Undo the import").click()
    past.get_by_role("button", name="Undo", exact=True).click()
    expect(page.locator("#data-note")).to_contain_text("Import undone")
    expect(past).to_have_count(0)
    assert not served.imports.here
    file["buffer"] = b"x" * (16 * 1024 * 1024 + 1)
    choose()
    expect(box).to_contain_text("too large")
    file["buffer"] = json.dumps([pair | {"prompt": '"' * 1000}] * 3000).encode()
    choose()  # as large as the server ever gets
    button(page, "Import these").click()
    expect(page.locator("#data-note")).to_contain_text("Imported: 3000 new ratings.")
    assert page.evaluate("window.leak") is None


def test_a_score_and_a_scale_that_a_file_does_not_name_are_asked_for(opened, served):
    from playwright.sync_api import expect

    page = opened()
    go_to(page, "data")
    box, note = page.locator("#import-preview"), page.locator("#data-note")

    def choose(*rows: dict[str, int]) -> None:
        lines = "\n".join(json.dumps({"prompt": "hi", "response": "yes"} | row) for row in rows)
        with page.expect_file_chooser() as chooser:
            button(page, "Import").click()
        file = {"name": "scores.jsonl", "mimeType": "", "buffer": lines.encode()}
        chooser.value.set_files([file])

    choose({"score": 8}, {"score": 40})
    expect(page.get_by_label("The best score there is")).to_be_focused()
    expect(button(page, "Import these")).to_have_count(0)
    page.get_by_label("The best score there is").select_option("10")
    expect(box.locator("li")).to_have_text(["2Its score 40 is not on the scale from 1 to 10."])
    page.get_by_label("The best score there is").select_option("100")
    expect(box.locator(".counts")).to_have_text("Stars2")
    button(page, "Cancel").click()
    choose({"helpfulness": 4, "correctness": 0, "verbosity": 2})
    score = page.get_by_label("Score to read")
    expect(score).to_have_value("helpfulness")
    score.select_option("correctness")
    expect(score).to_have_value("correctness")
    button(page, "Import these").click()
    expect(note).to_contain_text("Imported: 1 new rating.")
    assert [one.answer for batch in served.imports.here.values() for one in batch][-1] == 1


def test_what_data_takes_back_or_deletes_leaves_the_chat(opened, served):
    from playwright.sync_api import expect

    page = opened()
    send(page, "echo to be deleted")
    for _ in range(2):
        page.get_by_label("Like", exact=True).last.click()
        page.locator("#chat-note", has_text="Saved").wait_for()
        go_to(page, "data")
        row = page.locator("#data .row", has_text="to be deleted").first
        row.get_by_role("button", name="Withdraw").click()
        page.locator("#data-note", has_text="Withdrawn").wait_for()
        go_to(page, "chat")
        expect(page.get_by_label("Liked", exact=True)).to_have_count(0)
    page.get_by_label("Like", exact=True).last.click()
    page.locator("#chat-note", has_text="Saved").wait_for()
    go_to(page, "data")
    row = page.locator("#data .row", has_text="to be deleted").first
    row.get_by_role("button", name="Delete…").click()
    button(page, "Delete").click()
    page.locator("#data-note", has_text="Deleted").wait_for()
    go_to(page, "chat")
    expect(page.locator("#bot .bot-row")).to_have_count(0)
    expect(page.locator("#conversations")).not_to_contain_text("to be deleted")


def test_a_browser_remembers_who_rates_and_others_can_be_set_aside(opened, served):
    from playwright.sync_api import expect

    page = opened()
    rater = page.locator("#rater input")
    expect(rater).to_have_value("me")
    rater.fill("  Ada   L ")
    rater.press("Enter")
    expect(rater).to_have_value("Ada L")
    page.reload()
    expect(rater).to_have_value("Ada L")
    go_to(page, "compare")
    draft(page, "rivers")
    button(page, "Tie").click()
    page.locator("#verdict", has_text="Saved").wait_for()
    assert list(served.compare.by.values())[-1] == "Ada L"
    go_to(page, "data")
    row = page.locator("#raters li", has_text="Visitor")
    expect(row).to_contain_text("prefers the opposite of all others")
    row.get_by_role("button", name="Exclude", exact=True).click()
    expect(page.locator("#people-note")).to_contain_text("does not count")
    row.get_by_role("button", name="Include again").click()
    expect(row).to_contain_text("prefers the opposite of all others")


@pytest.mark.parametrize("size", ("laptop", "phone"))
def test_why_is_said_after_an_answer_without_the_mouse(opened, served, size):
    from playwright.sync_api import expect

    page = opened(size)
    go_to(page, "compare")
    draft(page, "rivers")
    page.locator("#draft-a").click()
    page.keyboard.press("1")
    box = page.locator("#because textarea")
    expect(box).to_be_visible()
    page.keyboard.press("c")
    expect(box).to_be_focused()
    page.keyboard.type("Shorter. <b>1</b>")
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).to_contain_text("Saved with your note")
    expect(box).to_be_hidden()
    assert list(served.compare.comments.values())[-1] == "Shorter. <b>1</b>"


def test_what_was_said_can_be_changed_taken_back_and_taken_away(opened, served):
    from playwright.sync_api import expect

    page = opened()
    send(page, "echo {{window.leak=1}} ${window.leak=1}")
    page.get_by_label("Like", exact=True).last.click()
    page.locator("#chat-note", has_text="Saved").wait_for()
    go_to(page, "data")
    page.get_by_label("Search ratings").fill("window.leak")
    row = page.locator("#data .row").first
    expect(row).to_contain_text("${window.leak=1}")
    row.get_by_label("Change the rating").select_option("down")
    expect(page.locator("#data-note")).to_contain_text("Saved: Thumb down.")
    with page.expect_download() as download:
        button(page, "Export CSV").click()
    assert download.value.suggested_filename == "rlhf-chat-feedback.csv"
    page.locator("#data .row").first.get_by_role("button", name="Withdraw").click()
    expect(page.locator("#data-note")).to_contain_text("Withdrawn")
    expect(page.locator("#data .none")).to_contain_text("Nothing matches.")
    assert page.evaluate("window.leak") is None


def test_the_welcome_ends_with_a_first_vote(opened, served):
    from playwright.sync_api import expect

    served.new = True
    page = opened("phone")
    try:
        for _ in range(2):
            page.locator("#welcome").get_by_role("button", name="Next").click()
        button(page, "Show me two answers").click()
        page.wait_for_selector("#vote-a:enabled")
        page.keyboard.press("2")
        expect(page.locator("#verdict")).to_contain_text("Saved: B is better.")
        go_to(page, "chat")
        expect(page.locator("#welcome .card")).to_have_count(0)
        assert not served.new
    finally:
        served.new = False


def test_the_welcome_can_end_with_a_practice(opened, served):
    from playwright.sync_api import expect

    served.new = True
    page = opened()
    try:
        for _ in range(2):
            page.locator("#welcome").get_by_role("button", name="Next").click()
        button(page, "Watch a practice").click()
        expect(page.locator("#status-bar")).to_contain_text("Simulation running")
        expect(page.locator("#simulation-view .best")).to_have_count(1)
        button(page, "Remove simulation data").click()
        expect(page.locator("#watch-note")).to_contain_text("Simulation data removed")
    finally:
        served.new = False


def test_a_simulated_person_rates_and_leaves(opened, served):
    from playwright.sync_api import expect

    page = opened()
    go_to(page, "learning")
    page.get_by_role("button", name="Simulation").click()
    button(page, "Start").click()
    expect(page.locator("#simulation-view .badge")).to_contain_text("(simulated)")
    expect(page.locator("#status-bar")).to_contain_text("Simulation running")
    expect(page.locator("#simulation-view .best")).to_have_count(1)
    button(page, "Remove simulation data").click()
    expect(page.locator("#watch-note")).to_contain_text("Simulation data removed")
    assert served.worker.watched == "" and served.worker.simulated == []


def test_in_chinese_the_window_speaks_chinese_and_leaves_peoples_words_alone(opened):
    from playwright.sync_api import expect

    page = opened("laptop", locale="zh-CN")
    expect(page.locator("#tab-chat-button")).to_have_text("对话")
    page.locator("#message textarea").fill("echo Today Yesterday")
    page.keyboard.press("Enter")
    page.locator("#bot .stamp").wait_for()
    expect(page.locator("#bot .bot.message").last).to_contain_text("Today Yesterday")
    expect(page.locator("#conversations .open").first).to_have_text("echo Today Yesterday")
    expect(page.locator("#conversations h3").first).to_have_text("今天")
    page.keyboard.press("Escape")
    page.keyboard.press("+")
    expect(page.locator("#chat-note")).to_contain_text("已保存")
    go_to(page, "versions")
    expect(page.locator("#roll-back")).to_have_text("回退")
    go_to(page, "data")
    assert page.locator("#data-kind input").input_value() == "全部"


def test_a_hidden_page_asks_for_nothing(opened):
    page = opened()
    page.clock.install()  # its timers run ahead when told to
    open_page(page, page.url)
    go_to(page, "learning")
    page.wait_for_timeout(500)
    page.evaluate(HIDE, True)
    page.wait_for_timeout(500)  # what was asked before is answered
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(10_000)
    page.wait_for_timeout(200)
    assert asked == []
    page.evaluate(HIDE, False)
    page.wait_for_timeout(500)
    asked.clear()
    page.clock.run_for(4_000)
    wait_for(page, lambda: asked)


# Colours that are on their way would be measured as they are.
SETTLED = """scheme => document.body.classList.contains('dark') === (scheme === 'dark')
    && document.getAnimations().every(one =>
        one.playState !== 'running' || one.effect.getComputedTiming().endTime === Infinity)"""


@pytest.mark.parametrize("size", SIZES)
def test_no_serious_barrier_on_any_screen(opened, axe, size):
    """Light and dark, which differ in nothing but colours."""
    page = opened(size, color_scheme="light", reduced_motion="reduce", bypass_csp=True)
    send(page, "echo hello")
    page.get_by_label("Like", exact=True).last.click()
    page.locator("#why").wait_for()
    page.evaluate(axe)
    found = []

    def look(what: str) -> None:
        for scheme, rules in (("dark", ["color-contrast"]), ("light", None)):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function(SETTLED, arg=scheme)
            options = {"resultTypes": ["violations"]} | ({"runOnly": rules} if rules else {})
            for v in page.evaluate("options => axe.run(document, options)", options)["violations"]:
                if v["impact"] in ("serious", "critical"):
                    targets = [" ".join(map(str, node["target"])) for node in v["nodes"]][:4]
                    found.append((what, scheme, v["id"], targets))

    for screen in SCREENS:
        go_to(page, screen)
        look(screen)
    go_to(page, "chat")
    button(page, "Settings").click()
    look("settings")
    page.locator("#settings-close").click()
    page.evaluate("rlhfHelp()")
    look("help")
    page.keyboard.press("Escape")
    go_to(page, "learning")
    for fold in ("Simulation", "Details for those who know RLHF"):
        page.get_by_role("button", name=fold).click()
    page.locator("#plots svg.marks").first.wait_for()
    look("all of Learning")
    go_to(page, "compare")
    draft(page, "rivers")
    page.locator("#vote-a").click()
    page.locator("#because textarea").wait_for()
    look("an answered pair")
    assert found == []


# ---- the whole app with the bundled model ------------------------------------------------------


def test_the_app_answers_and_keeps_a_thumb_and_a_vote(browser, real_app):
    """Whether it also learns from them takes minutes: tests/slow."""
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    try:
        page = watched(context, real_app)
        send(page, "Hello!")
        assert "base" in page.locator("#bot .stamp").last.inner_text()
        page.get_by_label("Like", exact=True).last.click()
        page.locator("#chat-note", has_text="Saved").wait_for()
        prefer_the_shorter(page, 1)
        assert page.wrong == [] and page.outside == []
    finally:
        context.close()
