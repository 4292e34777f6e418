"""What the browser tests do with the window: open it, write, draft, change screens, wait."""

from __future__ import annotations

import os
import re
import socket
import time

from tests.entered import base_of

PATIENCE = int(os.environ.get("PATIENCE_MS", "60000"))  # ms; other work may hold the processor
# A refused image, the missing "x" of a payload, and polls that a reload broke off.
EXPECTED = "Content Security|404|AbortError|aborted|errored out|Failed to fetch|ERR_ABORTED"
SIZES = {"laptop": (1366, 768), "desk": (1920, 1080), "phone": (390, 844)}
SCREENS = ("chat", "compare", "learning", "versions", "data")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def watched(context, url: str):
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.wrong, page.outside = [], []
    page.on(
        "pageerror",
        lambda error: None if re.search(EXPECTED, str(error)) else page.wrong.append(str(error)),
    )
    page.on(
        "console",
        lambda line: (
            page.wrong.append(line.text)
            if line.type == "error" and not re.search(EXPECTED, line.text)
            else None
        ),
    )
    page.on("dialog", lambda dialog: (page.wrong.append("a dialog opened"), dialog.dismiss()))
    page.on(
        "request",
        lambda asked: (
            None
            if asked.url.startswith((base_of(url), "data:", "blob:"))
            else page.outside.append(asked.url)
        ),
    )
    open_page(page, url)
    return page


def open_page(page, url: str) -> None:
    page.goto(url)
    page.wait_for_selector("#message textarea")
    page.wait_for_selector(".status-bar span:last-child")  # the first answer of the server


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def send(page, text: str, *, wait: bool = True) -> None:
    replies = page.locator("#bot .bot-row").count()
    page.get_by_label("Message", exact=True).fill(text)
    button(page, "Send").click()
    if wait:
        page.wait_for_function(
            "n => document.querySelectorAll('#bot .bot-row').length > n", arg=replies
        )
        page.locator("#bot .foot .stamp").nth(replies).wait_for()


def draft(page, prompt: str) -> None:
    """Two answers to a prompt that is typed, until they are complete."""
    page.get_by_label("My own", exact=True).check()
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.locator("#new-drafts").click()
    page.locator("#asked", has_text=prompt).wait_for()
    page.locator("#asking", has_text="Which answer is better?").wait_for()
    page.wait_for_selector("#stop-drafts", state="detached")
    page.wait_for_selector("#vote-a:enabled")


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def go_to(page, screen: str) -> None:
    page.locator(f"#tab-{screen}-button").click()
    page.locator(f"#tab-{screen}").wait_for()


def at_rest(page, selector: str) -> dict[str, float]:
    """Where an element is, once it stays there: Gradio sets the text of an answer after a while."""
    was, box = None, page.locator(selector).bounding_box()
    while box != was:
        page.wait_for_timeout(200)
        was, box = box, page.locator(selector).bounding_box()
    return box


def press(page, key: str) -> None:
    page.keyboard.press(key)


def wait_for(page, condition) -> None:
    """For what happens in the toy, not on the page."""
    until = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < until
        page.wait_for_timeout(50)


def prefer_the_shorter(page, votes: int) -> None:
    """A person with a clear taste: the shorter draft, each time. The next pair comes by itself."""
    open_tab(page, "Compare")
    given = 0
    for _ in range(3 * votes):
        ended = "#vote-a:enabled, #asking .status-message.bad"  # or both came out the same
        page.wait_for_selector(ended, timeout=60_000)
        page.wait_for_selector("#stop-drafts", state="detached", timeout=60_000)
        if page.locator("#vote-a").is_disabled():
            page.locator("#new-drafts").click()
            page.wait_for_timeout(600)
            continue
        a, b = (len(page.locator(f"#draft-{side}").inner_text()) for side in "ab")
        button(page, "A is better" if a < b else "B is better" if b < a else "Tie").click()
        page.locator("#verdict", has_text="Saved").wait_for()
        given += 1
        if given == votes:
            break
        page.wait_for_selector("#vote-a:enabled", timeout=60_000)
        page.wait_for_timeout(600)  # the second half of a double click is not a vote
