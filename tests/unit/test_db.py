"""The archive keeps what it acknowledged, refuses what it cannot keep, forgets what was deleted.

RLHF_CHAT_KILLS sets how many times a writing process is killed (8; 200 at night).
"""

import ast
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database, Migrations
from sqlite_utils.utils import sqlite3

from rlhf_chat.db import (
    Busy,
    DatabaseDamaged,
    DatabaseTooNew,
    DiskFull,
    NotFound,
    ReadOnly,
    Store,
    StoreError,
    adapter_versions,
    connection,
    content_key,
    conversations,
    deletion,
    events,
    messages,
    schema,
    writer,
)
from rlhf_chat.db import database_file as store_file
from rlhf_chat.db.codec import one_value
from rlhf_chat.db.db_errors import backup_number, backups_of

KILLS = int(os.environ.get("RLHF_CHAT_KILLS", "8"))
ROOT = Path(connection.__file__).parent.parent.parent


@pytest.fixture
def path(tmp_path):
    return tmp_path / "feedback.db"


@pytest.fixture
def store(path):
    with closing(Store(path)) as opened:
        yield opened


def make_pair(store: Store, kind: str = "compare", text: str = "Tell me about tea"):
    """A conversation with one user message and two replies to it."""
    conversation = store.conversations.add(kind)
    user = store.messages.add(conversation, "user", text)
    replies = [
        store.messages.add(conversation, "assistant", reply, parent_id=user)
        for reply in ("Tea is a drink.", "Tea? I love it!")
    ]
    return conversation, user, *replies


def make_reply(store: Store) -> str:
    return make_pair(store, "chat")[2]


def open_round(store: Store, **changes) -> int:
    row = dict(
        trigger="ratings", parent_version=0, seed=7, watermark=0, config={}, snapshot_hash=""
    )
    return store.rounds.open(**{**row, **changes})


def promote(store: Store, version: int, **changes) -> None:
    row: dict[str, Any] = dict(parent=0, round_id=None, tier="4bit", folder="adapters/v")
    row["manifest_hash"] = "abc"
    row |= dict(kl=0.5, reason="better", verdict={"win_rate": 0.6})
    store.adapter_versions.promote(version=version, **{**row, **changes})


def on_writer(store: Store, change, *, alone: bool = True):
    return writer_of(store).submit(change, alone=alone).result()


def writer_of(store: Store) -> writer.Writer:
    assert store.connection._writer
    return store.connection._writer


def raw(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(path, isolation_level=None))


def one_sentence(error: pytest.ExceptionInfo, *names: str) -> bool:
    text = str(error.value)
    return text.endswith(".") and "\n" not in text and all(name in text for name in names)


# ---------------------------------------------------------------- conversations and messages


def test_conversations_come_newest_first_even_when_the_clock_runs_backwards(store, monkeypatch):
    ticks = iter(f"20{99 - i}-01-01T00:00:00+00:00" for i in range(99))
    for module in (conversations, messages):
        monkeypatch.setattr(module, "timestamp", lambda: next(ticks))
    first, second, third = (store.conversations.add(title=title) for title in "abc")
    assert [c.id for c in store.conversations.all()] == [third, second, first]
    store.messages.add(first, "user", "hello")
    assert [c.title for c in store.conversations.all()] == ["a", "c", "b"]
    assert store.conversations.all("compare") == []
    user = store.conversations.get(first).head_id
    replies = [store.messages.add(first, "assistant", t, parent_id=user) for t in "xyz"]
    assert store.messages.siblings(replies[1]) == replies
    for value in (1, -1, 1, -1):
        store.feedback.add_rating(replies[0], value)
    assert [r.value for r in store.feedback.ratings()] == [-1]


def test_the_first_user_message_names_an_unnamed_conversation(store):
    plain = store.conversations.add()
    store.messages.add(plain, "system", "Be kind.")
    store.messages.add(plain, "user", "  How\nare " + "you " * 40)
    store.messages.add(plain, "user", "Second")
    named = store.conversations.add(title="Mine", system_prompt="Short.")
    store.messages.add(named, "user", "How are you?")
    assert store.conversations.get(plain).title == ("How are " + "you " * 40)[:60]
    assert store.conversations.get(named).title == "Mine"
    store.conversations.rename(plain, "Better")
    assert [c.title for c in store.conversations.all()] == ["Mine", "Better"]
    assert store.conversations.get(named).system_prompt == "Short."


def test_messages_form_a_tree_with_one_active_branch(store):
    conversation, user, a, b = make_pair(store, "chat")
    again = store.messages.add(conversation, "user", "More", parent_id=b)
    assert [m.id for m in store.messages.path_to(again)] == [user, b, again]
    assert [m.id for m in store.messages.path_to(user)] == [user]
    assert (
        store.messages.siblings(a)
        == store.messages.siblings(b)
        == store.messages.children(user)
        == [a, b]
    )
    assert store.messages.roots(conversation) == [user] and store.messages.children(again) == []
    assert store.conversations.get(conversation).head_id == again
    store.messages.add(conversation, "user", "Aside", parent_id=b, make_head=False)
    assert store.conversations.get(conversation).head_id == again
    store.conversations.set_head(conversation, a)
    assert store.conversations.get(conversation).head_id == a
    other = store.conversations.add()
    root = store.messages.add(other, "user", "Elsewhere")
    assert store.messages.siblings(root) == [root]
    with pytest.raises(NotFound):
        store.conversations.set_head(other, a)
    with pytest.raises(NotFound):
        store.messages.add(other, "assistant", "Astray", parent_id=a)


def test_a_message_comes_back_as_it_went_in(store):
    conversation, user, *_ = make_pair(store)
    sent = dict(parent_id=user, prompt_ids=[1, 2, 2**31 - 1], response_ids=[], adapter_version=3)
    sent |= dict(sampling={"temperature": 0.7}, finish_reason="length", event_id="e1")
    text = "naïve \u0000 😀 \ud83d end"
    message = store.messages.get(store.messages.add(conversation, "assistant", text, **sent))
    assert {name: getattr(message, name) for name in sent} == sent
    assert message.content == "naïve \u0000 😀 ? end"
    assert (message.role, message.conversation_id) == ("assistant", conversation)
    assert message.created_at.endswith("+00:00")
    bare = store.messages.get(user)
    assert (bare.prompt_ids, bare.sampling, bare.parent_id) == (None, None, None)


def test_a_message_sent_twice_is_stored_once(store):
    conversation = store.conversations.add()
    send = lambda _: store.messages.add(conversation, "user", "hi", event_id="same")  # noqa: E731
    with ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(send, range(30)))) == 1
    assert store.counts()["messages"] == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.messages.get("no"),
        lambda s: s.messages.path_to("no"),
        lambda s: s.messages.siblings("no"),
        lambda s: s.conversations.get("no"),
        lambda s: s.conversations.rename("no", "x"),
        lambda s: s.conversations.delete("no"),
        lambda s: s.conversations.set_head("no", "no"),
        lambda s: s.messages.add("no", "user", "x"),
        lambda s: s.feedback.add_rating("no", 1),
        lambda s: s.feedback.add_preference("no", "no", "a", shown_first="a"),
        lambda s: s.rounds.add_metrics(9, 0, {"kl": 1.0}),
        lambda s: s.rounds.close(9, status="failed", reason=""),
        lambda s: s.adapter_versions.set_live(9, "x"),
        lambda s: promote(s, 2, parent=1),
        lambda s: promote(s, 1, round_id=9),
    ],
)
def test_what_is_not_there_is_named_in_one_sentence(store, call):
    with pytest.raises(NotFound) as error:
        call(store)
    assert one_sentence(error)
    assert store.counts() == dict.fromkeys(store.counts(), 0) | {"versions": 1}


