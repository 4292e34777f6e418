"""What people said and what a simulated person said never mix, and the latter can be taken out
whole. Left out: adding and withdrawing (test_db.py), learning from it (test_worker.py).
"""

from __future__ import annotations

import pytest

from rlhf_chat.db import Store, StoreError
from tests.unit.test_db import make_pair, make_reply, open_round, promote

WHO = "simulated:lists"


def vote(store: Store, outcome: str = "a", rater: str = "me", versions=(1, 0)) -> tuple[str, str]:
    conversation = store.conversations.add("compare")
    asked = store.messages.add(conversation, "user", "Tell me about tea")
    a, b = (
        store.messages.add(
            conversation,
            "assistant",
            f"draft of {version}",
            parent_id=asked,
            prompt_ids=[1],
            response_ids=[version, 2],
            adapter_version=version,
            make_head=False,
        )
        for version in versions
    )
    store.feedback.add_preference(a, b, outcome, shown_first="a", rater=rater)
    return a, b


def test_a_simulated_person_counts_only_where_it_is_named(store):
    reply = make_reply(store)
    store.feedback.add_rating(reply, 1)
    mine = vote(store)
    store.feedback.add_rating(reply, -1, rater=WHO)
    theirs = vote(store, "b", WHO)
    assert [r.value for r in store.feedback.ratings()] == [1]
    assert [r.value for r in store.feedback.ratings(WHO)] == [-1]
    assert store.feedback.rating_of([reply])[reply].value == 1
    assert [(p.message_a, p.message_b) for p in store.feedback.preferences()] == [mine]
    assert [(p.message_a, p.message_b) for p in store.feedback.preferences(WHO)] == [theirs]
    assert store.feedback.votes_between_versions() == [(1, 0, "a")]
    assert store.feedback.votes_between_versions(WHO) == [(1, 0, "b")]
    assert (store.feedback.count_since(0), store.feedback.count_since(0, WHO)) == (2, 2)
    assert {f.rater for f in store.feedback.all()} == {"me"}


def test_a_round_on_simulated_ratings_uses_up_none_of_the_persons(store):
    for rater, watermark in (("", 3), (WHO, 9)):
        store.rounds.close(
            open_round(store, rater=rater, watermark=watermark), status="discarded", reason=""
        )
    assert (store.rounds.last_watermark(), store.rounds.last_watermark(WHO)) == (3, 9)


def test_votes_on_two_drafts_of_one_version_say_nothing_about_versions(store):
    vote(store, versions=(2, 2))
    a, b = vote(store, versions=(2, 1))
    assert store.feedback.votes_between_versions() == [(2, 1, "a")]
    store.feedback.add_preference(
        b, a, "a", shown_first="a"
    )  # changed, and named the other way round
    assert [p.outcome for p in store.feedback.preferences()][1:] == ["a"]


def test_a_vote_changed_after_the_names_were_shown_is_not_counted_as_blind(store):
    a, b = vote(store, versions=(2, 1))
    store.feedback.add_preference(a, b, "b", shown_first="a")
    assert store.feedback.votes_between_versions() == [(2, 1, "a")]
    store.feedback.add_preference(a, b, "withdrawn", shown_first="a")
    assert store.feedback.votes_between_versions() == []
    store.feedback.add_preference(a, b, "b", shown_first="a")  # once more, knowing whose they are
    assert store.feedback.votes_between_versions() == [(2, 1, "a")]


def test_two_people_on_one_pair_of_drafts_are_one_vote_between_versions(store):
    """Most of what they say comes from the drafts: a proof from it would be bought twice."""
    a, b = vote(store, versions=(2, 1))
    store.feedback.add_preference(b, a, "b", shown_first="a", rater="visitor")  # a as well
    assert store.feedback.votes_between_versions() == [(2, 1, "a")]
    store.feedback.add_preference(a, b, "b", shown_first="a", rater="somebody else")
    store.feedback.add_preference(a, b, "b", shown_first="a", rater=WHO)
    vote(store, "b", "visitor", versions=(2, 1))
    assert store.feedback.votes_between_versions() == [(2, 1, "a"), (2, 1, "b")]
    assert store.feedback.votes_between_versions("visitor") == [(1, 2, "b"), (2, 1, "b")]
    assert store.feedback.votes_between_versions(WHO) == [(2, 1, "b")]
    store.feedback.add_preference(
        a, b, "withdrawn", shown_first="a"
    )  # who voted first takes it back
    assert store.feedback.votes_between_versions() == [(2, 1, "b")]


