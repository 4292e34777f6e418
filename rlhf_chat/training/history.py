"""Rounds that were run, their metrics, what the last one learned, and the feedback since."""

from __future__ import annotations

from rlhf_chat.db import Round, Store
from rlhf_chat.reward import feature_weights
from rlhf_chat.reward.feature_weights import FeatureWeight
from rlhf_chat.reward.reward_model import RewardHead


class TrainingHistory:
    def __init__(self, store: Store) -> None:
        self.store = store
        self._head: RewardHead | None = None  # of the last round, unless forgotten
        self._rater = ""  # the simulated rater it was fitted for; "" for people
        self._waiting: tuple[tuple[int, int, str], int] = (-1, -1, ""), 0  # asked about, answer

    def rounds(self, limit: int = 20) -> list[Round]:
        """The newest first."""
        return self.store.rounds.newest(limit)

    def last_number(self) -> int:
        """Of the newest round; 0 before the first."""
        return self.store.rounds.last_id()

    def metrics(self, round_id: int) -> dict[str, list[tuple[int, float]]]:
        """Metric name -> [(step, value)] of one round, without values that are not finite."""
        found: dict[str, list[tuple[int, float]]] = {}
        for step, name, value in self.store.rounds.metrics(round_id):
            if value is not None:
                found.setdefault(name, []).append((step, value))
        return found

    def feature_weights(self) -> list[FeatureWeight]:
        """Weights of the named features in the last reward head; the surest first."""
        if self._head:
            return feature_weights.from_head(self._head)
        return [] if self._rater else feature_weights.remembered(self.store)

    def remember(self, head: RewardHead | None, rater: str) -> None:
        """Keeps the reward head of a round; that of people outlasts a restart."""
        self._head = head
        if not rater:
            feature_weights.remember(self.store, head)

    def follow(self, rater: str) -> None:
        """From now on of this simulated rater; "" for people."""
        self._head, self._rater = None, rater

    def waiting(self, rater: str) -> int:
        """Ratings since the last round: by this simulated rater, or "" for those of people."""
        watermark = self.store.rounds.last_watermark(rater)
        asked = self.store.feedback.revision, watermark, rater
        if self._waiting[0] != asked:  # every status bar asks every few seconds
            self._waiting = asked, self.store.feedback.count_since(watermark, rater)
        return self._waiting[1]

    def watermark_of_two_crashes(self) -> int:
        """The watermark of the two newest rounds if the app ended during both, else -1: a round
        that takes all memory would otherwise end the app at every start."""
        aborted = [r.watermark for r in self.rounds(2) if r.status == "aborted"]
        return aborted[0] if len(aborted) == 2 and len(set(aborted)) == 1 else -1
