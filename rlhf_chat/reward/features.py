"""Replies, measured with the frozen base, each once: text_features.py on its text, pooled hidden
states of the reference on its exact token ids, cached in the database.

Replies of the reference to the same prompt, four a prompt and kept for ever, are the zero point
that every score is relative to: ratings of pairs cannot know a prompt's level, so nothing else may.
Left out: what anybody said of a reply (snapshot.py, dataset.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from rlhf_chat.db import Store, content_key
from rlhf_chat.feedback.replies import Prompt, Reply
from rlhf_chat.inference.generator import Generator
from rlhf_chat.inference.model import Model
from rlhf_chat.reward import reward_model, text_features

REFERENCES = 4  # reference responses per prompt
TOGETHER = 16  # prompts that the reference answers at once
RARE = -7.0  # nats; a confident base has rare wordings that are still good language

Floats = NDArray[np.float64]


@dataclass
class Reference:
    """Reference replies to one prompt, measured."""

    style: Floats  # (REFERENCES, S)
    pooled: Floats  # (REFERENCES, P)
    lengths: list[int]
    logprobs: list[NDArray[np.float32]]  # per reply, per token
    replies: list[Reply]
    limit: int  # of tokens in a reply

    def ended(self, end_ids: Collection[int]) -> list[bool]:
        """Which of the replies came to an end within the limit. One that is shorter did, whatever
        its last token: a model without an end token stops before the next turn."""
        return [len(r.ids) < self.limit or r.ids[-1] in end_ids for r in self.replies]


class FeatureExtractor:
    """Measures replies, each once: style beside pooled hidden states of the frozen base."""

    def __init__(self, store: Store, model: Model, generator: Generator | None = None) -> None:
        self.store = store
        self.model = model
        self.generator: Generator = generator or model  # of the base's replies
        self.measured = 0  # rises whenever something new was measured
        self._references: dict[str, Reference] = {}
        self._own: dict[Reply, bool] = {}  # whether it is in this model's language
        self._suggested: set[str] = set()  # keys of prompts that hold nobody's words
        self._key = (
            f"{model.feature_key}-{text_features.KEY}"  # of what is measured, and by which model
        )

    def prompt(self, text: str) -> Prompt:
        """A bare prompt of one message that is the app's own suggestion and nobody's words."""
        ids = self.model.encode([{"role": "user", "content": text}])
        suggested = Prompt(tuple(ids), text)
        self._suggested.add(suggested.key)
        return suggested

    def can_measure(self, reply: Reply) -> bool:
        """Whether this model holds the reply and reads in its token ids what the person read. A
        model with another tokenizer wrote other numbers for the same words."""
        if len(reply.prompt.ids) + len(reply.ids) > self.model.context_tokens:
            return False
        if reply not in self._own:
            own = self._in_vocabulary(reply) and self.model.reads_as(reply.ids, reply.text)
            self._own[reply] = own
        return self._own[reply]

    def _in_vocabulary(self, reply: Reply) -> bool:
        size = self.model.config.vocab_size
        return all(0 <= i < size for i in reply.prompt.ids + reply.ids)

    def measure(self, replies: Sequence[Reply], check: Callable[[], None]) -> tuple[Floats, Floats]:
        """Replies -> style (N, S), pooled (N, P), from the cache where it can."""
        keys = [content_key(r.prompt.ids, r.ids) for r in replies]
        known = self.store.features.get(self._key, keys)
        missing = {k: r for k, r in zip(keys, replies, strict=True) if k not in known}
        todo = list(missing.items())
        for start in range(0, len(todo), 32):
            check()
            part = todo[start : start + 32]
            _, pooled = self.model.reference_pass(
                [r.prompt.ids for _, r in part], [r.ids for _, r in part]
            )
            rows = []
            for (key, reply), states in zip(part, pooled.numpy(), strict=True):
                vector = np.concatenate(
                    [text_features.measure(reply.prompt.text, reply.text), states]
                )
                known[key] = vector.astype(np.float32)
                rows.append((key, known[key]))
            self.store.features.put(self._key, rows)
            self.measured += 1
        return split_vectors([known[k] for k in keys])

    def unmeasured(self, replies: Sequence[Reply]) -> int:
        """How many of them have not been measured yet."""
        keys = {content_key(r.prompt.ids, r.ids) for r in replies}
        return len(keys) - self.store.features.count(self._key, keys)

    def answered(self, prompts: Sequence[Prompt]) -> bool:
        """Whether it is known in this session what the reference says to all of them."""
        return all(p.key in self._references for p in prompts)

    def measure_now(self, replies: Sequence[Reply]) -> tuple[Floats, Floats]:
        """The same for drafts somebody is waiting for: chat's turn, and nothing is kept."""
        _, pooled = self.model.reference_pass(
            [r.prompt.ids for r in replies], [r.ids for r in replies], turn=self.model.lease.turn
        )
        styles = np.stack([text_features.measure(r.prompt.text, r.text) for r in replies])
        return styles.astype(np.float64), pooled.numpy().astype(np.float64)

    def references(
        self, prompts: Sequence[Prompt], max_new_tokens: int, check: Callable[[], None]
    ) -> list[Reference]:
        """The reference's replies to each prompt, sampled and measured once, then remembered."""
        unknown = {p.key: p for p in prompts if p.key not in self._references}
        if unknown:
            self._sample_references(list(unknown.values()), max_new_tokens, check)
            self.measured += 1
        return [self._references[p.key] for p in prompts]

    def _sample_references(
        self, prompts: list[Prompt], max_new_tokens: int, check: Callable[[], None]
    ) -> None:
        key = f"{self.model.feature_key}-{max_new_tokens}-{self.model.sampling.key}"
        stored = self.store.features.reference_responses(key, [p.key for p in prompts])
        fresh = [p for p in prompts if p.key not in stored]
        base = self.model.base_view() if fresh else self.model.reference
        for room, part in self._with_room(fresh, max_new_tokens):
            check()
            seed = int(part[0].key[:8], 16)
            responses = self.generator.sample(
                base,
                [p.ids for p in part for _ in range(REFERENCES)],
                self.model.sampling.limited(room),
                seed=seed,
                check=check,
            )
            for i, prompt in enumerate(part):
                ids = [r.ids for r in responses[i * REFERENCES : (i + 1) * REFERENCES]]
                self.store.features.put_reference_responses(
                    key,
                    prompt.key,
                    list(prompt.ids),
                    ids,
                    suggested=prompt.key in self._suggested,
                )
                stored[prompt.key] = ids
        for start in range(0, len(prompts), TOGETHER):
            check()
            self._measure_references(prompts[start : start + TOGETHER], stored, max_new_tokens)

    def _with_room(
        self, prompts: list[Prompt], max_new_tokens: int
    ) -> Iterator[tuple[int, list[Prompt]]]:
        """Some of them at a time, and how many tokens a reply may have: less than `max_new_tokens`
        where the prompt leaves less of the context."""

        def room(prompt: Prompt) -> int:
            return self._room(prompt, max_new_tokens)

        for tokens, group in groupby(sorted(prompts, key=room, reverse=True), room):
            alike = list(group)
            for start in range(0, len(alike), TOGETHER):
                yield tokens, alike[start : start + TOGETHER]

    def _room(self, prompt: Prompt, max_new_tokens: int) -> int:
        return min(max_new_tokens, max(self.model.context_tokens - len(prompt.ids), 1))

    def _measure_references(
        self, prompts: list[Prompt], stored: dict[str, list[list[int]]], max_new_tokens: int
    ) -> None:
        replies = [
            Reply(p, tuple(ids), self.model.decode(ids)) for p in prompts for ids in stored[p.key]
        ]
        logprobs, pooled = self.model.reference_pass(
            [r.prompt.ids for r in replies], [r.ids for r in replies]
        )
        styles = np.stack([text_features.measure(r.prompt.text, r.text) for r in replies])
        for i, prompt in enumerate(prompts):
            part = slice(i * REFERENCES, (i + 1) * REFERENCES)
            self._references[prompt.key] = Reference(
                style=styles[part].astype(np.float64),
                pooled=pooled.numpy()[part].astype(np.float64),
                lengths=[len(r.ids) for r in replies[part]],
                logprobs=[row.numpy() for row in logprobs[part]],
                replies=replies[part],
                limit=self._room(prompt, max_new_tokens),
            )


