"""The lease: a lock on compute that gives chat priority over training.

Training works in slices (one micro-batch, a few decoded tokens) and acquires the lease for each.
While a reply is in progress it waits, but is not starved: after `patience` seconds without a slice
it gets exactly one. A kernel cannot be interrupted, so a reply may wait for one slice and slices
must be short: where a micro-batch takes long, it pauses between its layers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

SLICE_SECONDS = 0.15  # target length of a slice


class MemoryRequested(Exception):
    """Raised in preemptible work when chat needs its memory: free everything and start again."""


class Lease:
    """Thread-safe and not reentrant. `patience` in seconds; `clock` returns seconds."""

    def __init__(self, patience: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._free = threading.Condition()
        self._owner: int | None = None
        self._slice_began: float | None = None  # None: nobody holds it, or a reply does
        self._replies = 0  # replies in progress
        self._waiting_turns = 0
        self._clock = clock
        self._patience = patience
        self._last_slice = self._last_reply = clock()
        self.longest_slice = 0.0  # seconds; upper bound of the time a reply has waited
        self._holders: list[int] = []  # ids of threads doing preemptible work
        self._memory_requested = False

    @contextmanager
    def replying(self) -> Iterator[None]:
        """Marks a reply as in progress, from the request to the last token."""
        with self._free:
            self._replies += 1
        try:
            yield
        finally:
            with self._free:
                self._replies -= 1
                self._last_reply = self._clock()
                self._free.notify_all()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Holds the lease for a short computation of a reply, ahead of waiting slices."""
        with self._free:
            self._waiting_turns += 1
            self._free.wait_for(lambda: self._owner is None)
            self._waiting_turns -= 1
            self._owner = threading.get_ident()
        try:
            yield
        finally:
            self._release()

    @contextmanager
    def preemptible(self) -> Iterator[None]:
        """Marks work of this thread that holds memory and can be repeated (rollouts)."""
        with self._free:
            self._holders.append(threading.get_ident())
        try:
            yield
        finally:
            with self._free:
                self._holders.remove(threading.get_ident())

    def preemptible_slice(self) -> AbstractContextManager[None]:
        """A slice that raises MemoryRequested, before it begins, if chat has run out of memory."""
        return self.slice(preemptible=True)

    def release_if_requested(self) -> None:
        """For preemptible work that is paused and takes no slices: raises MemoryRequested if the
        next slice would."""
        with self._free:
            if self._memory_requested and threading.get_ident() in self._holders:
                raise MemoryRequested

    def request_memory(self, timeout: float = 2.0) -> None:
        """Asks preemptible work to free its memory; waits for it, at most `timeout` seconds.
        Must not be called while holding the lease."""
        with self._free:
            self._memory_requested = bool(self._holders)
            self._free.notify_all()
            self._free.wait_for(lambda: not self._memory_requested, timeout)
            self._memory_requested = False

    def memory_released(self) -> None:
        """Preemptible work has freed its memory after MemoryRequested."""
        with self._free:
            self._memory_requested = False
            self._free.notify_all()

    @contextmanager
    def slice(self, preemptible: bool = False) -> Iterator[None]:
        """Holds the lease for a short computation of training. Raises MemoryRequested, while
        waiting, if `preemptible` and chat has run out of memory."""
        self._begin_slice(preemptible)
        try:
            yield
        finally:
            self._end_slice()

    def pause(self) -> None:
        """Where work that holds a slice can be interrupted: if the slice has had its time, it ends
        here and the next one begins, after the replies that wait. In a turn of a reply nothing
        happens."""
        began = self._slice_began if self._owner == threading.get_ident() else None
        if began is not None and self._clock() - began >= SLICE_SECONDS:
            self._end_slice()
            self._begin_slice()

    def _begin_slice(self, preemptible: bool = False) -> None:
        with self._free:
            while not self._slice_may_start():
                if preemptible and self._memory_requested:
                    raise MemoryRequested
                self._free.wait(timeout=0.05)
            self._owner = threading.get_ident()
            self._slice_began = self._clock()

    def _end_slice(self) -> None:
        self._last_slice = self._clock()
        began = self._last_slice if self._slice_began is None else self._slice_began
        self.longest_slice = max(self.longest_slice, self._last_slice - began)
        self._slice_began = None
        self._release()

    def _slice_may_start(self) -> bool:
        if self._owner is not None or self._waiting_turns:
            return False
        return self._replies == 0 or self._clock() - self._last_slice > self._patience

    def _release(self) -> None:
        with self._free:
            self._owner = None
            self._free.notify_all()

    @property
    def chat_is_waiting(self) -> bool:
        return self._replies > 0

    @property
    def idle_seconds(self) -> float:
        """Since the last reply ended; 0 during one."""
        return 0.0 if self._replies else self._clock() - self._last_reply

    def assert_held(self) -> None:
        """Raises RuntimeError unless this thread holds the lease."""
        if self._owner != threading.get_ident():
            raise RuntimeError("the compute lease is not held by this thread")
