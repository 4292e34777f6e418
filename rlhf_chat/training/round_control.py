"""Pause, stop and close: how the running round is made to wait or to end."""

from __future__ import annotations

import threading
import time

from rlhf_chat.inference.lease import Lease


class Stopped(Exception):
    """Raised inside a round by `RoundControl.check` when the round should end now."""


class RoundControl:
    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.paused = False
        self.stop = threading.Event()  # ends the running round
        self.closing = threading.Event()  # ends every round, for good

    def check(self) -> None:
        """Called by a round between slices: raises Stopped, or returns only once not paused."""
        while self.paused and not self._ending:
            self.lease.release_if_requested()
            time.sleep(0.05)
        if self._ending:
            raise Stopped

    @property
    def _ending(self) -> bool:
        return self.stop.is_set() or self.closing.is_set()
