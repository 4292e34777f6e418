"""What the disk changed is noticed: rows by their checksums, the rest by SQLite itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlite_utils import Database

from rlhf_chat.db import DatabaseDamaged, NotFound, Store, StoreError, content_key
from rlhf_chat.db.codec import fetch, one_value
from rlhf_chat.db.database_file import KEEP_BACKUPS, add_backup, connect
from rlhf_chat.db.db_errors import backups_of
from rlhf_chat.db.row_checksums import CHECKED, damaged_rows, is_whole
from rlhf_chat.feedback.snapshot import take_snapshot
from rlhf_chat.training.idle_tasks import IdleTasks

FLIPS = 60
WORDS = ("the", "sea", "is", "deep", "and", "blue", "today", "we", "see", "a", "small", "boat")
REPLY = "a reply that somebody rated"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "feedback.db"


def fill(store: Store, chats: int, seed: int = 0) -> None:
    """Two rated and compared replies in each chat, with a cached vector for each of them."""
    rng = random.Random(seed)
    for _ in range(chats):
        chat, ids = store.conversations.add(), rng.sample(range(1000), 20)
        asked = store.messages.add(chat, "user", " ".join(rng.choices(WORDS, k=12)))
        made = [
            store.messages.add(
                chat,
                "assistant",
                " ".join(rng.choices(WORDS, k=30)),
                parent_id=asked,
                prompt_ids=ids,
                response_ids=[*ids, i],
                adapter_version=0,
                sampling={"temperature": 0.7},
            )
            for i in range(2)
        ]
        for i, message in enumerate(made):
            store.feedback.add_rating(message, rng.choice((1, -1)), comment=rng.choice(WORDS))
            vector = np.full(16, rng.random(), np.float32)
            store.features.put("key", [(content_key(ids, [*ids, i]), vector)])
        store.feedback.add_preference(made[0], made[1], rng.choice("ab"), shown_first="a")


def rows_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(connect(path, "ro")) as db:
        return {name: fetch(db, f"SELECT * FROM {name}") for name in CHECKED}


def rotten(path: Path, sql: str) -> None:
    """Changes rows without a trigger, as the disk does."""
    with closing(connect(path, "rw")) as db:
        triggers = fetch(db, "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        assert db.execute(sql).rowcount
        for _, made in triggers:
            db.execute(made)


def notices(path: Path) -> bool:
    """Whether a start, the screens, a round or the check of all rows says so."""
    try:
        with closing(Store(path)) as store:
            store.feedback.all()
            take_snapshot(store)
            for chat in store.conversations.all():
                if chat.head_id:
                    store.messages.path_to(chat.head_id)
            assert store.integrity.check()
            return bool(store.integrity.damage)
    except (DatabaseDamaged, NotFound):
        return True


def test_a_flipped_bit_is_noticed_or_changes_nothing(path):
    with closing(Store(path)) as store:
        fill(store, 60)
    whole, before = path.read_bytes(), rows_of(path)
    rng, noticed = random.Random(7), 0
    for i in range(FLIPS):
        damaged = bytearray(whole)
        damaged[at := rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        copy = path.parent / f"{i}" / path.name
        copy.parent.mkdir()
        copy.write_bytes(damaged)
        if notices(copy):
            noticed += 1
        else:
            after = rows_of(copy)
            for name in (name for name, table in CHECKED.items() if not table.is_cache):
                assert after[name] == before[name], f"byte {at} of {name}, unnoticed"
            assert set(after["features"]) <= set(before["features"])
    assert noticed > FLIPS / 4


def rated(store: Store) -> tuple[str, str]:
    """Ids of a reply and of its rating."""
    chat = store.conversations.add()
    asked = store.messages.add(chat, "user", "hello")
    reply = store.messages.add(
        chat, "assistant", REPLY, parent_id=asked, prompt_ids=[1], response_ids=[2]
    )
    return reply, store.feedback.add_rating(reply, 1)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE ratings SET value = -1",
        "UPDATE ratings SET rater = 'mf'",
        f"UPDATE messages SET content = 'b{REPLY[1:]}' WHERE content = '{REPLY}'",
        "UPDATE messages SET content = 'hellm' WHERE content = 'hello'",
        "UPDATE messages SET response_ids = x'03000000' WHERE role = 'assistant'",
    ],
)
def test_a_damaged_row_is_not_learned_from_and_the_last_whole_copy_is_named(path, sql):
    with closing(Store(path)) as store:
        rated(store)
        store.back_up()
    [backup] = backups_of(path)
    rotten(path, sql)
    with closing(Store(path)) as store:
        fill(store, 1)
        assert len(take_snapshot(store).items) == 3
        assert store.integrity.damage.backup == backup
        sentence = str(store.integrity.told())
        assert "from 1 row that" in sentence and str(backup) in sentence
    rotten(backup, sql)
    with closing(Store(path)) as store:
        assert store.integrity.check() and store.integrity.damage
        assert store.integrity.damage.backup is None
        assert "no automatic copy" in str(store.integrity.told())


def test_a_row_that_vanished_is_noticed(path):
    with closing(Store(path)) as store:
        rated(store)
    rotten(path, "DELETE FROM ratings")
    with closing(Store(path)) as store:
        assert store.integrity.check()
        assert {table for table, _ in store.integrity.damage.rows} == {"ratings"}


def test_a_damaged_vector_is_not_there(path):
    with closing(Store(path)) as store:
        rated(store)
        key = content_key([1], [2])
        store.features.put("key", [(key, np.ones(4, np.float32))])
        store.features.put_reference_responses("key", "p", [1], [[2], [3, 4]], suggested=True)
        assert list(store.features.get("key", [key])) == [key]
        assert store.features.reference_responses("key", ["p"]) == {"p": [[2], [3, 4]]}
    rotten(path, "UPDATE features SET vector = zeroblob(16)")
    rotten(path, "UPDATE reference_responses SET response_ids = zeroblob(12)")
    with closing(Store(path)) as store:
        assert store.features.get("key", [key]) == {}
        assert store.features.reference_responses("key", ["p"]) == {}
        assert store.integrity.check() and not store.integrity.damage
        assert store.features.count("key", [key]) == 0  # so that it is measured again
    with closing(connect(path, "ro")) as db:
        assert is_whole(db)


def test_a_damaged_index_is_made_anew(path):
    with closing(Store(path)) as store:
        fill(store, 3)
    with closing(connect(path, "ro")) as db:
        sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'ratings_by_message'"
        page = one_value(db, sql)
        size, [(id,)] = (
            one_value(db, "PRAGMA page_size"),
            fetch(db, "SELECT message_id FROM ratings LIMIT 1"),
        )
    data = bytearray(path.read_bytes())
    at = data.index(id.encode(), (page - 1) * size, page * size)
    data[at] ^= 1
    path.write_bytes(data)
    with closing(Store(path)) as store:
        assert store.feedback.rating_of([id]) == {}
        assert store.integrity.check() and not store.integrity.damage
        assert list(store.feedback.rating_of([id])) == [id]


def test_what_another_program_changed_is_not_damaged(path):
    with closing(Store(path)) as store:
        rated(store)
    with closing(connect(path, "rw")) as db:
        db.execute("UPDATE ratings SET value = -1")
    with closing(Store(path)) as store:
        assert [item.answer for item in take_snapshot(store).items] == [-1]
        rated(store)
        with store.connection.read() as db:
            assert one_value(db, "SELECT count(*) FROM unchecked") == 0
        assert store.integrity.check() and not store.integrity.damage


def test_the_copy_to_go_back_to_outlives_later_copies(path):
    with closing(Store(path)) as store:
        rated(store)
        store.back_up()
    [backup] = backups_of(path)
    rotten(path, "UPDATE ratings SET value = -1")
    with closing(Store(path)) as store:
        store.integrity.check()
        with store.connection.read() as db:
            for _ in range(KEEP_BACKUPS + 2):
                add_backup(db, path, store.connection.kept_backup)
        assert backups_of(path)[0] == backup and len(backups_of(path)) <= KEEP_BACKUPS + 1


def test_a_start_checks_all_rows_before_it_makes_a_copy(store: Store, monkeypatch):
    fill(store, 2)
    monkeypatch.setattr("rlhf_chat.training.idle_tasks.CHECK_SECONDS", 1e-9)
    tasks, steps = IdleTasks(store, None, False), 0  # type: ignore[arg-type]
    while not backups_of(store.path):
        tasks.check_database()
        tasks.back_up()
        steps += 1
    assert steps >= len(CHECKED)


def test_every_table_is_watched(store: Store):
    sql = "SELECT DISTINCT tbl_name FROM sqlite_schema WHERE name LIKE '%_unchecked_%'"
    with store.connection.read() as db:
        assert {row[0] for row in fetch(db, sql)} == set(CHECKED)
        sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '%sql%'"
        others = {row[0] for row in fetch(db, sql)} - set(CHECKED)
    ours = {name for name in others if not name.startswith(("message_texts", "_"))}
    assert ours == {"metrics", "unchecked", "row_checksums"}


@pytest.mark.parametrize("act", ["erase", "withdraw", "undo"])
def test_deletions_leave_whole_copies(path, act):
    acts: dict[str, Callable[[Store, str], object]] = {
        "erase": lambda store, reply: store.conversations.delete(
            store.messages.get(reply).conversation_id
        ),
        "withdraw": lambda store, reply: store.feedback.add_rating(reply, 0),
        "undo": lambda store, reply: store.feedback.add_rating(reply, -1, comment="other words"),
    }
    with closing(Store(path)) as store:
        reply, _ = rated(store)
        store.feedback.add_rating(reply, 1, comment="words to erase")
        store.back_up()
        acts[act](store, reply)
    for file in (path, *backups_of(path)):
        with closing(connect(file, "ro")) as db:
            assert is_whole(db)
            assert "to erase" not in str(fetch(db, "SELECT * FROM ratings"))


def test_a_check_that_cannot_read_says_nothing_is_damaged(store: Store, monkeypatch, caplog):
    def refuse(_: Database, *__: object) -> list[object]:
        raise StoreError("db.closed", name="feedback.db")

    monkeypatch.setattr("rlhf_chat.db.integrity.damaged_rows", refuse)
    IdleTasks(store, None, False).check_database()  # type: ignore[arg-type]
    assert not store.integrity.damage and "could not be checked" in caplog.text


@pytest.mark.parametrize("name", CHECKED)
def test_a_checksum_is_found_by_its_key(store: Store, name: str):
    """Not by going through all of them for each row, which takes hours of 200,000 messages."""
    heard: list[str] = []
    with store.connection.read() as db:
        db.conn.set_trace_callback(heard.append)
        damaged_rows(db, CHECKED[name])
        db.conn.set_trace_callback(None)
        plan = str(fetch(db, "EXPLAIN QUERY PLAN " + heard[-1]))
    assert "(table_name=? AND row_key=?)" in plan, plan
