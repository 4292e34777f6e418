"""Two replies beside each other as HTML, with what only one of them has marked."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from functools import lru_cache

from rlhf_chat.ui.charts import safe

# A word, a character of a script without spaces, a mark, or the space between them.
_TOKEN = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff]|\w+|\s+|.", re.S)
SHORTEST = 2  # words in a row that both replies have; fewer are there by chance


@lru_cache(maxsize=64)
def marked(before: str, after: str) -> tuple[str, str]:
    """HTML of both texts: `<del>` around what is only in the first, `<ins>` in the second."""
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    same = _same(old, new)
    return (
        _html(old, [(i, i + n) for i, _, n in same], "del"),
        _html(new, [(j, j + n) for _, j, n in same], "ins"),
    )


def _same(old: list[str], new: list[str]) -> list[tuple[int, int, int]]:
    """(start in old, start in new, length) of the runs that both have."""
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    found = []
    for i, j, n in blocks:
        words = sum(bool(token.strip()) for token in old[i : i + n])
        edge = (i, j) == (0, 0) or (i + n, j + n) == (len(old), len(new))
        if n and (words >= SHORTEST or edge):
            found.append((i, j, n))
    return found


def _html(tokens: list[str], same: list[tuple[int, int]], tag: str) -> str:
    parts, at = [], 0
    for start, end in [*same, (len(tokens), len(tokens))]:
        changed = "".join(tokens[at:start])
        if changed:
            parts.append(f"<{tag}>{safe(changed)}</{tag}>" if changed.strip() else safe(changed))
        parts.append(safe("".join(tokens[start:end])))
        at = end
    return "".join(parts)
