"""Pictures of every screen and a short animation, taken from a real run of each model.

`make screenshots` starts the app on an empty folder and chats and votes through a real browser.
With the pocket model it votes for the shorter answer until a round begins, and waits for its
verdict (docs/screenshots/); with the bundled model a simulated rater votes until two versions are
promoted (docs/screenshots/demo/). Nothing is retouched.
"""

from __future__ import annotations

import argparse
import io
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests import chromium

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "screenshots"
RATINGS = {"pocket": 24, "demo": 12}  # until a round begins
QUESTIONS = "Hello! Who are you?", "Tell me something about cats."
LAPTOP, PHONE = {"width": 1366, "height": 768}, {"width": 390, "height": 844}
FRAME_WIDTH, FRAME_MS = 820, 700
ROUND_MINUTES = 6  # with the pocket model
VOTES_SHOWN = 4  # in the animation


@contextmanager
def running_app(model: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ["--model", model, "--ratings-per-round", str(RATINGS[model]), "--no-browser"]
    flags += ["--round-minutes", str(ROUND_MINUTES)]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "app.py", *flags, "--port", str(port), "--data", folder],
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            until = time.monotonic() + 300
            while not (ready := re.search(r"Ready at (\S+)", log.read_text())):
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"The app did not start:\n{log.read_text()}")
                time.sleep(0.5)
            yield ready[1]
        finally:
            process.terminate()
            process.wait(30)


