"""When a round starts: on request, or after enough new ratings."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_chat.db import SIMULATED
from rlhf_chat.training.history import TrainingHistory
from rlhf_chat.training.round_runner import Exclude


@dataclass(frozen=True)
class RoundRequest:
    trigger: str  # asked, retrain_without or ratings
    exclude: Exclude | None = None  # feedback that a retraining leaves out


class RoundSchedule:
    def __init__(self, history: TrainingHistory, needed: int) -> None:
        self.history = history
        self.request: RoundRequest | None = None  # of a person; `due` takes it
        self.rater = ""  # the simulated rater to learn from; "" for people
        self.set_needed(needed)
        self._waits_at = -1  # watermark of a failed or stopped round: wait for new ratings
        self._crashed_at = -1  # the same of a round during which the app ended twice

    def set_needed(self, ratings: int) -> None:
        """How many new ratings start a round."""
        self.needed = max(1, int(ratings))

    def waiting(self) -> int:
        """Ratings since the last round, by whom the next one learns from."""
        return self.history.waiting(self.rater)

    def due(self, automatic: bool) -> RoundRequest | None:
        """The round to run now. `automatic`: ratings alone may start one."""
        request, self.request = self.request, None
        if request or not automatic or self.waiting() < self.needed:
            return request
        if self._count() in (self._waits_at, self._crashed_at):
            return None
        return RoundRequest("ratings")

    def listen_to(self, rater: str) -> None:
        """Learns from this simulated rater from the next round on; "" is people again."""
        if rater and not rater.startswith(SIMULATED):
            raise ValueError(f"{rater} is not a simulated rater")
        self.rater, self._waits_at = rater, -1
        self.history.follow(rater)

    # ------------------------------------------------------------------ what became of rounds

    def recover(self) -> None:
        """The app has started: a round that ended it twice is not tried again by itself."""
        self._crashed_at = self.history.watermark_of_two_crashes()

    def opened(self) -> None:
        self._crashed_at = -1

    def ended(self, status: str, watermark: int) -> None:
        if status in ("stopped", "failed"):
            self._waits_at = watermark

    @property
    def crashed(self) -> bool:
        """Whether ratings alone start no round because the app ended twice during the last one."""
        return self._crashed_at == self._count()

    def _count(self) -> int:
        return self.history.store.feedback.count()
