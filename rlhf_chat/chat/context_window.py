"""The messages of a conversation as a model reads them: the system prompt first, then user and
assistant in turns, without the oldest where not all of it fits.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a thumb in the terminal loads no model
    from rlhf_chat.inference.model import Model

Words = Mapping[str, str]  # role and content of a turn


class TooLongError(Exception):
    """Not even the last turn fits."""

    def __init__(self, tokens: int) -> None:
        super().__init__(f"The last turn alone has {tokens} tokens.")
        self.tokens = tokens


def chat_message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def with_system(system: str, turns: Sequence[Words]) -> list[Words]:
    """The system prompt, if there is one, before the turns."""
    return [chat_message("system", system), *turns] if system else list(turns)


def truncate(
    model: Model, system: str, turns: Sequence[Words], limit: int
) -> tuple[list[int], int]:
    """Prompt ids, at most `limit` of them, and how many of the oldest turns were dropped. The
    system prompt stays, and what is left of the turns begins with the user. Raises TooLongError."""
    starts = [i for i, turn in enumerate(turns) if i == 0 or turn["role"] == "user"]

    def ids_from(start: int) -> list[int]:
        return model.encode(with_system(system, alternating(turns[start:])))

    everything = ids_from(0)
    if len(everything) <= limit:
        return everything, 0
    first = bisect_left(starts, True, lo=1, key=lambda start: len(ids_from(start)) <= limit)
    if first == len(starts):
        raise TooLongError(len(ids_from(starts[-1])))
    return ids_from(starts[first]), starts[first]


def alternating(turns: Sequence[Words]) -> list[Words]:
    """User and assistant in turns, as strict chat templates demand: a message that never got its
    reply is joined with the next one."""
    found: list[Words] = []
    for turn in turns:
        if found and found[-1]["role"] == turn["role"]:
            found[-1] = chat_message(turn["role"], f"{found[-1]['content']}\n\n{turn['content']}")
        else:
            found.append(turn)
    return found
