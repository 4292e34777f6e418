"""The next start of the app: its arguments, and what it is told by the one before."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from rlhf_chat import cli
from rlhf_chat.ui import restart


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ["--model=demo"]),
        (["app.py"], ["app.py", "--model=demo"]),
        (["app.py", "--model", "pocket", "--port", "7"], ["app.py", "--port", "7", "--model=demo"]),
        (["-m", "x", "serve", "--model=a", "--api"], ["-m", "x", "serve", "--api", "--model=demo"]),
    ],
)
def test_the_new_model_takes_the_place_of_the_old_one(given, expected):
    assert restart.with_model(given, "demo") == expected
    assert restart.with_model(expected, "demo") == expected


def test_without_a_name_the_start_chooses_as_it_would_without_the_flag():
    assert restart.with_model(["app.py", "--model=x", "--api"], "") == ["app.py", "--api"]


def test_what_a_start_is_told_is_told_once(monkeypatch):
    monkeypatch.setenv(restart.TOKEN, "abc")
    monkeypatch.setenv(restart.FALLBACK, "")
    assert restart.taken_over() == ("abc", "")
    assert restart.taken_over() == ("", None)


def test_a_process_is_replaced_by_the_same_program(monkeypatch):
    told = []
    monkeypatch.setattr(restart.os, "execv", lambda *line: told.append(line))
    monkeypatch.setattr(restart.sys, "executable", "/python")
    monkeypatch.setattr(restart.sys, "orig_argv", ["python", "app.py", "--model", "a"])
    for name in (restart.TOKEN, restart.FALLBACK):
        monkeypatch.setenv(name, "")  # so that it is as before after the test
    restart.NextStart("b", "abc", fallback="a").replace_process()
    assert told == [("/python", ["/python", "app.py", "--model=b"])]
    assert restart.taken_over() == ("abc", "a")


@pytest.mark.parametrize("error", [OSError("no such disk"), RuntimeError("no such card")])
def test_whatever_ends_the_start_the_model_before_comes_back(monkeypatch, tmp_path, capsys, error):
    def start(*_: object, **__: object) -> None:
        raise error

    replaced: list[restart.NextStart] = []
    monkeypatch.setattr(cli, "start", start)
    monkeypatch.setattr(cli, "prepare_process", lambda: None)
    monkeypatch.setattr(restart.NextStart, "replace_process", lambda self: replaced.append(self))
    monkeypatch.setenv(restart.TOKEN, "abc")
    monkeypatch.setenv(restart.FALLBACK, "pocket")
    assert cli.main(["--data", str(tmp_path), "--model", "other"]) == 1
    assert replaced == [restart.NextStart("pocket", "abc")]
    assert str(error) in capsys.readouterr().err
    with pytest.raises(type(error)) if isinstance(error, RuntimeError) else nullcontext():
        cli.main(["--data", str(tmp_path), "--model", "other"])  # nothing to come back to
    assert len(replaced) == 1
