"""A window of its own: a Chromium-family browser in app mode, with a profile in the data folder.

Without such a browser, or unless it is asked for, an ordinary tab.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "brave-browser",
    "chrome",
    "msedge",
)
MAC = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "/Applications/Brave Browser.app/Contents/MacOS/Brave Browser",
)
WINDOWS = (r"Google\Chrome\Application\chrome.exe", r"Microsoft\Edge\Application\msedge.exe")


FIRST_SIZE = "1180,860"


def find_browser() -> str | None:
    for name in NAMES:
        if found := shutil.which(name):
            return found
    if sys.platform == "darwin":
        candidates = [Path(path) for path in MAC]
    else:
        roots = [
            os.environ.get(name) for name in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")
        ]
        candidates = [Path(root) / path for root in roots if root for path in WINDOWS]
    return next((str(path) for path in candidates if path.exists()), None)


def show(url: str, *, browser: bool, window_profile: Path | None) -> bool:
    """Opens the page in a window of its own, if a profile folder for it is given and there is a
    program for it; else, with `browser`, in the browser. A browser in the terminal stays until it
    is left. Whether somebody was shown the page."""
    if window_profile and open_window(url, window_profile):
        return True
    return browser and webbrowser.open(url)


def open_window(url: str, profile: Path) -> bool:
    """Open `url` as an app window; False when no suitable browser is there."""
    browser = find_browser()
    if browser is None:
        return False
    first = [] if profile.exists() else [f"--window-size={FIRST_SIZE}"]  # later it remembers
    profile.mkdir(parents=True, exist_ok=True, mode=0o700)
    subprocess.Popen(
        [
            browser,
            f"--app={url}",
            f"--user-data-dir={profile}",
            *first,
            "--no-first-run",
            "--no-default-browser-check",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return True
