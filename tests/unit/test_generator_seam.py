"""Replies may come from another generator: chat and references ask whoever they were given."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from rlhf_chat.chat.chat import Chat
from rlhf_chat.db import Store
from rlhf_chat.inference.generate import Response, Sampling
from rlhf_chat.inference.model import Model, ModelView
from rlhf_chat.reward.features import FeatureExtractor


class Scripted:
    """Says the same each time, and remembers which version it was asked for."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids, self.versions = list(ids), list[int]()

    def stream(
        self, view: ModelView, prompts: Sequence[Sequence[int]], sampling: Sampling, *, seed: int
    ) -> Generator[list[Response]]:
        self.versions.append(view.version)
        for end in range(1, len(self.ids) + 1):
            yield [Response(self.ids[:end], end == len(self.ids)) for _ in prompts]

    def sample(
        self,
        view: ModelView,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seed: int,
        check: Callable[[], None] = lambda: None,
    ) -> list[Response]:
        return list(self.stream(view, prompts, sampling, seed=seed))[-1]


def test_chat_streams_what_another_generator_writes(store: Store, toy: Model) -> None:
    ids = toy.encode_reply("hello there")
    generator = Scripted(ids)
    chat = Chat(store, toy, generator=generator)
    *_, last = chat.reply(chat.conversations.new(), "hello")
    assert last.done and last.text == "hello there" and generator.versions == [0]
    assert list(store.messages.get(last.message_id).response_ids or []) == ids  # type: ignore[arg-type]


def test_references_come_from_it_and_are_measured_by_the_model(store: Store, toy: Model) -> None:
    ids = toy.encode_reply("hello there")
    extractor = FeatureExtractor(store, toy, Scripted(ids))
    [reference] = extractor.references([extractor.prompt("hello")], 16, lambda: None)
    assert [list(r.ids) for r in reference.replies] == [ids] * len(reference.replies)
    assert all(len(row) == len(ids) and (row < 0).all() for row in reference.logprobs)
