"""What goes wrong while a version is exported is one sentence, and leaves no folder behind."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from rlhf_chat.db import Store
from rlhf_chat.errors import AppError, DiskFull, ExportError, ModelError
from rlhf_chat.inference.model import Model
from rlhf_chat.version_export import exporter, staging
from rlhf_chat.version_export.exporter import Request, export
from rlhf_chat.version_export.staging import NOTE, staged
from rlhf_chat.versions.adapter_store import AdapterStore
from tests.exported_versions import publish


@pytest.fixture
def data(toy: Model, tmp_path: Path) -> Path:
    """A data folder with version 1 of the toy."""
    publish(tmp_path / "data", toy)
    return tmp_path / "data"


def quick(out: Path, **more: object) -> Request:
    return Request(**({"form": "peft", "out": out} | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["7", "v7", "nobody", "", "../v1", "٣"])
def test_a_version_that_is_none_is_named(data, tmp_path, name):
    with pytest.raises(AppError, match="There is no version"):
        export(data, quick(tmp_path / "out", version=name))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["0", "v0", "base"])
def test_the_base_has_nothing_to_export(data, tmp_path, name):
    with pytest.raises(ExportError, match="learned nothing"):
        export(data, quick(tmp_path / "out", version=name))


def test_a_version_answers_to_its_number_its_id_its_name_and_live(data, tmp_path):
    store = Store(data / "feedback.db")
    store.adapter_versions.describe(1, "My voice", "")
    store.close()
    for i, name in enumerate(("1", "v1", "My voice", "live")):
        export(data, quick(tmp_path / str(i), version=name))
    assert "My voice" in (tmp_path / "0" / "README.md").read_text()


@pytest.mark.parametrize("given", [{"form": "zip"}, {"kind": "q2"}, {"base": "other"}])
def test_a_form_that_is_not_known_is_refused_with_the_choices(data, tmp_path, given):
    with pytest.raises(ExportError, match="Choose one of"):
        export(data, quick(tmp_path / "out", **given))


def test_a_folder_of_others_is_never_touched(data, tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    for force in (False, True):
        with pytest.raises(ExportError, match="holds other files"):
            export(data, quick(out, force=force))
    assert [file.name for file in out.iterdir()] == ["letter.txt"]
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(ExportError, match="a file or a link"):
        export(data, quick(tmp_path / "link", force=True))


def test_an_earlier_export_is_replaced_only_when_asked_for(data, tmp_path):
    out = tmp_path / "new" / "out"
    export(data, quick(out))
    (out / "extra").write_text("x")
    with pytest.raises(ExportError, match="--force"):
        export(data, quick(out))
    assert (out / "extra").exists()
    export(data, quick(out, force=True))
    assert not (out / "extra").exists() and (out / NOTE).exists()
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_empty_folder_is_taken(data, tmp_path):
    (tmp_path / "out").mkdir()
    export(data, quick(tmp_path / "out"))
    assert (tmp_path / "out" / "adapter_config.json").exists()


def test_a_failure_before_the_folder_is_in_place_leaves_what_was_there(data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    export(data, quick(out))
    before = sorted(file.name for file in out.iterdir())
    (out / "extra").write_text("x")

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(staging, "fsync", broken)
    with pytest.raises(ExportError, match="could not be written"):
        export(data, quick(out, force=True))
    assert sorted(file.name for file in out.iterdir()) == sorted([*before, "extra"])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_full_disk_is_named_and_nothing_stays(data, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporter.peft_folder, "save_file", full)
    with pytest.raises(DiskFull, match="is full"):
        export(data, quick(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_too_little_space_is_refused_before_anything_is_written(data, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: usage(0, 0, 1000))
    with pytest.raises(DiskFull, match="MB left"):
        export(data, quick(tmp_path / "out", form="merged"))
    assert not (tmp_path / "out").exists()


def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as killed:
        left = tmp_path / f".out.unfinished-{killed.pid}-0"
    left.mkdir()
    (left / "half").write_text("x")
    replaced = tmp_path / f"{left.name}-replaced"  # whole, and the only one there is
    replaced.mkdir()
    with staged(tmp_path / "out", force=False) as stage:
        assert replaced.exists() and not left.exists()
        (stage / NOTE).write_text("{}")
    assert [file.name for file in (tmp_path / "out").iterdir()] == [NOTE]
    with staged(tmp_path / "out", force=True) as stage:
        (stage / NOTE).write_text("{}")
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def both_at_once(out: Path, *, force: bool) -> None:
    """The second begins later and ends first."""
    with staged(out, force=force) as first:
        (first / NOTE).write_text("1")
        with staged(out, force=force) as second:
            (second / NOTE).write_text("2")
        assert (first / NOTE).read_text() == "1" and (out / NOTE).read_text() == "2"


def test_of_two_exports_to_one_folder_at_once_the_later_one_replaces_the_other(tmp_path):
    both_at_once(tmp_path / "out", force=True)
    assert (tmp_path / "out" / NOTE).read_text() == "1"
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_of_two_exports_to_one_folder_at_once_the_later_one_is_refused(tmp_path):
    with pytest.raises(ExportError, match="holds an export"):
        both_at_once(tmp_path / "out", force=False)
    assert (tmp_path / "out" / NOTE).read_text() == "2"
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_a_damaged_version_is_refused(data, tmp_path):
    weights = AdapterStore(data / "adapters").path(1) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(AppError, match="damaged"):
        export(data, quick(tmp_path / "out"))


def test_a_base_that_is_gone_or_another_one_is_refused(toy_folder, family_folder, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(toy_folder, base)
    publish(tmp_path / "data", Model.load(str(base), quantization="none"))
    base.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match="base"):
        export(tmp_path / "data", quick(tmp_path / "out", form="merged"))
    moved = str(tmp_path / "moved")
    export(tmp_path / "data", quick(tmp_path / "out", form="merged", model=moved))
    with pytest.raises(ExportError, match="another base"):
        other = str(family_folder("llama"))
        export(tmp_path / "data", quick(tmp_path / "two", form="merged", model=other))


@pytest.mark.parametrize(
    ("family", "why"), [("gpt2", "architecture gpt2"), ("qwen2 sliding", "sliding window")]
)
def test_an_architecture_without_a_gguf_form_is_told_which_forms_work(
    family, why, family_folder, tmp_path
):
    model = Model.load(str(family_folder(family)), quantization="none")
    publish(tmp_path / "data", model)
    with pytest.raises(ExportError, match=f"{why}.*peft and merged work"):
        export(tmp_path / "data", quick(tmp_path / "out", form="gguf"))
    made = export(tmp_path / "data", quick(tmp_path / "out", form="merged"))
    assert made.gap and made.gap.kl < 1e-3


def test_a_tokenizer_that_llama_cpp_has_no_name_for_is_refused(toy_folder, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(toy_folder, base)
    told = json.loads((base / "tokenizer.json").read_text())
    cut = {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": False}
    told["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [cut, told["pre_tokenizer"]]}
    (base / "tokenizer.json").write_text(json.dumps(told))
    publish(tmp_path / "data", Model.load(str(base), quantization="none"))
    with pytest.raises(ExportError, match="tokenizer cuts texts"):
        export(tmp_path / "data", quick(tmp_path / "out", form="gguf"))
    assert not (tmp_path / "out").exists()


def test_an_export_beside_an_open_database_reads_it_and_writes_nothing(data, tmp_path):
    store = Store(data / "feedback.db")
    try:
        before = sorted(data.rglob("*"))
        export(data, quick(tmp_path / "out", form="merged", measure=False))
        assert sorted(data.rglob("*")) == before
        store.adapter_versions.describe(1, "still writable", "")
    finally:
        store.close()


def test_memory_that_is_too_short_for_measuring_skips_it(data, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter.memory, "free", lambda device: 1000)
    assert export(data, quick(tmp_path / "out", form="merged")).gap is None
    assert "Not measured." in (tmp_path / "out" / "README.md").read_text()
    assert torch.device("cpu") == exporter.CPU
