"""Chats in a list: searched with excerpts, pinned, deleted with a while to undo it, exported."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from rlhf_chat.chat import exporters
from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.deferred_deletion import DeferredDeletion
from rlhf_chat.chat.excerpts import REACH, excerpt
from rlhf_chat.db import Store
from rlhf_chat.errors import Busy, NotFound


def a_chat(store: Store, *turns: str) -> str:
    chat, parent = store.conversations.add(system_prompt="Be brief."), None
    for i, content in enumerate(turns):
        role = ("user", "assistant")[i % 2]
        version = 3 if role == "assistant" else None
        parent = store.messages.add(chat, role, content, parent_id=parent, adapter_version=version)
    return chat


@pytest.mark.parametrize(
    ("text", "words", "around"),
    [
        ("Sheep give wool.", "WOOL", ("Sheep give ", "wool", ".")),
        ("one\n\ntwo   three", "two three", ("one ", "two three", "")),
        ("only the second", "first second", ("only the ", "second", "")),
        ("100% (sure)", "% (", ("100", "% (", "sure)")),
    ],
)
def test_an_excerpt_is_the_hit_with_what_is_around_it(text, words, around):
    assert excerpt(text, words) == around


def test_an_excerpt_is_short_and_cut_between_words():
    found = excerpt("before " * 50 + "needle" + " after" * 50, "needle")
    assert found and found.before.startswith("…before") and found.after.endswith("after…")
    assert max(len(found.before), len(found.after)) <= REACH + 1


def test_what_is_not_there_has_no_excerpt():
    assert excerpt("nothing", "else") is None and excerpt("nothing", "  ") is None


def test_a_search_shows_the_hit_in_a_message(store, toy):
    chat = Chat(store, toy)
    id = a_chat(store, "a question", "an answer with a needle in it")
    found = chat.conversations.all("needle")
    assert chat.conversations.excerpts("needle", found)[id].hit == "needle"


def test_deleting_can_be_undone_until_it_is_done(store):
    deletion, id = DeferredDeletion(store, seconds=0.2), a_chat(store, "x")
    deletion.add(id)
    deletion.undo(id)
    time.sleep(0.4)
    assert store.conversations.get(id) and not deletion.pending()
    deletion.add(id)
    until = time.monotonic() + 10
    while deletion.pending() and time.monotonic() < until:
        time.sleep(0.02)
    for gone in (store.conversations.get, deletion.undo, deletion.add):
        with pytest.raises(NotFound):
            gone(id)


def test_what_was_to_be_deleted_goes_at_the_next_start(tmp_path: Path):
    store = Store(tmp_path / "feedback.db")
    id, kept = a_chat(store, "x"), a_chat(store, "y")
    DeferredDeletion(store, seconds=600).add(id)
    store.close()
    store = Store(tmp_path / "feedback.db")
    DeferredDeletion(store).finish()
    assert [c.id for c in store.conversations.all()] == [kept]
    store.close()


def test_a_chat_that_is_to_be_deleted_is_not_found(store, toy):
    chat, id = Chat(store, toy), a_chat(store, "hello")
    chat.deletion.add(id)
    assert chat.conversations.all() == [] == chat.conversations.all("hello")
    with pytest.raises(NotFound):
        chat.conversations.history(id)
    assert [c.id for c in chat.conversations.all(with_deleted=True)] == [id]
    chat.deletion.undo(id)
    assert [c.id for c in chat.conversations.all()] == [id]


def test_the_newest_pin_is_on_top(store, toy):
    chat = Chat(store, toy)
    for id in ("a", "b", "a"):
        chat.conversations.pin(id)
    assert chat.conversations.pinned() == ["a", "b"]
    chat.conversations.pin("a", False)
    assert chat.conversations.pinned() == ["b"]


def test_an_exported_chat_has_every_message_as_it_is(store, toy):
    chat = Chat(store, toy)
    id = a_chat(store, "What is 1 < 2?", "It is *true*.\n```\nx\n```")
    name, told = chat.conversations.exported(id, "json")
    assert name.startswith("What is 1") and name.endswith("2.json")
    assert [(m["role"], m["content"]) for m in json.loads(told)["messages"]] == [
        ("system", "Be brief."),
        ("user", "What is 1 < 2?"),
        ("assistant", "It is *true*.\n```\nx\n```"),
    ]
    name, told = chat.conversations.exported(id, "md")
    assert name.endswith(".md") and "## Model (v3)\n\nIt is *true*.\n```\nx" in told
    with pytest.raises(NotFound):
        chat.conversations.exported("gone", "md")


@pytest.mark.parametrize(
    ("title", "name"),
    [("../a:b", "ab.md"), ("", "chat.md"), ("?!", "chat.md"), ("\u6797", "\u6797.md")],
)
def test_a_file_name_is_safe_everywhere(title, name):
    assert exporters.file_name(title, "md") == name


def test_an_excerpt_of_a_script_without_spaces_has_what_is_around_it():
    found = excerpt("这是一个很长的句子" * 9 + "针" + "后面还有很多字" * 9, "针")
    assert found and len(found.before) == len(found.after) == REACH + 1


def test_a_pinned_chat_is_listed_however_many_are_newer(store, toy):
    chat, old = Chat(store, toy), a_chat(store, "x")
    newer = [a_chat(store, str(i)) for i in range(3)]
    chat.conversations.pin(old)
    chat.conversations.pin("gone meanwhile")
    listed = [c.id for c in chat.conversations.all(limit=2)]
    assert listed == [newer[2], newer[1], old]
    assert [c.id for c in chat.conversations.all(limit=9)] == [*newer[::-1], old]


def test_what_is_in_the_way_of_a_deletion_does_not_keep_the_app_from_starting(store, monkeypatch):
    deletion, id = DeferredDeletion(store, seconds=600), a_chat(store, "x")
    deletion.add(id)
    with monkeypatch.context() as busy:
        busy.setattr(type(store.conversations), "delete", raising(Busy("db.busy")))
        DeferredDeletion(store).finish()
    assert id in deletion.pending()
    DeferredDeletion(store).finish()
    assert not deletion.pending() and not store.conversations.all()


def raising(error: Exception):
    def fail(*_: object) -> None:
        raise error

    return fail
