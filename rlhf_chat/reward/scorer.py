"""The fitted reward, ready to score fresh replies.

`RewardModel` scores replies: posterior mean minus a share of its standard deviation, with length
capped and degeneration penalised, since neither is what people mean by better. `RewardModelCache`
keeps one that is fitted to all feedback so far, so that drafts can be chosen before any training.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from rlhf_chat.feedback.replies import Prompt, Reply
from rlhf_chat.feedback.snapshot import Snapshot, load_snapshot
from rlhf_chat.inference import forward_pass
from rlhf_chat.reward import adversarial_raters, dataset, prompt_sets, reward_model, text_features
from rlhf_chat.reward.features import FeatureExtractor, Floats, Reference, feature_map_from
from rlhf_chat.reward.likelihood import PreferenceDataset
from rlhf_chat.reward.reward_model import FeatureMap, RewardConfig, RewardHead

T = TypeVar("T")

PENALTY_SHARE = 0.5  # spread of what flaws cost / spread of the score, between replies of the base
MEASURED_AT_ONCE = 16  # replies that `get` measures while somebody waits for it


@dataclass(frozen=True)
class ScoringConfig:
    rollout_prompts: int = 64  # suggested prompts to which the base replies before a round
    further_prompts: int = 64  # more, at most: it replies when one is drawn, or between rounds
    probe_prompts: int = 48  # prompts of the gate, never trained on
    retained_prompts: int = 64  # on which a round keeps the policy with the base
    lcb: float = 0.5  # standard deviations subtracted from a score (lower confidence bound)
    max_score: float = 5.0  # log-odds
    degeneration_penalty: float = 3.0  # at most, log-odds for each empty or repeated sentence
    length_cap: float = 2.0  # length is rewarded only within this factor of the reference


class SuggestedPrompts(NamedTuple):
    """The app's own prompts."""

    bank: list[Prompt]  # for rollouts
    further: list[Prompt]  # for rollouts, too, but no round waits for the base's replies to them
    probes: list[Prompt]  # of the gate
    retained: list[Prompt]  # on which a round keeps the policy with the base

    @classmethod
    def of(cls, extractor: FeatureExtractor, config: ScoringConfig) -> SuggestedPrompts:
        """No further ones for the bundled model, whose rounds are tuned without."""
        demo, first = extractor.model.is_demo, config.rollout_prompts
        practice = prompt_sets.practice(demo, first + (0 if demo else config.further_prompts))
        probes = prompt_sets.probe(demo, config.probe_prompts)
        retained = prompt_sets.retained(demo, config.retained_prompts)
        prompt = extractor.prompt
        return cls(
            [prompt(text) for text in practice[:first]],
            [prompt(text) for text in practice[first:]],
            [prompt(text) for text in probes],
            [prompt(text) for text in retained],
        )

    @property
    def first(self) -> list[Prompt]:
        """Those that the base replies to before the first update of a round."""
        return self.bank + self.probes + self.retained

    @property
    def all(self) -> list[Prompt]:
        return self.first + self.further


@dataclass(frozen=True)
class BaseStatistics:
    """The base's replies to a fixed set of prompts: origin and scale of all features."""

    prompts: SuggestedPrompts
    base_probes: list[Reference]
    references: list[Reference]  # of probes, then bank
    feature_map: FeatureMap
    max_new_tokens: int  # that a reply may have
    settings_key: str  # of the settings they were sampled with
    private: bool  # whether the person's system prompt is in the prompts

    @property
    def tokens(self) -> float:
        """Of a reply of the base, on average."""
        return float(np.mean([length for r in self.references for length in r.lengths]))

    @classmethod
    def of(
        cls,
        extractor: FeatureExtractor,
        config: ScoringConfig,
        max_new_tokens: int,
        check: Callable[[], None],
        advance: Callable[[float], None] = lambda share: None,
    ) -> BaseStatistics:
        """Samples and measures what is not stored yet. `check` is called between slices and may
        raise; `advance` gets the share done, 0..1."""
        settings_key, private = extractor.settings_key, bool(extractor.system_prompt)
        prompts = SuggestedPrompts.of(extractor, config)
        asked = prompts.probes + prompts.bank
        found = extractor.references(asked, max_new_tokens, check, advance)
        return cls(
            prompts=prompts,
            base_probes=found[: len(prompts.probes)],
            references=found,
            feature_map=feature_map_from(found, short_replies=extractor.model.is_demo),
            max_new_tokens=max_new_tokens,
            settings_key=settings_key,
            private=private,
        )


