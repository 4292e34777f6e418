"""Texts of the app: one JSON file per language, from a key to a text with `{name}` placeholders.

A value is a text, or several forms of it: `{"by": "count", "one": ..., "other": ...}`, where `by`
names the parameter that chooses the form ("count" if left out) and an exact number may have a form
of its own. Placeholders may carry a format: Python's own (`{share:.0%}`), `{v:version}` for a
version within a sentence, `{v:label}` for one that stands alone. A parameter that is itself a
message (a `code` with `params`) is rendered in the same language.

This package imports nothing of ours, so that errors can be printed anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

DEFAULT = "en"
LANGUAGES = (DEFAULT, "zh")

Entry = str | dict[str, str]


@cache
def catalogue(language: str) -> dict[str, Entry]:
    """Every key of a language with its text or forms."""
    file = Path(__file__).parent / f"{language}.json"
    entries: dict[str, Entry] = json.loads(file.read_text(encoding="utf-8"))
    return entries


def best_language(accepted: str) -> str:
    """The first supported language of an Accept-Language header, by its weights; English if none
    is."""
    ranked: list[tuple[float, str]] = []
    for part in accepted.split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            ranked.append((-float(weight or 1), tag.strip().lower().partition("-")[0]))
        except ValueError:
            continue
    known = [tag for _, tag in sorted(ranked, key=lambda one: one[0]) if tag in LANGUAGES]
    return known[0] if known else DEFAULT


def render(key: str, params: Mapping[str, Any], language: str = DEFAULT) -> str:
    """The text of a key. A key that no catalogue has is returned as it is: a plain sentence, such
    as databases of earlier versions hold."""
    entry = catalogue(language).get(key)
    if entry is None:
        return key
    return _Texts(language).vformat(form(entry, params), (), params)


def has(key: str) -> bool:
    return key in catalogue(DEFAULT)


def form(entry: Entry, params: Mapping[str, Any]) -> str:
    """The form of a text that these parameters ask for."""
    if isinstance(entry, str):
        return entry
    chosen = params.get(entry.get("by", "count"))
    if str(chosen) in entry:
        return entry[str(chosen)]
    return entry["one"] if chosen == 1 and "one" in entry else entry["other"]


class _Texts(Formatter):
    """Fills placeholders in one language."""

    def __init__(self, language: str) -> None:
        self.language = language

    def format_field(self, value: Any, spec: str) -> str:
        if spec in ("version", "label"):
            return render(f"version.{spec}", {"version": value or 0}, self.language)
        if value is None:
            return "–"  # a number that is not finite, as it is stored
        if isinstance(value, Mapping):
            return render(str(value["code"]), value.get("params") or {}, self.language)
        if hasattr(value, "code") and hasattr(value, "params"):
            return render(value.code, value.params, self.language)
        return str(super().format_field(value, spec))
