"""Where the API of the app that runs on a data folder is: a note in that folder, for the command
line. It says nothing about whether the app still runs; the lock of the database does."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

NAME = "api.json"


def write(data: Path, url: str) -> None:
    file = data / NAME
    file.unlink(missing_ok=True)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as note:
        json.dump({"url": url, "pid": os.getpid()}, note)


def remove(data: Path) -> None:
    with contextlib.suppress(OSError):  # a folder that may only be read is no reason not to start
        (data / NAME).unlink(missing_ok=True)


def url(data: Path) -> str:
    """The address below which the API answers; "" if no app has left one."""
    try:
        return str(json.loads((data / NAME).read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