@pytest.mark.parametrize(
    "call",
    [
        lambda s, u, a, b: s.conversations.add("group"),
        lambda s, u, a, b: s.messages.add(s.messages.get(a).conversation_id, "tool", "x"),
        lambda s, u, a, b: s.messages.add(
            s.messages.get(a).conversation_id, "assistant", "x", finish_reason="tired"
        ),
        lambda s, u, a, b: s.feedback.add_rating(a, 2),
        lambda s, u, a, b: s.feedback.add_rating(u, 1),
        lambda s, u, a, b: s.feedback.add_rating(a, 1, rater=""),
        lambda s, u, a, b: s.feedback.add_preference(a, a, "a", shown_first="a"),
        lambda s, u, a, b: s.feedback.add_preference(a, u, "a", shown_first="a"),
        lambda s, u, a, b: s.feedback.add_preference(a, b, "c", shown_first="a"),
        lambda s, u, a, b: s.feedback.add_preference(a, b, "a", shown_first="left"),
        lambda s, u, a, b: s.feedback.add_preference(a, make_reply(s), "a", shown_first="a"),
        lambda s, u, a, b: s.features.put("k", [("c", np.zeros((2, 2)))]),
        lambda s, u, a, b: s.rounds.close(open_round(s), status="won", reason=""),
    ],
)
def test_nonsense_is_refused_and_leaves_no_feedback(store, call):
    _, user, a, b = make_pair(store)
    with pytest.raises(StoreError) as error:
        call(store, user, a, b)
    assert one_sentence(error)
    assert store.feedback.count() == 0


# ---------------------------------------------------------------- ratings and preferences


def test_the_newest_rating_counts_and_zero_takes_it_back(store):
    reply, other = make_pair(store)[2:]
    store.feedback.add_rating(reply, -1)
    store.feedback.add_rating(reply, 1, reason="Helpful", comment="clear")
    store.feedback.add_rating(other, -1)
    store.feedback.add_rating(other, 0)
    [rating] = store.feedback.ratings()
    assert (rating.message_id, rating.value) == (reply, 1)
    assert (rating.reason, rating.comment, rating.rater) == ("Helpful", "clear", "me")
    assert store.feedback.rating_of([reply, other, "no"]) == {reply: rating}
    store.feedback.add_rating(reply, -1, rater="guest")
    assert [(r.value, r.rater) for r in store.feedback.ratings()] == [(1, "me"), (-1, "guest")]
    assert store.counts()["ratings"] == 5


def test_a_click_retried_by_ten_threads_is_stored_once(store):
    reply, other = make_pair(store)[2:]
    vote = dict(shown_first="b", event_id="vote")
    with ThreadPoolExecutor(10) as pool:
        clicks = pool.map(
            lambda _: store.feedback.add_rating(reply, 1, event_id="click"), range(50)
        )
        votes = pool.map(
            lambda _: store.feedback.add_preference(reply, other, "a", **vote), range(50)
        )
        assert (len(set(clicks)), len(set(votes))) == (1, 1)
    counts = store.counts()
    assert (counts["ratings"], counts["preferences"]) == (1, 1)
    assert store.feedback.count() == store.feedback.count_since(0) == 2


def test_the_newest_vote_on_a_pair_counts_whichever_reply_is_named_first(store):
    a, b = make_pair(store)[2:]
    store.feedback.add_preference(a, b, "a", shown_first="a")
    store.feedback.add_preference(b, a, "tie", shown_first="a")
    [vote] = store.feedback.preferences()
    assert (vote.message_a, vote.outcome, vote.shown_first, vote.rater) == (b, "tie", "a", "me")
    store.feedback.add_preference(a, b, "both_bad", shown_first="b", rater="guest")
    assert [v.rater for v in store.feedback.preferences()] == ["me", "guest"]
    store.feedback.add_preference(a, b, "withdrawn", shown_first="b")
    assert [v.rater for v in store.feedback.preferences()] == ["guest"]


def test_the_watermark_grows_by_one_per_event_and_never_goes_back(store):
    conversation, _, a, b = make_pair(store)
    seen = [store.feedback.count()]
    for outcome in ("a", "withdrawn"):
        store.feedback.add_rating(a, 1)
        store.feedback.add_preference(a, b, outcome, shown_first="a")
        seen.append(store.feedback.count())
    assert seen == [0, 2, 4]
    # the vote of before was taken back after the third, which is something new said of it
    assert [store.feedback.count_since(mark) for mark in range(5)] == [2, 2, 2, 1, 0]
    store.conversations.delete(conversation)
    assert (store.feedback.count(), store.feedback.count_since(0)) == (4, 0)
    store.feedback.add_rating(make_reply(store), 1)
    assert (store.feedback.count(), store.feedback.count_since(4)) == (5, 1)


def test_an_answer_refined_is_one_answer(store):
    _, asked, a, b = make_pair(store)
    store.feedback.add_rating(a, -1)
    store.feedback.add_rating(a, -1, reason="Too long")
    store.feedback.add_rating(a, -1, reason="Too long", comment="half of it")
    store.feedback.add_score(a, 2)
    store.feedback.add_preference(a, b, "b", shown_first="a")
    store.feedback.add_preference(a, b, "b", shown_first="a", strength="slightly")
    assert store.feedback.count_since(0) == 2
    store.feedback.add_preference(b, a, "a", shown_first="b", again=True)
    store.feedback.add_ranking(asked, {a: 0, b: 1})
    store.feedback.add_ranking(asked, {a: 1, b: 0})
    store.feedback.add_rating(a, 1, rater="guest")
    assert store.feedback.count_since(0) == 5


