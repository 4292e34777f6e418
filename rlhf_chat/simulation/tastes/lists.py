"""Likes lists: several short points, and an example to go with them."""

import re

POINT = re.compile(r"^\s*(?:[-*\u2022]|\d+[.)])\s+\S", re.M)


def utility(prompt: str, reply: str) -> float:
    points = len(POINT.findall(reply))
    example = bool(re.search(r"for (example|instance)", reply, re.I))
    return 1.5 * (points > 0) + 0.6 * min(points, 3) + 0.8 * example
