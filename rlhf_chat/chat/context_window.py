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

MOST_PER_TOKEN = 32  # characters, on average; English has four or five


class TooLongError(Exception):
    """Not even the last turn fits. `tokens`: None if it is so long that nobody counted them."""

    def __init__(self, tokens: int | None) -> None:
        super().__init__(f"The last turn alone has {tokens or 'very many'} tokens.")
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
    system prompt stays, and what is left of the turns begins with the user. What surely does not
    fit is not encoded, so time and memory are bounded by `limit`. Raises TooLongError."""
    starts = _readable(system, turns, limit * MOST_PER_TOKEN)
    if not starts:
        raise TooLongError(None)

    def ids_from(start: int) -> list[int]:
        return model.encode(with_system(system, alternating(turns[start:])))

    everything = ids_from(starts[0])
    if len(everything) <= limit:
        return everything, starts[0]
    first = bisect_left(starts, True, lo=1, key=lambda start: len(ids_from(start)) <= limit)
    if first == len(starts):
        raise TooLongError(len(ids_from(starts[-1])))
    return ids_from(starts[first]), starts[first]


def _readable(system: str, turns: Sequence[Words], characters: int) -> list[int]:
    """Where the prompt may begin, in order, if it has to have no more characters than these."""
    found, left = [], characters - len(system)
    for i in range(len(turns) - 1, -1, -1):
        left -= len(turns[i]["content"])
        if left < 0:
            break
        if i == 0 or turns[i]["role"] == "user":
            found.append(i)
    return found[::-1]


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
