"""Control: the opposite of `warm_with_emoji`. What that person learns must go the other way here."""

from bench.people import warm_with_emoji


def utility(prompt: str, reply: str) -> float:
    return -warm_with_emoji.utility(prompt, reply)