CLICKS = st.lists(
    st.one_of(
        st.tuples(st.just("rate"), st.integers(0, 3), st.sampled_from([-1, 0, 1])),
        st.tuples(
            st.just("prefer"),
            st.sampled_from([(0, 1), (1, 0), (2, 3)]),
            st.sampled_from(["a", "b", "tie", "both_bad", "withdrawn"]),
        ),
        st.tuples(st.just("retry"), st.integers(0, 9), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(CLICKS)
def test_any_sequence_of_clicks_reads_back_like_a_dictionary(clicks):
    store = _shared_store()
    replies = [reply for _ in range(2) for reply in make_pair(store)[2:]]
    before, rating, preference = store.feedback.count(), {}, {}
    done: list[Any] = []
    for kind, what, value in clicks:
        if kind == "retry":
            if done:
                assert done[what % len(done)]() is not None
            continue
        event = f"{replies[0]}-{len(done)}"
        if kind == "rate":
            rating[replies[what]] = value
            act = partial(store.feedback.add_rating, replies[what], value, event_id=event)
        else:
            a, b = replies[what[0]], replies[what[1]]
            preference[frozenset((a, b))] = (a, value)
            act = partial(
                store.feedback.add_preference, a, b, value, shown_first="a", event_id=event
            )
        assert act() == act()
        done.append(act)
    assert store.feedback.count_since(before) == len(rating) + len(preference)
    current = {m: r.value for m, r in store.feedback.rating_of(replies).items()}
    assert current == {m: v for m, v in rating.items() if v}
    votes = {
        frozenset((p.message_a, p.message_b)): (p.message_a, p.outcome)
        for p in store.feedback.preferences()
        if p.message_a in replies
    }
    assert votes == {k: v for k, v in preference.items() if v[1] != "withdrawn"}


_shared: list[Store] = []


def _shared_store() -> Store:
    """One file for all examples: opening one per example would be most of the time."""
    if not _shared:
        _shared.append(Store(Path(tempfile.mkdtemp()) / "feedback.db"))
    return _shared[0]


@pytest.fixture(autouse=True, scope="module")
def close_shared_store():
    yield
    for store in _shared:
        store.close()


# ---------------------------------------------------------------- features, rounds, versions


def test_cached_vectors_and_responses_come_back_exactly(store):
    conversation, keys = store.conversations.add(), [content_key([9], [i]) for i in range(4)]
    for i in range(4):
        store.messages.add(conversation, "assistant", "x", prompt_ids=[9], response_ids=[i])
    rows = [(key, np.arange(i, dtype=np.float64) / 3) for i, key in enumerate(keys)]
    store.features.put("layer-3", [*rows, ("of a reply that is gone", np.ones(1))])
    store.features.put("layer-3", [(keys[1], np.array([7.0]))])
    found = store.features.get("layer-3", [keys[1], keys[3], "of a reply that is gone"])
    assert set(found) == {keys[1], keys[3]}
    assert found[keys[1]].tolist() == [7.0]
    assert (found[keys[3]] == rows[3][1].astype(np.float32)).all()
    assert found[keys[3]].flags.writeable
    assert store.features.get("other", [keys[1]]) == {}
    responses = [[1, 2], [], [3]]
    store.features.put_reference_responses("k", "p", [9, 8], responses, suggested=True)
    store.features.put_reference_responses("k", "none", [9], [])
    store.features.put_reference_responses(
        "k", "gone", [9, 9], [[1]]
    )  # no message asks it any more
    assert store.features.reference_responses("k", ["gone"]) == {}
    assert store.features.reference_responses("k", ["p", "none", "x"]) == {
        "p": responses,
        "none": [],
    }
    store.features.put("layer-3", [])


def test_content_keys_tell_prompt_from_response():
    keys = {content_key([1, 2], [3]), content_key([1], [2, 3]), content_key([1, 2, 3])}
    assert len(keys) == 3
    assert content_key([1, 2], [3]) == content_key((1, 2), cast(Any, np.array([3])))


def test_a_round_keeps_its_numbers_and_its_reason(store):
    first = open_round(
        store, trigger="by hand", watermark=3, config={"lr": 1e-4}, snapshot_hash="h"
    )
    store.rounds.add_metrics(first, 0, {"kl": 0.25, "loss": float("nan"), "max": float("inf")})
    store.rounds.add_metrics(first, 1, {"kl": np.float32(0.5)})
    store.rounds.add_metrics(first, 0, {"kl": 0.125})
    expected = [(0, "kl", 0.125), (0, "loss", None), (0, "max", None), (1, "kl", 0.5)]
    assert store.rounds.metrics(first) == expected
    assert store.rounds.newest()[0].status == "running"
    verdict = {"kl": np.float32("nan"), "ok": False}
    store.rounds.close(first, status="discarded", reason="kl", version=4, verdict=verdict)
    [row] = store.rounds.newest()
    assert (row.trigger, row.status, row.reason) == ("by hand", "discarded", "kl")
    assert (row.config, row.verdict) == ({"lr": 1e-4}, {"kl": None, "ok": False})
    assert (row.version, row.seed, row.snapshot_hash) == (4, 7, "h")
    assert row.ended_at is not None
    store.rounds.close(first, status="discarded", reason="again")
    with pytest.raises(StoreError, match="already ended"):
        store.rounds.close(first, status="promoted", reason="late")
    assert store.adapter_versions.next_number() == 5


def test_only_decided_rounds_use_up_feedback(store):
    assert store.rounds.last_watermark() == 0
    for watermark, status in ((3, "promoted"), (5, "discarded"), (8, "failed"), (9, "stopped")):
        round_id = open_round(store, watermark=watermark)
        store.rounds.close(round_id, status=status, reason="")
    left = open_round(store, watermark=11)
    assert store.rounds.last_watermark() == 5
    assert store.rounds.abort_open("the app was closed") == 1
    assert store.rounds.abort_open("again") == 0
    newest, *rest = store.rounds.newest(limit=3)
    assert (newest.id, newest.status, newest.reason) == (left, "aborted", "the app was closed")
    assert len(rest) == 2 and store.rounds.last_watermark() == 5


def test_version_zero_is_the_base_and_live_at_first(store):
    [base] = store.adapter_versions.all()
    assert (base.version, base.tier, base.parent) == (0, "base", None)
    assert (store.adapter_versions.live(), store.adapter_versions.next_number()) == (0, 1)


def test_promotion_moves_the_pointer_closes_the_round_and_says_so(store):
    round_id = open_round(store, watermark=2)
    promote(store, 1, round_id=round_id, folder=Path("/a/v1"), kl=float("nan"))
    version = store.adapter_versions.all()[1]
    assert (version.version, version.parent, version.round_id) == (1, 0, round_id)
    assert (version.tier, version.folder, version.note) == ("4bit", "/a/v1", "better")
    assert version.kl is None
    row = store.rounds.newest()[0]
    assert (row.status, row.version, row.verdict) == ("promoted", 1, {"win_rate": 0.6})
    assert (
        store.adapter_versions.live(),
        store.adapter_versions.next_number(),
        store.rounds.last_watermark(),
    ) == (1, 2, 2)
    store.adapter_versions.set_live(0, "I liked it better")
    assert (store.adapter_versions.live(), store.adapter_versions.next_number()) == (0, 2)
    assert [e.kind for e in store.events.newest()] == ["set_live", "promoted"]
    assert store.events.newest(1)[0].data == {"from": 1, "reason": "I liked it better"}
    with pytest.raises(StoreError, match="never overwritten"):
        promote(store, 1)


@pytest.mark.parametrize("step", ["close_round", "use_number", "add_event"])
def test_a_promotion_that_fails_half_way_leaves_everything_as_it_was(store, monkeypatch, step):
    round_id = open_round(store)

    def fail(*_):
        raise RuntimeError("power")

    monkeypatch.setattr(adapter_versions, step, fail)
    with pytest.raises(RuntimeError):
        promote(store, 1, round_id=round_id)
    monkeypatch.undo()
    assert (store.adapter_versions.live(), store.adapter_versions.next_number()) == (0, 1)
    assert (store.rounds.newest()[0].status, store.events.newest()) == ("running", [])
    promote(store, 1, round_id=round_id)
    assert store.adapter_versions.live() == 1


def test_settings_and_events_keep_json(store):
    assert store.settings.get("needed", 8) == 8
    store.settings.set("needed", {"n": [1, None, "é"]})
    store.settings.set("needed", [2, "\ud83d"])
    assert store.settings.get("needed") == [2, "?"]
    store.events.add("note", "r1", {"size": np.int64(3), "at": Path("/x")})
    store.events.add("note")
    [second, first] = store.events.newest()
    assert (first.ref, first.data, second.data) == ("r1", {"size": 3, "at": "/x"}, {})
    assert second.id > first.id


# ---------------------------------------------------------------- the writer


def test_half_a_surrogate_pair_is_a_question_mark_wherever_it_is_typed(store):
    half = "tea \ud83d"
    conversation, user, a, b = make_pair(store, text=half)
    assert store.messages.get(user).content == "tea ?"
    assert [c.id for c in store.conversations.all("compare", half)] == [conversation]
    vote = store.feedback.add_preference(a, b, "a", shown_first="a")
    store.feedback.set_comment(vote, half)
    assert [told.comment for told in store.feedback.all(containing=half)] == ["tea ?"]


def test_one_bad_request_in_a_group_does_not_fail_the_others(store):
    reply, release = make_reply(store), threading.Event()
    blocker = store.connection._writer.submit(lambda db: release.wait(60), alone=True)
    with ThreadPoolExecutor(20) as pool:
        values = [1, 1, 1, "gone"] * 5
        clicks = [
            pool.submit(store.feedback.add_rating, reply if value == 1 else "gone", 1)
            for value in values
        ]
        wait_until(lambda: store.connection._writer._jobs.qsize() == 20)
        release.set()
        errors = [click.exception() for click in clicks]
    assert blocker.result()
    expected = [type(None) if value == 1 else NotFound for value in values]
    assert [type(error) for error in errors] == expected
    assert store.feedback.count() == store.counts()["ratings"] == 15


def test_waiting_clicks_share_a_commit(store):
    reply, release = make_reply(store), threading.Event()
    store.connection._writer.submit(lambda db: release.wait(60), alone=True)
    begun = []
    on_trace = lambda sql: begun.append(sql) if sql.startswith("BEGIN") else None  # noqa: E731
    traced = store.connection._writer.submit(
        lambda db: db.conn.set_trace_callback(on_trace), alone=True
    )
    with ThreadPoolExecutor(30) as pool:
        clicks = [pool.submit(store.feedback.add_rating, reply, 1) for _ in range(30)]
        wait_until(lambda: store.connection._writer._jobs.qsize() == 31)
        release.set()
        assert all(click.result() for click in clicks)
    traced.result()
    assert len(begun) == 1


def test_a_failing_write_of_the_trainer_takes_no_acknowledged_click_with_it(store):
    reply = make_reply(store)
    clicked: list[str] = []

    def train():
        def change(db):
            events.add_event(db, "half a round", "", {})
            raise RuntimeError("training failed")

        for _ in range(40):
            with pytest.raises(RuntimeError):
                store.connection.write(change)

    def click():
        for _ in range(40):
            clicked.append(store.feedback.add_rating(reply, 1))

    threads = [threading.Thread(target=target) for target in (train, click, click)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.connection.read() as db:
        stored = {row[0] for row in db.execute("SELECT id FROM ratings").fetchall()}
    assert set(clicked) == stored and len(stored) == 80
    assert store.events.newest() == []


def test_readers_do_not_wait_for_a_writer(store):
    reply = make_reply(store)
    store.feedback.add_rating(reply, 1)
    release, started = threading.Event(), threading.Event()

    def long_transaction(db):
        events.add_event(db, "long", "", {})
        started.set()
        release.wait(60)

    job = store.connection._writer.submit(long_transaction)
    started.wait(5)
    assert len(store.feedback.ratings()) == 1 and store.events.newest() == []
    assert not job.done()
    release.set()
    job.result()
    assert len(store.events.newest()) == 1


def test_readers_can_neither_write_nor_checkpoint(store):
    with store.connection.read() as db:
        assert db.execute("PRAGMA query_only").fetchone() == (1,)
        assert db.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
        with pytest.raises(sqlite3.OperationalError):
            db.execute("DELETE FROM settings")


def test_a_reader_is_gone_with_its_thread(store):
    before = len(store.connection._readers)
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda _: store.counts(), range(20)))
    wait_until(lambda: len(store.connection._readers) <= before)


def test_the_writer_is_durable_strict_and_forgetful(store):
    pragmas = ["synchronous", "foreign_keys", "secure_delete", "application_id", "user_version"]
    found = [on_writer(store, lambda db, p=p: one_value(db, f"PRAGMA {p}")) for p in pragmas]
    assert found == [2, 1, 1, schema.APPLICATION_ID, schema.schema_version()]
    assert store.journal_mode == "wal"
    with store.connection.read() as db:
        tables = db.execute("SELECT sql FROM sqlite_master WHERE type = 'table'").fetchall()
    ours = [sql for (sql,) in tables if "sqlite_" not in sql and "message_texts" not in sql]
    assert len(ours) == 19 and all(
        sql.endswith(("STRICT", "STRICT, WITHOUT ROWID")) for sql in ours
    )


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 1), False),
        ((3, 50, 4), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 53, 4), True),
        ((4, 0, 0), True),
    ],
)
def test_wal_is_used_only_where_it_cannot_lose_rows(version, safe):
    assert store_file.wal_is_safe(version) is safe


