"""A correction that was withdrawn or replaced is nowhere: not as text and not as token ids, in the
file, its write-ahead log, its caches or its backups.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from rlhf_chat.db import Store, content_key
from rlhf_chat.db.codec import ids_blob
from rlhf_chat.db.db_errors import backups_of
from rlhf_chat.feedback.snapshot import take_snapshot

CANARY = "zqxjk-canary"
IDS = [70_001, 70_002, 70_003]  # of the correction
ASKED, LATER = [1, 2, 3], [1, 2, 3, *IDS, 4]  # prompts of the original and of the turn after


def everything(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


def assert_gone(store: Store) -> None:
    told = everything(store.path.parent)
    assert CANARY.encode() not in told
    assert bytes(ids_blob(IDS) or b"") not in told
    assert len(backups_of(store.path)) == 1 and store.unerased == []


def add(store: Store, conversation: str, parent: str | None, text: str, ids=None, prompt=None):
    role = "assistant" if ids else "user"
    more = {"prompt_ids": prompt, "response_ids": ids} if ids else {}
    return store.messages.add(conversation, role, text, parent_id=parent, **more)


def corrected(store: Store) -> tuple[str, str, str, str]:
    """A chat that goes on after a correction, with caches and a backup; ids of the conversation,
    the original, the correction and the last reply."""
    chat = store.conversations.add()
    asked = add(store, chat, None, "hello")
    original = add(store, chat, asked, "a reply", [9, 9], ASKED)
    edited = add(store, chat, asked, f"my {CANARY}", IDS, ASKED)
    store.feedback.add_edit(original, edited)
    store.feedback.add_rating(edited, 1)
    then = add(store, chat, edited, "and then?")
    last = add(store, chat, then, "the end", [8, 8], LATER)
    store.feedback.add_rating(last, 1)
    for prompt, ids in ((ASKED, IDS), (LATER, [8, 8])):
        store.features.put("f", [(content_key(prompt, ids), np.ones(2))])
    store.features.put_reference_responses("f", "key", LATER, [[5]])
    quote = [{"code": "feedback.corrected", "params": {"after": CANARY}}, 0.5, chat]
    round_id = store.rounds.open(
        trigger="asked", parent_version=0, seed=0, watermark=1, config={}, snapshot_hash=""
    )
    store.rounds.close(
        round_id, status="discarded", reason="", verdict={"card": {"moved": [quote]}}
    )
    assert store.back_up() and CANARY.encode() in everything(store.path.parent / "backups")
    return chat, original, edited, last


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "feedback.db"


def withdraw(store: Store, original: str, edited: str) -> None:
    store.feedback.add_edit(original, edited, withdrawn=True)


def replace_it(store: Store, original: str, edited: str) -> None:
    message = store.messages.get(original)
    other = add(store, message.conversation_id, message.parent_id, "better", [7, 7], ASKED)
    store.feedback.add_edit(original, other)


def correct_it_again(store: Store, original: str, edited: str) -> None:
    message = store.messages.get(original)
    other = add(store, message.conversation_id, message.parent_id, "better", [7, 7], ASKED)
    store.feedback.add_edit(edited, other)


Act = Callable[[Store, str, str], None]


@pytest.mark.parametrize("act", [withdraw, replace_it, correct_it_again])
def test_its_words_and_their_token_ids_are_nowhere(path: Path, act: Act):
    with closing(Store(path)) as store:
        _, original, edited, _ = corrected(store)
        act(store, original, edited)
        assert_gone(store)
        assert store.events.newest() == []
        left = store.feedback.edits()
        edits = [(e.message_id, store.messages.get(e.edited_id).content) for e in left]
        assert edits == ([] if act is withdraw else [(original, "better")])
    with closing(Store(path)) as store:
        assert_gone(store)


def test_the_chat_goes_on_from_the_original_and_what_was_read_with_it_is_not_learned_from(path):
    with closing(Store(path)) as store:
        chat, original, edited, last = corrected(store)
        assert len(take_snapshot(store).items) == 3  # the correction, its thumb, and the last reply
        withdraw(store, original, edited)
        told = [m.content for m in store.messages.path_to(last)]
        assert told == ["hello", "a reply", "and then?", "the end"]
        assert store.conversations.get(chat).head_id == last
        assert store.messages.get(last).prompt_ids is None
        assert take_snapshot(store).items == ()
        assert store.messages.siblings(original) == [original]
        [again] = backups_of(path)
        with closing(Store(again)) as copy:
            assert [m.content for m in copy.messages.path_to(last)] == told


def test_the_original_is_shown_again_where_the_correction_was_the_last_word(path):
    with closing(Store(path)) as store:
        chat = store.conversations.add()
        asked = add(store, chat, None, "hello")
        original = add(store, chat, asked, "a reply", [9], ASKED)
        edited = add(store, chat, asked, CANARY, IDS, ASKED)
        store.feedback.add_edit(original, edited)
        withdraw(store, original, edited)
        assert store.conversations.get(chat).head_id == original


def test_corrections_of_others_and_replies_of_a_version_stay(path):
    with closing(Store(path)) as store:
        chat, original, _, _ = corrected(store)
        asked = store.messages.get(original).parent_id
        theirs = add(store, chat, asked, "theirs", [6, 6], ASKED)
        store.feedback.add_edit(original, theirs, rater="Kim")
        written = store.messages.add(
            chat, "assistant", "v1", parent_id=asked, adapter_version=1,
            prompt_ids=ASKED, response_ids=[3],
        )  # fmt: skip
        store.feedback.add_edit(original, written)
        assert_gone(store)  # replaced
        store.feedback.add_edit(original, written, withdrawn=True)
        assert {e.edited_id for e in store.feedback.edits()} == {theirs}
        assert store.messages.get(written).content == "v1"


KILLED = """
import os, sys
from rlhf_chat.db import Store, deletion
store = Store(sys.argv[1])
deletion.erase_from_backups = lambda *_: os.kill(os.getpid(), 9)
store.feedback.add_edit(sys.argv[2], sys.argv[3], withdrawn=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_kill_in_between_is_finished_at_the_next_start(path: Path):
    with closing(Store(path)) as store:
        _, original, edited, _ = corrected(store)
    child = [sys.executable, "-c", KILLED, str(path), original, edited]
    assert subprocess.run(child, env={**os.environ}, check=False).returncode == -9
    assert CANARY.encode() in everything(path.parent)
    with closing(Store(path)) as store:
        assert_gone(store)
        assert store.events.newest() == []


def test_what_a_reader_keeps_in_the_log_is_named_until_it_is_gone(path: Path, monkeypatch):
    with closing(Store(path)) as store:
        _, original, edited, _ = corrected(store)
        monkeypatch.setattr("time.sleep", lambda _: None)
        with store.connection.read() as db:
            db.execute("BEGIN")
            db.execute("SELECT count(*) FROM messages").fetchall()
            withdraw_elsewhere(store, original, edited)
            assert [p.name for p in store.unerased] == ["feedback.db-wal"]
            db.execute("COMMIT")
        store.finish_erasing()
        assert_gone(store)


def withdraw_elsewhere(store: Store, original: str, edited: str) -> None:
    """In another thread, as this one reads."""
    thread = threading.Thread(target=withdraw, args=(store, original, edited))
    thread.start()
    thread.join()
