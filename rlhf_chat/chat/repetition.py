"""A reply that has begun to go round in circles. Small models do, and do not come out of it; with
the circles in the conversation their next replies begin with them.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_CIRCLE = 24  # tokens that are said again and again
CIRCLING = 72  # tokens of nothing else, before a reply is taken to stay there: three rounds or more


def first_round(ids: Sequence[int]) -> int | None:
    """If the last CIRCLING of these tokens are the same few again and again: how many tokens there
    are up to the end of the first round. None if they are not."""
    last = list(ids[-CIRCLING:])
    if len(last) < CIRCLING:
        return None
    for size in range(1, LONGEST_CIRCLE + 1):
        if last[size:] == last[:-size]:
            start = len(ids) - CIRCLING
            while start > 0 and ids[start - 1] == ids[start - 1 + size]:
                start -= 1
            return start + size
    return None
