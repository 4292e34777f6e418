"""Several drafts of one prompt: stored as shown, judged as clicked, and by whom.
Left out: which drafts are shown (test_scorer.py), the screen (test_ui.py).
"""

from __future__ import annotations

import random
import sqlite3
import threading
import uuid
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rlhf_chat.chat import outside_comparisons
from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.compare import Candidates, Compare
from rlhf_chat.chat.raters import Raters, checked_name
from rlhf_chat.db import Store
from rlhf_chat.errors import AppError, Notice
from rlhf_chat.feedback.snapshot import take_snapshot
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.model import Model
from rlhf_chat.reward import active_sampling
from rlhf_chat.ui.data_screen import DataScreen
from tests.unit.test_chat import one_sentence


@pytest.fixture
def compare(store: Store, toy: Model) -> Compare:
    compare = Compare(Chat(store, toy, Sampling(max_new_tokens=6)))
    compare.drafts.rng = random.Random(0)  # no draft of the toy happens to end at once
    return compare


def drafts_of(compare: Compare, prompt: str = "tell me about the sea", count: int = 2, **options):
    *_, drafts = compare.write(prompt, count, **options)
    assert isinstance(drafts, Candidates)
    return drafts


# ---------------------------------------------------------------------- two drafts


def test_a_pair_is_two_stored_drafts_of_one_message(compare, store):
    parts = list(compare.write("tell me about the sea"))
    pair = parts[-1]
    assert pair.done and pair.votable and pair.texts[0] != pair.texts[1]
    assert not any(p.votable or p.set_id for p in parts[:-1])
    [asked] = store.messages.roots(pair.set_id)
    a, b = (store.messages.get(i) for i in store.messages.children(asked))
    assert {a.content, b.content} == set(pair.texts)
    assert a.prompt_ids == b.prompt_ids and a.response_ids != b.response_ids
    assert a.adapter_version == b.adapter_version == 0
    shown = compare.shown(pair.set_id)
    assert shown == pair
    assert compare.chat.conversations.all() == []  # not in the sidebar


def test_votes_reach_the_draft_that_was_clicked(compare, store):
    """Whatever side the drafts were shown on; both sides come up."""
    sides: set[str] = set()
    for number in range(12):
        if number >= 4 and len(sides) == 2:
            break
        pair = drafts_of(compare, f"tell me about the sea {number}")
        clicked = "a" if number % 2 else "b"  # a is the left one
        revealed = compare.vote(pair.set_id, clicked)
        assert revealed.versions == (0, 0) and revealed.same_as_before is None
        vote = store.feedback.preferences()[-1]
        stored = {"a": vote.message_a, "b": vote.message_b}
        wanted = pair.texts[0] if clicked == "a" else pair.texts[1]
        assert store.messages.get(stored[vote.outcome]).content == wanted
        assert store.messages.get(stored[vote.shown_first]).content == pair.texts[0]
        sides.add(vote.shown_first)
    assert sides == {"a", "b"}


@pytest.mark.parametrize("outcome", ["tie", "both_bad"])
def test_ties_and_withdrawing(compare, store, outcome):
    pair = drafts_of(compare)
    compare.vote(pair.set_id, outcome, event_id="v1")
    compare.vote(pair.set_id, outcome, event_id="v1")
    assert store.feedback.count() == 1
    assert [p.outcome for p in store.feedback.preferences()] == [outcome]
    compare.withdraw(pair.set_id)
    assert store.feedback.preferences() == []
    compare.vote(pair.set_id, "a")
    assert len(store.feedback.preferences()) == 1
    for bad in (
        lambda: compare.vote(pair.set_id, "left"),
        lambda: compare.vote("nothing", "a"),
    ):
        with pytest.raises(AppError) as error:
            bad()
        assert one_sentence(error)


