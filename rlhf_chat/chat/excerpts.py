"""Where a search hit stands in a text. Pure: text in, pieces out."""

from __future__ import annotations

import re
from typing import NamedTuple

REACH = 28  # characters on each side of the hit


class Excerpt(NamedTuple):
    """A hit with the words around it."""

    before: str
    hit: str
    after: str


def excerpt(text: str, words: str) -> Excerpt | None:
    """Around the first place that has the words as they were typed, or else any of them; None if
    there is none. White space counts as one space."""
    flat, wanted = " ".join(text.split()), " ".join(words.split())
    for pattern in (re.escape(wanted), "|".join(map(re.escape, wanted.split()))):
        if pattern and (found := re.search(pattern, flat, re.IGNORECASE)):
            return _around(flat, *found.span())
    return None


def _around(text: str, start: int, end: int) -> Excerpt:
    before, after = text[:start], text[end:]
    if len(before) > REACH:
        near = before[-REACH:]
        before = "…" + (near.partition(" ")[2] or near)  # some scripts have no spaces
    if len(after) > REACH:
        near = after[:REACH]
        after = (near.rpartition(" ")[0] or near) + "…"
    return Excerpt(before, text[start:end], after)