class Camera:
    """Still pictures, and frames for the animation."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.frames: list[Image.Image] = []

    def still(self, page: Page, name: str) -> None:
        page.wait_for_timeout(400)
        page.screenshot(path=self.out / f"{name}.png")
        print(f"{name}.png", flush=True)

    def frame(self, page: Page, times: int = 1) -> None:
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        height = round(shot.height * FRAME_WIDTH / shot.width)
        self.frames += [shot.resize((FRAME_WIDTH, height), Image.Resampling.LANCZOS)] * times

    def save_animation(self) -> None:
        first, *rest = self.frames
        first.save(
            self.out / "tour.webp",
            save_all=True,
            append_images=rest,
            duration=FRAME_MS,
            loop=0,
            quality=60,
            method=6,
        )
        print(f"tour.webp, {len(self.frames)} frames", flush=True)


def open_window(browser: Browser, url: str, size: dict, scheme: str = "light") -> Page:
    page = browser.new_context(viewport=size, color_scheme=scheme).new_page()
    page.set_default_timeout(60_000)
    page.goto(url)
    page.wait_for_selector(".status-bar span:last-child")
    return page


def go_to(page: Page, screen: str) -> None:
    page.locator(f"#tab-{screen}-button").click()
    page.wait_for_timeout(900)


def send_message(page: Page, text: str) -> None:
    stamps = page.locator("#bot .stamp").count()
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")
    page.locator("#bot .stamp").nth(stamps).wait_for()


def take_chat(page: Page, camera: Camera) -> None:
    camera.still(page, "welcome")
    camera.frame(page, 2)
    page.locator("#welcome").get_by_role("button", name="Skip").click()
    for question in QUESTIONS:
        send_message(page, question)
        camera.frame(page, 2)
    page.get_by_label("Like", exact=True).last.click()
    page.locator("#chat-note", has_text="Saved").wait_for()
    camera.frame(page)
    camera.still(page, "chat")
    page.keyboard.press("Control+.")
    camera.still(page, "settings")
    page.keyboard.press("Control+.")
    page.keyboard.press("?")
    camera.still(page, "keys")
    page.keyboard.press("Escape")


def vote(page: Page, camera: Camera, votes: int) -> None:
    """Votes for the shorter draft each time."""
    go_to(page, "compare")
    for i in range(votes):
        page.wait_for_selector("#vote-a:enabled")
        page.wait_for_selector("#stop-drafts", state="detached")
        if i == 0:
            camera.still(page, "compare")
        a, b = (len(page.locator(f"#draft-{side}").inner_text()) for side in "ab")
        page.locator("#vote-a" if a <= b else "#vote-b").click()
        page.locator("#verdict", has_text="Saved").wait_for()
        if i < VOTES_SHOWN:
            camera.frame(page, 2)
        page.wait_for_timeout(600)  # a click this soon after another one is not a vote


def take_round(page: Page, camera: Camera, patience: float) -> None:
    """A round of training on the votes, from its start to its verdict."""
    go_to(page, "learning")
    busy = page.locator(".status-bar.busy")
    busy.wait_for()
    until, pictures = time.monotonic() + patience, 0
    while busy.count() and time.monotonic() < until:
        camera.frame(page)
        pictures += 1
        if pictures == 8:
            camera.still(page, "watching")
        page.wait_for_timeout(30_000)
    camera.still(page, "learning")
    camera.frame(page, 4)
    go_to(page, "versions")
    camera.still(page, "versions")
    camera.frame(page, 4)


def simulation_buttons(page: Page) -> tuple[Locator, Locator]:
    """Start and Stop; by place, so that the words on them may change."""
    buttons = page.locator("#simulation-buttons button")
    return buttons.nth(0), buttons.nth(1)


def take_simulation(page: Page, camera: Camera, patience: float) -> None:
    go_to(page, "learning")
    panel, (start, stop) = page.locator("#simulation button").first, simulation_buttons(page)
    panel.click()
    page.locator("#simulation-person input").click()
    page.get_by_role("option", name="lists").click()
    page.locator("#simulation-speed input[type=number]").fill("120")
    page.locator("#simulation-speed input[type=number]").press("Enter")
    start.click()
    until, pictured, shot_at = time.monotonic() + patience, False, 0.0
    page.locator("#details button").first.click()
    while time.monotonic() < until and page.locator("#rounds .promoted").count() < 2:
        page.wait_for_timeout(500)
        if not pictured and page.locator(".status-bar.busy").count():
            pictured = True
            camera.still(page, "watching")
        if time.monotonic() - shot_at > 6 and len(camera.frames) < 40:
            camera.frame(page)
            shot_at = time.monotonic()
    stop.click()
    expect(start).to_be_enabled()
    panel.click()
    page.locator("#details button").first.click()
    camera.still(page, "learning")
    camera.frame(page, 3)
    go_to(page, "versions")
    camera.still(page, "versions")
    camera.frame(page, 4)


def take(model: str, out: Path, minutes: float) -> None:
    """All pictures with one model."""
    out.mkdir(parents=True, exist_ok=True)
    camera = Camera(out)
    with running_app(model) as url, sync_playwright() as playwright:
        browser = chromium.started(playwright)
        page = open_window(browser, url, LAPTOP)
        take_chat(page, camera)
        # The thumb was the first rating of a round.
        vote(page, camera, VOTES_SHOWN if model == "demo" else RATINGS[model] - 1)
        go_to(page, "data")
        camera.still(page, "data")
        train = take_simulation if model == "demo" else take_round
        train(page, camera, minutes * 60)
        camera.save_animation()
        for size, scheme, name in ((LAPTOP, "dark", "chat_dark"), (PHONE, "light", "phone")):
            other = open_window(browser, url, size, scheme)  # with the token: nobody knows it yet
            if size == PHONE:
                other.locator("#side .toggle-button").click()
            other.locator("#conversations .open").first.click()
            other.wait_for_timeout(800)
            camera.still(other, name)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=[*RATINGS, "both"], default="both")
    parser.add_argument("--minutes", type=float, default=14, help="most to wait for a version")
    args = parser.parse_args()
    if args.model != "demo":
        take("pocket", OUT, args.minutes)
    if args.model != "pocket":
        take("demo", OUT / "demo", args.minutes)


if __name__ == "__main__":
    main()
