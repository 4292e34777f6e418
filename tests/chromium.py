"""A Chromium for the tests and for the pictures: where it is, and how it is kept quiet.

Left out: what is done with it.
"""

from __future__ import annotations

import shutil
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def program(playwright: Any) -> str:
    """The system's Chromium, or the path of the one that Playwright would install."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or str(playwright.chromium.executable_path)


def started(playwright: Any) -> Any:
    return playwright.chromium.launch(executable_path=program(playwright), args=list(QUIET))
