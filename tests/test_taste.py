"""The taste as it is right now: it follows what was said, chooses drafts, and knows its limits."""

from __future__ import annotations

import random

import numpy as np
import pytest

from rlhf_chat import pairs, style
from rlhf_chat.chat import Chat
from rlhf_chat.decode import Sampling
from rlhf_chat.evidence import Gauge
from rlhf_chat.model import Model
from rlhf_chat.reward import RewardConfig
from rlhf_chat.store import Store
from rlhf_chat.taste import CurrentTaste, TasteConfig

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


def pair_of(chat: Chat, prompt: str = "tell me about the sea"):
    *_, pair = chat.compare(prompt)
    return pair


def test_before_the_warm_up_there_is_none_and_before_any_answer_it_only_doubts(current) -> None:
    assert current.get() is None and not current.ready
    current.warm_up()
    taste = current.get()
    assert taste is not None and not taste.head.weights.any()
    x = np.random.default_rng(0).normal(size=(5, len(taste.head.weights)))
    assert (taste.score(x) < 0).all()  # doubt is subtracted


def test_it_is_refitted_when_something_was_said_and_only_then(chat, store, current) -> None:
    before = current.get()
    assert current.get() is before
    pair = pair_of(chat)
    chat.prefer(pair.pair_id, "a")
    after = current.get()
    assert after is not before and after.head.weights.any()
    chat.withdraw(pair.pair_id)
    again = current.get()
    assert np.array_equal(again.head.weights, before.head.weights)


def test_length_and_flaws_are_not_what_better_means(current) -> None:
    current.warm_up()
    taste = current.get()
    x = np.zeros((2, len(taste.head.weights)))
    x[:, style.LENGTH] = [1.0, 1e6]
    limit = np.log(taste.config.length_cap) / taste.feature_map.style_std[style.LENGTH]
    assert taste.capped(x)[1, style.LENGTH] == pytest.approx(limit)
    costs = taste.charge(["Fine. Good.", "I am here now. You are kind. I am here now."])
    assert costs[0] == 0 < costs[1]


def test_the_most_telling_pair_differs_where_the_taste_is_unknown() -> None:
    x = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    unsure_of_the_second = np.diag([0.01, 4.0])
    assert set(pairs.most_telling(x, np.zeros(2), unsure_of_the_second)) & {2}
    # an answer that is known beforehand teaches nothing
    known = np.array([0.0, 9.0])
    flat = np.diag([1.0, 1.0])
    assert set(pairs.most_telling(x, known, flat)) == {0, 1}


def test_active_pairs_are_two_drafts_of_the_live_version_like_any_other(chat, store) -> None:
    for _ in range(6):
        pair = pair_of(chat)
        assert pair.votable and pair.left != pair.right
        [asked] = store.roots(pair.pair_id)
        assert len(store.children(asked)) == 2
        chat.prefer(pair.pair_id, "a")
    assert len(store.preferences()) == 6


def test_the_best_of_several_drafts_is_shown_and_stored(chat, store, current, toy) -> None:
    for i in range(8):
        pair = pair_of(chat, f"tell me about {i}")
        if pair.votable:
            chat.prefer(pair.pair_id, "a" if len(pair.left) > len(pair.right) else "b")
    chat.best_of = 6
    parts = list(chat.reply(chat.new_conversation(), "hello how are you"))
    shown = parts[-1]
    assert shown.done and not any(p.text for p in parts[:-2])
    stored = store.message(shown.message_id)
    assert stored.content == shown.text and stored.response_ids
    seed = stored.sampling["seed"]
    prompt = stored.prompt_ids
    drafts = toy.sample(toy.live, [prompt] * 6, Sampling(max_new_tokens=8), seed=seed)
    assert stored.response_ids in [d.ids for d in drafts]