@dataclass(frozen=True)
class RewardModel:
    """The fitted reward with everything needed to score a fresh response."""

    head: RewardHead
    feature_map: FeatureMap
    config: ScoringConfig
    flaw_cost: float  # log-odds for each sentence that is empty or repeated

    @classmethod
    def of(cls, head: RewardHead, base_stats: BaseStatistics, config: ScoringConfig) -> RewardModel:
        """With the cost of flaws set by the base's own replies: between two of them, flaws matter
        at most PENALTY_SHARE as much as the score. Where the base repeats itself all the time, a
        fixed cost would drown what people said (docs/LOG.md)."""
        model = cls(head, base_stats.feature_map, config, config.degeneration_penalty)
        if not head.weights.any():
            return model
        scores, flaws = [np.zeros(1)], [np.zeros(1)]
        for reference in base_stats.references:
            x = model.features(reference)
            scores.append(model.capped(x - x.mean(0)) @ head.weights)
            counts = _flaws([reply.text for reply in reference.replies])
            flaws.append(counts - counts.mean())
        spread = float(np.concatenate(scores).std()) / max(float(np.concatenate(flaws).std()), 1e-9)
        return replace(model, flaw_cost=min(config.degeneration_penalty, PENALTY_SHARE * spread))

    def baseline(self, reference: Reference) -> float:
        """Mean reward of the base's own replies to one prompt, log-odds: below 0, because they pay
        for uncertainty and flaws as well. Rewards of other replies are relative to it."""
        x = self.features(reference)
        penalties = self.penalty([reply.text for reply in reference.replies])
        return float((self.score(x - x.mean(0)) - penalties).mean())

    def features(self, reference: Reference) -> Floats:
        """(REFERENCES, D) of the base's replies to one prompt."""
        return self.feature_map(reference.style, reference.pooled)

    def measure(
        self, prompts: Sequence[str], texts: Sequence[str], pooled: NDArray[np.float32]
    ) -> Floats:
        """(N, D) of fresh replies to N prompts, from their texts and pooled states (N, P)."""
        pairs = zip(prompts, texts, strict=True)
        styles = np.stack([text_features.measure(prompt, text) for prompt, text in pairs])
        return self.feature_map(styles.astype(np.float64), pooled.astype(np.float64))

    def capped(self, x: Floats) -> Floats:
        """Centred features (..., D) within their bounds, length within its cap."""
        x = reward_model.bounded(x)
        limit = math.log(self.config.length_cap) / self.feature_map.style_std[text_features.LENGTH]
        x[..., text_features.LENGTH] = np.clip(x[..., text_features.LENGTH], -limit, limit)
        return x

    def score(self, x: Floats) -> Floats:
        """Centred features (N, D) -> (N,) log-odds: mean minus `lcb` standard deviations, with
        length capped, within +-max_score."""
        mean, sigma = self.head.score(self.capped(x))
        score = mean - self.config.lcb * sigma
        return np.clip(score, -self.config.max_score, self.config.max_score)

    def penalty(self, texts: Sequence[str]) -> Floats:
        """(N,) log-odds: what empty and repeated sentences of each text cost."""
        return self.flaw_cost * _flaws(texts)


def _flaws(texts: Sequence[str]) -> Floats:
    """(N,) empty and repeated sentences of each text."""
    return np.array([float(text_features.degeneration(t)) for t in texts])


