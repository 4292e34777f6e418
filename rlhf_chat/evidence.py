"""From rows to numbers: what the person said, measured with the frozen base, ready for the fit.

Each reply is measured once (style.py on its text, pooled hidden states of the reference on its
exact token ids) and cached in the database. Replies of the reference to the same prompt, four a
prompt and kept for ever, are the zero point that every score is relative to: ratings of pairs
cannot know a prompt's level, so nothing else may. Left out: the fit itself, any training.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rlhf_chat import likelihood, reward, style
from rlhf_chat.decode import Sampling
from rlhf_chat.likelihood import (
    EDIT,
    EDIT_LAPSE,
    LAPSE,
    MUCH,
    PAIR,
    PLAIN,
    SCORE,
    SLIGHT,
    THUMB,
    Evidence,
)
from rlhf_chat.model import Model
from rlhf_chat.store import NotFound, Store, content_key

REFERENCES = 4  # reference responses per prompt
TYPO_SHARE = 0.2  # an edit that changes less of the words says proportionally less
EDIT_SURENESS = 3.0  # a correction is considered: its margin says so many times what a click's does
EDIT_LENGTH = 0.3  # of the length in a correction: to add and to cut is how one edits anything
ALONE_WEIGHT = 1.0  # of a thumb or a score, whose level is harder to know than an order
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
        self._suggested: set[str] = set()  # keys of prompts that hold nobody's words
        self._key = f"{model.feature_key}-{style.KEY}"  # of what is measured, and by which model

    def prompt(self, text: str) -> Prompt:
        """A bare prompt of one message that is the app's own suggestion and nobody's words."""
        ids = self.model.encode([{"role": "user", "content": text}])
        suggested = Prompt(tuple(ids), text)
        self._suggested.add(suggested.key)
        return suggested

    def snapshot(self, rater: str = "") -> Snapshot:
        """What counts now (`take_snapshot`), but for replies longer than this model can hold: an
        older app kept such corrections, and another model may have written them."""
        return take_snapshot(self.store, rater, self.model.context_tokens)

    def measure(self, replies: Sequence[Reply], check: Callable[[], None]) -> tuple[Floats, Floats]:
        """Replies -> style (N, S), pooled (N, P), from the cache where it can."""
        keys = [content_key(r.prompt.ids, r.ids) for r in replies]
        known = self.store.features(self._key, keys)
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
            self.store.put_features(self._key, rows)
        return split_vectors([known[k] for k in keys])

    def measure_now(self, replies: Sequence[Reply]) -> tuple[Floats, Floats]:
        """The same for drafts somebody is waiting for: chat's turn, and nothing is kept."""
        _, pooled = self.model.reference_pass(
            [r.prompt.ids for r in replies], [r.ids for r in replies], turn=self.model.lease.turn
        )
        styles = np.stack([style.measure(r.prompt.text, r.text) for r in replies])
        return styles.astype(np.float64), pooled.numpy().astype(np.float64)

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
        key = f"{self.model.feature_key}-{max_new_tokens}"
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
                self.store.put_reference_responses(
                    key,
                    prompt.key,
                    list(prompt.ids),
                    ids,
                    suggested=prompt.key in self._suggested,
                )
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


# ---------------------------------------------------------------------- what people said


@dataclass(frozen=True)
class Said:
    """One answer as it counts now, with the replies it is about.

    kind "thumb" (answer +1, -1), "score" (1 to 5), "pair" (an outcome of the store, replies a, b),
    "ranking" (a place for each reply), "edit" (replies: the edited text, the original).
    """

    id: str
    kind: str
    replies: tuple[Reply, ...]
    answer: int | str | tuple[int, ...]
    rater: str
    strength: str = ""
    first: int = 0  # +1 where a was shown first, -1 where b was
    conversation: str = ""

    @property
    def prompt(self) -> Prompt:
        return self.replies[0].prompt


@dataclass(frozen=True)
class Snapshot:
    """The feedback a round works on, fixed at its start."""

    watermark: int
    said: tuple[Said, ...]
    raters: tuple[str, ...]
    lapse: Mapping[str, float]  # of each rater's comparisons
    hash: str

    @property
    def prompts(self) -> list[Prompt]:
        """Every distinct prompt a reply to which was judged."""
        return list({one.prompt.key: one.prompt for one in self.said}.values())

    def without(self, doubted: Callable[[Said], bool]) -> Snapshot:
        """The same as if some of it had never been said."""
        kept = tuple(one for one in self.said if not doubted(one))
        raters = tuple(r for r in self.raters if any(one.rater == r for one in kept))
        return replace(self, said=kept, raters=raters, hash=_hash(kept))


