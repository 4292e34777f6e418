"""Features of replies, computed once with the frozen base and cached in the database: the text
features (text_features.py) beside the pooled hidden states of the reference on the exact token ids.

Every score is relative to the reference's own replies to the same prompt, of which four are sampled
and kept: comparisons of replies say nothing about the level of a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from rlhf_chat.db import Store, content_key
from rlhf_chat.errors import NumericError
from rlhf_chat.feedback.replies import Prompt, Reply
from rlhf_chat.inference import forward_pass
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.generator import Generator
from rlhf_chat.inference.model import Model, ModelView
from rlhf_chat.reward import reward_model, text_features

REFERENCES = 4  # reference responses per prompt
PROMPT_BATCH = 16  # prompts that the reference answers at once
REPLY_BATCH = 32  # replies measured at once
MEASURE_COST = 0.1  # of sampling the same replies, in time
SYSTEM_TOKENS = 200  # a longer system prompt would cost more than the replies under it
TEMPERATURES = 0.3, 1.3  # of practice: below there is nothing to choose from, above no sense
# Nats at temperature 1; a confident base has rare wordings that are still good language.
RARE = -7.0

Floats = NDArray[np.float64]


@dataclass
class Reference:
    """Reference replies to one prompt with their features."""

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
    """Measures each reply once: text features and pooled hidden states of the frozen base."""

    def __init__(self, store: Store, model: Model, generator: Generator | None = None) -> None:
        self.store = store
        self.model = model
        self.generator: Generator = generator or model  # of the base's replies
        self.measured = 0  # rises whenever something new was measured
        self._references: dict[tuple[str, str], Reference] = {}  # by prompt and `_reference_key`
        self._readable: dict[Reply, bool] = {}  # whether its token ids are of this tokenizer
        self._suggested: set[str] = set()  # keys of the app's own prompts, which are not private
        self._key = f"{model.feature_key}-{text_features.KEY}"

    def follow_settings(self) -> None:
        """The base, practice and the gate sample as new conversations do. Not during a round: its
        ratios and KL are of one distribution."""
        stored = self.store.settings.sampling
        if stored:
            lowest, highest = TEMPERATURES
            wanted = Sampling(**stored).limited(self.model.sampling.max_new_tokens)
            within = min(max(wanted.temperature, lowest), highest)
            self.model.sampling = replace(wanted, temperature=within)

    @property
    def settings_key(self) -> str:
        """Names the settings that the base's replies depend on."""
        return f"{self.model.sampling.key} {self.system_prompt}"

    @property
    def system_prompt(self) -> str:
        """What new conversations begin with, where the app's own prompts are asked under it, too:
        "" for one of more than SYSTEM_TOKENS tokens."""
        system = self.store.settings.system_prompt
        return system if len(self.model.tokenizer.encode(system)) <= SYSTEM_TOKENS else ""

    def prompt(self, text: str) -> Prompt:
        """A prompt of one message that the app itself suggests, as a new conversation asks it."""
        system, asked = self.system_prompt, [{"role": "user", "content": text}]
        if system:
            asked.insert(0, {"role": "system", "content": system})
        suggested = Prompt(tuple(self.model.encode(asked)), text)
        self._suggested.add(suggested.key)
        return suggested

    def can_measure(self, reply: Reply) -> bool:
        """Whether the reply fits the context and its token ids decode to its text: replies of a
        model with another tokenizer have other ids for the same words."""
        if len(reply.prompt.ids) + len(reply.ids) > self.model.context_tokens:
            return False
        if reply not in self._readable:
            same = self._in_vocabulary(reply) and self.model.reads_as(reply.ids, reply.text)
            self._readable[reply] = same
        return self._readable[reply]

    def _in_vocabulary(self, reply: Reply) -> bool:
        size = self.model.config.vocab_size
        return all(0 <= i < size for i in reply.prompt.ids + reply.ids)

    def measure(self, replies: Sequence[Reply], check: Callable[[], None]) -> tuple[Floats, Floats]:
        """Text features (N, S) and pooled states (N, P) of N replies, from the cache where they
        are in it. `check` is called between batches and may raise."""
        keys = [content_key(r.prompt.ids, r.ids) for r in replies]
        known = self.store.features.get(self._key, keys)
        missing = {k: r for k, r in zip(keys, replies, strict=True) if k not in known}
        todo = list(missing.items())
        for start in range(0, len(todo), REPLY_BATCH):
            check()
            part = todo[start : start + REPLY_BATCH]
            _, pooled = self._reference_pass([r for _, r in part])
            rows = []
            for (key, reply), states in zip(part, pooled.numpy(), strict=True):
                vector = np.concatenate(
                    [text_features.measure(reply.prompt.text, reply.text), states]
                )
                known[key] = vector.astype(np.float32)
                rows.append((key, known[key]))
            self.store.features.put(self._key, rows)
            self.measured += 1
            self.model.release_freed()
        return split_vectors([known[k] for k in keys])

    def _reference_pass(self, replies: Sequence[Reply]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Log-probs and pooled states, which are kept. Raises NumericError where one is not a
        finite number: kept, it would spoil every later round."""
        logprobs, pooled, _ = forward_pass.reference_pass(
            self.model, [r.prompt.ids for r in replies], [r.ids for r in replies]
        )
        if not all(bool(torch.isfinite(x).all()) for x in (pooled, *logprobs)):
            raise NumericError("round.base_not_finite")
        return logprobs, pooled

    def unmeasured(self, replies: Sequence[Reply]) -> int:
        """How many of them are not in the cache."""
        keys = {content_key(r.prompt.ids, r.ids) for r in replies}
        return len(keys) - self.store.features.count(self._key, keys)

    def answered(self, prompts: Sequence[Prompt], max_new_tokens: int) -> bool:
        """Whether `references` would return at once, without computing anything."""
        return not self._unknown(prompts, max_new_tokens)

    def measure_now(self, replies: Sequence[Reply]) -> tuple[Floats, Floats]:
        """`measure` for drafts somebody is waiting for: in chat's turn, and without the cache."""
        pooled = forward_pass.reference_pass(
            self.model,
            [r.prompt.ids for r in replies],
            [r.ids for r in replies],
            turn=self.model.lease.turn,
        ).pooled
        styles = np.stack([text_features.measure(r.prompt.text, r.text) for r in replies])
        return styles.astype(np.float64), pooled.numpy().astype(np.float64)

    def references(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        check: Callable[[], None],
        advance: Callable[[float], None] = lambda share: None,
    ) -> list[Reference]:
        """The reference's replies to each prompt, sampled and measured once, then remembered.

        `check` is called between slices and may raise; `advance` gets the share done, 0..1, after
        each batch of prompts."""
        if unknown := self._unknown(prompts, max_new_tokens):
            self._sample_references(list(unknown.values()), max_new_tokens, check, advance)
            self.measured += 1
        advance(1.0)
        sampled_so = self._reference_key(max_new_tokens)
        return [self._references[p.key, sampled_so] for p in prompts]

    def forget(self, prompts: Sequence[Prompt]) -> None:
        """Drops the reference's replies to prompts that nobody asked in a conversation."""
        keys = {p.key for p in prompts}
        self.store.features.drop_reference_responses(keys)
        self._references = {k: v for k, v in self._references.items() if k[0] not in keys}

    def reference_work(self, prompts: Sequence[Prompt], max_new_tokens: int) -> tuple[int, int]:
        """How many prompts `references` would have to sample for, and how many to measure."""
        unknown = self._unknown(prompts, max_new_tokens)
        stored = self.store.features.reference_responses(
            self._reference_key(max_new_tokens), sorted(unknown)
        )
        return len(unknown.keys() - set(stored)), len(unknown)

    def _unknown(self, prompts: Sequence[Prompt], max_new_tokens: int) -> dict[str, Prompt]:
        """Prompts by key, each once, whose replies with the present sampling are not in memory."""
        sampled_so = self._reference_key(max_new_tokens)
        return {p.key: p for p in prompts if (p.key, sampled_so) not in self._references}

    def _reference_key(self, max_new_tokens: int) -> str:
        return f"{self.model.feature_key}-{max_new_tokens}-{self.model.sampling.key}"

    def _sample_references(
        self,
        prompts: list[Prompt],
        max_new_tokens: int,
        check: Callable[[], None],
        advance: Callable[[float], None],
    ) -> None:
        key = self._reference_key(max_new_tokens)
        stored = self.store.features.reference_responses(key, [p.key for p in prompts])
        to_sample = [p for p in prompts if p.key not in stored]
        base = self.model.base_view() if to_sample else self.model.reference
        work = len(to_sample) + MEASURE_COST * len(prompts)
        done = 0.0
        for tokens, batch in self._sampling_batches(to_sample, max_new_tokens):
            check()
            stored |= self._sample_batch(base, batch, tokens, key, check)
            done += len(batch)
            advance(done / work)
        for start in range(0, len(prompts), PROMPT_BATCH):
            check()
            batch = prompts[start : start + PROMPT_BATCH]
            self._measure_references(batch, stored, max_new_tokens)
            done += MEASURE_COST * len(batch)
            advance(done / work)
        self.model.release_freed()

    def _sampling_batches(
        self, prompts: list[Prompt], max_new_tokens: int
    ) -> Iterator[tuple[int, list[Prompt]]]:
        """(tokens a reply may have, batch of prompts): fewer than `max_new_tokens` where the prompt
        leaves less of the context."""

        def limit(prompt: Prompt) -> int:
            return self._reply_limit(prompt, max_new_tokens)

        for tokens, group in groupby(sorted(prompts, key=limit, reverse=True), limit):
            alike = list(group)
            for start in range(0, len(alike), PROMPT_BATCH):
                yield tokens, alike[start : start + PROMPT_BATCH]

    def _sample_batch(
        self,
        base: ModelView,
        prompts: list[Prompt],
        max_new_tokens: int,
        key: str,
        check: Callable[[], None],
    ) -> dict[str, list[list[int]]]:
        """Samples and stores replies; prompt key -> token ids of each reply."""
        responses = self.generator.sample(
            base,
            [p.ids for p in prompts for _ in range(REFERENCES)],
            self.model.sampling.limited(max_new_tokens),
            seed=int(prompts[0].key[:8], 16),
            check=check,
        )
        sampled = {}
        for i, prompt in enumerate(prompts):
            ids = [r.ids for r in responses[i * REFERENCES : (i + 1) * REFERENCES]]
            self.store.features.put_reference_responses(
                key,
                prompt.key,
                list(prompt.ids),
                ids,
                suggested=prompt.key in self._suggested,
            )
            sampled[prompt.key] = ids
        return sampled

    def _reply_limit(self, prompt: Prompt, max_new_tokens: int) -> int:
        return min(max_new_tokens, max(self.model.context_tokens - len(prompt.ids), 1))

    def _measure_references(
        self, prompts: list[Prompt], stored: dict[str, list[list[int]]], max_new_tokens: int
    ) -> None:
        replies = [
            Reply(p, tuple(ids), self.model.decode(ids)) for p in prompts for ids in stored[p.key]
        ]
        logprobs, pooled = self._reference_pass(replies)
        styles = np.stack([text_features.measure(r.prompt.text, r.text) for r in replies])
        for i, prompt in enumerate(prompts):
            part = slice(i * REFERENCES, (i + 1) * REFERENCES)
            self._references[prompt.key, self._reference_key(max_new_tokens)] = Reference(
                style=styles[part].astype(np.float64),
                pooled=pooled.numpy()[part].astype(np.float64),
                lengths=[len(r.ids) for r in replies[part]],
                logprobs=[row.numpy() for row in logprobs[part]],
                replies=replies[part],
                limit=self._reply_limit(prompt, max_new_tokens),
            )


def split_vectors(vectors: Sequence[np.ndarray]) -> tuple[Floats, Floats]:
    """Cached vectors -> text features (N, S), pooled states (N, P)."""
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
    """(N, D) float64: mean head features of the reference's replies to each prompt."""
    references = extractor.references(prompts, max_new_tokens, check)
    return np.stack([feature_map(r.style, r.pooled).mean(0) for r in references])


def feature_map_from(
    references: Sequence[Reference], *, short_replies: bool
) -> reward_model.FeatureMap:
    """Standardisation fitted on the base's own replies; no rating is involved. `short_replies`: see
    `text_features.least_std`."""
    groups = np.concatenate([np.full(len(r.lengths), i) for i, r in enumerate(references)])
    return reward_model.fit_feature_map(
        np.concatenate([r.style for r in references]),
        np.concatenate([r.pooled for r in references]),
        groups.astype(np.int64),
        text_features.least_std(short_replies=short_replies),
    )


def logprob_floor(
    references: Sequence[Reference], temperature: float, quantile: float = 0.001
) -> float:
    """The log-prob (nats, at the `temperature` of all log-probs) that at most 1 in 1000 tokens of
    the base's own replies is below, and none that is not rare at temperature 1: a lower one sets
    log-probs further apart, so that good words fall below any fixed number (docs/LOG.md)."""
    tokens = np.concatenate([row for r in references for row in r.logprobs])
    return min(float(np.quantile(tokens, quantile)), RARE / temperature)
