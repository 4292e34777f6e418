"""The taste as it is right now: it follows what was said, chooses drafts, and knows its limits."""

from __future__ import annotations

import random

import numpy as np
import pytest

from rlhf_chat.engine.decode import Sampling
from rlhf_chat.engine.model import Model
from rlhf_chat.preference import pairs, reward, style
from rlhf_chat.preference.gauge import Gauge
from rlhf_chat.preference.reward import RewardConfig
from rlhf_chat.preference.taste import CurrentTaste, TasteConfig
from rlhf_chat.refusal import ChatError
from rlhf_chat.store import Store
from rlhf_chat.talk.chat import Chat
from rlhf_chat.talk.compare import Compare
from rlhf_chat.talk.raters import Raters

QUICK = RewardConfig(prior_steps=3)


@pytest.fixture
def current(store: Store, toy: Model) -> CurrentTaste:
    config = TasteConfig(practice_prompts=4, probe_prompts=3)
    return CurrentTaste(Gauge(store, toy), config, QUICK, max_new_tokens=8)


@pytest.fixture
def chat(store: Store, toy: Model, current: CurrentTaste) -> Chat:
    current.warm_up()
    chat = Chat(store, toy, Sampling(max_new_tokens=8), taste=current)
    chat._rng = random.Random(0)
    return chat


@pytest.fixture
def compare(chat: Chat) -> Compare:
    compare = Compare(chat)
    compare._rng = chat._rng
    return compare


def pair_of(compare: Compare, prompt: str = "tell me about the sea"):
    *_, pair = compare.write(prompt)
    return pair


def longer(pair) -> str:
    return "a" if len(pair.texts[0]) > len(pair.texts[1]) else "b"


def test_before_the_warm_up_there_is_none_and_before_any_answer_it_only_doubts(current) -> None:
    assert current.get() is None and not current.ready
    current.warm_up()
    taste = current.get()
    assert taste is not None and not taste.head.weights.any()
    x = np.random.default_rng(0).normal(size=(5, len(taste.head.weights)))
    assert (taste.score(x) < 0).all()  # doubt is subtracted


def test_it_is_refitted_when_something_was_said_and_only_then(compare, current) -> None:
    before = current.get()
    assert current.get() is before
    pair = pair_of(compare)
    compare.prefer(pair.set_id, "a")
    after = current.get()
    assert after is not before and after.head.weights.any()
    compare.withdraw(pair.set_id)
    again = current.get()
    assert np.array_equal(again.head.weights, before.head.weights)


def test_nobody_waits_for_what_has_to_be_sampled_first(chat, current, toy, monkeypatch) -> None:
    """A thumb is measured against four replies of the base, which are not there yet."""
    before = current.get()
    *_, reply = chat.reply(chat.new_conversation(), "tell me about the sea")
    chat.ratings.rate(reply.message_id, 1)
    with monkeypatch.context() as sampling:
        sampling.setattr(Model, "sample", lambda *_, **__: pytest.fail("somebody had to wait"))
        assert current.get() is before and current.behind
    current.refresh()
    after = current.get()
    assert not current.behind and after is not before and after.head.weights.any()


def test_in_a_new_session_answers_are_known_as_soon_as_they_are_read_again(
    chat, current, store, toy
) -> None:
    *_, reply = chat.reply(chat.new_conversation(), "tell me about the sea")
    chat.ratings.rate(reply.message_id, -1)
    current.refresh()
    new = CurrentTaste(Gauge(store, toy), current.config, QUICK, max_new_tokens=8)
    new.warm_up()
    assert not new.get().head.weights.any() and new.behind  # the prior, for now
    new.refresh()
    assert np.allclose(new.get().head.weights, current.get().head.weights)


def test_who_clearly_wants_the_opposite_of_the_others_is_named_until_set_aside(
    compare, current, store
) -> None:
    raters = Raters(store, current)
    for i in range(54):
        pair, name = pair_of(compare, f"tell me about {i}"), ("me", "ada", "turned")[i % 3]
        if pair.votable:
            vote = longer(pair)
            turned = "b" if vote == "a" else "a"
            compare.prefer(pair.set_id, turned if name == "turned" else vote, rater=name)
    assert [r.name for r in raters.table() if r.suspect] == ["turned"]
    raters.set_aside("turned")
    assert not any(r.suspect for r in raters.table())


def test_length_and_flaws_are_not_what_better_means(current) -> None:
    current.warm_up()
    taste = current.get()
    x = np.zeros((2, len(taste.head.weights)))
    x[:, style.LENGTH] = [1.0, 1e6]
    limit = np.log(taste.config.length_cap) / taste.feature_map.style_std[style.LENGTH]
    assert taste.capped(x)[1, style.LENGTH] == pytest.approx(limit)
    costs = taste.charge(["Fine. Good.", "I am here now. You are kind. I am here now."])
    assert costs[0] == 0 < costs[1]


def test_the_least_sure_pair_differs_where_the_taste_is_unknown() -> None:
    x = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    unsure_of_the_second = np.diag([0.01, 4.0])
    assert set(pairs.least_sure(x, unsure_of_the_second)) & {2}
    assert set(pairs.least_sure(x, np.eye(2))) == {1, 2}


