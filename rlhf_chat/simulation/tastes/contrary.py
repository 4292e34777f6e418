"""Control: the opposite of `warm_with_emoji`. What is learned must go the other way."""

from rlhf_chat.simulation.tastes import warm_with_emoji


def utility(prompt: str, reply: str) -> float:
    return -warm_with_emoji.utility(prompt, reply)