def test_a_stopped_pair_cannot_be_voted_on(compare, store, toy):
    compare.chat.settings.sampling, stop = Sampling(max_new_tokens=60), threading.Event()
    stream = compare.write("hello", stop=stop)
    next(stream), next(stream)
    stop.set()
    last = list(stream)[-1]
    assert last.done and not last.votable and last.set_id is None and last.note
    assert store.counts()["messages"] == 0 and not toy.lease.chat_is_waiting
    stream = compare.write("hello")
    next(stream)
    stream.close()
    assert store.counts()["messages"] == 0 and not toy.lease.chat_is_waiting


def test_the_same_event_gives_the_same_pair(compare, store):
    event = "0" * 31 + "7"
    first, again = drafts_of(compare, event_id=event), drafts_of(compare, event_id=event)
    assert again == first and store.counts()["messages"] == 3
    half = store.conversations.add("compare", title="a crash came between")
    store.messages.add(half, "user", "tell me about the sea", event_id="e" * 32)
    assert drafts_of(compare, event_id="e" * 32).votable


def test_stop_is_heard_while_equal_drafts_are_drawn_again(compare, store):
    compare.chat.settings.sampling, stop = (
        Sampling(temperature=0.0, max_new_tokens=4),
        threading.Event(),
    )
    for part in compare.write("hello", stop=stop):
        last = part
        if part.texts[0] == part.texts[1] and part.texts[0]:
            stop.set()
    assert last.done and not last.votable and "Stopped" in str(last.note)
    assert store.counts()["messages"] == 0


def test_equal_drafts_cannot_be_voted_on(compare, store):
    compare.chat.settings.sampling = Sampling(temperature=0.0, max_new_tokens=4)
    last = drafts_of(compare)
    assert last.done and not last.votable and "same" in str(last.note)
    assert store.counts()["messages"] == 0


def test_settings_changed_while_drafts_are_written_are_those_of_the_next_ones(compare, store):
    compare.chat.settings.sampling = Sampling(temperature=0.5, max_new_tokens=6)
    writing = compare.write("tell me about the sea")
    next(writing)
    compare.chat.settings.sampling = Sampling(temperature=1.0, max_new_tokens=4)
    *_, pair = writing
    [asked] = store.messages.roots(pair.set_id)
    for draft in map(store.messages.get, store.messages.children(asked)):
        assert draft.sampling["temperature"] == 0.5 and draft.sampling["max_new_tokens"] == 6
    assert compare.sampling() == Sampling(temperature=1.0, max_new_tokens=4)


@pytest.mark.parametrize("step", [0.0180, 0.0183, 0.03, 0.2])
def test_the_length_of_drafts_does_not_follow_each_millisecond(compare, monkeypatch, step):
    """`step`: seconds, which each start times anew."""
    wanted = Sampling(max_new_tokens=2000)
    monkeypatch.setattr(compare.chat.settings, "default", lambda: SimpleNamespace(sampling=wanted))
    monkeypatch.setattr(compare.chat.model, "step_seconds", step)
    length = compare.sampling().max_new_tokens
    assert length % 16 == 0 and length >= 64
    assert length == 64 or 0 <= 3.5 - length * step < 16 * step


def test_a_draft_that_was_written_again_after_it_was_seen_is_told(compare, monkeypatch):
    """A vote given before then was about another text."""
    monkeypatch.setattr(compare.chat.generator, "stream", two_alike(compare.chat.generator.stream))
    pair = drafts_of(compare)
    assert pair.votable and pair.note == Notice("compare.redrawn")
    assert drafts_of(compare, "another one").note is None


def two_alike(real):
    """The first batch comes out as the same draft twice."""
    batches = []

    def stream(view, prompts, sampling, *, seed):
        batches.append(len(prompts))
        for drafts in real(view, prompts, sampling, seed=seed):
            yield drafts[:1] * 2 if len(batches) == 1 else drafts

    return stream


