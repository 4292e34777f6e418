"""`--json` of every verb: stdout is JSON and nothing else, whether it could be done or not. With a
model of random weights."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import rlhf_chat
from rlhf_chat import cli
from rlhf_chat.inference.model import Model
from rlhf_chat.json_output import print_json
from tests.exported_versions import publish
from tests.integration.test_app import command, environment, free_port

ROOT = Path(__file__).parents[2]

# verb -> words that are done, and keys of what is printed then
DONE: dict[str, tuple[list[str], set[str]]] = {
    "chat": (
        ["hello", "--max-tokens", "4", "--data", "{data}"],
        {"id", "text", "version", "finish_reason"},
    ),
    "rate": (["last", "up", "--data", "{data}"], {"id", "reply", "thumb", "stars"}),
    "train": (["--data", "{data}"], {"round", "status", "reason"}),
    "versions": (["--live", "v1", "--data", "{data}"], {"id", "live", "tier", "created_at"}),
    "export": (["--data", "{data}"], {"kind", "answer", "prompt", "reply"}),
    "token": (["--data", "{data}"], {"token"}),
    "import": (
        ["{pairs}", "--data", "{data}", "--model", "demo"],
        {"read", "new", "stopped", "unread"},
    ),
    "doctor": (["--data", "{data}"], {"exit", "lines"}),
    "models": ([], {"presets", "local"}),
    "pull": (["pocket"], {"name", "here"}),
    "convert": (["{pickled}", "{new}"], {"folder"}),
}

# verb -> words that cannot be done
FAILS = {
    "serve": ["--data", "{pairs}", "--no-browser"],
    "chat": ["hello", "--version", "v9", "--data", "{data}"],
    "rate": ["--id", "x", "--stars", "1", "--data", "{data}"],
    "train": ["--data", "{none}"],
    "versions": ["--live", "v9", "--data", "{data}"],
    "export": ["v9", "--to", "gguf", "--data", "{data}"],
    "token": ["--data", "{pairs}"],
    "import": ["{none}"],
    "pull": ["nothing"],
    "convert": ["{none}", "{new}"],
}


@pytest.fixture
def words(
    tmp_path: Path, toy: Model, toy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """What stands for the names in braces: a folder with a version, a reply and a rating."""

    def load(*_: Any) -> Model:
        print("Loading ...")
        return toy

    monkeypatch.setattr(cli, "prepare_process", lambda: None)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    monkeypatch.setattr("rlhf_chat.serve.load_model", load)
    monkeypatch.setattr(Model, "load", lambda name, **how: load())
    monkeypatch.setattr("rlhf_chat.inference.pull.is_here", lambda name: True)
    data, pairs, pickled = tmp_path / "data", tmp_path / "pairs.jsonl", tmp_path / "pickled"
    data.mkdir()
    publish(data, toy)
    with rlhf_chat.open(data) as session:
        session.rate(session.reply("hello", max_tokens=4), "up")
    pair = {"prompt": "hello", "chosen": "how are you", "rejected": "thank you"}
    pairs.write_text(json.dumps(pair))
    shutil.copytree(toy_folder, pickled)
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    named = {"data": data, "pairs": pairs, "pickled": pickled, "toy": toy_folder}
    named |= {"none": tmp_path / "none", "new": tmp_path / "new"}
    return {name: str(path) for name, path in named.items()}


def run(verb: str, given: list[str], words: dict[str, str], capsys: Any) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main([verb, *(word.format(**words) for word in given), "--json"])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_every_verb_is_tried() -> None:
    assert DONE.keys() | {"serve"} == cli.VERBS.keys()
    assert FAILS.keys() | {"doctor", "models"} == cli.VERBS.keys()  # these two always tell


@pytest.mark.parametrize("verb", DONE)
def test_what_is_done_is_one_document_on_stdout(verb, words, capsys):
    given, keys = DONE[verb]
    code, out, err = run(verb, given, words, capsys)
    found = json.loads(out)
    assert out.count("\n") == 1 and (code == 0 or verb == "doctor"), err
    for one in found if isinstance(found, list) else [found]:
        assert keys <= one.keys()


@pytest.mark.parametrize("verb", FAILS)
def test_what_cannot_be_done_is_an_error_on_stdout_and_an_exit_code(verb, words, capsys):
    code, out, err = run(verb, FAILS[verb], words, capsys)
    assert code == 1 and out.count("\n") == 1
    (error,) = json.loads(out).values()
    assert error.keys() == {"message", "code"}
    assert error["message"] == err.splitlines()[-1]  # a person reads the same


@pytest.mark.parametrize("verb", ["nothing", *cli.VERBS])
def test_wrong_usage_is_an_error_on_stdout_and_exit_code_2(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, "--no-such-flag", "--json"])
    told = capsys.readouterr()
    assert ended.value.code == 2 and json.loads(told.out)["error"]["code"] == "usage"
    assert json.loads(told.out)["error"]["message"] in told.err


@pytest.mark.parametrize("raised, code", [(KeyboardInterrupt(), 130), (ValueError("no"), None)])
def test_what_nobody_foresaw_is_an_error_on_stdout_too(raised, code, capsys, monkeypatch):
    def fails(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(cli, "prepare_process", lambda: None)
    monkeypatch.setattr("rlhf_chat.model_list.report", fails)
    if code is None:
        with pytest.raises(ValueError):
            cli.main(["models", "--json"])
    else:
        assert cli.main(["models", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["error"]["message"]


def test_a_conversation_is_a_line_for_each_reply(words, capsys, monkeypatch):
    terminal = type("Terminal", (io.StringIO,), {"isatty": lambda self: True})
    monkeypatch.setattr("sys.stdin", terminal("hello\n\nthank you\n"))
    code, out, _ = run("chat", ["--max-tokens", "4", "--data", "{data}"], words, capsys)
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len({line["id"] for line in lines}) == 2


def test_numbers_that_json_does_not_have_and_every_script_are_written(capsys):
    print_json({"gain": float("nan"), "text": "你好"})
    out = capsys.readouterr().out
    assert json.loads(out, parse_constant=pytest.fail) == {"gain": None, "text": "你好"}
    script = "from rlhf_chat.json_output import print_json; print_json('你好 \\ud800')"
    narrow = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, env=narrow)
    assert json.loads(told.stdout.decode("utf-8")) == "你好 ?", told.stderr


def test_a_served_app_tells_its_address_a_line_a_state(tmp_path, toy_folder):
    port = free_port()
    process = subprocess.Popen(
        command(tmp_path, str(toy_folder), "--json", "--api", "--no-train", "--port", str(port)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout
        starting = json.loads(process.stdout.readline())
        ready = json.loads(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGINT)
        rest, told = process.communicate(timeout=60)
    assert (starting["state"], ready["state"]) == ("starting", "ready") and not rest
    assert ready["api"] == f"http://127.0.0.1:{port}/v1" and str(port) in ready["url"]
    assert process.returncode == 0 and "Ready at" in told


def test_a_reader_that_has_seen_enough_is_no_fault_of_the_folder(tmp_path):
    """As `head` does, on more than a pipe holds."""
    script = "import sys\nfrom rlhf_chat import cli\nfrom rlhf_chat.commands import export\n"
    script += "export._ratings = lambda args: [print('x' * 99) for _ in range(9999)] and 0\n"
    script += "sys.exit(cli.main(['export']))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout and process.stderr and process.stdout.read(10) == b"x" * 10
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(60) == 1
    process.stderr.close()
