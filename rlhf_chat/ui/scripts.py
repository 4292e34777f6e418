"""Scripts of the window's own components, from the folder static."""

from __future__ import annotations

from pathlib import Path


def script(name: str) -> str:
    return (Path(__file__).parent / "static" / f"{name}.js").read_text(encoding="utf-8")
