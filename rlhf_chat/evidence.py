"""From rows to numbers: what the person said, measured with the frozen base, ready for the fit.

Each reply is measured once (style.py on its text, pooled hidden states of the reference on its
exact token ids) and cached in the database. Replies of the reference to the same prompt, four a
prompt and kept for ever, are the zero point that every score is relative to: ratings of pairs
cannot know a prompt's level, so nothing else may. Left out: the fit itself, any training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlhf_chat import reward, style
from rlhf_chat.decode import Sampling
from rlhf_chat.model import Model
from rlhf_chat.store import Preference, Rating, Store, content_key

REFERENCES = 4  # reference responses per prompt
RARE = -7.0  # nats; a confident base has rare wordings that are still good language

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model saw it, and the words the person typed last."""

    ids: tuple[int, ...]
    text: str

    @property
    def key(self) -> str:
        return content_key(self.ids)


@dataclass(frozen=True)
class Reply:
    prompt: Prompt
    ids: tuple[int, ...]
    text: str


@dataclass
class Reference:
    """Reference replies to one prompt, measured."""

    style: Floats  # (REFERENCES, S)
    pooled: Floats  # (REFERENCES, P)
    lengths: list[int]
    logprobs: list[NDArray[np.float32]]  # per reply, per token
    replies: list[Reply]


class Gauge:
    """Measures replies, each once: style beside pooled hidden states of the frozen base."""

    def __init__(self, store: Store, model: Model) -> None:
        self.store = store
        self.model = model
        self._references: dict[str, Reference] = {}

    def prompt(self, text: str) -> Prompt:
        """A bare prompt of one user message."""
        ids = self.model.encode([{"role": "user", "content": text}])
        return Prompt(tuple(ids), text)

    def measure(self, replies: Sequence[Reply], check: Callable[[], None]) -> tuple[Floats, Floats]:
        """Replies -> style (N, S), pooled (N, P), from the cache where it can."""
        keys = [content_key(r.prompt.ids, r.ids) for r in replies]
        known = self.store.features(self.model.feature_key, keys)
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
                vector = np.concatenate([style.measure(reply.prompt.text, reply.text), states])
                known[key] = vector.astype(np.float32)
                rows.append((key, known[key]))
            self.store.put_features(self.model.feature_key, rows)
        return split_vectors([known[k] for k in keys])

    def references(
        self, prompts: Sequence[Prompt], max_new_tokens: int, check: Callable[[], None]
    ) -> list[Reference]:
        """The reference's replies to each prompt, sampled and measured once, then remembered."""
        unknown = {p.key: p for p in prompts if p.key not in self._references}
        if unknown:
            self._sample_references(list(unknown.values()), max_new_tokens, check)
        return [self._references[p.key] for p in prompts]

    def _sample_references(
        self, prompts: list[Prompt], max_new_tokens: int, check: Callable[[], None]
    ) -> None:
        key = self.model.feature_key
        stored = self.store.reference_responses(key, [p.key for p in prompts])
        fresh = [p for p in prompts if p.key not in stored]
        for start in range(0, len(fresh), 16):
            check()
            part = fresh[start : start + 16]
            seed = int(part[0].key[:8], 16)
            responses = self.model.sample(
                self.model.reference,
                [p.ids for p in part for _ in range(REFERENCES)],
                Sampling(max_new_tokens=max_new_tokens),
                seed=seed,
                check=check,
            )
            for i, prompt in enumerate(part):
                ids = [r.ids for r in responses[i * REFERENCES : (i + 1) * REFERENCES]]
                self.store.put_reference_responses(key, prompt.key, list(prompt.ids), ids)
                stored[prompt.key] = ids
        for start in range(0, len(prompts), 16):
            check()
            self._measure_references(prompts[start : start + 16], stored)

    def _measure_references(
        self, prompts: list[Prompt], stored: dict[str, list[list[int]]]
    ) -> None:
        replies = [
            Reply(p, tuple(ids), self.model.decode(ids)) for p in prompts for ids in stored[p.key]
        ]
        logprobs, pooled = self.model.reference_pass(
            [r.prompt.ids for r in replies], [r.ids for r in replies]
        )
        styles = np.stack([style.measure(r.prompt.text, r.text) for r in replies])
        for i, prompt in enumerate(prompts):
            part = slice(i * REFERENCES, (i + 1) * REFERENCES)
            self._references[prompt.key] = Reference(
                style=styles[part].astype(np.float64),
                pooled=pooled.numpy()[part].astype(np.float64),
                lengths=[len(r.ids) for r in replies[part]],
                logprobs=[row.numpy() for row in logprobs[part]],
                replies=replies[part],
            )


def split_vectors(vectors: Sequence[np.ndarray]) -> tuple[Floats, Floats]:
    """Cached vectors -> style (N, S), pooled (N, P)."""
    if not vectors:
        return np.zeros((0, len(style.NAMES))), np.zeros((0, 1))
    stacked = np.stack(vectors).astype(np.float64)
    return stacked[:, : len(style.NAMES)], stacked[:, len(style.NAMES) :]


# ---------------------------------------------------------------------- what the person said


