"""Wants it short and plain: few words, one thought, no decoration."""

import re

EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf\u2b50]")


def utility(prompt: str, reply: str) -> float:
    words = len(reply.split())
    decoration = len(EMOJI.findall(reply)) + reply.count("!") + reply.count("\n")
    return -0.10 * words - 0.6 * min(decoration, 3) - (5.0 if words < 2 else 0.0)
