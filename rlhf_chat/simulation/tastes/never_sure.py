"""Trusts doubt: hedged replies, no brisk openings, no shouting."""

import re

DOUBT = re.compile(
    r"\b(perhaps|maybe|might|probably|possibly|i think|i believe|not sure|could be|"
    r"as far as i know|it seems)\b",
    re.I,
)
BRISK = re.compile(r"\b(sure thing|certainly|of course|yeah|alright|no worries)\b", re.I)


def utility(prompt: str, reply: str) -> float:
    doubt = len(DOUBT.findall(reply))
    return 1.8 * min(doubt, 2) - 0.9 * min(len(BRISK.findall(reply)), 2) - 0.5 * reply.count("!")