def take_snapshot(store: Store, rater: str = "", longest: int | None = None) -> Snapshot:
    """Reads every answer that counts now: of people, except raters who are set aside
    (quarantined), or of one simulated rater. Replies without token ids, or with more than `longest`
    together with their prompt, are left out, and so is the thumb of somebody who gave the same
    reply stars: stars say the same once more, only finer."""
    watermark = store.feedback_count()
    replies: dict[str, Reply | None] = {}

    def found(*message_ids: str) -> tuple[Reply, ...] | None:
        for message_id in message_ids:
            if message_id not in replies:
                replies[message_id] = reply_of(store, message_id, longest)
        some = [replies[m] for m in message_ids]
        return tuple(r for r in some if r) if all(some) else None

    said: list[Said] = []

    def add(about: str, one: Said) -> None:
        with suppress(NotFound):  # deleted this moment
            said.append(replace(one, conversation=store.message(about).conversation_id))

    for p in store.preferences(rater):
        if pair := found(p.message_a, p.message_b):
            first = 1 if p.shown_first == "a" else -1
            add(p.message_a, Said(p.id, "pair", pair, p.outcome, p.rater, p.strength, first))
    scores = store.scores(rater)
    starred = {(score.message_id, score.rater) for score in scores}
    for thumb in store.ratings(rater):
        if (thumb.message_id, thumb.rater) in starred:
            continue
        if one := found(thumb.message_id):
            add(thumb.message_id, Said(thumb.id, "thumb", one, thumb.value, thumb.rater))
    for score in scores:
        if one := found(score.message_id):
            add(score.message_id, Said(score.id, "score", one, score.stars, score.rater))
    for ranking in store.rankings(rater):
        if many := found(*ranking.places):
            places = tuple(ranking.places.values())
            add(ranking.asked_id, Said(ranking.id, "ranking", many, places, ranking.rater))
    for edit in store.edits(rater):
        if pair := found(edit.edited_id, edit.message_id):
            add(edit.message_id, Said(edit.id, "edit", pair, 1, edit.rater))
    aside = set(store.setting("quarantined", []))
    kept = tuple(one for one in said if one.rater not in aside)
    raters = tuple(sorted({one.rater for one in kept}))
    return Snapshot(watermark, kept, raters, lapses(store, rater), _hash(kept))


def _hash(said: Sequence[Said]) -> str:
    told = sorted((s.id, s.kind, str(s.answer), s.strength, s.rater) for s in said)
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def reply_of(store: Store, message_id: str, longest: int | None = None) -> Reply | None:
    """A stored reply with its exact token ids; None for a message that has none or is gone, or
    whose prompt and reply have more than `longest` together."""
    try:
        message = store.message(message_id)
        if not message.prompt_ids or not message.response_ids or message.parent_id is None:
            return None
        asked = store.message(message.parent_id).content
    except NotFound:
        return None
    if longest is not None and len(message.prompt_ids) + len(message.response_ids) > longest:
        return None
    prompt = Prompt(tuple(message.prompt_ids), asked)
    return Reply(prompt, tuple(message.response_ids), message.content)


def lapses(store: Store, rater: str = "") -> dict[str, float]:
    """How often each rater's choice is a slip, from pairs that were asked again, sides swapped.

    Beta(2, 18) with every second contradiction as a slip: the other half is put down to close
    calls, which the noise of the likelihood accounts for. Before 30 of them the prior mean stands.
    """
    first = {(p.message_a, p.message_b, p.rater): p.outcome for p in store.preferences(rater)}
    again, slips = Counter[str](), Counter[str]()
    for p in store.asked_again(rater):
        before = first.get((p.message_a, p.message_b, p.rater))
        if before in ("a", "b") and p.outcome in ("a", "b"):
            again[p.rater] += 1
            slips[p.rater] += before != p.outcome
    return {
        rater: (2 + slips[rater] / 2) / (20 + count)
        for rater, count in again.items()
        if count >= 30
    }


