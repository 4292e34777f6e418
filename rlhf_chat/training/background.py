"""A thread that repeats a step, at once when woken and otherwise every second."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between steps
JOIN_SECONDS = 30.0  # how long `close` waits for the step that runs


class BackgroundThread:
    def __init__(self, name: str, step: Callable[[], object], on_error: Callable[[], None]) -> None:
        """`on_error` is called in the thread after a step that raised; the thread goes on."""
        self._name, self._step, self._on_error = name, step, on_error
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Between `start` and `close`."""
        return self._thread is not None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Runs the step as soon as possible. Returns at once."""
        self._wake.set()

    def close(self) -> None:
        """Waits for the step that runs, then ends the thread."""
        self._closing.set()
        self._wake.set()
        if self._thread:
            self._thread.join(timeout=JOIN_SECONDS)
            self._thread = None

    def _loop(self) -> None:
        while not self._closing.is_set():
            try:
                self._step()
            except BaseException:  # the thread outlives anything a step can raise
                log.exception("a step of the %s failed", self._name)
                self._on_error()
            self._wake.wait(timeout=INTERVAL)
            self._wake.clear()
