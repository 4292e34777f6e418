"""Whether a reply has begun to go round in circles. Small models do, and do not come out of it."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_CIRCLE = 24  # tokens that are said again and again
CIRCLING = 72  # tokens of nothing else, before a reply is taken to stay there: three rounds or more


def goes_in_circles(ids: Sequence[int]) -> bool:
    """Whether the last CIRCLING of these tokens are the same few again and again."""
    last = list(ids[-CIRCLING:])
    if len(last) < CIRCLING:
        return False
    return any(last[size:] == last[:-size] for size in range(1, LONGEST_CIRCLE + 1))