@dataclass(frozen=True)
class TokenAttribution:
    """A word of a reply and its contribution to the score, log-odds, with standard deviation."""

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
    """A `RewardModel` that follows the store: refitted when there is new feedback."""

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
        self._resized = False  # `resize` was called after the warm-up
        self.requested = False  # `get` was called before the warm-up
        self.stale = False  # new feedback needs more work than `get` may do: call `refresh`
        self._model: _Entry[RewardModel] | None = None
        self._adversarial: _Entry[str | None] | None = None

    @property
    def ready(self) -> bool:
        """Whether the base's replies are those of today's settings."""
        base_stats = self._base_stats
        if base_stats is None or self._resized:
            return False
        return base_stats.settings_key == self.extractor.settings_key

    @property
    def base_stats(self) -> BaseStatistics | None:
        """Of the last warm-up."""
        return self._base_stats

    def resize(self, config: ScoringConfig, max_new_tokens: int) -> None:
        """Other prompts or longer replies of the base, from the next warm-up on; until then the
        present ones serve."""
        if (config, max_new_tokens) != (self.config, self._tokens):
            self.config, self._tokens = config, max_new_tokens
            self._resized = self._base_stats is not None

    def warm_up(self, check: Callable[[], None] = lambda: None) -> None:
        """Samples and measures the base's replies; minutes the first time, in the worker."""
        if self.ready:
            return
        base_stats = BaseStatistics.of(self.extractor, self.config, self._tokens, check)
        with self._lock, self._adversarial_lock:
            before = self._base_stats
            self._base_stats, self._resized = base_stats, False
            self._model = self._adversarial = None
        if before and before.private:
            now = {p.key for p in base_stats.prompts.all}
            self.extractor.forget([p for p in before.prompts.all if p.key not in now])

    def get(self) -> RewardModel | None:
        """The reward model of all feedback so far, or an older one while it is `stale`; None before
        the warm-up. Without feedback it is the prior: mean 0 everywhere."""
        with self._lock:
            base_stats = self._base_stats
            if base_stats is None:
                self.requested = True
                return None
            if self._model is None or not self._model.is_current(self.extractor):
                self._model = self._updated(self._model, base_stats)
            self.stale = self.stale or self._model.measured is not None
            return self._model.value

    def _updated(
        self, entry: _Entry[RewardModel] | None, base_stats: BaseStatistics
    ) -> _Entry[RewardModel]:
        revision, measured = self.extractor.store.feedback.revision, self.extractor.measured
        snapshot = load_snapshot(self.extractor)
        if entry and entry.hash == snapshot.hash:
            return replace(entry, revision=revision, measured=None)
        if self._is_measured(snapshot, base_stats):
            return _Entry(revision, None, snapshot.hash, self._fitted(snapshot, base_stats))
        if entry is None:
            prior = self._fitted(snapshot.without(lambda _: True), base_stats)
            return _Entry(revision, measured, "", prior)
        return replace(entry, revision=revision, measured=measured)

    def refresh(self, check: Callable[[], None] = lambda: None) -> None:
        """Measures what new feedback needs, so that the next `get` includes it. The worker calls it
        between rounds."""
        if self._base_stats is not None:
            self._dataset(load_snapshot(self.extractor), self._base_stats, check)
            self.stale = False

    def _fitted(self, snapshot: Snapshot, base_stats: BaseStatistics) -> RewardModel:
        fitted_to = self._dataset(snapshot, base_stats)
        head = reward_model.fit_head(fitted_to, base_stats.feature_map.named, self._reward_config)
        return RewardModel.of(head, base_stats, self.config)

    def _is_measured(self, snapshot: Snapshot, base_stats: BaseStatistics) -> bool:
        """Whether a fit needs nothing sampled and few replies measured; sets `stale` if not."""
        replies = [reply for item in snapshot.items for reply in item.replies]
        alone = [r.prompt for item in snapshot.items for r in dataset.absolute_replies(item)]
        quick = self.extractor.unmeasured(replies) <= MEASURED_AT_ONCE and self.extractor.answered(
            alone, base_stats.max_new_tokens
        )
        self.stale = self.stale or not quick
        return quick

    def _dataset(
        self,
        snapshot: Snapshot,
        base_stats: BaseStatistics,
        check: Callable[[], None] = lambda: None,
    ) -> PreferenceDataset:
        both = self._reward_config.both_weight
        return dataset.build_dataset(
            snapshot, self.extractor, base_stats.feature_map, base_stats.max_new_tokens, both, check
        )

    def adversarial_rater(self) -> str | None:
        """The rater, if any, whose feedback is clearly the opposite of all others'."""
        with self._adversarial_lock:
            base_stats = self._base_stats
            if base_stats is None:
                return None
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
        if self._is_measured(snapshot, base_stats):
            given, named = self._dataset(snapshot, base_stats), base_stats.feature_map.named
            found = adversarial_raters.suspect(given, named, self._reward_config)
            rater = None if found is None else snapshot.raters[found]
            return _Entry(revision, None, snapshot.hash, rater)
        return replace(entry or _Entry(0, None, "", None), revision=revision, measured=measured)

    def features(self, scorer: RewardModel, replies: Sequence[Reply]) -> Floats:
        """(N, D) head features of fresh replies to one prompt, centred on their own mean: enough
        to choose between them."""
        x = scorer.feature_map(*self.extractor.measure_now(replies))
        return reward_model.bounded(x - x.mean(0))

    def best(self, scorer: RewardModel, replies: Sequence[Reply]) -> int:
        """Index of the reply to one prompt that scores best, degeneration penalised."""
        scores = scorer.score(self.features(scorer, replies))
        return int((scores - scorer.penalty([r.text for r in replies])).argmax())

    def explain(self, scorer: RewardModel, reply: Reply) -> list[TokenAttribution]:
        """The contribution of each word to the score of a reply. The gains add up to the mean score
        of the whole relative to its first token, without `lcb` and penalty."""
        model = self.extractor.model
        pooled = (
            forward_pass.prefix_states(model, reply.prompt.ids, reply.ids)
            .numpy()
            .astype(np.float64)
        )
        texts = [model.decode(reply.ids[: i + 1]) for i in range(len(reply.ids))]
        styles = np.stack([text_features.measure(reply.prompt.text, t) for t in texts])
        x = scorer.feature_map(styles.astype(np.float64), pooled)
        x = reward_model.bounded(x - x[-1])
        pieces, start = [], 0
        for end in _word_ends(texts):
            change = (x[end] - x[start - 1 if start else 0])[None]
            mean, sigma = scorer.head.score(change)
            word = texts[end][len(texts[start - 1]) if start else 0 :]
            pieces.append(TokenAttribution(word, float(mean[0]), float(sigma[0])))
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
