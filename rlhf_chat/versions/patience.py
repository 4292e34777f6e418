"""Calls that may hang, as on a disk of the network: answered in time, or left to go on alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Patience:
    """At most one call of each name is under way; asked again, it is waited for again."""

    def __init__(self) -> None:
        self._calls: dict[str, Future[Any]] = {}

    def call(self, name: str, what: Callable[[], T], seconds: float) -> T:
        """Its result, or what it raises. Raises TimeoutError when it takes longer; it then goes on,
        and its result is kept for the next one who asks under this name."""
        future = self._calls.get(name)
        if future is None:
            future = self._calls[name] = Future()
            run = threading.Thread(target=_run, args=(future, what), name=name, daemon=True)
            run.start()
        try:
            result: T = future.result(timeout=seconds)
            return result
        finally:
            if future.done():
                del self._calls[name]


def _run(future: Future[Any], what: Callable[[], Any]) -> None:
    try:
        future.set_result(what())
    except BaseException as error:
        future.set_exception(error)