def test_active_pairs_are_two_drafts_of_the_live_version_like_any_other(compare, store) -> None:
    for _ in range(6):
        pair = pair_of(compare)
        assert pair.votable and pair.texts[0] != pair.texts[1]
        [asked] = store.roots(pair.set_id)
        assert len(store.children(asked)) == 2
        compare.prefer(pair.set_id, "a")
    assert len(store.preferences()) == 6


def test_the_best_of_several_drafts_is_shown_and_stored(chat, compare, store, toy) -> None:
    for i in range(8):
        pair = pair_of(compare, f"tell me about {i}")
        if pair.votable:
            compare.prefer(pair.set_id, longer(pair))
    chat.manners.set_best_of(4)
    parts = list(chat.reply(chat.new_conversation(), "hello how are you"))
    shown = parts[-1]
    assert shown.done and not any(p.text for p in parts[:-2])
    stored = store.message(shown.message_id)
    assert stored.content == shown.text and stored.response_ids
    seed = stored.sampling["seed"]
    prompt = stored.prompt_ids
    drafts = toy.sample(toy.live, [prompt] * 4, Sampling(max_new_tokens=8), seed=seed)
    assert stored.response_ids in [d.ids for d in drafts]


def test_as_many_drafts_are_written_as_fit_into_memory(chat, compare, toy, monkeypatch) -> None:
    """Where keys and values of eight do not fit, fewer are chosen from; one is no choice."""
    rows, real = [], toy.stream

    def stream(view, prompts, sampling, *, seed):
        rows.append((len(prompts), sum(len(p) + sampling.max_new_tokens for p in prompts)))
        return real(view, prompts, sampling, seed=seed)

    monkeypatch.setattr(toy, "stream", stream)
    monkeypatch.setattr(pairs, "RANDOM_SHARE", 0.0)
    chat.manners.set_best_of(8)
    long = "tell me about the sea " * 6

    def written(tokens: int) -> tuple[int, int, list[str]]:
        monkeypatch.setattr(toy, "tokens_at_once", tokens)
        rows.clear()
        parts = list(chat.reply(chat.new_conversation(), long))
        assert parts[-1].message_id
        (reply, taken), rows[:] = rows[0], []
        assert reply == 1 or taken <= tokens
        drafted = list(compare.write(long))
        assert drafted[-1].done
        return reply, rows[0][0], [d.note for d in drafted if d.note]

    assert written(4096)[:2] == (8, 8)
    fewer, drafts, notes = written(450)
    assert 2 < fewer == drafts < 8 and notes[0] == f"Writing {drafts} drafts to choose 2 from"
    assert written(60)[:2] == (1, 2)  # an ordinary reply, and the drafts that are shown


def test_drafts_that_fit_are_all_there_are_to_an_ordinary_prompt(toy, monkeypatch) -> None:
    """By the numbers of the bundled model; and a preflight says how much memory there is."""
    assert toy.drafts_that_fit(8, [0] * 400, 96) == 8
    for kept in ("rows_per_batch", "tokens_at_once", "context_tokens"):
        monkeypatch.setattr(toy, kept, getattr(toy, kept))
    toy.keep_within(8, 2048, 2048)
    assert toy.drafts_that_fit(8, [0] * 400, 96) == 4
    assert toy.drafts_that_fit(8, [0] * 4000, 96) == 1


def test_the_words_of_a_reply_add_up_to_its_score(chat, compare, store, current, toy) -> None:
    for i in range(6):
        pair = pair_of(compare, f"tell me about {i}")
        compare.prefer(pair.set_id, longer(pair))
    *_, reply = chat.reply(chat.new_conversation(), "hello how are you")
    pieces = chat.explain(reply.message_id)
    assert "".join(p.text for p in pieces) == reply.text
    stored = store.message(reply.message_id)
    taste = current.get()
    pooled = toy.prefix_states(stored.prompt_ids, stored.response_ids)
    _, whole = toy.reference_pass([stored.prompt_ids], [stored.response_ids])
    assert np.allclose(pooled[-1], whole[0], atol=1e-4)
    first = toy.decode(stored.response_ids[:1])
    styles = [style.measure("hello how are you", t) for t in (first, stored.content)]
    x = taste.feature_map(np.stack(styles).astype(float), pooled[[0, -1]].numpy().astype(float))
    expected = reward.bounded(x[1] - x[0]) @ taste.head.weights
    assert sum(p.gain for p in pieces) == pytest.approx(expected, abs=1e-4)
    assert all(p.sigma >= 0 for p in pieces)


def test_what_was_typed_cannot_be_explained(chat, store) -> None:
    *_, reply = chat.reply(chat.new_conversation(), "hello")
    asked = store.message(reply.message_id).parent_id
    with pytest.raises(ChatError, match="Only a reply"):
        chat.explain(asked)
    chat.taste = None
    with pytest.raises(ChatError, match="still reading"):
        chat.explain(reply.message_id)