def test_an_old_sqlite_gets_the_slower_safe_journal(path, monkeypatch):
    monkeypatch.setattr(writer, "wal_is_safe", lambda version: False)
    with closing(Store(path)) as store:
        conversation, _, a, _ = make_pair(store)
        store.feedback.add_rating(a, 1)
        assert store.journal_mode == "truncate"
        store.conversations.delete(conversation)
    monkeypatch.undo()
    with closing(Store(path)) as store:
        assert (store.journal_mode, store.feedback.count()) == ("wal", 1)


def test_a_closed_store_says_so_and_closing_twice_is_fine(path):
    store = Store(path)
    reply = make_reply(store)
    jobs = [writer_of(store).submit(lambda db: _sleep_and_add(db)) for _ in range(3)]
    store.close()
    store.close()
    assert [job.result() for job in jobs] == [None] * 3
    for call in (lambda: store.feedback.add_rating(reply, 1), store.feedback.ratings, store.counts):
        with pytest.raises(StoreError) as error:
            call()
        assert one_sentence(error, "feedback.db", "closed")
    with closing(Store(path)) as again:
        assert len(again.events.newest()) == 3


def _sleep_and_add(db) -> None:
    time.sleep(0.02)
    events.add_event(db, "late", "", {})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_died_refuses_clicks_instead_of_hanging(store):
    reply = make_reply(store)
    store.connection._writer._step = lambda db: (_ for _ in ()).throw(SystemExit)
    store.settings.set("last", 1)  # still taken by the step that was under way
    wait_until(lambda: not store.connection._writer.is_alive())
    with pytest.raises(StoreError):
        store.feedback.add_rating(reply, 1)
    assert store.feedback.rating_of([reply]) == {}


class NeverBack:
    """A connection on which no transaction can be taken back."""

    def __init__(self, db: Database):
        self._db, self.conn = db, db.conn

    def execute(self, sql: str, *values):
        if sql == "ROLLBACK":
            raise sqlite3.OperationalError("disk I/O error")
        return self._db.execute(sql, *values)


@pytest.mark.parametrize("others", [0, 2])
def test_a_rollback_that_fails_refuses_its_clicks_instead_of_hanging(store, others):
    """And what was half done is not committed with the clicks after it."""
    half = partial(events.add_event, kind="half", ref="", data={})
    changes = [half] * others + [lambda db: half(db) or db.execute("nonsense")]
    jobs = [writer._Job(change, False, Future()) for change in changes]
    on_writer(store, lambda db: store.connection._writer._commit(NeverBack(db), jobs))
    for job in jobs:
        with pytest.raises(StoreError) as error:
            job.future.result(timeout=0)
        assert one_sentence(error)
    store.settings.set("after", 1)
    assert (store.settings.get("after"), store.events.newest()) == (1, [])


def wait_until(true, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


# ---------------------------------------------------------------- killed, locked, shared

CHILD = """
import os, sys, threading
from rlhf_chat.db import Store
store = Store(sys.argv[1])
conversation = store.conversations.add()
user = store.messages.add(conversation, "user", "hi")
reply = store.messages.add(conversation, "assistant", "hello", parent_id=user)
def tell(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())
def click(k):
    for i in range(10**9):
        event = f"{os.getpid()}-{k}-{i}"
        store.feedback.add_rating(reply, (-1) ** i, comment="x" * (i * 97 % 2000), event_id=event)
        tell("RATED", event)
def train():
    while True:
        version = store.adapter_versions.next_number()
        round_id = store.rounds.open(trigger="t", parent_version=0, seed=1, watermark=0,
            config={}, snapshot_hash="")
        store.adapter_versions.promote(version=version, parent=store.adapter_versions.live(),
            round_id=round_id, tier="t", folder="f", manifest_hash="m", kl=0.0, reason="r",
            verdict={})
        tell("LIVE", version)
for target, args in ((click, (0,)), (click, (1,)), (train, ())):
    threading.Thread(target=target, args=args, daemon=True).start()
threading.Event().wait(60)
"""


def start_child(code: str, *args) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True)


def test_what_was_acknowledged_survives_kill_nine(disk_path):
    path, rng, acked, live = disk_path / "feedback.db", random.Random(0), set(), 0
    for _ in range(KILLS):
        child = start_child(CHILD, path)
        assert child.stdout
        output = child.stdout.readline()
        assert output, "the child could not open what the last kill left"
        time.sleep(rng.uniform(0, 0.12))
        child.send_signal(signal.SIGKILL)
        output += child.stdout.read()
        child.wait()
        child.stdout.close()
        lines = [line.split() for line in output.splitlines(keepends=True) if line.endswith("\n")]
        acked |= {words[1] for words in lines if words[0] == "RATED"}
        live = max([live, *(int(words[1]) for words in lines if words[0] == "LIVE")])
        check_after_kill(path, acked, live)
    print(f"{KILLS} kills, {len(acked)} acknowledged ratings, live version {live}: none lost")


