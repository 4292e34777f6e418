"""A thousand odd requests, by a page that is in and by strangers: no traceback, no memory kept."""

from __future__ import annotations

import gc
import random
import socket
import time
from pathlib import Path

import pytest

from rlhf_chat.ui import app
from tests.integration.test_open_routes import _odd_call, web  # noqa: F401

GROWTH = 8 << 20  # bytes that the second thousand may leave behind; measured: below one MiB
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
def test_a_thousand_odd_requests_leave_no_traceback_and_no_memory(web, capfd, caplog):  # noqa: F811
    rng, fns = random.Random(1), dict(app._running.fns)

    def some(count: int) -> None:
        for _ in range(count):
            _odd_call(web, rng, fns)
            odd_bytes(web.base_url.port, rng)
        until = time.monotonic() + 60
        while any(app._running._queue.active_jobs) and time.monotonic() < until:
            time.sleep(0.05)

    some(1000)  # until the tabs that Gradio remembers are as many as they may be
    before = resident()
    some(1000)
    grown = resident() - before
    told = "".join(capfd.readouterr())
    assert "Traceback" not in told, told[told.index("Traceback") :][:3000]
    assert not [record for record in caplog.records if record.exc_info]
    assert web.get("").status_code == 200
    assert grown < GROWTH, f"{grown >> 20} MiB"
