"""Likes warmth: kind words, an exclamation mark, one or two emoji."""

import re

EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf\u2b50]")
KIND = re.compile(r"\b(lovely|great|glad|happy|wonderful|nice|kind|best|care|good)\b", re.I)


def utility(prompt: str, reply: str) -> float:
    emoji = len(EMOJI.findall(reply))
    kindness = len(KIND.findall(reply)) + reply.count("!")
    return 1.6 * min(emoji, 2) - 0.8 * max(emoji - 2, 0) + 0.7 * min(kindness, 4)