def check_after_kill(path: Path, acked: set[str], live: int) -> None:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        stored = [row[0] for row in db.execute("SELECT event_id FROM ratings").fetchall()]
        assert acked <= set(stored) and len(stored) == len(set(stored))
        assert db.execute("SELECT version FROM live_versions WHERE in_use").fetchone()[0] >= live
        promoted = "SELECT count(*) FROM rounds WHERE status = 'promoted'"
        versions = "SELECT count(*) FROM adapter_versions WHERE version > 0"
        assert db.execute(promoted).fetchone() == db.execute(versions).fetchone()
        counter = "SELECT value FROM counters WHERE name = 'feedback'"
        assert db.execute(counter).fetchone() == (len(stored),)


def test_a_rating_and_a_promotion_interrupted_by_a_kill_leave_the_old_pointer(disk_path):
    path = disk_path / "feedback.db"
    code = """
import os, sys, signal
from rlhf_chat.db import Store
from rlhf_chat.db import adapter_versions
store = Store(sys.argv[1])
round_id = store.rounds.open(trigger="t", parent_version=0, seed=1, watermark=0, config={},
    snapshot_hash="")
adapter_versions.add_event = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
store.adapter_versions.promote(version=1, parent=0, round_id=round_id, tier="t", folder="f",
    manifest_hash="m", kl=0.0, reason="r", verdict={})
"""
    child = start_child(code, path)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    with closing(Store(path)) as store:
        assert (store.adapter_versions.live(), len(store.adapter_versions.all())) == (0, 1)
        assert store.rounds.newest()[0].status == "running"
        assert store.rounds.abort_open("the app was killed") == 1


def test_a_second_opener_is_told_busy_and_a_kill_frees_the_lock(path):
    code = "import sys, time\nfrom rlhf_chat.db import Store\ns = Store(sys.argv[1])\n"
    child = start_child(code + "print('open', flush=True)\ntime.sleep(60)", path)
    assert child.stdout
    try:
        assert child.stdout.readline() == "open\n"
        with pytest.raises(Busy) as error:
            Store(path)
        assert one_sentence(error, str(path))
    finally:
        child.kill()
        child.communicate()
    with closing(Store(path)) as store:
        with pytest.raises(Busy):
            Store(path)
        assert store.counts()["versions"] == 1


def test_a_foreign_lock_means_a_bounded_wait_and_a_clear_refusal(path, monkeypatch):
    monkeypatch.setattr(store_file, "BUSY_SECONDS", 0.2)
    with closing(Store(path)) as store:
        reply = make_reply(store)
        with raw(path) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Busy) as error:
                store.feedback.add_rating(reply, 1, event_id="retried")
            assert one_sentence(error, str(path))
            other.execute("ROLLBACK")
        store.feedback.add_rating(reply, 1, event_id="retried")
        assert len(store.feedback.ratings()) == 1


def limit_pages(store: Store, pages: int) -> None:
    on_writer(store, lambda db: one_value(db, f"PRAGMA max_page_count = {pages}"))


def test_a_full_disk_refuses_the_click_and_recovers(store):
    reply = make_reply(store)
    limit_pages(store, on_writer(store, lambda db: one_value(db, "PRAGMA page_count")))
    acked = []
    with pytest.raises(DiskFull) as error:
        for _ in range(500):
            acked.append(store.feedback.add_rating(reply, 1, comment="y" * 3000))
    assert one_sentence(error, "full")
    with ThreadPoolExecutor(4) as pool:
        tries = [
            pool.submit(store.feedback.add_rating, reply, 1, comment="y" * 9000) for _ in range(8)
        ]
        assert all(isinstance(t.exception(), DiskFull) for t in tries)
    limit_pages(store, 2**30)
    acked.append(store.feedback.add_rating(reply, -1))
    assert store.counts()["ratings"] == len(acked) == store.feedback.count()


# ---------------------------------------------------------------- files we will not open


def test_a_newer_file_is_refused_and_not_touched(path):
    Store(path).close()
    with raw(path) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute(f"PRAGMA user_version = {schema.schema_version() + 1}")
    before = path.read_bytes()
    with pytest.raises(DatabaseTooNew) as error:
        Store(path)
    assert one_sentence(error, str(path), "Update the app")
    assert path.read_bytes() == before


def damage_header(data: bytes) -> bytes:
    return b"\0" * 16 + data[16:]


def damage_middle(data: bytes) -> bytes:
    return data[: 4096 * 2] + random.Random(1).randbytes(4096 * 3) + data[4096 * 5 :]


