"""Measures of rounds for other programs to draw: event files of TensorBoard, or a trackio project.

Off unless asked for, beside what the database holds, in the data folder: nothing is sent anywhere.
Both packages are optional. What goes wrong while a log is written ends the log, never a round.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from rlhf_chat.errors import AppError

log = logging.getLogger(__name__)

Settings = Mapping[str, Any]  # of a round, as `RoundConfig.as_dict` has them


class RoundLog(Protocol):
    """Of one round."""

    def add(self, step: int, numbers: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


OpenLog = Callable[[int, Settings], RoundLog]  # (round, settings) -> its log


def event_log(kind: str, data: Path) -> OpenLog:
    """`kind`: one of KINDS. Raises AppError where its package is not installed."""
    try:
        return KINDS[kind](data / kind)
    except ImportError as error:
        raise AppError("training.log_not_installed", package=kind) from error


def careful(open_log: OpenLog, round_id: int, settings: Settings) -> RoundLog:
    """The log of a round, which ends at its first error."""
    return _Careful(lambda: open_log(round_id, settings))


class _NoLog:
    def add(self, step: int, numbers: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class _Careful:
    def __init__(self, open_log: Callable[[], RoundLog]) -> None:
        self._log: RoundLog = _NoLog()
        self._log = self._try(open_log) or self._log

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        self._try(lambda: self._log.add(step, numbers))

    def close(self) -> None:
        self._try(self._log.close)
        self._log = _NoLog()

    def _try(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception:
            log.warning("the log of this round ends here", exc_info=True)
            self._log = _NoLog()
            return None


class _TensorBoard:
    """A folder of event files for each round."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Trackio:
    """A run of one project for each round."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()


def _tensorboard(folder: Path) -> OpenLog:
    writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
    return lambda round_id, settings: _TensorBoard(writer(str(folder / _name(round_id))))


def _trackio(folder: Path) -> OpenLog:
    # Read when it is imported. What else is set there could send the measures to a server.
    for name in [name for name in os.environ if name.startswith("TRACKIO_")]:
        del os.environ[name]
    os.environ["TRACKIO_DIR"] = str(folder)
    trackio = importlib.import_module("trackio")

    def open_log(round_id: int, settings: Settings) -> RoundLog:
        return _Trackio(
            trackio.init(
                project="rlhf-chat",
                name=_name(round_id),
                config=dict(settings),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        )

    return open_log


def _name(round_id: int) -> str:
    return f"round-{round_id:04}"


KINDS: dict[str, Callable[[Path], OpenLog]] = {"tensorboard": _tensorboard, "trackio": _trackio}
