"""Search over messages by their index: it finds what a scan finds, keeps in step, and forgets."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from rlhf_chat.db import Store, queries, schema
from rlhf_chat.db.codec import fetch
from rlhf_chat.db.database_file import connect, create

ODD = "ꙮ⸎꙰"  # one trigram that nothing else has


def say(store: Store, *texts: str, chat: str = "") -> list[str]:
    chat = chat or store.conversations.add()
    parent, made = None, []
    for i, text in enumerate(texts):
        role, ids = ("assistant", [i]) if i % 2 else ("user", None)
        parent = store.messages.add(
            chat, role, text, parent_id=parent, prompt_ids=ids, response_ids=ids
        )
        made.append(parent)
    return made


@pytest.fixture(autouse=True, params=[0, queries.FEW], ids=["many", "few"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every search goes one of two ways, by how many messages have the text."""
    monkeypatch.setattr(queries, "FEW", request.param)


def found(store: Store, words: str) -> set[str]:
    return {told.reply for told in store.feedback.page(containing=words).rows}


def test_it_finds_words_anywhere_in_what_an_answer_is_about(store: Store):
    _, sea = say(store, "What of the Sea?", "Deep and BLUE, 100% sure")
    _, other = say(store, "hello", "I am well")
    store.feedback.add_rating(sea, 1, comment="a note")
    store.feedback.add_rating(other, -1)
    for words in ("the sea", "blue", "eep an", "100% s", "NOTE", "a", "s"):
        assert "Deep and BLUE, 100% sure" in found(store, words), words
    for words in ("blu_", '"', "blue deep", "sea OR", "*", "zz"):
        assert not found(store, words), words
    assert found(store, "well") == {"I am well"}
    assert found(store, "") == {"I am well", "Deep and BLUE, 100% sure"}


def test_it_finds_every_reply_of_a_ranking_and_both_sides_of_a_vote(store: Store):
    chat = store.conversations.add()
    asked = store.messages.add(chat, "user", "the question")
    a, b, c = (
        store.messages.add(
            chat, "assistant", text, parent_id=asked, prompt_ids=[1], response_ids=[2]
        )
        for text in ("first words", "second words", 'third "quoted" words')
    )
    store.feedback.add_preference(a, b, "b", shown_first="a")
    store.feedback.add_ranking(asked, {a: 0, c: 1})
    kinds = lambda words: {t.kind for t in store.feedback.page(containing=words).rows}  # noqa: E731
    assert kinds("second wo") == {"comparison"} and kinds("third") == {"ranking"}
    assert kinds("question") == kinds("first") == {"comparison", "ranking"}


def test_a_page_is_the_newest_and_the_rest_follows(store: Store):
    replies = [say(store, f"q{i}", f"reply {i}")[1] for i in range(12)]
    for reply in replies:
        store.feedback.add_rating(reply, 1)
    first = store.feedback.page(limit=5)
    assert [t.reply for t in first.rows] == [f"reply {i}" for i in (11, 10, 9, 8, 7)]
    assert first.found == 12 and first.next is not None
    second = store.feedback.page(limit=5, before=first.next)
    assert [t.reply for t in second.rows] == [f"reply {i}" for i in (6, 5, 4, 3, 2)]
    last = store.feedback.page(limit=5, before=second.next)
    assert [t.reply for t in last.rows] == ["reply 1", "reply 0"] and last.next is None
    assert store.feedback.tally() == {"up": 12}


def test_it_agrees_with_a_scan(store: Store):
    rng = random.Random(0)
    words = ["sea", "Blue", "deep", "ab", "c", "é", "海很深", "x%y", "q_q"]
    texts = [" ".join(rng.choices(words, k=4)) for _ in range(60)]
    for at in range(0, 60, 2):
        store.feedback.add_rating(say(store, *texts[at : at + 2])[1], 1)
    for term in (*words, "a B", "海很", "sea d", "e "):
        scan = {
            t.reply
            for t in store.feedback.all()
            if term.lower() in f"{t.prompt}\n{t.reply}".lower()
        }
        assert found(store, term) == scan, term


