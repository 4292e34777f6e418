"""Logs of rounds for other programs: every measure arrives, and no error reaches the round."""

from __future__ import annotations

import builtins
import importlib
import socket
import sqlite3  # reads what trackio wrote; no database of the app
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rlhf_chat import cli
from rlhf_chat.errors import AppError
from rlhf_chat.training import event_log
from rlhf_chat.training.event_log import careful

NUMBERS = {"score": 0.5, "kl": 1.25}


class Broken:
    """Fails where it is told to, and remembers what reached it."""

    def __init__(self, at: str) -> None:
        self.at, self.seen = at, []  # type: ignore[var-annotated]

    def open(self, round_id: int, settings: Mapping[str, Any]) -> Broken:
        return self._did("open")

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        self._did("add")

    def close(self) -> None:
        self._did("close")

    def _did(self, what: str) -> Broken:
        self.seen.append(what)
        if what == self.at:
            raise OSError("no space left")
        return self


@pytest.mark.parametrize(
    ("at", "seen"),
    [
        ("", ["open", "add", "add", "close"]),
        ("open", ["open"]),
        ("add", ["open", "add"]),
        ("close", ["open", "add", "add", "close"]),
    ],
)
def test_an_error_ends_the_log_and_nothing_else(at: str, seen: list[str]) -> None:
    broken = Broken(at)
    log = careful(broken.open, 1, {})
    log.add(0, NUMBERS)
    log.add(1, NUMBERS)
    log.close()
    assert broken.seen == seen


@pytest.mark.parametrize("kind", event_log.KINDS)
def test_what_is_not_installed_is_named(kind: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: builtins.__import__("no_such"))
    with pytest.raises(AppError, match=f"pip install {kind}"):
        event_log.event_log(kind, tmp_path)


def test_the_flag_offers_what_there_is() -> None:
    assert tuple(event_log.KINDS) == cli.LOGS


def test_tensorboard_reads_every_measure(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = event_log.event_log("tensorboard", tmp_path)(3, {"seed": 1})
    for step in range(3):
        log.add(step, {"score": step / 2, "kl": 1.0})
    log.close()
    read = EventAccumulator(str(tmp_path / "tensorboard" / "round-0003"))
    read.Reload()
    assert set(read.Tags()["scalars"]) == {"score", "kl"}
    assert [(e.step, e.value) for e in read.Scalars("score")] == [(0, 0.0), (1, 0.5), (2, 1.0)]


def test_trackio_keeps_every_measure_here(tmp_path: Path, monkeypatch: Any) -> None:
    if not find_spec("trackio"):
        pytest.skip("trackio is not installed")
    assert "trackio" not in sys.modules  # it reads its folder when it is imported
    monkeypatch.setenv("TRACKIO_SERVER_URL", "http://192.0.2.1")  # must not be asked
    asked = []
    connect = socket.socket.connect
    monkeypatch.setattr(
        socket.socket, "connect", lambda self, to: (asked.append(to), connect(self, to))[1]
    )
    log = event_log.event_log("trackio", tmp_path)(3, {"seed": 1})
    for step in range(3):
        log.add(step, {"score": step / 2, "kl": 1.0})
    log.close()
    [file] = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(file) as db:
        rows = db.execute("SELECT step, metrics FROM metrics ORDER BY step").fetchall()
    assert [step for step, _ in rows] == [0, 1, 2] and all(b"score" in m for _, m in rows)
    assert not [to for to in asked if isinstance(to, tuple) and to[0] not in ("127.0.0.1", "::1")]
