"""Programs that tests start and end."""

from __future__ import annotations

import signal
import subprocess


def end(process: subprocess.Popen, how: signal.Signals, seconds: float = 30) -> None:
    """Asks a program to end, and ends it if it has not after so long."""
    process.send_signal(how)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