def test_the_list_of_chats_is_searched_in_titles_and_messages(store: Store):
    say(store, "the first line", "an answer about whales")
    chat = store.conversations.add(title="Holidays 100%")
    names = lambda words: [c.title for c in store.conversations.all(containing=words)]  # noqa: E731
    assert names("whales") == ["the first line"] and names("holi") == ["Holidays 100%"]
    assert names("00%") == ["Holidays 100%"] and names("n z") == names("zzz") == []
    store.conversations.delete(chat)
    assert names("holi") == []


def test_what_is_deleted_is_not_in_the_index(tmp_path: Path):
    path = tmp_path / "feedback.db"
    with closing(Store(path)) as store:
        for _ in range(30):
            say(store, "an ordinary message", "with an ordinary answer")
        _, reply = say(store, "hello", f"{ODD}")
        assert found_messages(store, ODD)
        assert store.back_up()
        assert ODD.encode() in everything(tmp_path)
        store.conversations.delete(store.messages.get(reply).conversation_id)
        assert not found_messages(store, ODD)
        assert ODD.encode() not in everything(tmp_path)
        store.connection.write(integrity)
    assert ODD.encode() not in everything(tmp_path)


def integrity(db) -> None:
    db.execute("INSERT INTO message_texts (message_texts, rank) VALUES ('integrity-check', 1)")


def found_messages(store: Store, words: str) -> list[tuple[int]]:
    with store.connection.read() as db:
        sql = "SELECT rowid FROM message_texts WHERE message_texts MATCH ?"
        return fetch(db, sql, [f'"{words}"'])


def everything(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_an_older_file_gets_the_index_of_all_its_messages(tmp_path: Path, monkeypatch):
    path = tmp_path / "feedback.db"
    names = schema._names
    older = names.index("m008_index_of_messages")
    with monkeypatch.context() as patched:
        with closing(connect(tmp_path / "other.db", "rwc")) as other:
            every = schema.migrations.pending(other)
        kept = [m for m in every if m.name in names[:older]]
        patched.setattr(schema.migrations, "_migrations", kept)
        patched.setattr(schema, "_names", names[:older])
        create(path)
    with closing(connect(path, "rw")) as db:
        db.execute(
            """INSERT INTO conversations (id, kind, title, system_prompt, last_number, created_at,
            updated_at) VALUES ('c', 'chat', '', '', 1, '', '')"""
        )
        db.execute(
            """INSERT INTO messages (id, conversation_id, role, content, created_at)
            VALUES ('m', 'c', 'user', 'as it was before', '')"""
        )
    with closing(Store(path)) as store:
        assert found_messages(store, "was before")
        say(store, "and since then")
        assert found_messages(store, "since")
        store.connection.write(integrity)


def test_what_is_listed_without_texts_is_what_counts(store: Store):
    """Changed and withdrawn answers of every kind, by two raters."""
    rng = random.Random(1)
    chat = store.conversations.add()
    asked = store.messages.add(chat, "user", "hello")
    a, b, c = (
        store.messages.add(
            chat, "assistant", text, parent_id=asked, response_ids=[i], adapter_version=0
        )
        for i, text in enumerate("abc")
    )
    acts = [
        lambda by: store.feedback.add_rating(a, rng.choice((1, -1, 0)), rater=by),
        lambda by: store.feedback.add_score(a, rng.randrange(6), rater=by),
        lambda by: store.feedback.add_preference(
            a, b, rng.choice(("a", "tie", "withdrawn")), shown_first="a", rater=by,
            again=rng.random() < 0.3,
        ),
        lambda by: store.feedback.add_ranking(asked, rng.choice(({a: 0, c: 1}, {})), rater=by),
        lambda by: store.feedback.add_edit(a, c, withdrawn=rng.random() < 0.5, rater=by),
    ]  # fmt: skip
    for _ in range(60):
        rng.choice(acts)(rng.choice(("me", "Kim", "simulated:x")))
        every = store.feedback.all()
        page = store.feedback.page(limit=100)
        assert page.rows == every and page.found == len(every)
        assert store.feedback.tally() == dict(Counter(told.answer for told in every))
        assert {t.id for t in store.feedback.without_texts()} == {t.id for t in every}