def split_vectors(vectors: Sequence[np.ndarray]) -> tuple[Floats, Floats]:
    """Cached vectors -> style (N, S), pooled (N, P)."""
    if not vectors:
        return np.zeros((0, len(text_features.NAMES))), np.zeros((0, 1))
    stacked = np.stack(vectors).astype(np.float64)
    return stacked[:, : len(text_features.NAMES)], stacked[:, len(text_features.NAMES) :]


def baseline_features(
    prompts: Sequence[Prompt],
    extractor: FeatureExtractor,
    feature_map: reward_model.FeatureMap,
    max_new_tokens: int,
    check: Callable[[], None],
) -> Floats:
    """(N, D): mean head features of the reference's replies to each prompt."""
    references = extractor.references(prompts, max_new_tokens, check)
    return np.stack([feature_map(r.style, r.pooled).mean(0) for r in references])


def feature_map_from(references: Sequence[Reference]) -> reward_model.FeatureMap:
    """Statistics of what the base says by itself; no rating is involved."""
    groups = np.concatenate([np.full(len(r.lengths), i) for i, r in enumerate(references)])
    return reward_model.fit_feature_map(
        np.concatenate([r.style for r in references]),
        np.concatenate([r.pooled for r in references]),
        groups.astype(np.int64),
        text_features.LEAST_STD,
    )


def logprob_floor(references: Sequence[Reference], quantile: float = 0.001) -> float:
    """The log-prob below which the base itself almost never says a token: at most 1 in 1000."""
    tokens = np.concatenate([row for r in references for row in r.logprobs])
    return min(float(np.quantile(tokens, quantile)), RARE)
