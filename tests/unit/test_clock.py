"""A clock that jumps changes no order: what was stored later comes later, whatever time it has."""

from __future__ import annotations

import random
import re
from pathlib import Path
from types import ModuleType

import pytest

from rlhf_chat.db import (
    ImportedFeedback,
    Store,
    adapter_versions,
    conversations,
    events,
    feedback,
    imports,
    messages,
    rounds,
)
from rlhf_chat.feedback.snapshot import take_snapshot

ACTS = 800
DB = Path(str(messages.__file__)).parent
MODULES: list[ModuleType] = [
    adapter_versions, conversations, events, feedback, imports, messages, rounds
]  # fmt: skip


@pytest.fixture
def store(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """With a clock that jumps by up to a year at every look, forwards and backwards."""
    rng = random.Random(5)

    def jumping() -> str:
        return f"{rng.choice((2025, 2026, 2027))}-{rng.randint(1, 12):02}-01T00:00:00.000+00:00"

    for module in MODULES:
        if hasattr(module, "timestamp"):
            monkeypatch.setattr(module, "timestamp", jumping)
    return store


def test_every_file_that_stores_a_time_is_in_this_test():
    named = {Path(str(module.__file__)).name for module in MODULES}
    for file in DB.glob("*.py"):
        if file.name != "codec.py" and "timestamp()" in file.read_text():
            assert file.name in named


def test_chats_messages_and_answers_keep_the_order_in_which_they_were_stored(store: Store):
    rng = random.Random(1)
    chats: list[str] = []  # the one that was added to last at the end
    replies: dict[str, list[str]] = {}  # of each chat, to its question
    answers: dict[str, int] = {}  # of each reply that was rated, in the order of its newest rating
    asked: dict[str, str] = {}
    for _ in range(ACTS):
        if not chats or rng.random() < 0.1:
            chat = store.conversations.add(title="x")
            asked[chat] = store.messages.add(chat, "user", "hello")
            replies[chat] = []
        else:
            chat = rng.choice(chats)
        if rng.random() < 0.5 or not replies[chat]:
            made = store.messages.add(
                chat,
                "assistant",
                "a reply",
                parent_id=asked[chat],
                prompt_ids=[1],
                response_ids=[len(replies[chat])],
                adapter_version=0,
            )
            replies[chat].append(made)
            chats = [one for one in chats if one != chat] + [chat]
            newest = made
        else:
            reply, value = rng.choice(replies[chat]), rng.choice((1, -1))
            store.feedback.add_rating(reply, value)
            answers.pop(reply, None)
            answers[reply] = value
        assert [c.id for c in store.conversations.all()] == chats[::-1]
        shown = store.messages.newest_reply()
        assert shown and shown.id == newest
    for chat, expected in replies.items():
        assert store.messages.children(asked[chat]) == expected
        assert store.messages.siblings(expected[0]) == expected
    found = store.feedback.all()
    assert [(f.message_id, f.answer == "up") for f in found] == [
        (reply, value > 0) for reply, value in reversed(answers.items())
    ]
    assert len(take_snapshot(store).items) == len(answers)


def test_rounds_versions_and_imports_keep_their_order(store: Store):
    made: list[int] = []
    for number in range(1, 30):
        round_id = store.rounds.open(
            trigger="asked",
            parent_version=0,
            seed=number,
            watermark=0,
            config={},
            snapshot_hash="",
        )
        store.rounds.close(round_id, status="discarded", reason="", verdict={})
        made.append(round_id)
    assert [r.id for r in store.rounds.newest(100)] == made[::-1] == sorted(made)[::-1]
    origins = []
    for number in range(10):
        one = ImportedFeedback(
            "thumb", (("user", f"ask {number}"),), (f"reply {number}",), 1, response_ids=((1,),)
        )
        origins.append(store.imports.add([one], counts=True)[0])
    assert [batch.id for batch in store.imports.newest(20)] == origins[::-1]


def test_no_statement_orders_by_a_time():
    for file in DB.glob("*.py"):
        assert not re.search(r"ORDER BY[^\n]*_at\b", file.read_text()), file.name
