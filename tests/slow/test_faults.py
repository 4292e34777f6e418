"""Every failure at every point of rlhf_chat/faults.py, a hang at those of a round, a kill at each.

RLHF_CHAT_POINTS="publish.*" takes some of them only.
"""

from __future__ import annotations

import fnmatch
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from rlhf_chat import faults as product
from rlhf_chat.inference.model import Model
from rlhf_chat.training import gate
from tests import faults
from tests.integration.test_faults import app, check_failure  # noqa: F401 -- a fixture

ROOT = Path(__file__).parents[2]
CHOSEN = os.environ.get("RLHF_CHAT_POINTS", "*")
POINTS = [name for name in sorted(faults.CASES) if fnmatch.fnmatch(name, CHOSEN)]
HUNG = [name for name in POINTS if faults.CASES[name] in (faults.ROUND, faults.BACK_UP)]


@pytest.mark.parametrize("act", faults.FAILURES, ids=lambda act: act.__name__)
@pytest.mark.parametrize("name", [p for p in POINTS if p not in faults.ONLY_KILLED])
def test_a_failure_there_is_named_and_loses_nothing(
    app: faults.App,  # noqa: F811
    name: str,
    act: Callable[[], None],
) -> None:
    check_failure(app, name, act)


@pytest.mark.parametrize("name", HUNG)
def test_chat_and_ratings_go_on_while_it_hangs_there(app: faults.App, name: str) -> None:  # noqa: F811
    app.rate()
    app.vote()
    app.vote()
    go, there = threading.Event(), threading.Event()

    def hang() -> None:
        there.set()
        go.wait(120)

    def run() -> None:
        with suppress(Exception), product.armed(name, hang):
            faults.CASES[name](app)

    step = threading.Thread(target=run)
    step.start()
    try:
        assert there.wait(120)
        app.rate()
    finally:
        go.set()
        step.join(120)
    assert not step.is_alive()
    app.check()


def child(folder: Path, toy: Path, name: str) -> None:
    """Rates, trains, and is killed at that point; prints what was acknowledged."""
    gate.judge = faults.promote_everything  # type: ignore[assignment]
    made = faults.App(folder, Model.load(str(toy), quantization="none"))
    made.rate()
    made.vote()
    made.vote()
    if faults.CASES[name] in (faults.ROUND, faults.App.read_version):
        made.round()
    print(*made.acknowledged, flush=True)
    with product.armed(name, lambda: os.kill(os.getpid(), 9)):
        faults.CASES[name](made)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("name", POINTS)
def test_a_kill_there_loses_nothing(
    name: str, disk_path: Path, toy: Model, toy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = disk_path / "data"
    command = [sys.executable, "-m", "tests.slow.test_faults", str(folder), str(toy_folder), name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr[-2000:]
    monkeypatch.setattr(gate, "judge", faults.promote_everything)
    found = faults.App(folder, toy)
    try:
        found.acknowledged = done.stdout.split()
        assert found.acknowledged
        found.check()
        assert all(r.ended_at for r in found.store.rounds.newest())
        faults.CASES[name](found)
        found.check()
        assert found.store.unerased == []
    finally:
        found.close()


if __name__ == "__main__":
    child(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