def test_a_pair_of_two_versions_says_which_was_which(compare, store, toy):
    state = {k: v + 0.3 for k, v in toy.base_state().items()}
    toy.serve(toy.make_view(3, state))
    pair = drafts_of(compare, versions=(3, 0))
    revealed = compare.vote(pair.set_id, "a")
    [asked] = store.messages.roots(pair.set_id)
    by_text = {
        store.messages.get(i).content: store.messages.get(i) for i in store.messages.children(asked)
    }
    left, right = by_text[pair.texts[0]], by_text[pair.texts[1]]
    assert revealed.versions == (left.adapter_version, right.adapter_version)
    assert {left.adapter_version, right.adapter_version} == {0, 3}
    with pytest.raises(AppError):
        drafts_of(compare, versions=(3, 7))


def test_one_pair_in_four_is_against_the_base_and_sides_are_even():
    rng = random.Random(0)
    drawn = [active_sampling.choose(5, rng) for _ in range(2000)]
    assert 0.2 < sum(p == (5, 0) for p in drawn) / 2000 < 0.3
    assert {active_sampling.choose(0, rng) for _ in range(100)} == {(0, 0)}
    left = sum(active_sampling.order(uuid.uuid4().hex, 2) == [0, 1] for _ in range(2000))
    assert 850 < left < 1150
    for outcome in ("a", "b", "tie", "both_bad"):
        assert active_sampling.from_side(outcome, True) == outcome
    assert [active_sampling.from_side(o, False) for o in ("a", "b", "tie")] == ["b", "a", "tie"]


@pytest.mark.parametrize("count", [3, 4])
def test_several_drafts_are_put_in_order_as_they_are_shown(compare, store, count):
    drafts = drafts_of(compare, count=count)
    assert drafts.votable and len(drafts.texts) == count
    assert compare.shown(drafts.set_id) == drafts
    told = compare.rank(drafts.set_id, list(range(count))[::-1])
    assert told.versions == (0,) * count
    [ranking] = store.feedback.rankings()
    placed = {store.messages.get(m).content: place for m, place in ranking.places.items()}
    assert placed == {text: count - 1 - i for i, text in enumerate(drafts.texts)}
    compare.rank(drafts.set_id, [0] * count)
    assert set(store.feedback.rankings()[0].places.values()) == {0}
    compare.withdraw(drafts.set_id)
    assert store.feedback.rankings() == []
    for wrong in (
        lambda: compare.rank(drafts.set_id, [0, 1]),
        lambda: compare.vote(drafts.set_id, "a"),
    ):
        with pytest.raises(AppError) as error:
            wrong()
        assert one_sentence(error)


def test_every_draft_comes_to_every_place():
    drawn = [tuple(active_sampling.order(uuid.UUID(int=i).hex, 4)) for i in range(400)]
    assert {order.index(0) for order in drawn} == {0, 1, 2, 3}
    assert all(sorted(order) == [0, 1, 2, 3] for order in drawn)


def test_drafts_that_were_stopped_or_make_no_sense_are_not_kept(compare, store):
    stop = threading.Event()
    stop.set()
    *_, last = compare.write("hello", 3, stop=stop)
    assert last.done and last.set_id is None and "Stopped" in str(last.note)
    for count in (1, 9):
        with pytest.raises(AppError) as error:
            list(compare.write("hello", count))
        assert one_sentence(error)
    assert store.counts()["messages"] == 0


@pytest.mark.parametrize("strength", ["", "slightly", "much"])
def test_how_much_better_is_kept(compare, store, strength):
    pair = drafts_of(compare)
    compare.vote(pair.set_id, "a", strength=strength)
    assert [p.strength for p in store.feedback.preferences()] == [strength]
    compare.vote(pair.set_id, "both_good")
    assert [p.outcome for p in store.feedback.preferences()] == ["both_good"]


