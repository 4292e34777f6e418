"""What is known of the taste right now: the reward head, ready to judge a fresh reply.

`Taste` scores replies: mean minus doubt, with length capped and flaws charged, because neither is
what a person means by better. `RewardModelCache` keeps one fitted to every answer given so far, so
that drafts can be chosen by it before anything is trained. Left out: the fit (reward_model.py),
measuring (features.py), choosing (active_sampling.py).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from rlhf_chat.feedback.replies import Prompt, Reply
from rlhf_chat.feedback.snapshot import Snapshot, load_snapshot
from rlhf_chat.reward import adversarial_raters, dataset, prompt_sets, reward_model, text_features
from rlhf_chat.reward.features import FeatureExtractor, Floats, Reference, feature_map_from
from rlhf_chat.reward.likelihood import PreferenceDataset
from rlhf_chat.reward.reward_model import FeatureMap, RewardConfig, RewardHead

T = TypeVar("T")

READ_AT_ONCE = 16  # replies measured while somebody waits for the taste


@dataclass(frozen=True)
class ScoringConfig:
    rollout_prompts: int = 64  # suggested prompts that rollouts use beside the person's own
    probe_prompts: int = 48  # prompts of the gate, never practised on
    lcb: float = 0.5  # standard deviations subtracted from a score: doubt is not rewarded
    max_score: float = 5.0  # log-odds
    degeneration_penalty: float = 3.0  # log-odds for each sentence that is empty or said twice
    length_cap: float = 2.0  # length is rewarded only within this factor of the reference


@dataclass(frozen=True)
class BaseStatistics:
    """What the base says to a fixed set of prompts: the zero point and the spread of everything."""

    bank: list[Prompt]
    probes: list[Prompt]
    base_probes: list[Reference]
    references: list[Reference]  # of probes, then bank
    feature_map: FeatureMap

    @classmethod
    def of(
        cls,
        extractor: FeatureExtractor,
        config: ScoringConfig,
        max_new_tokens: int,
        check: Callable[[], None],
    ) -> BaseStatistics:
        """Samples what is missing, slice by slice; the rest is remembered."""
        demo = extractor.model.is_demo
        bank = [extractor.prompt(p) for p in prompt_sets.practice(demo, config.rollout_prompts)]
        probes = [extractor.prompt(p) for p in prompt_sets.probe(demo, config.probe_prompts)]
        base = extractor.references(probes, max_new_tokens, check)
        references = base + extractor.references(bank, max_new_tokens, check)
        return cls(bank, probes, base, references, feature_map_from(references))


@dataclass(frozen=True)
class RewardModel:
    """The fitted reward with everything needed to score a fresh response."""

    head: RewardHead
    feature_map: FeatureMap
    config: ScoringConfig

    def features(self, reference: Reference) -> Floats:
        """(REFERENCES, D) of what the base says to one prompt."""
        return self.feature_map(reference.style, reference.pooled)

    def measure(
        self, asked: Sequence[str], texts: Sequence[str], pooled: NDArray[np.float32]
    ) -> Floats:
        """(N, D) of fresh replies to N prompts, from their texts and pooled states (N, P)."""
        styles = np.stack([text_features.measure(p, t) for p, t in zip(asked, texts, strict=True)])
        return self.feature_map(styles.astype(np.float64), pooled.astype(np.float64))

    def capped(self, x: Floats) -> Floats:
        """Centred features (N, D) within their bounds, length within its cap."""
        x = reward_model.bounded(x)
        limit = math.log(self.config.length_cap) / self.feature_map.style_std[text_features.LENGTH]
        x[:, text_features.LENGTH] = np.clip(x[:, text_features.LENGTH], -limit, limit)
        return x

    def score(self, x: Floats) -> Floats:
        """Centred features (N, D) -> (N,): mean minus doubt, length capped, within +-max_score."""
        mean, sigma = self.head.score(self.capped(x))
        score = mean - self.config.lcb * sigma
        return np.clip(score, -self.config.max_score, self.config.max_score)

    def penalty(self, texts: Sequence[str]) -> Floats:
        """(N,): what the flaws of each text cost."""
        return self.config.degeneration_penalty * np.array(
            [float(text_features.degeneration(t)) for t in texts]
        )


@dataclass(frozen=True)
class TokenAttribution:
    """A word of a reply and what it did to the score, log-odds, with the doubt about that."""

    text: str
    gain: float
    sigma: float


@dataclass(frozen=True)
class _Entry(Generic[T]):
    """A cached result and what it was computed from."""

    revision: int  # of the feedback
    measured: int | None  # what was measured then, where that was too little; None: it is complete
    hash: str  # of the snapshot
    value: T

    def is_current(self, extractor: FeatureExtractor) -> bool:
        """Asks without reading the database."""
        return self.revision == extractor.store.feedback.revision and (
            self.measured is None or self.measured == extractor.measured
        )


class RewardModelCache:
    """A `Taste` that follows the store: refitted when somebody has said something new."""

    def __init__(
        self,
        extractor: FeatureExtractor,
        config: ScoringConfig | None = None,
        reward_config: RewardConfig | None = None,
        max_new_tokens: int = 96,
    ) -> None:
        self.extractor = extractor
        self.config = config or ScoringConfig()
        self._reward_config = reward_config or RewardConfig()
        self._tokens = max_new_tokens
        self._lock, self._adversarial_lock = threading.Lock(), threading.Lock()
        self._base_stats: BaseStatistics | None = None
        self.missed = False  # somebody asked for it before the warm-up
        self.behind = False  # it takes more reading than a person should wait for: `refresh`
        self._model: _Entry[RewardModel] | None = None
        self._adversarial: _Entry[str | None] | None = None

    @property
    def ready(self) -> bool:
        return self._base_stats is not None

    def warm_up(self, check: Callable[[], None] = lambda: None) -> None:
        """Reads what the base says. Takes a while the first time: the trainer calls it."""
        if self._base_stats is None:
            self._base_stats = BaseStatistics.of(self.extractor, self.config, self._tokens, check)

    def get(self) -> RewardModel | None:
        """The taste after every answer so far, or as it was before what needs much reading; None
        before the warm-up. Without any answer it is the prior: no opinion, and doubt everywhere."""
        base_stats = self._base_stats
        if base_stats is None:
            self.missed = True
            return None
        with self._lock:
            if self._model is None or not self._model.is_current(self.extractor):
                self._model = self._updated(self._model, base_stats)
            self.behind = self.behind or self._model.measured is not None
            return self._model.value

    def _updated(
        self, entry: _Entry[RewardModel] | None, base_stats: BaseStatistics
    ) -> _Entry[RewardModel]:
        revision, measured = self.extractor.store.feedback.revision, self.extractor.measured
        snapshot = load_snapshot(self.extractor)
        if entry and entry.hash == snapshot.hash:
            return replace(entry, revision=revision, measured=None)
        if self._at_hand(snapshot):
            return _Entry(revision, None, snapshot.hash, self._fitted(snapshot, base_stats))
        if entry is None:
            prior = self._fitted(snapshot.without(lambda _: True), base_stats)
            return _Entry(revision, measured, "", prior)
        return replace(entry, revision=revision, measured=measured)

    def refresh(self, check: Callable[[], None] = lambda: None) -> None:
        """Reads what answers given since need, so that the next `get` knows them. The trainer calls
        it when it has nothing else to do."""
        if self._base_stats is not None:
            self._evidence(load_snapshot(self.extractor), self._base_stats, check)
            self.behind = False

    def _fitted(self, snapshot: Snapshot, base_stats: BaseStatistics) -> RewardModel:
        dataset = self._evidence(snapshot, base_stats)
        head = reward_model.fit_head(dataset, base_stats.feature_map.named, self._reward_config)
        return RewardModel(head, base_stats.feature_map, self.config)

    def _at_hand(self, snapshot: Snapshot) -> bool:
        """Whether little has to be read, and nothing sampled, before these answers are known; what
        has is left to `refresh`."""
        replies = [reply for one in snapshot.items for reply in one.replies]
        alone = [r.prompt for one in snapshot.items for r in dataset.absolute_replies(one)]
        quick = self.extractor.unmeasured(replies) <= READ_AT_ONCE and self.extractor.answered(
            alone
        )
        self.behind = self.behind or not quick
        return quick

    def _evidence(
        self,
        snapshot: Snapshot,
        base_stats: BaseStatistics,
        check: Callable[[], None] = lambda: None,
    ) -> PreferenceDataset:
        both = self._reward_config.both_weight
        return dataset.build_dataset(
            snapshot, self.extractor, base_stats.feature_map, self._tokens, both, check
        )

    def adversarial_rater(self) -> str | None:
        """The one person, if any, whose answers clearly say the opposite of all others'."""
        base_stats = self._base_stats
        if base_stats is None:
            return None
        with self._adversarial_lock:
            entry = self._adversarial
            if entry is None or not entry.is_current(self.extractor):
                entry = self._adversarial = self._suspected(entry, base_stats)
            return entry.value

    def _suspected(
        self, entry: _Entry[str | None] | None, base_stats: BaseStatistics
    ) -> _Entry[str | None]:
        revision, measured = self.extractor.store.feedback.revision, self.extractor.measured
        snapshot = load_snapshot(self.extractor)
        if entry and entry.hash == snapshot.hash:
            return replace(entry, revision=revision, measured=None)
        if len(snapshot.raters) < adversarial_raters.FEWEST:
            return _Entry(revision, None, snapshot.hash, None)
        if self._at_hand(snapshot):
            dataset, named = self._evidence(snapshot, base_stats), base_stats.feature_map.named
            who = adversarial_raters.suspect(dataset, named, self._reward_config)
            rater = None if who is None else snapshot.raters[who]
            return _Entry(revision, None, snapshot.hash, rater)
        return replace(entry or _Entry(0, None, "", None), revision=revision, measured=measured)

    def features(self, scorer: RewardModel, replies: Sequence[Reply]) -> Floats:
        """(N, D) head features of fresh replies to one prompt, centred on their own mean: enough
        to choose between them."""
        x = scorer.feature_map(*self.extractor.measure_now(replies))
        return reward_model.bounded(x - x.mean(0))

    def best(self, scorer: RewardModel, replies: Sequence[Reply]) -> int:
        """Which of several replies to one prompt scores best, flaws charged."""
        scores = scorer.score(self.features(scorer, replies))
        return int((scores - scorer.penalty([r.text for r in replies])).argmax())

    def explain(self, scorer: RewardModel, reply: Reply) -> list[TokenAttribution]:
        """Word by word, how the score of a reply came about; the gains add up to the score of the
        whole, relative to its first token, doubt and flaws aside."""
        model = self.extractor.model
        pooled = model.prefix_states(reply.prompt.ids, reply.ids).numpy().astype(np.float64)
        texts = [model.decode(reply.ids[: i + 1]) for i in range(len(reply.ids))]
        styles = np.stack([text_features.measure(reply.prompt.text, t) for t in texts])
        x = scorer.feature_map(styles.astype(np.float64), pooled)
        x = reward_model.bounded(x - x[-1])
        pieces, start = [], 0
        for end in _word_ends(texts):
            change = (x[end] - x[start - 1 if start else 0])[None]
            mean, sigma = scorer.head.score(change)
            dataset = texts[end][len(texts[start - 1]) if start else 0 :]
            pieces.append(TokenAttribution(dataset, float(mean[0]), float(sigma[0])))
            start = end + 1
        return pieces


def _word_ends(texts: Sequence[str]) -> list[int]:
    """Positions of tokens after which a new word begins, the last one included."""
    last = len(texts) - 1
    return [
        i
        for i in range(len(texts))
        if i == last or texts[i + 1][len(texts[i]) :][:1].isspace() or texts[i][-1:].isspace()
    ]