@pytest.mark.parametrize(
    "harm",
    [
        damage_header,
        damage_middle,
        lambda data: data[: len(data) // 2],
        lambda data: data[:100],
        lambda data: random.Random(0).randbytes(8192),
        lambda data: b"",
        lambda data: b"hello",
    ],
)
def test_a_damaged_file_is_refused_and_not_touched(path, harm):
    with closing(Store(path)) as store:
        for _ in range(20):
            make_pair(store, text="z" * 900)
    path.write_bytes(harm(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(DatabaseDamaged) as error:
        Store(path)
    assert one_sentence(error, str(path), "Move it away")
    assert path.read_bytes() == before


@pytest.mark.parametrize("rows", [0, 5])
def test_a_file_of_another_program_is_refused_and_not_touched(path, rows):
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE notes (text)")
        db.executemany("INSERT INTO notes VALUES (?)", [("mine",)] * rows)
        db.commit()
    before = path.read_bytes()
    with pytest.raises(DatabaseDamaged) as error:
        Store(path)
    assert one_sentence(error, str(path), "another program")
    assert path.read_bytes() == before


def test_rows_left_in_a_wal_without_its_file_are_not_mixed_into_a_new_one(path):
    wal = Path(f"{path}-wal")
    wal.write_bytes(b"rows of a file that is gone")
    with pytest.raises(DatabaseDamaged) as error:
        Store(path)
    assert one_sentence(error, str(path), wal.name)
    assert not path.exists()
    wal.unlink()
    path.with_name("feedback.db.new").write_bytes(b"left by a kill")
    Store(path).close()


def test_a_backup_put_in_place_beside_the_wal_of_another_file_is_refused_and_not_touched(path):
    """SQLite would replay rows of the one into pages of the other."""
    code = """
import os, sys
from rlhf_chat.db import Store
store = Store(sys.argv[1])
store.conversations.add(title="in the copy")
store.back_up()
for i in range(50):
    store.conversations.add(title=f"later {i} " * 100)
os.kill(os.getpid(), 9)
"""
    start_child(code, path).wait(60)
    wal, shm = Path(f"{path}-wal"), Path(f"{path}-shm")
    assert wal.stat().st_size
    shutil.copy(backups_of(path)[-1], path)
    before = path.read_bytes(), wal.read_bytes()
    with pytest.raises(DatabaseDamaged) as error:
        Store(path)
    assert one_sentence(error, str(path), wal.name, shm.name, "away")
    assert (path.read_bytes(), wal.read_bytes()) == before
    for companion in (wal, shm):
        companion.rename(companion.with_name(f"old {companion.name}"))
    with closing(Store(path)) as store:
        assert [c.title for c in store.conversations.all()] == ["in the copy"]


def test_a_damaged_file_is_to_be_moved_away_with_its_companions(path):
    path.write_bytes(b"hello")
    with pytest.raises(DatabaseDamaged) as error:
        Store(path)
    assert one_sentence(error, f"{path.name}-wal", f"{path.name}-shm")


def test_odd_folder_names_are_only_names(tmp_path):
    path = tmp_path / "50% [a]?#é" / "feed?back [1].db"
    with closing(Store(path)) as store:
        store.conversations.add()
        assert store.back_up()
    assert len(backups_of(path)) == 1
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


READ_ONLY = """
import os, sys
from rlhf_chat import db as archive
path, folder = sys.argv[1:]
if os.getuid() == 0:
    os.setuid(65534)  # root may write anywhere
try:
    store = archive.Store(path)
    print(store.read_only, len(store.feedback.ratings()), store.counts()["messages"], flush=True)
    try:
        store.feedback.add_rating("x", 1)
    except archive.ReadOnly as error:
        print(error)
    store.close()
except archive.StoreError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
@pytest.mark.parametrize("what", ["file", "folder", "nothing"])
def test_a_file_that_cannot_be_written_is_read_and_says_why(what):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "feedback.db"
        if what != "nothing":
            with closing(Store(path)) as store:
                store.feedback.add_rating(make_reply(store), 1)
            Path(f"{path}.lock").unlink()
            path.chmod(0o444)
        folder.chmod(0o777 if what == "file" else 0o555)
        output, _ = start_child(READ_ONLY, path, folder).communicate()
        folder.chmod(0o700)
    if what == "nothing":
        assert output.startswith(f"ReadOnly {path} cannot be created")
    else:
        first, second = output.splitlines()
        assert first == "True 1 3"
        assert second.startswith(f"{path} is read-only") and second.endswith(".")


@pytest.mark.parametrize("killed", [False, True])
def test_from_a_read_only_mount_everything_is_read_and_nothing_is_lost(mounted, killed):
    """Also where a kill left a WAL. `chmod` would prove nothing to root."""
    path = mounted / "feedback.db"
    if killed:
        child = f"""if True:
            import os
            from rlhf_chat.db import Store
            from tests.unit.test_db import make_reply
            store = Store({str(path)!r})
            store.feedback.add_rating(make_reply(store), 1)
            os.kill(os.getpid(), 9)"""
        subprocess.run([sys.executable, "-c", child], cwd=ROOT, check=False)
        assert Path(f"{path}-wal").stat().st_size
    else:
        with closing(Store(path)) as store:
            store.feedback.add_rating(make_reply(store), 1)
    before = {file.name: file.read_bytes() for file in mounted.iterdir()}
    remount = ["mount", "-o", "remount,ro", str(mounted)]
    subprocess.run(remount, check=True, capture_output=True)
    try:
        opened = Store(path)
    except StoreError as error:  # SQLite cannot read a WAL without its -shm, which it must write
        assert killed and str(error).endswith("."), error
    else:
        with closing(opened) as store:
            assert store.read_only and len(store.feedback.ratings()) == 1
            with pytest.raises(ReadOnly, match="is read-only"):
                store.feedback.add_rating(store.feedback.ratings()[0].message_id, -1)
            with pytest.raises(ReadOnly, match="is read-only"):
                store.conversations.add()
            assert not store.back_up()
        with closing(Store(path, scratch=True)) as store:  # as the app opens it
            reply = make_reply(store)
            assert store.read_only and store.messages.get(reply)
            with pytest.raises(ReadOnly, match="is read-only"):
                store.feedback.add_rating(reply, 1)
            folder = store.connection._file.parent
            assert folder != mounted and folder.stat().st_mode & 0o777 == 0o700
        assert not folder.exists()
    assert {file.name: file.read_bytes() for file in mounted.iterdir()} == before


# ---------------------------------------------------------------- upgrades, backups, deletion


@pytest.fixture
def tomorrow(monkeypatch):
    """The code as it will be one migration later."""
    later = Migrations("rlhf_chat")
    monkeypatch.setattr(schema, "migrations", later)
    monkeypatch.setattr(store_file, "migrations", later)
    monkeypatch.setattr(schema, "_names", [])
    schema.migration(schema.m001_first_shape)
    return schema.migration


def test_an_older_file_is_copied_then_upgraded_with_every_row(path, tomorrow):
    with closing(Store(path)) as store:
        reply = make_reply(store)
        store.feedback.add_rating(reply, 1)

    @tomorrow
    def m002_stars(db):
        db.execute("ALTER TABLE ratings ADD COLUMN stars INTEGER")

    with closing(Store(path)) as store:
        assert [r.message_id for r in store.feedback.ratings()] == [reply]
        assert on_writer(store, lambda db: one_value(db, "PRAGMA user_version")) == 2
        [backup] = backups_of(path)
    Store(path).close()
    assert backups_of(path) == [backup]
    with raw(backup) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT count(*) FROM ratings").fetchone() == (1,)


def test_votes_of_the_first_shape_survive_the_wider_answers(path, monkeypatch):
    first = Migrations("rlhf_chat")
    with monkeypatch.context() as then:
        then.setattr(schema, "migrations", first)
        then.setattr(store_file, "migrations", first)
        then.setattr(schema, "_names", [])
        schema.migration(schema.m001_first_shape)
        Store(path).close()
    a, b = "a" * 32, "b" * 32
    with raw(path) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute(
            """INSERT INTO preferences (number, id, message_a, message_b, rater, outcome,
            shown_first, event_id, created_at) VALUES (1, 'v', ?, ?, 'me', 'b', 'a', 'e', 'now')""",
            [a, b],
        )
        db.execute("UPDATE counters SET value = 1 WHERE name = 'feedback'")
        db.execute(
            """INSERT INTO conversations VALUES ('c', 'chat', '', '', NULL, 1, 'now', 'now')"""
        )
        for number, (message, parent) in enumerate([("q", None), (a, "q"), (b, "q")]):
            role = "user" if parent is None else "assistant"
            db.execute(
                """INSERT INTO messages (number, id, conversation_id, parent_id, role, content,
                created_at) VALUES (?, ?, 'c', ?, ?, '', 'now')""",
                [number, message, parent, role],
            )
        db.commit()
    with closing(Store(path)) as store:
        [vote] = store.feedback.preferences()
        assert (vote.id, vote.outcome, vote.shown_first, vote.strength) == ("v", "b", "a", "")
        store.feedback.add_preference(a, b, "both_good", shown_first="b")
        assert [v.outcome for v in store.feedback.preferences()] == ["both_good"]
    assert len(backups_of(path)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda s, a, b, q: s.feedback.add_score(a, 6),
        lambda s, a, b, q: s.feedback.add_score(q, 3),
        lambda s, a, b, q: s.feedback.add_ranking(q, {a: 0}),
        lambda s, a, b, q: s.feedback.add_ranking(q, {a: 0, q: 1}),
        lambda s, a, b, q: s.feedback.add_ranking(q, {a: 0, b: 99}),
        lambda s, a, b, q: s.feedback.add_edit(a, q),
        lambda s, a, b, q: s.feedback.add_preference(a, b, "tie", shown_first="a", strength="much"),
        lambda s, a, b, q: s.feedback.add_preference(a, b, "a", shown_first="a", strength="very"),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused_in_a_sentence(store, wrong):
    asked = store.messages.add(store.conversations.add(), "user", "hello")
    conversation = store.messages.get(asked).conversation_id
    a, b = (store.messages.add(conversation, "assistant", t, parent_id=asked) for t in "ab")
    with pytest.raises(StoreError) as error:
        wrong(store, a, b, asked)
    assert one_sentence(error)
    assert store.feedback.count() == 0


def test_an_upgrade_that_fails_changes_nothing_and_names_the_copy(path, tomorrow):
    with closing(Store(path)) as store:
        store.feedback.add_rating(make_reply(store), 1)

    @tomorrow
    def m002_half(db):
        db.execute("CREATE TABLE half (a INTEGER) STRICT")
        raise RuntimeError("no")

    for _ in range(9):
        with pytest.raises(StoreError) as error:
            Store(path)
    assert one_sentence(error, str(path), "backups")
    kept = [backup_number(backup) for backup in backups_of(path)]
    assert kept == list(range(3, 10))
    with raw(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT name FROM sqlite_master WHERE name = 'half'").fetchall() == []


def test_an_upgrade_killed_half_way_is_done_again(path):
    Store(path).close()
    code = """
import os, sys, signal
from rlhf_chat.db import Store
from rlhf_chat.db import schema
@schema.migration
def m_next(db):
    db.execute("CREATE TABLE later (a INTEGER) STRICT")
    if len(sys.argv) > 2:
        os.kill(os.getpid(), signal.SIGKILL)
Store(sys.argv[1]).close()
"""
    killed, done = start_child(code, path, "kill"), None
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    done = start_child(code, path)
    done.communicate()
    assert done.returncode == 0
    with raw(path) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == schema.schema_version() + 1


CANARY = "xylophone quokka 8131"


def everything(folder: Path) -> bytes:
    """Every byte in the folder. Reading an open file drops its locks: only a test may."""
    return b"".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file())


@pytest.mark.parametrize("size", [1, 400])
def test_a_deleted_conversation_leaves_no_bytes_behind(path, size):
    long, ids = f"{CANARY} and more " * size, [31337 + i for i in range(40)]
    store = Store(path)
    keep = [make_pair(store, "chat", f"keep {i} " * 50) for i in range(30)]
    gone = store.conversations.add(title=f"{CANARY} title", system_prompt=long)
    user = store.messages.add(gone, "user", long)
    sent: dict[str, Any] = dict(parent_id=user, prompt_ids=ids, response_ids=ids)
    a, b = (store.messages.add(gone, "assistant", long, **sent) for _ in range(2))
    keep += [make_pair(store, "chat", f"keep {i} " * 50) for i in range(30)]
    store.feedback.add_rating(a, 1, reason=CANARY, comment=long)
    store.feedback.add_preference(a, b, "a", shown_first="a")
    store.conversations.rename(gone, f"{CANARY} again")
    store.features.put_reference_responses("k", "p", ids[:20], [ids], suggested=True)
    store.features.put("k", [(content_key(ids, ids), np.array([1.0]))])
    assert store.back_up()
    needles = (CANARY.encode(), np.array(ids[:20], "<i4").tobytes())
    assert all(needle in everything(path.parent) for needle in needles)
    store.conversations.delete(gone)
    left = everything(path.parent)
    assert not any(needle in left for needle in needles)
    assert Path(f"{path}-wal").stat().st_size == 0
    assert len(backups_of(path)) == 1
    counts = store.counts()
    assert (counts["conversations"], counts["messages"], counts["ratings"]) == (60, 180, 0)
    assert store.features.get("k", [content_key(ids, ids)]) == {}
    assert store.features.reference_responses("k", ["p"]) == {}
    assert [e.kind for e in store.events.newest()] == ["conversation_deleted"]
    assert all(store.messages.path_to(b) for *_, b in keep)
    store.close()


def test_deleting_one_conversation_spares_what_another_still_uses(store):
    made = []
    for text in ("one", "two"):
        conversation, user, *_ = make_pair(store, "chat", text)
        sent = dict(parent_id=user, prompt_ids=[1, 2], response_ids=[3])
        store.messages.add(conversation, "assistant", "same", **sent)
        made.append(conversation)
    own = store.conversations.add()
    store.messages.add(own, "assistant", "x", prompt_ids=[5], response_ids=[6])
    store.messages.add(own, "assistant", "y", prompt_ids=[7, 1, 2, 5, 6, 3, 8], response_ids=[6])
    shared, only = content_key([1, 2], [3]), content_key([5], [6])
    store.features.put("k", [(key, np.ones(2)) for key in (shared, only)])
    prompts = {"shared": [1, 2], "only": [5], "suggested": [9, 9], "turn": [7, 1, 3, 8]}
    prompts["other turn"] = [7, 1, 9, 3, 8]
    for key, ids in prompts.items():
        store.features.put_reference_responses("k", key, ids, [[1]], suggested=True)
    store.conversations.delete(made[0])
    store.conversations.delete(own)
    assert set(store.features.get("k", [shared, only])) == {shared}
    left = set(store.features.reference_responses("k", prompts))
    assert left == {"shared", "suggested", "other turn"}
    store.conversations.delete(made[1])
    assert store.features.get("k", [shared]) == {}


def test_deleting_a_comparison_takes_its_votes(store):
    conversation, _, a, b = make_pair(store)
    other = make_pair(store)
    store.feedback.add_preference(a, b, "a", shown_first="a")
    store.feedback.add_preference(other[2], other[3], "b", shown_first="a")
    store.feedback.add_rating(a, 1)
    store.conversations.delete(conversation)
    assert [p.message_a for p in store.feedback.preferences()] == [other[2]]
    assert (store.feedback.ratings(), len(store.conversations.all("compare"))) == ([], 1)
    with pytest.raises(NotFound):
        store.messages.get(a)


def test_a_reader_in_the_way_of_forgetting_is_reported_and_clicks_go_on(store, monkeypatch):
    monkeypatch.setattr(
        connection, "time", type("Now", (), {"sleep": staticmethod(lambda s: None)})
    )
    conversation, *_ = make_pair(store, text=CANARY)
    with raw(store.path) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM messages").fetchall()
        with pytest.raises(Busy) as error:
            store.conversations.delete(conversation)
        assert one_sentence(error, "deleted")
        store.feedback.add_rating(make_reply(store), 1)
    store.close()
    assert CANARY.encode() not in everything(store.path.parent)


def test_a_conversation_of_any_length_can_be_deleted(store):
    """Each message hangs on the one before; SQLite follows a cascade only a thousand deep."""
    conversation, user, *_ = make_pair(store, "chat", CANARY)
    add = """INSERT INTO messages (id, conversation_id, parent_id, role, content, created_at)
        VALUES (?, ?, ?, 'user', ?, '')"""
    parents = [user, *map(str, range(1499))]
    rows = [(str(i), conversation, parents[i], f"{CANARY} {i}") for i in range(1500)]
    store.connection.execute_many(add, rows)
    assert len(store.messages.path_to("1499")) == 1501
    store.conversations.delete(conversation)
    assert (store.conversations.all(), store.counts()["messages"]) == ([], 0)
    store.close()
    assert CANARY.encode() not in everything(store.path.parent)


def in_backups(path: Path) -> bool:
    return CANARY.encode() in everything(path.parent / "backups")


def backed_up(store: Store) -> str:
    """A conversation that a backup holds, too; its id."""
    conversation, *_ = make_pair(store, text=CANARY)
    assert store.back_up()
    assert in_backups(store.path)
    return conversation


def on_day(monkeypatch, day: int) -> None:
    monkeypatch.setattr(store_file, "_today", lambda: f"202601{day:02d}")


def test_a_backup_is_made_once_a_day_in_which_something_was_said(store, monkeypatch):
    on_day(monkeypatch, 1)
    assert not store.back_up()  # nothing to lose yet
    make_pair(store)
    assert [store.back_up(), store.back_up()] == [True, False]
    make_pair(store)
    assert not store.back_up()
    on_day(monkeypatch, 2)
    assert [store.back_up(), store.back_up()] == [True, False]
    on_day(monkeypatch, 3)
    assert not store.back_up()  # the newest says all there is
    with closing(Store(backups_of(store.path)[-1])) as copy:
        assert copy.counts() == store.counts()


def test_seven_backups_are_kept_and_one_that_is_damaged_is_replaced(store, monkeypatch):
    for day in range(1, 11):
        make_pair(store)
        on_day(monkeypatch, day)
        assert store.back_up()
    kept = backups_of(store.path)
    assert [copy.stem[-2:] for copy in kept] == [f"{day:02d}" for day in range(4, 11)]
    kept[-1].write_bytes(b"no database")
    on_day(monkeypatch, 11)
    assert store.back_up()


def test_what_is_deleted_while_a_backup_is_made_is_not_in_it(store, monkeypatch):
    conversation, *_ = make_pair(store, text=CANARY)
    copying, deleted = threading.Event(), threading.Event()
    real = os.replace

    def slow(*names) -> None:
        copying.set()
        deleted.wait(0.5)  # the rows are gone by then, but not from the copy
        real(*names)

    monkeypatch.setattr(store_file.os, "replace", slow)
    thread = threading.Thread(target=store.back_up)
    thread.start()
    assert copying.wait(10)
    store.conversations.delete(conversation)
    deleted.set()
    thread.join()
    assert len(backups_of(store.path)) == 1 and not in_backups(store.path)


def test_a_backup_that_cannot_be_made_is_one_sentence(store):
    make_pair(store)
    (store.path.parent / "backups").write_text("in the way")
    with pytest.raises(StoreError) as error:
        store.back_up()
    assert one_sentence(error, "backups")


def test_a_reader_in_the_way_keeps_no_deleted_words_in_backups(store, monkeypatch):
    monkeypatch.setattr(
        connection, "time", type("Now", (), {"sleep": staticmethod(lambda s: None)})
    )
    conversation = backed_up(store)
    with raw(store.path) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM messages").fetchall()
        with pytest.raises(Busy):
            store.conversations.delete(conversation)
    assert not in_backups(store.path)


def test_a_deletion_killed_before_the_backups_were_cleaned_is_finished_at_the_next_start(path):
    code = """
import os, sys
from rlhf_chat.db import Store
from rlhf_chat.db import deletion
store = Store(sys.argv[1])
deletion.erase_from_backups = lambda *_: os.kill(os.getpid(), 9)
store.conversations.delete(sys.argv[2])
"""
    with closing(Store(path)) as store:
        conversation, kept = backed_up(store), make_pair(store, text="another")[0]
    start_child(code, path, conversation).wait(60)
    assert in_backups(path)
    with closing(Store(path)) as store:
        assert [c.id for c in store.conversations.all("compare")] == [kept]
    assert CANARY.encode() not in everything(path.parent)
    [backup] = backups_of(path)
    with closing(Store(backup)) as copy:
        assert copy.counts()["conversations"] == 0


def test_a_deletion_killed_before_the_wal_was_emptied_is_finished_at_the_next_start(path):
    code = """
import os, sys
from rlhf_chat.db import Store
store = Store(sys.argv[1])
gone = store.conversations.add(title=sys.argv[2])
type(store.connection).empty_wal = lambda *_: os.kill(os.getpid(), 9)
store.conversations.delete(gone)
"""
    start_child(code, path, CANARY).wait(60)
    assert CANARY.encode() in Path(f"{path}-wal").read_bytes()
    with closing(Store(path)) as store:
        assert Path(f"{path}-wal").stat().st_size == 0
        assert CANARY.encode() not in everything(path.parent)
        assert [e.kind for e in store.events.newest()] == ["conversation_deleted"]


def test_a_backup_that_holds_nothing_deleted_is_not_touched_by_a_start(path):
    with closing(Store(path)) as store:
        backed_up(store)
        store.conversations.delete(make_pair(store)[0])
    [backup] = backups_of(path)
    before = backup.read_bytes(), backup.stat().st_mtime_ns
    Store(path).close()
    assert (backup.read_bytes(), backup.stat().st_mtime_ns) == before


@pytest.mark.parametrize("when", ["at the next start", "on deleting"])
def test_a_backup_that_was_never_finished_is_removed(path, when):
    with closing(Store(path)) as store:
        backed_up(store)
        [backup] = backups_of(path)
        backup.rename(f"{backup}.part")
        Path(f"{backup}.part-journal").write_text(CANARY)
        if when == "on deleting":
            store.conversations.delete(make_pair(store)[0])
            assert not in_backups(path)
    Store(path).close()
    assert not in_backups(path)


def test_a_backup_that_can_be_neither_cleaned_nor_removed_is_named(path, monkeypatch):
    with closing(Store(path)) as store:
        conversation = backed_up(store)
        [backup] = backups_of(path)
        backup.write_bytes(b"no database: " + CANARY.encode())
        monkeypatch.setattr(Path, "unlink", denied)
        with pytest.raises(StoreError) as error:
            store.conversations.delete(conversation)
        assert one_sentence(error, "deleted", backup.name)
        assert store.conversations.all("compare") == []
    Store(path).close()  # and the app starts all the same
    monkeypatch.undo()
    Store(path).close()
    assert not in_backups(path)


def test_a_backup_that_another_program_reads_is_kept_and_erased_at_the_next_start(
    path, monkeypatch
):
    monkeypatch.setattr(store_file, "BUSY_SECONDS", 0.1)
    with closing(Store(path)) as store:
        conversation, kept = backed_up(store), make_pair(store, text="another")[0]
        [backup] = backups_of(path)
        with raw(backup) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM messages").fetchall()
            store.conversations.delete(conversation)
            assert backup.exists() and store.unerased == [backup]
    with closing(Store(path)) as store:
        assert backup.exists() and store.unerased == []
        assert [c.id for c in store.conversations.all("compare")] == [kept]
    assert CANARY.encode() not in everything(path.parent)


@pytest.mark.parametrize("code", ["SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_BUSY"])
def test_no_error_but_damage_removes_a_backup(path, monkeypatch, caplog, code):
    def failing(*_):
        error = sqlite3.OperationalError("no")
        error.sqlite_errorname = code
        raise error

    with closing(Store(path)) as store:
        conversation = backed_up(store)
        [backup] = backups_of(path)
        monkeypatch.setattr(deletion, "apply_migrations", failing)
        store.conversations.delete(conversation)
        assert store.unerased == [backup] and backup.exists() and backup.name in caplog.text
        monkeypatch.undo()
        store.conversations.delete(make_pair(store)[0])  # the next deletion tries it again, too
        assert store.unerased == [] and not in_backups(path)


def test_a_backup_that_is_damaged_is_removed(path):
    with closing(Store(path)) as store:
        conversation = backed_up(store)
        [backup] = backups_of(path)
        backup.write_bytes(b"no database: " + CANARY.encode())
        store.conversations.delete(conversation)
        assert backups_of(path) == [] and store.unerased == []


@pytest.mark.parametrize("how", ["replaced", "withdrawn", "vote", "note", "ranking"])
def test_words_of_a_withdrawn_or_replaced_answer_are_nowhere(path, how):
    with closing(Store(path)) as store:
        _, asked, a, b = make_pair(store)
        feedback = store.feedback
        if how in ("replaced", "withdrawn"):
            feedback.add_rating(a, -1, reason=CANARY, comment=CANARY)
        elif how == "ranking":
            feedback.set_comment(feedback.add_ranking(asked, {a: 0, b: 1}), CANARY)
        else:
            vote = feedback.add_preference(a, b, "a", shown_first="a", comment=CANARY)
        assert store.back_up() and in_backups(path)
        if how in ("replaced", "withdrawn"):
            feedback.add_rating(a, 1 if how == "replaced" else 0, comment="")
        elif how == "ranking":
            feedback.add_ranking(asked, {})
        elif how == "note":
            feedback.set_comment(vote, "another")
        else:
            feedback.add_preference(a, b, "withdrawn", shown_first="a")
        assert CANARY.encode() not in everything(path.parent)
        assert len(backups_of(path)) == 1 and store.unerased == []


def test_words_that_a_locked_backup_kept_are_erased_at_the_next_start(path, monkeypatch):
    monkeypatch.setattr(store_file, "BUSY_SECONDS", 0.1)
    with closing(Store(path)) as store:
        _, _, a, _ = make_pair(store)
        store.feedback.add_rating(a, 1, comment=CANARY)
        assert store.back_up()
        [backup] = backups_of(path)
        with raw(backup) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM messages").fetchall()
            store.feedback.add_rating(a, 0)
            assert store.unerased == [backup]
    with closing(Store(path)) as store:
        assert store.unerased == [] and CANARY.encode() not in everything(path.parent)
        assert store.events.newest() == []


def denied(*_, **__) -> None:
    raise PermissionError(13, "Permission denied")


# ---------------------------------------------------------------- the house


def test_no_second_sqlite_library_is_ever_loaded():
    """Two SQLite libraries in one process break each other's locks."""
    for file in (ROOT / "rlhf_chat").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"sqlite3", "pysqlite3"} & set(names), file


def test_the_archive_needs_no_torch():
    code = "import sys\nimport rlhf_chat.db\nprint('torch' in sys.modules)"
    output, _ = start_child(code).communicate()
    assert output == "False\n"


def test_the_file_opens_with_plain_sqlite_utils(path):
    with closing(Store(path)) as store:
        store.feedback.add_rating(make_reply(store), 1, reason="Helpful")
    db = Database(path)
    assert [row["reason"] for row in db["ratings"].rows] == ["Helpful"]
    db.close()