@dataclass(frozen=True)
class Snapshot:
    """The feedback a round works on, fixed at its start."""

    watermark: int
    pairs: tuple[tuple[Reply, Reply, str], ...]  # a, b, outcome
    thumbs: tuple[tuple[Reply, int], ...]
    hash: str

    @property
    def prompts(self) -> list[Prompt]:
        """Every distinct prompt the person rated a reply to."""
        seen = {a.prompt.key: a.prompt for a, _, _ in self.pairs}
        seen.update({r.prompt.key: r.prompt for r, _ in self.thumbs})
        return list(seen.values())


def take_snapshot(store: Store) -> Snapshot:
    """Reads all ratings and preferences that count now; replies without token ids are left out."""
    watermark = store.feedback_count()
    replies: dict[str, Reply | None] = {}

    def reply(message_id: str) -> Reply | None:
        if message_id not in replies:
            replies[message_id] = _reply(store, message_id)
        return replies[message_id]

    pairs = []
    preferences: list[Preference] = store.preferences()
    for p in preferences:
        a, b = reply(p.message_a), reply(p.message_b)
        if a and b:
            pairs.append((a, b, p.outcome))
    thumbs = []
    ratings: list[Rating] = store.ratings()
    for rating in ratings:
        one = reply(rating.message_id)
        if one:
            thumbs.append((one, rating.value))
    told = [(p.message_a, p.message_b, p.outcome) for p in preferences]
    told += [(r.message_id, "", str(r.value)) for r in ratings]
    digest = hashlib.sha256(repr(sorted(told)).encode()).hexdigest()[:16]
    return Snapshot(watermark, tuple(pairs), tuple(thumbs), digest)


def _reply(store: Store, message_id: str) -> Reply | None:
    message = store.message(message_id)
    if not message.prompt_ids or not message.response_ids or message.parent_id is None:
        return None
    asked = store.message(message.parent_id).content
    prompt = Prompt(tuple(message.prompt_ids), asked)
    return Reply(prompt, tuple(message.response_ids), message.content)


def build(
    snapshot: Snapshot,
    gauge: Gauge,
    feature_map: reward.FeatureMap,
    max_new_tokens: int,
    both_bad_weight: float,
    check: Callable[[], None],
) -> reward.Evidence:
    """Snapshot -> Evidence. "Both bad" is half a tie and half a thumb down on each reply."""
    group_of = {p.key: i for i, p in enumerate(snapshot.prompts)}
    replies = [r for a, b, _ in snapshot.pairs for r in (a, b)]
    x = feature_map(*gauge.measure(replies, check)) if replies else np.zeros((0, _dim(feature_map)))
    outcome = np.array([{"a": 1.0, "b": -1.0}.get(o, 0.0) for _, _, o in snapshot.pairs])
    bad = np.array([o == "both_bad" for _, _, o in snapshot.pairs], dtype=bool)
    pair_group = np.array([group_of[a.prompt.key] for a, _, _ in snapshot.pairs], dtype=np.int64)
    rated = [(r, float(v), 1.0) for r, v in snapshot.thumbs]
    for (a, b, _), is_bad in zip(snapshot.pairs, bad, strict=True):
        if is_bad:
            rated += [(a, -1.0, both_bad_weight), (b, -1.0, both_bad_weight)]
    thumbs = centered([r for r, _, _ in rated], gauge, feature_map, max_new_tokens, check)
    return reward.Evidence(
        pairs=x[0::2] - x[1::2],
        outcome=outcome,
        pair_weight=np.where(bad, both_bad_weight, 1.0),
        pair_group=pair_group,
        thumbs=thumbs,
        thumb=np.array([v for _, v, _ in rated]),
        thumb_weight=np.array([w for _, _, w in rated]),
        thumb_group=np.array([group_of[r.prompt.key] for r, _, _ in rated], dtype=np.int64),
    )


def centered(
    replies: Sequence[Reply],
    gauge: Gauge,
    feature_map: reward.FeatureMap,
    max_new_tokens: int,
    check: Callable[[], None],
) -> Floats:
    """Head features of replies minus the mean of the reference's replies to the same prompt."""
    if not replies:
        return np.zeros((0, _dim(feature_map)))
    zero = zero_points([r.prompt for r in replies], gauge, feature_map, max_new_tokens, check)
    return feature_map(*gauge.measure(replies, check)) - zero


def zero_points(
    prompts: Sequence[Prompt],
    gauge: Gauge,
    feature_map: reward.FeatureMap,
    max_new_tokens: int,
    check: Callable[[], None],
) -> Floats:
    """(N, D): mean head features of the reference's replies to each prompt."""
    references = gauge.references(prompts, max_new_tokens, check)
    return np.stack([feature_map(r.style, r.pooled).mean(0) for r in references])


def feature_map_of(references: Sequence[Reference]) -> reward.FeatureMap:
    """Statistics of what the base says by itself; no rating is involved."""
    groups = np.concatenate([np.full(len(r.lengths), i) for i, r in enumerate(references)])
    return reward.fit_feature_map(
        np.concatenate([r.style for r in references]),
        np.concatenate([r.pooled for r in references]),
        groups.astype(np.int64),
    )


def _dim(feature_map: reward.FeatureMap) -> int:
    return feature_map.named + feature_map.components.shape[1]


def fluency_floor(references: Sequence[Reference], quantile: float = 0.001) -> float:
    """The log-prob below which the base itself almost never says a token: at most 1 in 1000."""
    tokens = np.concatenate([row for r in references for row in r.logprobs])
    return min(float(np.quantile(tokens, quantile)), RARE)
