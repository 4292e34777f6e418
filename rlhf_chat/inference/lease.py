"""Who may compute right now: one owner at a time, chat before training.

The trainer works in slices (one micro-batch, a few decoded tokens) and asks for the lease before
each; a reply in progress makes it wait. It is not starved: after `patience` seconds without a
slice it gets exactly one, so a reply never waits for more than one slice.
Left out: anything about models. A kernel cannot be interrupted, so slices must be short.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

SLICE_SECONDS = 0.15  # what a slice aims for; the model sizes micro-batches and decode runs by it


class MemoryRequested(Exception):
    """Chat needs the memory that this work holds: drop it and start anew."""


class Lease:
    def __init__(self, patience: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._free = threading.Condition()
        self._owner: int | None = None
        self._replies = 0  # replies in progress
        self._waiting_turns = 0
        self._clock = clock
        self._patience = patience
        self._last_slice = clock()
        self.longest_slice = 0.0  # seconds; the most a reply can have waited
        self._holders: list[int] = []  # threads whose work holds memory that chat may ask for
        self._room_wanted = False

    @contextmanager
    def replying(self) -> Iterator[None]:
        """Marks a reply in progress, from the click to the last token."""
        with self._free:
            self._replies += 1
        try:
            yield
        finally:
            with self._free:
                self._replies -= 1
                self._free.notify_all()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One short stretch of compute for a reply; several replies take turns."""
        with self._free:
            self._waiting_turns += 1
            self._free.wait_for(lambda: self._owner is None)
            self._waiting_turns -= 1
            self._owner = threading.get_ident()
        try:
            yield
        finally:
            self._give_back()

    @contextmanager
    def preemptible(self) -> Iterator[None]:
        """Marks work that holds memory and can be done again (rollouts)."""
        with self._free:
            self._holders.append(threading.get_ident())
        try:
            yield
        finally:
            with self._free:
                self._holders.remove(threading.get_ident())

    def preemptible_slice(self) -> AbstractContextManager[None]:
        """A slice that raises MemoryRequested, before it begins, when chat is out of memory."""
        return self.slice(preemptible=True)

    def release_if_requested(self) -> None:
        """For droppable work that waits and takes no slice (it is paused): raises MemoryRequested
        as its next slice would."""
        with self._free:
            if self._room_wanted and threading.get_ident() in self._holders:
                raise MemoryRequested

    def request_memory(self, timeout: float = 2.0) -> None:
        """Asks droppable work to give its memory back, and waits until it did. No turn held."""
        with self._free:
            self._room_wanted = bool(self._holders)
            self._free.notify_all()
            self._free.wait_for(lambda: not self._room_wanted, timeout)
            self._room_wanted = False

    def memory_released(self) -> None:
        with self._free:
            self._room_wanted = False
            self._free.notify_all()

    @contextmanager
    def slice(self, preemptible: bool = False) -> Iterator[None]:
        """One short stretch of compute for the trainer."""
        with self._free:
            while not self._slice_may_start():
                if preemptible and self._room_wanted:
                    raise MemoryRequested
                self._free.wait(timeout=0.05)
            self._owner = threading.get_ident()
        started = self._clock()
        try:
            yield
        finally:
            self._last_slice = self._clock()
            self.longest_slice = max(self.longest_slice, self._last_slice - started)
            self._give_back()

    def _slice_may_start(self) -> bool:
        if self._owner is not None or self._waiting_turns:
            return False
        return self._replies == 0 or self._clock() - self._last_slice > self._patience

    def _give_back(self) -> None:
        with self._free:
            self._owner = None
            self._free.notify_all()

    @property
    def chat_is_waiting(self) -> bool:
        return self._replies > 0

    def assert_held(self) -> None:
        """Raises RuntimeError unless this thread holds the lease."""
        if self._owner != threading.get_ident():
            raise RuntimeError("the compute lease is not held by this thread")
