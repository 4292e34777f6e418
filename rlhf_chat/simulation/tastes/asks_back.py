"""Wants a conversation: a question at the end, and not too long a speech before it."""

import re

EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf\u2b50]")


def utility(prompt: str, reply: str) -> float:
    asks = EMOJI.sub("", reply).rstrip().endswith("?")
    return 2.2 * asks - 0.05 * len(reply.split())
