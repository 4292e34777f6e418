"""The verbs that use a data folder, and `rlhf_chat.open`: alone with the model, and beside an app
that is open on the folder. A model of random weights."""

from __future__ import annotations

import builtins
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rlhf_chat
from rlhf_chat import cli
from rlhf_chat.api import running
from rlhf_chat.api.client import ApiClient
from rlhf_chat.errors import AppError, Busy
from rlhf_chat.inference.model import Model
from rlhf_chat.session import Session
from rlhf_chat.training.worker import TrainingWorker
from tests.api_server import Running, api_server
from tests.exported_versions import publish

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `main` sets for the process stays out of other tests."""
    monkeypatch.setattr(cli, "prepare_process", lambda: None)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))


@pytest.fixture
def load(toy: Model, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Loading the model takes the toy; what was asked for is noted."""
    asked: list[Any] = []

    def load_model(*wanted: Any) -> Model:
        asked.append(wanted[:2])
        print("Loading ...")
        return toy

    monkeypatch.setattr("rlhf_chat.serve.load_model", load_model)
    return asked


@pytest.fixture(scope="module")
def app(_toy: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with api_server(_toy, tmp_path_factory.mktemp("data")) as running_app:
        yield running_app


def run(capsys: pytest.CaptureFixture, *arguments: str, code: int = 0) -> str:
    assert cli.main([*arguments]) == code
    return str(capsys.readouterr().out)


# ---------------------------------------------------------------------- alone


def test_a_chat_a_rating_and_an_export_without_an_app(tmp_path, load, capsys):
    data = ["--data", str(tmp_path)]
    told = run(
        capsys, "chat", "hello", "--model", "x", "--temperature", "0", "--max-tokens", "5", *data
    )
    assert load == [("x", "nf4")] and "Loading" not in told and told.endswith("\n")
    made = json.loads(run(capsys, "chat", "hello", "--json", "--seed", "1", *data))
    assert made.keys() == {"id", "text", "version", "finish_reason"}
    load.clear()
    assert run(capsys, "rate", "last", "up", "--note", "good", *data) == "Saved.\n"
    run(capsys, "rate", "--id", made["id"], "--stars", "4", *data)
    assert not load  # rating needs no model
    rows = [json.loads(line) for line in run(capsys, "export", *data).splitlines()]
    assert [(row["kind"], row["answer"]) for row in rows] == [("stars", "4"), ("thumb", "up")]
    assert json.loads(run(capsys, "export", "--pairs", "--json", *data)) == []
    assert run(capsys, "versions", *data).startswith("* base")
    listed = json.loads(run(capsys, "versions", "--live", "0", "--json", *data))
    assert [(one["id"], one["live"]) for one in listed] == [("base", True)]


def test_a_prompt_comes_from_a_pipe_and_a_conversation_from_the_keyboard(
    tmp_path, load, capsys, monkeypatch
):
    monkeypatch.setattr("sys.stdin", io.StringIO("hello how"))
    data = ["--data", str(tmp_path), "--max-tokens", "5"]
    run(capsys, "chat", *data)
    lines = iter(["hello", " ", "and you"])

    def typed(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(builtins, "input", typed)
    monkeypatch.setattr("sys.stdin", type("Terminal", (io.StringIO,), {"isatty": lambda s: True})())
    run(capsys, "chat", *data)
    with rlhf_chat.open(tmp_path) as session:
        store = session._backend.store
        titles = [c.title for c in store.conversations.all()]
        assert titles == ["hello", "hello how"]
        path = store.messages.path_to(store.conversations.all()[0].head_id)
        assert [m.role for m in path] == ["user", "assistant", "user", "assistant"]


def test_a_version_is_exported_from_the_command_line_and_from_python(toy, tmp_path, capsys):
    data = ["--data", str(tmp_path / "data")]
    publish(tmp_path / "data", toy)
    told = run(capsys, "export", "v1", "--to", "peft", *data)
    folder = tmp_path / "data" / "exports" / f"{Path(toy.name).name.lower()}-v1-peft"
    assert told.startswith(f"Written: {folder}\n") and "adapter_model.safetensors" in told
    assert cli.main(["export", "--to", "peft", *data]) == 1
    assert "--force" in capsys.readouterr().err
    out = str(tmp_path / "merged")
    assert cli.main(["export", "--to", "merged", "--out", out, "--json", *data]) == 0
    told, progress = capsys.readouterr()
    made = json.loads(told)
    assert made["folder"] == out and made["gap"]["kl"] < 1e-3 and made["merged_into"] == "trained"
    assert "measuring 75%" in progress and "writing" in progress
    with rlhf_chat.open(tmp_path / "data") as session:  # which holds the database
        again = session.export(1, to="peft", out=tmp_path / "again")
        assert Path(again["folder"]) == tmp_path / "again" and again["gap"] is None
        assert session.export() == []
        with pytest.raises(AppError, match="what the version is for"):
            session.export(1)  # type: ignore[call-overload]
    assert cli.main(["export", "v9", "--to", "gguf", *data]) == 1
    assert capsys.readouterr().err.endswith("\nThere is no version 9.\n")


@pytest.mark.parametrize("words", [["v1"], ["--to", "zip"], ["--to", "peft", "--pairs"]])
def test_an_export_that_cannot_be_meant_is_wrong_usage(words):
    with pytest.raises(SystemExit) as ended:
        cli.main(["export", *words])
    assert ended.value.code == 2


def test_a_round_is_run_now_and_told_on_stderr(tmp_path, load, capsys):
    data = ["--data", str(tmp_path)]
    run(capsys, "chat", "hello", *data)
    assert cli.main(["train", *data]) == 1
    assert "nothing to learn" in capsys.readouterr().err
    run(capsys, "rate", "last", "up", *data)
    assert cli.main(["train", "--json", *data]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["status"] == "discarded" and "At least" in json.loads(out)["reason"]
    assert "%" in err or "Loading" in err


def test_a_round_that_could_not_begin_is_not_told_as_the_one_before(tmp_path, load, monkeypatch):
    def held(*_: object) -> None:
        raise Busy("db.busy")

    with rlhf_chat.open(tmp_path) as session:
        session.rate(session.reply("hello"), "up")
        assert session.train()["round"] == 1
        monkeypatch.setattr(TrainingWorker, "run_round", held)
        with pytest.raises(Busy):
            session.train()


def test_an_app_that_has_gone_is_one_sentence_and_a_round_that_never_begins_ends(monkeypatch):
    client = ApiClient("http://127.0.0.1:1/v1", "token")
    assert not client.answers()
    with pytest.raises(AppError, match="has ended"):
        client.versions()
    state = {"last_round": {"round": 3}, "asked": False, "round": None}
    monkeypatch.setattr(client, "_object", lambda *_: state)
    with pytest.raises(AppError, match="No round has begun"):
        client.train()


@pytest.mark.parametrize(
    "verb",
    [["rate", "last", "up"], ["versions"], ["export"], ["export", "--to", "peft"], ["train"]],
)
def test_a_folder_without_a_database_is_named_and_not_made(tmp_path, capsys, verb):
    assert cli.main([*verb, "--data", str(tmp_path / "none")]) == 1
    assert str(tmp_path / "none") in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["rate"],
        ["rate", "last"],
        ["rate", "up"],
        ["rate", "last", "sideways"],
        ["rate", "last", "up", "--stars", "3"],
        ["rate", "last", "--stars", "6"],
    ],
)
def test_a_rating_that_cannot_be_meant_is_wrong_usage(words):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2


def test_the_token_is_alone_on_its_line_and_kept(tmp_path, capsys):
    data = ["--data", str(tmp_path / "new")]
    first = run(capsys, "token", *data)
    assert first.count("\n") == 1 and len(first.strip()) >= 40
    assert run(capsys, "token", *data) == first
    second = run(capsys, "token", "--new", *data)
    assert second != first
    assert json.loads(run(capsys, "token", "--json", *data))["token"] == second.strip()


def test_rating_loads_neither_torch_nor_gradio(tmp_path):
    code = (
        "import sys; from rlhf_chat import cli; cli.main(sys.argv[1:]);"
        "print([m for m in ('torch', 'gradio', 'transformers') if m in sys.modules])"
    )
    with rlhf_chat.open(tmp_path):
        pass
    ended = subprocess.run(
        [sys.executable, "-c", code, "rate", "last", "up", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert ended.stdout == "[]\n" and "written no reply" in ended.stderr


# ---------------------------------------------------------------------- beside an app


def test_the_verbs_go_to_the_app_that_is_open(app, load, capsys):
    data = ["--data", str(app.data)]
    made = json.loads(run(capsys, "chat", "hello", "--json", "--max-tokens", "4", *data))
    kept = app.store.messages.get(made["id"].removeprefix("chatcmpl-"))
    assert kept.content == made["text"] and not load
    run(capsys, "chat", "thank you", "--no-keep", *data)
    assert run(capsys, "rate", "last", "down", *data) == "Saved.\n"
    assert app.chat.ratings.of(kept.id).value == -1
    assert json.loads(run(capsys, "export", *data).splitlines()[0])["answer"] == "down"
    assert run(capsys, "versions", "--live", "base", *data).startswith("* base")
    assert cli.main(["train", "--json", *data]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["round"] == app.store.rounds.newest()[0].id
    assert cli.main(["chat", "hello", "--version", "v9", *data]) == 1
    assert capsys.readouterr().err == "There is no model v9. GET /v1/models lists them.\n"


def test_an_app_without_its_api_is_one_sentence(app, capsys, monkeypatch):
    monkeypatch.setattr(running, "url", lambda data: "")
    assert cli.main(["rate", "last", "up", "--data", str(app.data)]) == 1
    told = capsys.readouterr().err
    assert "--api" in told and told.count("\n") == 1
    monkeypatch.setattr(running, "url", lambda data: app.url)  # another program's port
    with pytest.raises(AppError, match="--api"):
        rlhf_chat.open(app.data)


# ---------------------------------------------------------------------- the Python API


def use(session: Session) -> None:
    """Everything that a notebook can do."""
    pieces: list[str] = []
    one = session.reply("hello how", seed=1, max_tokens=6, on_text=pieces.append)
    other = session.reply("hello how", seed=2, max_tokens=6)
    assert "".join(pieces) == one.text and one.version == "base"
    talk = [
        {"role": "user", "content": "hello how"},
        {"role": "assistant", "content": one.text},
        {"role": "user", "content": "thank you"},
    ]
    assert session.reply(talk, version="base", temperature=0).id.startswith("chatcmpl-")
    before = len(session.feedback())
    made = [
        session.rate(one, "up", note="why"),
        session.rate("last", stars=2),
        session.rate(other, correction="I am well thank you"),
        session.compare(one, other, strength="much"),
        session.rank([other, one]),
    ]
    assert len(set(made)) == 5 and len(session.feedback()) == before + 5
    session.withdraw(made[0])
    assert len(session.feedback()) == before + 4
    assert len(session.export(pairs=True)) >= 3
    assert {"prompt", "chosen", "rejected"} == session.export(pairs=True)[0].keys()
    phases: list[Any] = []
    ended = session.train(phases.append)
    assert ended["status"] in ("promoted", "discarded") and phases
    assert session.make_live(0) == session.versions()
    with pytest.raises(AppError):
        session.make_live(99)
    with pytest.raises(AppError):
        session.rate(one, "sideways")


def test_a_session_does_the_same_alone_and_beside_an_app(app, tmp_path, load):
    with rlhf_chat.open(tmp_path, "some model") as alone:
        use(alone)
    with rlhf_chat.open(app.data) as beside:
        use(beside)


def test_the_notebook_runs(tmp_path, load, monkeypatch):
    """Its code cells in order, as a notebook runs them."""
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names: dict[str, Any] = {}
    for i, source in enumerate(code):
        exec(compile(source, f"cell {i}", "exec"), names)
    assert load == [("demo", "nf4")] and (tmp_path / "notebook-chats" / "feedback.db").exists()
    used = {name for name in vars(Session) if f"session.{name}(" in "".join(code)}
    public = {name for name in vars(Session) if not name.startswith("_")}
    assert used == public  # it shows every name
