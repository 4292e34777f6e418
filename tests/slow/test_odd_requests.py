"""Thousands of odd requests, by a page that is in and by strangers: no traceback, no leak."""

from __future__ import annotations

import gc
import random
import socket
import time
from itertools import pairwise
from pathlib import Path

import pytest

from rlhf_chat.ui import app
from tests.integration.test_open_routes import _odd_call, web  # noqa: F401

# Bytes that ROUND requests may leave behind: a leak is in each round, a cache fills in one.
GROWTH = 4 << 20
ROUND = 500
STATM = Path("/proc/self/statm")


def resident() -> int:
    gc.collect()
    return int(STATM.read_text().split()[1]) * 4096


def odd_bytes(port: int, rng: random.Random) -> None:
    """No HTTP, or half of it, by somebody who has no cookie."""
    head = rng.choice(
        [b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\nContent-Length: 9\r\n\r\n", b""]
    )
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head + rng.randbytes(rng.randrange(200)))


@pytest.mark.skipif(not STATM.exists(), reason="memory is read as on Linux")
def test_odd_requests_leave_no_traceback_and_no_memory(web, capfd, caplog):  # noqa: F811
    rng, fns = random.Random(1), dict(app._running.fns)

    def some(count: int) -> None:
        for _ in range(count):
            _odd_call(web, rng, fns)
            odd_bytes(web.base_url.port, rng)
        until = time.monotonic() + 60
        while any(app._running._queue.active_jobs) and time.monotonic() < until:
            time.sleep(0.05)

    some(ROUND)
    for _ in range(20):  # until the tabs that Gradio remembers are as many as they may be
        if len(app._running.state_holder.session_data) >= app.SESSIONS:
            break
        some(ROUND // 2)
    sizes = [resident()]
    for _ in range(3):
        some(ROUND)
        sizes.append(resident())
    grown = min(after - before for before, after in pairwise(sizes))
    told = "".join(capfd.readouterr())
    assert "Traceback" not in told, told[told.index("Traceback") :][:3000]
    assert not [record for record in caplog.records if record.exc_info]
    assert web.get("").status_code == 200
    assert grown < GROWTH, f"{grown >> 20} MiB, {[size >> 20 for size in sizes]}"
