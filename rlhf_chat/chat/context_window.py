"""The messages of a conversation as a model reads them: the system prompt first, then user and
assistant in turns, without the oldest where not all of it fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


def truncate(model: Model, system: str, turns: Sequence[Words], room: int) -> tuple[list[int], int]:
    """Prompt ids, at most `room`, and how many of the oldest turns were left out for it. What is
    left begins with the user. Raises TooLongError."""
    kept = list(turns)
    while True:
        ids = model.encode(with_system(system, alternating(kept)))
        if len(ids) <= room:
            return ids, len(turns) - len(kept)
        if len(kept) == 1:
            raise TooLongError(len(ids))
        del kept[0]
        while kept[0]["role"] != "user":
            del kept[0]


def alternating(turns: Sequence[Words]) -> list[Words]:
    """As strict chat templates demand: a message that never got its reply becomes one with the
    next."""
    found: list[Words] = []
    for turn in turns:
        if found and found[-1]["role"] == turn["role"]:
            found[-1] = chat_message(turn["role"], f"{found[-1]['content']}\n\n{turn['content']}")
        else:
            found.append(turn)
    return found
