"""When the updates of a round have to end, so that its verdict comes in about the time it is given.

Sizes are planned from the model's measured speed (round_plan.py), but other programs or a long chat
make a round slower than its plan. A round with a time budget then takes fewer
updates instead of more time. Pauses do not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable

MIN_UPDATES = 4  # that a round takes however long they last: fewer could not change the replies


class TimeBudget:
    """Of one round, from its creation on."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`seconds`: from now to the verdict; 0 for no limit. `clock`: seconds, which stand still
        while training is paused."""
        self._seconds, self._clock = seconds, clock
        self._started = clock()
        self._updates_from: float | None = None

    def updates_begin(self) -> None:
        self._updates_from = self._clock()

    def allows_another(self, done: int, updates_for_gate: float) -> bool:
        """Whether one more update fits after `done` ones. `updates_for_gate`: what the evaluation
        that follows costs, in updates."""
        if not self._seconds or self._updates_from is None or done < MIN_UPDATES:
            return True
        now = self._clock()
        each = (now - self._updates_from) / done
        return now - self._started + each * (1 + updates_for_gate) <= self._seconds

    @property
    def seconds_left(self) -> float | None:
        """Until the time is over; None without a limit, or when it is over already."""
        left = self._started + self._seconds - self._clock()
        return left if self._seconds and left > 0 else None
