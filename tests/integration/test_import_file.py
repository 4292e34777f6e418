"""`rlhf-chat import`: what it prints, stores and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlhf_chat import cli
from rlhf_chat.db import Store
from rlhf_chat.inference.model import Model
from tests.rating_samples import BLUE, DEEP, SEA, lines

PAIR = {"prompt": SEA.lower(), "chosen": BLUE.lower(), "rejected": DEEP.lower()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(lines({"text": "x"}, PAIR, PAIR | {"prompt": "hello"}))
    return path


def told(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_dry_run_reads_and_writes_nothing(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    assert cli.main(["import", str(file), "--dry-run", "--json", "--data", str(data)]) == 0
    reason = "It has no known rating format."
    assert told(capsys) == {"read": 2, "unread": [{"line": 1, "reason": reason}]}
    assert not data.exists()


def test_ratings_are_stored_once_under_the_name_that_is_given(
    file: Path,
    tmp_path: Path,
    toy: Model,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Model, "load", lambda name, **how: toy)
    flags = ["import", str(file), "--data", str(tmp_path / "data"), "--model", "demo"]
    assert cli.main([*flags, "--as", "Kim", "--json"]) == 0
    first = told(capsys)
    assert (first["read"], first["new"], len(first["unread"])) == (2, 2, 1)
    assert cli.main([*flags, "--as", "Kim"]) == 0
    lines_told = capsys.readouterr().out
    assert "Ratings read: 2. New: 0." in lines_told and "  1: It has no" in lines_told
    store = Store(tmp_path / "data" / "feedback.db")
    try:
        assert store.counts()["preferences"] == 2
        assert {one.rater for one in store.feedback.preferences()} <= {"Kim"}
    finally:
        store.close()


def test_nothing_is_written_while_an_app_has_the_data(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "feedback.db")
    try:
        before = {p.name: p.stat().st_size for p in tmp_path.iterdir()}
        assert cli.main(["import", str(file), "--data", str(tmp_path)]) == 1
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1 and "already open" in printed.err
        assert {p.name: p.stat().st_size for p in tmp_path.iterdir()} == before
        assert store.counts()["preferences"] == 0
    finally:
        store.close()


@pytest.mark.parametrize("content", [b"", b"[]", b"no ratings", b"\x89PNG\r\n\x1a\n"])
def test_a_file_without_ratings_is_an_exit_code_and_opens_nothing(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(content)
    data = tmp_path / "data"
    assert cli.main(["import", str(file), "--json", "--data", str(data)]) == 1
    assert told(capsys)["read"] == 0 and not data.exists()
    assert cli.main(["import", str(tmp_path / "gone.json")]) == 1
    assert "is not there" in capsys.readouterr().err