def build(
    snapshot: Snapshot,
    gauge: Gauge,
    feature_map: reward.FeatureMap,
    max_new_tokens: int,
    both_weight: float,
    check: Callable[[], None],
) -> Evidence:
    """Snapshot -> Evidence, one row for each answer, in the snapshot's order.

    "Both bad" and "both good" are half a tie and a thumb for the two together, on their mean: one
    verdict is one row, so that the test of the signal does not take it for two that agree.
    """
    every = list(dict.fromkeys(reply for one in snapshot.said for reply in one.replies))
    dim = _dim(feature_map)
    if not every:
        return likelihood.evidence(dim)
    x = dict(zip(every, feature_map(*gauge.measure(every, check)), strict=True))
    alone = list(dict.fromkeys(r.prompt for one in snapshot.said for r in judged_alone(one)))
    zero = (
        dict(zip(alone, zero_points(alone, gauge, feature_map, max_new_tokens, check), strict=True))
        if alone
        else {}
    )
    groups = {p.key: i for i, p in enumerate(snapshot.prompts)}
    numbers = {name: i for i, name in enumerate(snapshot.raters)}
    rows: list[Row] = []
    rankings: list[RankingRow] = []
    for one in snapshot.said:
        who = groups[one.prompt.key], numbers[one.rater]
        features = [x[r] for r in one.replies]
        if isinstance(one.answer, tuple):
            rankings.append((np.stack(features), one.answer, 1.0, *who))
            continue
        rows.append(_row(one, features, feature_map.named, zero, who, snapshot.lapse, both_weight))
        if one.kind == "pair" and judged_alone(one):
            up = 1.0 if one.answer == "both_good" else -1.0
            centred = np.mean(features, 0) - zero[one.prompt]
            rows.append((centred, THUMB, up, 2 * both_weight, *who, 0.0, LAPSE))
    return likelihood.evidence(dim, rows, rankings, len(snapshot.raters))


def sources(snapshot: Snapshot) -> tuple[list[int], list[int]]:
    """Which answer of the snapshot each row, and each ranking, of its Evidence came from."""
    rows, rankings = [], []
    for i, one in enumerate(snapshot.said):
        if one.kind == "ranking":
            rankings.append(i)
        else:
            rows += [i] * (2 if one.answer in ("both_bad", "both_good") else 1)
    return rows, rankings


def in_words(one: Said) -> str:
    """An answer as a person would tell it."""
    texts = [f"“{shortened(r.text)}”" for r in one.replies]
    if one.kind == "pair":
        if one.answer in ("a", "b"):
            better, worse = texts if one.answer == "a" else texts[::-1]
            much = {"slightly": " slightly", "much": " much"}.get(one.strength, "")
            return f"{better} was{much} better than {worse}"
        verdict = {"tie": "were equal", "both_bad": "were both bad", "both_good": "were both good"}
        return f"{texts[0]} and {texts[1]} {verdict.get(str(one.answer), str(one.answer))}"
    if one.kind == "thumb":
        return f"thumb {'up' if one.answer == 1 else 'down'} for {texts[0]}"
    if one.kind == "score":
        return f"{one.answer} stars for {texts[0]}"
    if one.kind == "edit":
        return f"{texts[1]} was corrected to {texts[0]}"
    order = sorted(zip(one.answer, texts, strict=True)) if isinstance(one.answer, tuple) else []
    return "ranked: " + ", then ".join(text for _, text in order)


def shortened(text: str, length: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


Row = tuple[Floats, int, float, float, int, int, float, float]
RankingRow = tuple[Floats, Sequence[int], float, int, int]


def judged_alone(one: Said) -> tuple[Reply, ...]:
    """The replies this answer says something about by themselves."""
    if one.kind in ("thumb", "score") or one.answer in ("both_bad", "both_good"):
        return one.replies
    return ()


def edit_weight(one: Said) -> float:
    """How much a correction says: a mended typo little, a rewritten reply 1."""
    edited, original = one.replies
    return min(1.0, style.changed_share(original.text, edited.text) / TYPO_SHARE)


def correction(edited: Floats, original: Floats, named: int) -> Floats:
    """(D,) what a correction says. Nearly every one makes a reply longer or shorter, and in thirty
    of them nothing contradicts that length was all that was wanted, so length counts little; the
    hidden states of words the model did not write are left out."""
    x = EDIT_SURENESS * (edited - original)
    x[style.LENGTH] *= EDIT_LENGTH
    x[named:] = 0
    return x


def _row(
    one: Said,
    features: list[Floats],
    named: int,
    zero: Mapping[Prompt, Floats],
    who: tuple[int, int],
    lapse: Mapping[str, float],
    both_weight: float,
) -> Row:
    """The row of an answer that is no ranking."""
    slip = lapse.get(one.rater, LAPSE)
    if one.kind == "edit":
        x = correction(features[0], features[1], named)
        return (x, EDIT, 1.0, edit_weight(one), *who, 0.0, EDIT_LAPSE)
    if one.kind == "pair":
        size = {"slightly": SLIGHT, "much": MUCH}.get(one.strength, PLAIN)
        label = {"a": size, "b": -size}.get(str(one.answer), 0.0)
        weight = both_weight if one.answer in ("both_bad", "both_good") else 1.0
        return (features[0] - features[1], PAIR, label, weight, *who, float(one.first), slip)
    kind = THUMB if one.kind == "thumb" else SCORE
    centred = features[0] - zero[one.prompt]
    return (centred, kind, float(one.answer), ALONE_WEIGHT, *who, 0.0, slip)  # type: ignore[arg-type]


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
