"""Twenty starts on one data folder at the same moment: one opens the database, the rest say so."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path

from rlhf_chat.db import Store
from rlhf_chat.ui import running_app
from tests.integration.test_app import command, environment, free_port

STARTS = 20
PATIENCE = 600.0  # seconds, for twenty imports of torch


def test_of_twenty_starts_at_once_one_has_the_folder(tmp_path: Path) -> None:
    """Each with a port of its own, so that only the folder is in the way."""
    began = threading.Barrier(STARTS)
    started: list[subprocess.Popen[str]] = []

    def start() -> None:
        port = free_port()
        began.wait()
        started.append(
            subprocess.Popen(
                command(tmp_path, "demo", "--port", str(port)),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(),
            )
        )

    threads = [threading.Thread(target=start) for _ in range(STARTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    limit = time.monotonic() + PATIENCE
    try:
        while sum(one.poll() is None for one in started) > 1:
            assert time.monotonic() < limit
            time.sleep(0.2)
        [owner] = [one for one in started if one.poll() is None]
        while not running_app.find(tmp_path):
            assert owner.poll() is None and time.monotonic() < limit
            time.sleep(0.2)
        for one in started:
            if one is not owner:
                told = one.stderr.read() if one.stderr else ""
                assert one.returncode == 1 and told.count("\n") == 1, told
                assert "is already open in this app" in told
    finally:
        for one in started:
            if one.poll() is None:
                one.send_signal(signal.SIGTERM)
        codes = [one.wait(120) for one in started]
    assert sorted(codes) == [0] + [1] * (STARTS - 1)
    Store(tmp_path / "feedback.db").close()
