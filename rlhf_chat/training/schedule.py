"""When a round starts: on request, or after enough new ratings."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_chat.db import SIMULATED
from rlhf_chat.training.history import TrainingHistory
from rlhf_chat.training.round_runner import Exclude
from rlhf_chat.training.status import CRASHED


@dataclass(frozen=True)
class RoundRequest:
    trigger: str  # asked, retrain_without or ratings
    exclude: Exclude | None = None  # feedback that a retraining leaves out


class RoundSchedule:
    def __init__(self, history: TrainingHistory, needed: int) -> None:
        self.history = history
        self.request: RoundRequest | None = None  # of a person, until its round is open
        self.rater = ""  # the simulated rater to learn from; "" for people
        self.set_needed(needed)
        self._ended = ""  # how the last round ended
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
        request = self.request  # another one may come while ratings are counted
        return request or (RoundRequest("ratings") if automatic and self.enough else None)

    def begun(self, request: RoundRequest) -> None:
        """What was asked for is done, or cannot be."""
        if self.request is request:
            self.request = None

    @property
    def enough(self) -> bool:
        """Whether the ratings alone may start a round."""
        return self.waiting() >= self.needed and not self.held

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
            self._ended, self._waits_at = status, watermark

    @property
    def held(self) -> str:
        """Why ratings alone start no round before there is a new one: the last round was stopped,
        it failed, or the app crashed twice during it; "" if they do."""
        count = self.history.store.feedback.count()
        if count == self._crashed_at:
            return CRASHED
        return self._ended if count == self._waits_at else ""
