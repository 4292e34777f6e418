"""Threads that write replies for the API, so many at once; further requests wait their turn.

A reply is written by a thread and read by the event loop, which only ever needs its latest state. A
client that goes away sets `stop`, which the thread sees at the next token, or gives up its place in
the line.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from rlhf_chat.api.errors import Refusal

T = TypeVar("T")

AT_ONCE = 16  # replies being written; each holds a KV cache
WAITING = 240  # that may wait for a place

Begin = Callable[[threading.Event], Iterator[T]]


class Places:
    def __init__(self, at_once: int = AT_ONCE, waiting: int = WAITING) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="api-reply")
        self._most = at_once + waiting
        self._taken: set[Written[Any]] = set()

    @property
    def taken(self) -> int:
        """Requests that are being answered or wait."""
        return len(self._taken)

    @contextlib.asynccontextmanager
    async def writing(self, begin: Begin[T]) -> AsyncIterator[Written[T]]:
        """What `begin(stop)` yields, in a thread. Leaving the block stops it. Raises Refusal if too
        many wait already."""
        if len(self._taken) >= self._most:
            raise Refusal(429, "security.too_many")
        written: Written[T] = Written(asyncio.get_running_loop())
        self._taken.add(written)
        future = self._threads.submit(written.run, begin)
        try:
            yield written
        finally:
            written.stop.set()
            future.cancel()
            self._taken.discard(written)

    def close(self) -> None:
        """Stops what is being written; returns at once."""
        for written in list(self._taken):
            written.stop.set()
        self._threads.shutdown(wait=False, cancel_futures=True)


class Written(Generic[T]):
    """An asynchronous iterator over the latest state; states that nobody waited for are skipped."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.stop = threading.Event()
        self._loop, self._news = loop, asyncio.Event()
        self._latest: list[T] = []  # at most one
        self._error: BaseException | None = None
        self._ended = False

    def run(self, begin: Begin[T]) -> None:
        """In the thread: everything that `begin` yields, until its end or an error."""
        error: BaseException | None = None
        try:
            if not self.stop.is_set():
                for state in begin(self.stop):
                    self._tell(self._put, state)
        except BaseException as raised:
            error = raised
        self._tell(self._end, error)

    def _tell(self, what: Callable[..., None], *values: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended with the app
            self._loop.call_soon_threadsafe(what, *values)

    def _put(self, state: T) -> None:
        self._latest = [state]
        self._news.set()

    def _end(self, error: BaseException | None) -> None:
        self._error, self._ended = error, True
        self._news.set()

    def __aiter__(self) -> AsyncIterator[T]:
        return self._states()

    async def _states(self) -> AsyncIterator[T]:
        while True:
            await self._news.wait()
            self._news.clear()
            latest, self._latest = self._latest, []
            for state in latest:
                yield state
            if self._ended and not self._latest:
                if self._error:
                    raise self._error
                return
