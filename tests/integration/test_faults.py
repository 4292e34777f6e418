"""One failure at every point of rlhf_chat/faults.py: chat answers, nothing is lost, it is named.

All failures at every point are in tests/slow/test_faults.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf_chat.inference.model import Model
from rlhf_chat.training import gate
from rlhf_chat.versions import registry
from tests import faults

RAISED = sorted(set(faults.CASES) - faults.ONLY_KILLED)
SAMPLE = [(name, list(faults.FAILURES)[i % 2]) for i, name in enumerate(RAISED)]


@pytest.fixture
def app(tmp_path: Path, toy: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[faults.App]:
    monkeypatch.setattr(gate, "judge", faults.promote_everything)
    monkeypatch.setattr(registry, "RETRY_SECONDS", 0.0)
    made = faults.App(tmp_path / "data", toy)
    yield made
    made.close()


def test_every_point_has_a_case() -> None:
    assert faults.points() == set(faults.CASES)


@pytest.mark.parametrize(("name", "act"), SAMPLE, ids=[f"{n}-{a.__name__}" for n, a in SAMPLE])
def test_a_failure_there_is_named_and_loses_nothing(app: faults.App, name: str, act) -> None:
    check_failure(app, name, act)


def check_failure(app: faults.App, name: str, act) -> None:
    app.rate()
    app.vote()
    app.vote()
    if faults.CASES[name] in (faults.ROUND, faults.App.read_version):
        app.round()
    before = app.store.adapter_versions.live()
    told = faults.fail_at(app, name, act)
    if name not in faults.TOLD_LATER:
        assert faults.FAILURES[act] in told
        assert told or not faults.FAILURES[act]
    if name != "publish.before_switch":  # after its row is there, the version is live
        assert app.store.adapter_versions.live() == before
    app.check()
    faults.CASES[name](app)  # it works once the cause is gone
    app.check()
    if name in faults.TOLD_LATER:
        app.store.finish_erasing()
    assert app.store.unerased == []
