"""Pause, stop and close: how the running round is made to wait or to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rlhf_chat.errors import StoreError
from rlhf_chat.inference.lease import Lease

HALT_SECONDS = 60.0  # how long the running round may take to end


class Stopped(Exception):
    """Raised inside a round by `RoundControl.check` when the round should end now."""


class RoundControl:
    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.paused = False
        self._paused_seconds = 0.0
        self.stop = threading.Event()  # ends the running round
        self.closing = threading.Event()  # ends every round, for good

    def check(self) -> None:
        """Called by a round between slices: raises Stopped, or returns only once not paused."""
        if self.paused:
            began = time.monotonic()
            while self.paused and not self._ending:
                self.lease.release_if_requested()
                time.sleep(0.05)
            self._paused_seconds += time.monotonic() - began
        if self._ending:
            raise Stopped

    def clock(self) -> float:
        """Seconds, which stood still while a round waited for the end of a pause."""
        return time.monotonic() - self._paused_seconds

    def end_round(self, running: Callable[[], bool]) -> None:
        """Ends the round and returns when it is no longer `running`. Raises StoreError when that
        takes too long."""
        deadline = time.monotonic() + HALT_SECONDS
        while running():
            if time.monotonic() > deadline:
                raise StoreError("training.round_not_ending")
            self.stop.set()
            time.sleep(0.02)

    @property
    def _ending(self) -> bool:
        return self.stop.is_set() or self.closing.is_set()