@pytest.mark.parametrize("count", [2, 3])
def test_why_is_kept_beside_an_answer_and_changes_nothing_else(compare, store, count):
    shown = drafts_of(compare, "why", count)
    with pytest.raises(AppError, match="Vote first"):
        compare.comment(shown.set_id, "too early")
    if count == 2:
        compare.vote(shown.set_id, "a")
    else:
        compare.rank(shown.set_id, (1, 0, 2))
    before, count_before = take_snapshot(store), store.feedback.count()
    compare.comment(shown.set_id, "  shorter ")
    with pytest.raises(AppError, match="characters"):
        compare.comment(shown.set_id, "x" * 100_000)
    [told] = store.feedback.all(containing="shorter")
    assert told.comment == "shorter" and store.feedback.count() == count_before
    assert [s.answer for s in take_snapshot(store).items] == [s.answer for s in before.items]
    if count == 2:
        compare.vote(shown.set_id, "a", strength="much")  # the same again keeps the words
        assert [(p.strength, p.comment) for p in store.feedback.preferences()] == [
            ("much", "shorter")
        ]
        compare.vote(shown.set_id, "b")  # another answer does not
        assert [p.comment for p in store.feedback.preferences()] == [""]


def test_drafts_nobody_answered_go_after_a_day_and_answered_ones_stay(compare, store):
    kept = [drafts_of(compare, "voted"), drafts_of(compare, "ranked", 3), drafts_of(compare, "new")]
    compare.vote(kept[0].set_id, "a")
    compare.rank(kept[1].set_id, [0, 1, 2])
    left = drafts_of(compare, "left")
    assert compare.forget_unanswered() == 0  # all of today
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE conversations SET created_at = '2020-01-01' WHERE title <> ?", ["x"])
        db.execute(
            "UPDATE conversations SET created_at = '2999-01-01' WHERE id = ?", [kept[2].set_id]
        )
    db.close()
    assert compare.forget_unanswered() == 1
    assert [compare.shown(drafts.set_id) for drafts in kept] == kept
    with pytest.raises(AppError):
        compare.shown(left.set_id)


# ---------------------------------------------------------------------- pairs seen before


def voted(compare, count: int, rater: str = "me") -> list:
    made = [drafts_of(compare, f"tell me about the sea {i}") for i in range(count)]
    for drafts in made:
        compare.vote(drafts.set_id, "a", rater=rater)
    return made


def test_a_pair_comes_back_with_its_sides_swapped_and_replaces_no_vote(compare, store):
    assert compare.repeat_pair("me", share=1) is None
    made = voted(compare, active_sampling.REPEAT_AFTER + 2)
    votes = store.feedback.preferences()
    for _ in range(2):
        again = compare.repeat_pair("me", share=1)
        [first] = [d for d in made if d.prompt == again.prompt]
        assert again.texts == first.texts[::-1] and again.votable
        told = compare.vote(again.set_id, "b")
        assert told.same_as_before is True
    assert compare.repeat_pair("me", share=1) is None  # each comes back once
    assert store.feedback.preferences() == votes and len(store.feedback.asked_again()) == 2
    [me] = Raters(store).table()
    assert (me.asked_again, me.said_same) == (2, 2)
    assert compare.repeat_pair("me", share=0) is None


def test_changing_one_s_mind_about_a_repeated_pair_is_a_slip_and_can_be_undone(compare, store):
    voted(compare, active_sampling.REPEAT_AFTER + 1)
    again = compare.repeat_pair("me", share=1)
    assert compare.vote(again.set_id, "a").same_as_before is False
    assert Raters(store).table()[0].said_same == 0
    compare.withdraw(again.set_id)
    assert Raters(store).table()[0].asked_again == 0


def test_a_pair_that_came_back_for_somebody_else_is_voted_on_like_any_other(compare, store):
    """The name was changed while the pair was on the page."""
    voted(compare, active_sampling.REPEAT_AFTER + 1)
    again = compare.repeat_pair("me", share=1)
    told = compare.vote(again.set_id, "a", rater="visitor")
    told = compare.vote(again.set_id, "a", strength="much", rater="visitor")
    assert told.same_as_before is None and store.feedback.asked_again("visitor") == []
    [vote] = store.feedback.preferences("visitor")
    assert vote.outcome in ("a", "b") and vote.strength == "much"
    compare.withdraw(again.set_id, rater="visitor")
    assert not [v for v in store.feedback.preferences("visitor") if v.outcome in ("a", "b")]


