"""When the updates of a round have to end, so that its verdict comes in about the time it is given.

Sizes are planned from the model's measured speed (round_plan.py), but other programs or a long chat
make a round slower than its plan. A round with a time budget then takes fewer
updates instead of more time. Pauses do not count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MIN_UPDATES = 4  # that a round takes however long they last: fewer could not change the replies


class TimeBudget:
    """Of one round, from its creation on."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`seconds`: from now to the verdict; 0 for no limit. `clock`: seconds, which stand still
        while training is paused."""
        self._seconds, self._clock = seconds, clock
        self._started = clock()
        self._updates_from: float | None = None
        self._each = 0.0  # seconds of one update, as of the last one that ended
        self._beside = 0.0  # seconds of all updates for what the evaluation does not do
        self._plain = 0.0  # seconds of one update without that
        self._expected_end: float | None = None  # where the updates end before their time does

    def updates_begin(self) -> None:
        self._updates_from = self._clock()

    def allows_another(self, done: int, updates_for_gate: float) -> bool:
        """Whether one more update fits after `done` ones. `updates_for_gate`: what the evaluation
        that follows costs, in updates."""
        now = self._clock()
        if self._updates_from is not None and done:
            self._each = (now - self._updates_from) / done
            self._plain = max(now - self._updates_from - self._beside, 0.0) / done
        if not self._seconds or self._updates_from is None or done < MIN_UPDATES:
            return True
        gate = self._plain * updates_for_gate
        return now - self._started + self._each + gate <= self._seconds

    @contextmanager
    def beside(self) -> Iterator[None]:
        """For work within an update that the evaluation has none of, such as replies of the base to
        prompts that are drawn for the first time."""
        began = self._clock()
        try:
            yield
        finally:
            self._beside += self._clock() - began

    def expect(self, remaining: float, updates_for_gate: float) -> None:
        """Notes that only so many updates will follow, as long as those before; inf where nothing
        says so. They may end before their time, at the KL target."""
        self._expected_end = None
        if self._each and math.isfinite(remaining):
            gate = self._plain * updates_for_gate
            self._expected_end = self._clock() + self._each * remaining + gate

    @property
    def seconds_left(self) -> float | None:
        """Until the updates and the evaluation should be over, >= 0; None where nothing limits
        them."""
        ends = [self._started + self._seconds] if self._seconds else []
        if self._expected_end is not None:
            ends.append(self._expected_end)
        return max(min(ends) - self._clock(), 0.0) if ends else None
