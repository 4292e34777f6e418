"""Starting the app: what cannot work is one sentence on stderr and exit code 1, never a traceback.

Each start costs seconds, so there are few of them.
"""

from __future__ import annotations

import errno
import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import huggingface_hub
import pytest

from rlhf_chat import cli
from rlhf_chat.db import Store
from rlhf_chat.inference import loading, memory, presets
from rlhf_chat.inference.model import Model, ModelError
from rlhf_chat.serve import choose_model
from rlhf_chat.versions.adapter_store import AdapterStore

ROOT = Path(__file__).parents[2]
PATIENCE = 600  # seconds; a start takes 6 to 10 on a quiet machine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(data: Path, model: str, *more: str) -> list[str]:
    start = [sys.executable, str(ROOT / "app.py"), "--data", str(data), "--model", model]
    return [*start, "--no-browser", "--quantization", "none", *more]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def refused(data: Path, model: str, *more: str) -> str:
    """Starts the app, expects it to give up with one sentence, and returns that sentence."""
    ended = subprocess.run(
        command(data, model, *more),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
    )
    lines = [line for line in ended.stderr.splitlines() if line.strip()]
    assert ended.returncode == 1, ended.stderr
    assert len(lines) == 1, ended.stderr
    return lines[0]


@contextmanager
def running(data: Path, model: str, *more: str) -> Iterator[tuple[int, list[str]]]:
    """A ready app: its port and the lines it has said so far. Ended with Ctrl+C, as people do."""
    port = free_port()
    process = subprocess.Popen(
        command(data, model, "--port", str(port), *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment() | {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"},
    )
    assert process.stdout
    lines: list[str] = []
    reader = threading.Thread(target=lines.extend, args=[iter(process.stdout.readline, "")])
    reader.start()
    try:
        limit = time.monotonic() + PATIENCE
        while not any(line.startswith("Ready at ") for line in lines):
            assert process.poll() is None and time.monotonic() < limit, "".join(lines)
            time.sleep(0.1)
        yield port, lines
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # says where every thread is, and ends
            process.wait(10)
            reader.join(10)
            raise AssertionError(f"Ctrl+C was not heard: {''.join(lines)}") from None
        reader.join(10)
    assert process.returncode == 0, "".join(lines)
    assert "Traceback" not in "".join(lines), "".join(lines)


# ---------------------------------------------------------------------- refusals


def refusal(capsys: pytest.CaptureFixture, *flags: str) -> str:
    """The sentence on stderr, in this process: nothing heavy is loaded before the refusal."""
    code = cli.main([*flags, "--no-browser", "--quantization", "none"])
    message = capsys.readouterr().err
    assert code == 1 and message.count("\n") == 1, message
    return message


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `main` sets for the process stays in the test."""
    for name in ("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))


@pytest.mark.parametrize(
    "flag, value, why",
    [
        ("--port", "99999", "1 to 65535"),
        ("--port", "0", "1 to 65535"),
        ("--port", "-1", "1 to 65535"),
        ("--port", "web", "1 to 65535"),
        ("--ratings-per-round", "0", "1 or more"),
        ("--ratings-per-round", "-3", "1 or more"),
    ],
)
def test_a_number_that_cannot_be_meant_is_refused_with_what_can(capsys, flag, value, why):
    with pytest.raises(SystemExit) as ended:
        cli.parse([flag, value])
    last = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == 2
    assert flag in last and repr(value) in last and why in last


def test_a_port_in_use(tmp_path, toy_folder, capsys, quiet):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        flags = ("--port", port, "--model", str(toy_folder))
        sentence = refusal(capsys, *flags, "--data", str(tmp_path))
    assert port in sentence and "in use" in sentence
    assert not (tmp_path / "feedback.db").exists()


@pytest.mark.parametrize(
    "number, why",
    [
        (errno.EACCES, "may not be opened"),
        (errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL)),
    ],
)
def test_a_port_that_is_closed_for_another_reason_says_which(
    tmp_path, capsys, quiet, monkeypatch, number, why
):
    class Closed(socket.socket):
        def bind(self, address):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "socket", Closed)
    sentence = refusal(capsys, "--port", "80", "--data", str(tmp_path))
    assert "80" in sentence and why in sentence and "--port" in sentence
    assert "in use" not in sentence


@pytest.mark.parametrize("model", ["{}/nowhere", "{}", "no such model"])
def test_a_model_that_is_not_there(tmp_path, capsys, quiet, model):
    flags = ("--model", model.format(tmp_path), "--port", str(free_port()))
    assert "model" in refusal(capsys, *flags, "--data", str(tmp_path))
    Store(tmp_path / "feedback.db").close()  # it has let go of the data folder


BROKEN = {  # file -> what becomes of its bytes, and what the sentence names
    "weights cut off": ("model.safetensors", lambda b: b[: len(b) // 2], "weights"),
    "weights that are none": ("model.safetensors", lambda b: b"hello", "weights"),
    "no tokenizer": ("tokenizer.json", None, "no tokenizer"),
    "half a tokenizer": ("tokenizer.json", lambda b: b[: len(b) // 2], "tokenizer"),
    "another tokenizer": ("tokenizer.json", lambda b: b"{}", "tokenizer"),
    "no configuration": ("config.json", None, "config.json"),
    "half a configuration": ("config.json", lambda b: b[: len(b) // 2], "config.json"),
    "a list for a configuration": ("config.json", lambda b: b"[]", "config.json"),
    "an odd configuration": (
        "config.json",
        lambda b: b.replace(b'"hidden_size": 64', b'"hidden_size": "64"'),
        "config.json",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_folder_is_a_sentence_that_names_what_is_broken(
    tmp_path, toy_folder, capsys, quiet, what
):
    folder, (name, change, named) = tmp_path / "model", BROKEN[what]
    shutil.copytree(toy_folder, folder)
    before = (folder / name).read_bytes()
    (folder / name).unlink()
    if change:
        (folder / name).write_bytes(change(before))
    flags = ("--model", str(folder), "--port", str(free_port()))
    sentence = refusal(capsys, *flags, "--data", str(tmp_path / "data"))
    assert str(folder) in sentence and named in sentence
    assert "hub" not in sentence and "http" not in sentence


def test_a_database_of_a_newer_version(tmp_path, toy_folder, capsys, quiet):
    file = tmp_path / "feedback.db"
    Store(file).close()
    data = bytearray(file.read_bytes())
    data[60:64] = (999).to_bytes(4, "big")  # user_version in SQLite's header
    file.write_bytes(data)
    flags = ("--model", str(toy_folder), "--port", str(free_port()))
    sentence = refusal(capsys, *flags, "--data", str(tmp_path))
    assert "newer version" in sentence and "999" in sentence
    assert file.read_bytes() == bytes(data)


@pytest.mark.parametrize("what", ["a file", "inside a file"])
def test_a_data_folder_that_cannot_be_one(tmp_path, toy_folder, capsys, quiet, what):
    """Versions that cannot be read do not keep the app from starting (test_versions_hold.py)."""
    file = tmp_path / "file"
    file.write_text("not a folder")
    data = {"a file": file, "inside a file": file / "data"}[what]
    flags = ("--model", str(toy_folder), "--port", str(free_port()))
    assert str(data) in refusal(capsys, *flags, "--data", str(data))


def test_a_data_folder_that_can_only_be_read_is_opened_and_one_can_chat(mounted, toy_folder):
    """As it is after a backup was mounted; what is written is not kept (unit/test_chat.py)."""
    with closing(Store(mounted / "feedback.db")) as store:
        store.conversations.add(title="old")
    (mounted / "feedback.db").chmod(0o644)  # cannot be made private there
    before = {file.name: file.read_bytes() for file in mounted.iterdir()}
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True, capture_output=True)
    with running(mounted, str(toy_folder)) as (_, lines):
        [ready] = [line.split()[-1] for line in lines if line.startswith("Ready at ")]
        with urllib.request.urlopen(ready) as page:
            assert page.status == 200
    assert {file.name: file.read_bytes() for file in mounted.iterdir()} == before


@pytest.mark.parametrize("where", ["closed", "/sys/rlhf-chat"])
def test_a_folder_that_cannot_be_written(tmp_path, capsys, quiet, where):
    """Root may write into any folder except the system's own, such as Linux's /sys."""
    if where == "closed" and (os.name != "posix" or os.geteuid() == 0):
        pytest.skip("needs Unix permissions, and root has them all")
    if where != "closed" and not Path("/sys/kernel").is_dir():
        pytest.skip("there is no such folder here")
    folder = tmp_path / where / "data"  # an absolute `where` replaces tmp_path
    if where == "closed":
        folder.parent.mkdir(mode=0o555)
    flags = ("--data", str(folder), "--port", str(free_port()))
    assert str(folder) in refusal(capsys, *flags)


# ---------------------------------------------------------------------- the hub

CHOOSE_AND_LOAD = """
import sys
from rlhf_chat.inference.model import Model, ModelError
from rlhf_chat.serve import choose_model
try:
    name, plan = choose_model(sys.argv[1], "none")
    print("planned", bool(plan), flush=True)
    Model.load(name, quantization="none", device="cpu")
    print("loaded")
except ModelError as error:
    print(error)
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """Has nothing, and remembers what it was asked for."""

    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(404)
        self.end_headers()

    do_HEAD = do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Hub.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def with_hub(hub, home: Path, model: str) -> str:
    """Chooses and loads a model in a process of its own, which may ask this hub."""
    settings = environment() | {
        "HF_HOME": str(home),
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HUB_OFFLINE": "0",
    }
    line = [sys.executable, "-W", "ignore", "-c", CHOOSE_AND_LOAD, model]
    ended = subprocess.run(
        line, capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT, env=settings
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def cached(home: Path, toy_folder: Path) -> None:
    """The toy as the hub's own cache would keep it."""
    repository = home / "hub" / "models--some--toy"
    shutil.copytree(toy_folder, repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)


@pytest.mark.slow
def test_a_model_that_is_wholly_here_is_loaded_without_a_single_request(tmp_path, toy_folder, hub):
    cached(tmp_path, toy_folder)
    assert with_hub(hub, tmp_path, "some/toy").split() == ["planned", "True", "loaded"]
    assert Hub.asked == []


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "generation_config.json"])
def test_what_was_only_begun_is_not_here(tmp_path, toy_folder, monkeypatch, missing):
    cached(tmp_path, toy_folder)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert presets.is_here("some/toy")
    assert not presets.is_here("some/other") and not presets.is_here("no name at all")
    snapshot = tmp_path / "hub" / "models--some--toy" / "snapshots" / ("a" * 40)
    (snapshot / missing).unlink()
    assert not presets.is_here("some/toy")
    if missing == "generation_config.json":  # the cache remembers that the hub has none
        known = snapshot.parents[1] / ".no_exist" / ("a" * 40)
        known.mkdir(parents=True)
        (known / missing).touch()
        assert presets.is_here("some/toy")
    if missing == "model.safetensors":
        shards = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
        (snapshot / f"{missing}.index.json").write_text(json.dumps(shards))
        (snapshot / "model-1.safetensors").touch()
        assert not presets.is_here("some/toy")
        (snapshot / "model-2.safetensors").touch()
        assert presets.is_here("some/toy")


@pytest.mark.parametrize("name", ["large", presets.BY_NAME["large"].hub])
def test_a_preset_that_does_not_fit_is_refused_without_a_network(monkeypatch, quiet, name):
    """By its short name and by its hub id: the shape is known."""
    monkeypatch.setattr(memory, "free", lambda device: 6 << 30)
    monkeypatch.setattr(loading.AutoConfig, "from_pretrained", None)
    with pytest.raises(ModelError, match="GiB"):
        choose_model(name, "nf4")


# ---------------------------------------------------------------------- starts all the same


@pytest.mark.slow
def test_it_starts_with_a_broken_adapter_and_keeps_a_second_instance_out(
    tmp_path, toy_folder, toy: Model
):
    """The damaged live version is passed over for the base, and the data folder has one owner."""
    store = Store(tmp_path / "feedback.db")
    adapter_store = AdapterStore(tmp_path / "adapters")
    folder, manifest_hash = adapter_store.publish(
        1, toy.base_state(), toy.adapter_config(), {"base_hash": toy.base_hash}
    )
    round_id = store.rounds.open(
        trigger="asked", parent_version=0, seed=0, watermark=0, config={}, snapshot_hash=""
    )
    store.adapter_versions.promote(
        version=1,
        parent=0,
        round_id=round_id,
        tier="passed",
        folder=folder.name,
        manifest_hash=manifest_hash,
        kl=1.0,
        reason="a test",
        verdict={},
    )
    store.close()
    for file in folder.iterdir():
        file.write_bytes(b"broken")
    with running(tmp_path, str(toy_folder)) as (_, lines):
        for kept in (tmp_path / "feedback.db", folder, tmp_path / "adapters", tmp_path / "tmp"):
            assert os.name != "posix" or not kept.exists() or not kept.stat().st_mode & 0o077, kept
        sentence = refused(tmp_path, str(toy_folder), "--port", str(free_port()))
        assert "already open" in sentence
    text = "".join(lines)
    assert "version 1 is unusable" in text and "falling back to 0" in text
    store = Store(tmp_path / "feedback.db")
    try:
        assert store.adapter_versions.live() == 0
        assert store.events.newest(1)[0].kind == "set_live"
    finally:
        store.close()


# ---------------------------------------------------------------------- the API


def test_the_api_is_there_when_asked_for_and_the_verbs_find_it(tmp_path, toy_folder, capsys, quiet):
    def verb(*words: str) -> tuple[int, str, str]:
        code = cli.main([*words, "--data", str(tmp_path)])
        told = capsys.readouterr()
        return code, told.out, told.err

    token = verb("token")[1].strip()
    # left by an app that was killed: whoever has that port now must not be sent the token
    note = tmp_path / "api.json"
    note.write_text('{"url": "http://127.0.0.1:9/v1"}')
    with running(tmp_path, str(toy_folder)) as (port, lines):
        assert not note.exists()
        assert ask(port, "/v1/models", token) == 401  # nothing of the API is there
        assert not [line for line in lines if line.startswith("API at")]
        code, _, told = verb("rate", "last", "up")
        assert code == 1 and "--api" in told and told.count("\n") == 1
    with running(tmp_path, str(toy_folder), "--api") as (port, lines):
        assert f"API at http://127.0.0.1:{port}/v1\n" in lines
        assert ask(port, "/v1/models", token) == 200 and ask(port, "/v1/models", "x") == 401
        assert ask(port, "/", "") == 401  # the window has a token of its own
        made = json.loads(verb("chat", "hello", "--max-tokens", "4", "--json")[1])
        assert verb("rate", "last", "up")[:2] == (0, "Saved.\n")
    assert not (tmp_path / "api.json").exists()
    rows = [json.loads(line) for line in verb("export")[1].splitlines()]
    assert [row["reply"] for row in rows] == [made["text"]]


def ask(port: int, path: str, token: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    return connection.getresponse().status
