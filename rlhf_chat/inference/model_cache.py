"""Where models that the app fetched and converted itself are kept, for all data folders."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from rlhf_chat.inference import gguf


def cache_folder() -> Path:
    """Where fetched models are kept, shared by all data folders: RLHF_CHAT_CACHE, else the user's
    cache folder."""
    if chosen := os.environ.get("RLHF_CHAT_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", str(Path.home() / "AppData" / "Local")))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "rlhf-chat"


def converted(name: str) -> Path | None:
    """The folder of a preset that was fetched from the package index, if it is whole."""
    folder = cache_folder() / "models" / name
    return folder if (folder / gguf.SOURCE).is_file() else None


def source_note(folder: Path) -> dict[str, Any]:
    """What is noted of the GGUF file that a folder was converted from; {} for any other folder."""
    note = folder / gguf.SOURCE
    if not note.is_file():
        return {}
    found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    return found
