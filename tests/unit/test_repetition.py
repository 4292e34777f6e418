"""A reply that goes round in circles is stopped and shortened to its first round, and no other."""

from __future__ import annotations

import random
from itertools import pairwise
from threading import Event
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.completions import CompletionRequest, Completions
from rlhf_chat.chat.repetition import CIRCLING, LONGEST_CIRCLE, first_round
from rlhf_chat.inference.generate import Response, Sampling


@given(
    before=st.lists(st.integers(0, 9)),
    circle=st.lists(st.integers(10, 19), min_size=1, max_size=LONGEST_CIRCLE),
)
def test_of_the_same_few_tokens_again_and_again_the_first_round_is_kept(before, circle):
    ids = before + (circle * CIRCLING)[: CIRCLING + len(circle)]
    kept = first_round(ids)
    assert kept is not None and len(before) < kept <= len(before) + len(circle)
    rest = ids[len(before) :]
    assert all(a == b for a, b in zip(rest, rest[kept - len(before) :], strict=False))


def test_a_list_or_a_refrain_is_no_circle():
    rng = random.Random(0)
    item = [1, 2, 3, 4, 5, 6]
    items = [token for _ in range(40) for token in (*item, rng.randrange(10, 10_000))]
    assert first_round(items) is None
    refrain = list(range(100, 130)) + item * 3
    assert all(first_round((refrain * 4)[:end]) is None for end in range(len(refrain) * 4))
    assert first_round(item * (CIRCLING // len(item) - 1)) is None


SOME = [5, 6, 7, 8, 9]


def circling() -> Any:
    """A generator that writes SOME again and again."""

    def stream(view, prompts, sampling, *, seed):
        ids: list[int] = []
        for at in range(sampling.max_new_tokens):
            ids.append(SOME[at % len(SOME)])
            yield [Response(list(ids), False)]

    return type("Circling", (), {"stream": staticmethod(stream)})()


def test_such_a_reply_is_stopped_says_so_and_is_kept(store, toy):
    chat = Chat(store, toy, Sampling(max_new_tokens=400))
    chat.generator = circling()
    conversation = chat.conversations.new()
    *_, last = chat.reply(conversation, "hello")
    assert last.done and last.finish_reason == "length"
    assert last.note and last.note.code == "chat.in_circles"
    kept = store.messages.get(last.message_id)
    assert kept.finish_reason == "length" and kept.content == last.text
    assert kept.response_ids is not None and len(kept.response_ids) == len(SOME)


def test_what_a_program_was_sent_is_what_is_kept(store, toy):
    """It cannot be asked to forget the circles, so the reply ends there."""
    chat = Chat(store, toy, Sampling(max_new_tokens=400))
    chat.generator = circling()
    request = CompletionRequest(
        ({"role": "user", "content": "hello"},), Sampling(max_new_tokens=400)
    )
    sent = [one.drafts[0] for one in Completions(chat).stream(request, Event())]
    assert all(b.text.startswith(a.text) for a, b in pairwise(sent))
    kept = store.messages.get(sent[-1].reply_id)
    assert kept.content == sent[-1].text and kept.finish_reason == "length"
    assert kept.response_ids is not None and len(kept.response_ids) == CIRCLING
