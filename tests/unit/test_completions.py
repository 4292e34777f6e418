"""Conversations that come whole with each request: stored as if they had been typed, found again,
and rated with the same effect on the reward model."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.completions import Completion, CompletionRequest, Completions
from rlhf_chat.chat.rating_entry import RatingEntry, give
from rlhf_chat.chat.settings import ConversationSettings
from rlhf_chat.chat.stop_texts import ended_by, visible
from rlhf_chat.db import Store
from rlhf_chat.inference.generate import Response, Sampling
from rlhf_chat.inference.model import Model
from rlhf_chat.reward.features import FeatureExtractor
from rlhf_chat.reward.reward_model import RewardConfig
from rlhf_chat.reward.scorer import RewardModelCache, ScoringConfig

GREEDY = Sampling(temperature=0, max_new_tokens=8)
PROMPTS = ("hello how are you", "tell me about the sea", "thank you", "it is deep", "I am well")


def ask(chat: Chat, *turns: str, **more: Any) -> Completion:
    roles = ("user", "assistant")
    talk = tuple({"role": roles[i % 2], "content": text} for i, text in enumerate(turns))
    request = CompletionRequest(talk, more.pop("sampling", GREEDY), **more)
    *_, last = Completions(chat).stream(request, threading.Event())
    return last


def on_screen(chat: Chat, *texts: str, system: str = "") -> list[str]:
    """The ids of the replies."""
    conversation = chat.conversations.new()
    chat.settings.set(conversation, ConversationSettings(system, GREEDY))
    replies = []
    for text in texts:
        *_, last = chat.reply(conversation, text)
        assert last.message_id
        replies.append(last.message_id)
    return replies


def through_api(chat: Chat, *texts: str, system: str = "") -> list[str]:
    replies: list[str] = []
    turns: list[str] = []
    for text in texts:
        made = ask(chat, *turns, text, system=system).drafts[0]
        turns += [text, made.text]
        replies.append(made.reply_id)
    return replies


def rows(store: Store, reply: str) -> list[dict[str, Any]]:
    """The whole branch, without what is drawn anew each time."""
    drawn = ("id", "conversation_id", "parent_id", "event_id", "created_at")
    found = []
    for message in store.messages.path_to(reply):
        row = {name: value for name, value in asdict(message).items() if name not in drawn}
        if row["sampling"]:
            row["sampling"] = row["sampling"] | {"seed": 0}
        found.append(row)
    return found


@pytest.fixture
def stores(tmp_path: Path) -> Any:
    opened = [Store(tmp_path / name / "feedback.db") for name in ("screen", "api")]
    yield opened
    for store in opened:
        store.close()


@pytest.mark.parametrize("system", ["", "you are well today"])
def test_a_conversation_is_stored_as_it_is_from_the_screen(stores, toy, system):
    one, other = (Chat(store, toy, GREEDY) for store in stores)
    typed = on_screen(one, "hello", "and you", "thank you", system=system)
    asked = through_api(other, "hello", "and you", "thank you", system=system)
    for a, b in zip(typed, asked, strict=True):
        assert rows(stores[0], a) == rows(stores[1], b)
    assert stores[0].counts() == stores[1].counts()
    told = [store.conversations.all()[0] for store in stores]
    assert told[0].title == told[1].title
    assert told[0].system_prompt == told[1].system_prompt == system
    assert told[0].sampling == told[1].sampling and other.conversations.history(told[1].id)


def weights(store: Store, model: Model) -> np.ndarray:
    cache = RewardModelCache(
        FeatureExtractor(store, model),
        ScoringConfig(rollout_prompts=2, further_prompts=0, probe_prompts=2),
        RewardConfig(permutations=9, prior_steps=2, folds=2),
        8,
    )
    cache.warm_up()
    cache.refresh()
    fitted = cache.get()
    assert fitted
    return np.asarray(fitted.head.weights)


def test_a_rating_moves_the_reward_model_as_one_from_the_screen_does_to_the_bit(stores, toy):
    one, other = (Chat(store, toy, GREEDY) for store in stores)
    for i, prompt in enumerate(PROMPTS):
        [typed], [asked] = on_screen(one, prompt), through_api(other, prompt)
        one.ratings.rate(typed, 1 if i % 2 else -1, comment="why")
        thumb = "up" if i % 2 else "down"
        give(stores[1], other.ratings, RatingEntry(f"chatcmpl-{asked}", thumb=thumb, note="why"))
    found, expected = weights(stores[1], toy), weights(stores[0], toy)
    assert found.any() and found.tobytes() == expected.tobytes()


def test_what_is_refused_or_not_kept_leaves_nothing(toy, store):
    chat = Chat(store, toy, GREEDY)
    before = store.counts()
    made = ask(chat, "hello", keep=False)
    assert made.drafts[0].text and not made.drafts[0].kept
    for count in (1, 2):
        assert len(ask(chat, "hello", keep=False, count=count).drafts) == count
    with pytest.raises(Exception, match="too long"):
        ask(chat, "how are you " * 600)
    assert store.counts() == before


def test_equal_requests_at_once_share_their_message(toy, store):
    chat = Chat(store, toy, GREEDY)
    completions, made = Completions(chat), list[Completion]()

    def one() -> None:
        request = CompletionRequest(({"role": "user", "content": "hello"},), GREEDY)
        *_, last = completions.stream(request, threading.Event())
        made.append(last)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    parents = {store.messages.get(c.drafts[0].reply_id).parent_id for c in made}
    assert len(made) == 8 and len(parents) == 1
    assert len(store.conversations.all()) == 1


def test_of_equal_replies_the_newest_is_gone_on_from(toy, store):
    chat = Chat(store, toy, GREEDY)
    one, other = (ask(chat, "hello").drafts[0] for _ in range(2))
    assert one.text == other.text
    after = ask(chat, "hello", one.text, "and you").drafts[0]
    assert store.messages.path_to(after.reply_id)[1].id == other.reply_id


def test_a_deleted_chat_is_begun_anew(toy, store):
    chat = Chat(store, toy, GREEDY)
    first = store.messages.get(ask(chat, "hello").drafts[0].reply_id)
    chat.conversations.delete(first.conversation_id)
    again = store.messages.get(ask(chat, "hello").drafts[0].reply_id)
    assert again.conversation_id != first.conversation_id


@pytest.mark.parametrize("stops", [(), ("cd",), ("x", "ef"), ("abcdefgh",)])
def test_visible_text_only_ever_grows_and_never_shows_a_stop_text(stops):
    text = "abcdefghij"
    seen = [visible(text[:n], stops, done=n == len(text)) for n in range(len(text) + 1)]
    for before, after in pairwise(seen):
        assert after.startswith(before)
    cuts = [text.find(stop) for stop in stops if stop in text]
    assert seen[-1] == text[: min(cuts, default=None)]


def test_a_stream_ends_once_every_reply_has(toy):
    closed = threading.Event()

    def stream() -> Any:
        one, other = Response([], False), Response([], False)
        try:
            for i in range(6):
                one.ids.append(i)
                other.ids.append(i if i < 3 else 9)
                yield [one, other]
        finally:
            closed.set()

    def decode(ids: Sequence[int]) -> str:
        return "".join("abcdefghij"[i] for i in ids)

    *_, last = ended_by(stream(), ("c", "j"), decode)
    assert [r.ids for r in last] == [[0, 1], [0, 1]] and closed.is_set()
    assert all(r.finished for r in last)
    *_, last = ended_by(stream(), ("a",), decode)
    assert [r.ids for r in last] == [[0], [0]]  # one token at least, to learn from
