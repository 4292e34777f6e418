"""Another model chosen in the settings: the app starts itself anew, and the page comes back."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from rlhf_chat.ui import restart
from tests.browser.window import PATIENCE, watched
from tests.integration.test_app import running


def ready(lines: list[str]) -> list[str]:
    return [line.split()[-1] for line in lines if line.startswith("Ready at ")]


def look_at_models(page) -> None:
    page.wait_for_load_state("networkidle")
    if not page.locator("#settings").is_visible():  # an open panel is remembered
        page.keyboard.press("Control+.")
    page.locator("#models button").first.click()


@pytest.mark.skipif(not restart.POSSIBLE, reason="a process cannot be replaced here")
def test_choosing_a_model_starts_it_and_the_page_comes_back(browser, toy_folder, tmp_path: Path):
    with running(tmp_path, str(toy_folder)) as (_, lines):
        context = browser.new_context()
        page = watched(context, ready(lines)[0])
        look_at_models(page)
        expect(page.locator("#model-note")).to_contain_text(toy_folder.name, timeout=PATIENCE)
        page.locator("#model-menu input").click()
        page.get_by_role("option", name=re.compile("^demo")).click()
        expect(page.locator("#model-note")).to_contain_text("own")
        with page.expect_navigation(timeout=PATIENCE):
            page.locator("#model-start").click()
        page.wait_for_selector(".status-bar span:last-child", timeout=PATIENCE)
        look_at_models(page)
        expect(page.locator("#model-note")).to_contain_text("This is demo", timeout=PATIENCE)
        context.close()
        first, second = ready(lines)
        assert first == second, "another address, and with it another token"


@pytest.mark.skipif(not restart.POSSIBLE, reason="a process cannot be replaced here")
def test_a_model_that_cannot_be_started_gives_way_to_the_one_before(
    toy_folder, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv(restart.TOKEN, "the-same-token")
    monkeypatch.setenv(restart.FALLBACK, str(toy_folder))
    other = tmp_path / "other"
    shutil.copytree(toy_folder, other)
    (other / "model.safetensors").write_bytes(b"nonsense")
    with running(tmp_path, str(other)) as (_, lines):
        assert any("cannot be read" in line for line in lines), "".join(lines)
        assert [line.endswith("token=the-same-token") for line in ready(lines)] == [True]