def test_the_ledger_tells_what_counts_with_its_words(store):
    reply = make_reply(store)
    store.feedback.add_rating(reply, 1)
    store.feedback.add_rating(reply, -1, reason="Too long", comment="half of it")
    vote(store, "tie")
    newest, older = store.feedback.all()
    assert (newest.kind, newest.answer, newest.prompt) == ("comparison", "tie", "Tell me about tea")
    assert (newest.reply, newest.other) == ("draft of 1", "draft of 0")
    assert (newest.version, newest.other_version) == (1, 0)
    assert (older.kind, older.answer, older.reason) == ("thumb", "down", "Too long")
    assert [f.id for f in store.feedback.all(containing="HALF")] == [older.id]
    assert [f.id for f in store.feedback.all(kind="comparison")] == [newest.id]
    assert [f.id for f in store.feedback.all(answer="down")] == [older.id]
    assert store.feedback.all(containing="%") == []
    store.feedback.add_rating(reply, 0)
    assert [f.kind for f in store.feedback.all()] == ["comparison"]


def test_a_ranking_is_told_with_every_reply_and_its_place(store):
    conversation = store.conversations.add("compare")
    asked = store.messages.add(conversation, "user", "Tell me about tea")
    ids = [
        store.messages.add(
            conversation, "assistant", text, parent_id=asked, adapter_version=0, make_head=False,
            prompt_ids=[1], response_ids=[2],
        )
        for text in ('first "one"', "second", "third")
    ]  # fmt: skip
    store.feedback.add_ranking(asked, {ids[0]: 1, ids[1]: 0, ids[2]: 1})
    [told] = store.feedback.all()
    assert [(p.place, p.version) for p in told.order] == [(0, 0), (1, 0), (1, 0)]
    assert told.order[0].reply == told.reply == "second"
    assert {p.reply for p in told.order[1:]} == {'first "one"', "third"}
    assert store.feedback.all(containing="third") == [told] and not store.feedback.all(
        containing="place"
    )


def test_a_simulated_person_is_gone_whole_and_nobody_else_loses_anything(store):
    promote(store, 1, round_id=open_round(store))
    mine = vote(store)
    for version, parent in ((2, 0), (3, 2)):
        promote(store, version, parent=parent, round_id=open_round(store, rater=WHO))
    store.rounds.add_metrics(3, 0, {"score": 1.0})
    theirs = vote(store, "b", WHO, (3, 0))
    store.feedback.add_rating(mine[0], -1, rater=WHO)
    talk = store.conversations.add()
    store.conversations.set_settings(talk, "", None, 3)
    store.feedback.erase_rater(WHO)
    assert [v.version for v in store.adapter_versions.all()] == [0, 1]
    assert (
        store.adapter_versions.live() == 0 and store.conversations.get(talk).adapter_version is None
    )
    assert [r.rater for r in store.rounds.newest()] == [""] and store.rounds.metrics(3) == []
    assert store.feedback.count_since(0, WHO) == 0 and len(store.feedback.preferences()) == 1
    assert store.messages.get(mine[0])
    with pytest.raises(StoreError):
        store.messages.get(theirs[0])
    assert store.adapter_versions.next_number() == 4  # a number once used is never given out again
    with pytest.raises(StoreError, match="simulated"):
        store.feedback.erase_rater("me")


def test_a_deleted_version_leaves_its_children_a_way_back(store):
    for version in (1, 2, 3):
        promote(store, version, parent=version - 1, round_id=open_round(store))
    store.adapter_versions.set_live(2, "")
    talk = store.conversations.add()
    store.conversations.set_settings(talk, "", None, 1)
    store.adapter_versions.delete(1)
    assert {v.version: v.parent for v in store.adapter_versions.all()} == {0: None, 2: 0, 3: 2}
    assert store.conversations.get(talk).adapter_version is None
    for refused in (0, 2, 1):  # the base, the live one, one that is not there
        with pytest.raises(StoreError):
            store.adapter_versions.delete(refused)
    assert store.adapter_versions.next_number() == 4


def test_a_version_keeps_its_name(store):
    promote(store, 1, round_id=open_round(store))
    store.adapter_versions.describe(1, "Short", "answers in one line")
    assert store.adapter_versions.all()[1].name == "Short"
    assert store.adapter_versions.all()[1].remark == "answers in one line"


def test_an_own_pair_of_the_first_shape_has_no_manner(store):
    make_pair(store)
    [pair] = store.conversations.all("compare")
    assert pair.sampling is None and pair.adapter_version is None