def test_several_people_get_the_same_pair_and_their_agreement_is_counted(compare, store):
    made = voted(compare, 10)
    for _ in range(10):
        shared = compare.repeat_pair("visitor", share=1)
        assert shared in made  # as it was shown, and never the same twice
        compare.vote(shared.set_id, "b", rater="visitor")
    assert compare.repeat_pair("visitor", share=1) is None
    table = {r.name: r for r in Raters(store).table()}
    shared = table["visitor"].with_others
    assert shared and shared.share == 0
    assert not any(r.suspect for r in table.values())  # of two, neither is the odd one out
    alpha = Raters(store).alpha()
    assert alpha is not None and alpha < 0


def test_a_shared_pair_that_came_to_a_tie_is_not_asked_again(compare, store):
    made = voted(compare, 1)
    shared = compare.repeat_pair("visitor", share=1)
    assert shared in made
    compare.vote(shared.set_id, "tie", rater="visitor")
    assert compare.repeat_pair("visitor", share=1) is None


# ---------------------------------------------------------------------- who answers


@pytest.mark.parametrize(
    ("typed", "kept"),
    [("  Ada  Lovelace ", "Ada Lovelace"), ("", "me"), ("simulated:lists", "simulated lists"),
     ("x" * 99, "x" * 40), ("\n", "me"), ("Ada \ud83d", "Ada ?")],
)  # fmt: skip
def test_names_are_short_and_never_those_of_simulated_people(typed, kept):
    assert checked_name(typed) == kept


def test_whoever_is_set_aside_is_still_listed(compare, store):
    voted(compare, 2, "visitor")
    raters = Raters(store)
    assert "does not count" in str(raters.set_aside("visitor"))
    [visitor] = raters.table()
    assert not visitor.counts and visitor.answers == 2 and raters.alpha() is None
    raters.set_aside("visitor", False)
    assert raters.table()[0].counts


# ---------------------------------------------------------------------- votes from elsewhere


def voted_in_a_chat(store: Store, chat: Chat, title: str = "why is the sky blue?") -> str:
    """A program votes on two replies to the second message of a chat."""
    made = chat.conversations.new()
    list(chat.reply(made, title))
    list(chat.reply(made, "and the sea?"))
    last = chat.conversations.history(made)[-1].message_id
    list(chat.regenerate(last))
    better, worse = store.messages.siblings(last)
    return outside_comparisons.prefer(store, better, worse)


def test_replies_of_a_chat_are_not_shown_again_as_a_pair(compare, store):
    for number in range(active_sampling.REPEAT_AFTER + 2):
        voted_in_a_chat(store, compare.chat, f"why is the sky blue {number}?")
    assert compare.repeat_pair("me", share=1) is None
    assert compare.repeat_pair("somebody else", share=1) is None


def test_a_corrected_draft_is_still_one_of_a_pair(compare, store):
    pair = drafts_of(compare)
    compare.vote(pair.set_id, "a")
    vote = store.feedback.preferences()[0]
    compare.chat.ratings.correct(vote.message_a, "as I would say it")
    assert compare.shown(pair.set_id) == pair
    compare.vote(pair.set_id, "b")
    assert len(store.feedback.preferences()) == 1
    compare.withdraw(pair.set_id)
    assert not store.feedback.preferences() and not store.feedback.rankings()


def test_to_delete_a_vote_on_replies_of_a_chat_is_told_as_what_it_is(compare, store):
    voted_in_a_chat(store, compare.chat)
    drafts = drafts_of(compare)
    compare.vote(drafts.set_id, "a")
    thumbed = drafts_of(compare, "tell me about the hills")
    compare.chat.ratings.rate(store.messages.children(*store.messages.roots(thumbed.set_id))[0], 1)
    screen = DataScreen(compare.chat, cast(Any, None))
    thumb, here, there = compare.chat.ratings.all()  # the newest first
    assert screen._in_chats([thumb, here, there]) == {thumb.id, there.id}
    assert "its ratings" in screen._change("delete", thumb.id, "")["text"]
    assert "both answers" in screen._change("delete", here.id, "")["text"]
    assert "the chat" in screen._change("delete", there.id, "")["text"]
