"""Signals that end the app in order."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from rlhf_chat.ui import app
from rlhf_chat.ui.restart import Restart

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")


@pytest.fixture
def patience() -> Iterator[None]:
    """Nothing that the app does not hear may end the tests."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


def later(seconds: float, name: str) -> None:
    number = getattr(signal, name)
    threading.Timer(seconds, os.kill, [os.getpid(), number]).start()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_app_waits_for_a_signal_and_goes_on_to_close(patience, name):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    before = signal.getsignal(getattr(signal, name))
    later(0.05, name)
    app._wait_for_the_end(Restart())
    assert signal.getsignal(getattr(signal, name)) is before


def test_nohup_keeps_the_app_running_when_the_terminal_is_closed(patience):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    began = time.monotonic()
    later(0.05, "SIGHUP")
    later(0.5, "SIGTERM")
    app._wait_for_the_end(Restart())
    assert time.monotonic() - began > 0.45


def test_the_app_ends_when_another_model_is_asked_for(patience):
    restart = Restart()
    threading.Timer(0.05, restart.ask, ["demo"]).start()
    began = time.monotonic()
    app._wait_for_the_end(restart)
    assert time.monotonic() - began < 5
