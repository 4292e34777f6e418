"""Bounds of a connection, from before there is a request: how many there may be, and how long one
may take to say what it wants. The bounds of a request are in open_routes.py and security.py.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

HEAD_SECONDS = 10.0  # for the first line and the headers to arrive
MOST_CONNECTIONS = 400  # a process may often have 1,024 files open; a tab has at most six


def bound(server: Any) -> None:
    """For connections that a running uvicorn server gets from now on. What is no HTTP at all ends
    them without a line in the log, which anybody could fill."""
    base = server.config.http_protocol_class
    server.config.http_protocol_class = type("Bounded", (_Bounded, base), {})
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class _Bounded:
    """Goes in front of uvicorn's protocol class. That one ends a connection which is idle between
    two requests; it waits for ever for the end of a request's headers."""

    cycle: Any  # the newest request; None before the first
    connections: set[Any]

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._until: asyncio.TimerHandle | None = None
        self._own_transport = transport
        super().connection_made(transport)  # type: ignore[misc]
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)  # type: ignore[misc]
        self._watch()

    def connection_lost(self, error: Exception | None) -> None:
        self._rest()
        super().connection_lost(error)  # type: ignore[misc]

    def _watch(self) -> None:
        """A body that goes on after its answer is watched, too."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._rest()
        elif self._until is None:
            loop = asyncio.get_running_loop()
            self._until = loop.call_later(HEAD_SECONDS, self._own_transport.abort)

    def _rest(self) -> None:
        if self._until is not None:
            self._until.cancel()
            self._until = None
