"""A conversation as a model reads it, whatever was said in it and however little limit there is."""

from __future__ import annotations

from typing import Any, cast

import pytest

from rlhf_chat.chat.context_window import (
    TooLongError,
    alternating,
    chat_message,
    truncate,
    with_system,
)
from rlhf_chat.inference.chat_template import Messages
from rlhf_chat.inference.model import Model


class Words:
    """Stands for a model whose tokens are words."""

    def encode(self, messages: Messages) -> Any:
        return [word for m in messages for word in (m["role"], *m["content"].split())]


MODEL = cast(Model, Words())

TALK = [
    chat_message("user", "one two"),
    chat_message("assistant", "three"),
    chat_message("user", "four five"),
]


def test_all_of_it_is_read_where_it_fits():
    ids, left_out = truncate(MODEL, "be kind", TALK, limit=11)
    assert left_out == 0
    assert " ".join(map(str, ids)) == "system be kind user one two assistant three user four five"


def test_the_oldest_turns_give_way_and_the_user_begins():
    ids, left_out = truncate(MODEL, "be kind", TALK, limit=10)
    assert left_out == 2 and " ".join(map(str, ids)) == "system be kind user four five"


def test_the_system_prompt_survives_sixty_long_turns():
    turns = [
        chat_message("assistant" if i % 2 else "user", f"turn{i} " + "word " * 40)
        for i in range(60)
    ] + [chat_message("user", "and now?")]
    for limit in (100, 500, 1000):
        ids, left_out = truncate(MODEL, "be kind", turns, limit)
        words = list(map(str, ids))
        assert words[:3] == ["system", "be", "kind"] and words[-3:] == ["user", "and", "now?"]
        assert words[3] == "user" and words[4] == f"turn{left_out}"
        assert limit - 2 * 42 < len(words) <= limit  # no more than needed is left out


def test_few_prompts_are_encoded_to_find_what_fits():
    class Counting(Words):
        calls = 0

        def encode(self, messages: Messages) -> Any:
            self.calls += 1
            return super().encode(messages)

    counting = Counting()
    turns = [chat_message("assistant" if i % 2 else "user", "word") for i in range(501)]
    truncate(cast(Model, counting), "", turns, limit=20)
    assert counting.calls < 15


def test_a_last_turn_that_does_not_fit_is_told_with_its_size():
    with pytest.raises(TooLongError) as error:
        truncate(MODEL, "", TALK, limit=2)
    assert error.value.tokens == 3


def test_a_message_without_a_reply_becomes_one_with_the_next_and_stays_as_it_was():
    turns = [
        chat_message("user", "hello"),
        chat_message("user", "are you there"),
        chat_message("assistant", "yes"),
    ]
    assert alternating(turns) == [
        chat_message("user", "hello\n\nare you there"),
        chat_message("assistant", "yes"),
    ]
    assert turns[0] == chat_message("user", "hello")


def test_no_system_prompt_is_no_message():
    assert with_system("", TALK) == TALK
    assert with_system("be kind", TALK)[0] == chat_message("system", "be kind")
