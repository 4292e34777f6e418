"""Model folders that somebody made to do harm: their code is never run, and what their files claim
is checked before a library believes it. Templates are in test_chat_template.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rlhf_chat.inference import loading, weight_files
from rlhf_chat.inference.model import ModelError

CODE = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nclass Own: pass\n"
NAMES_CODE: dict[str, Any] = {
    "auto_map": {
        "AutoConfig": "own.Own",
        "AutoModel": "own.Own",
        "AutoModelForCausalLM": "own.Own",
        "AutoTokenizer": ["own.Own", "own.Own"],
    },
    "custom_pipelines": {"text-generation": {"impl": "own.Own"}},
    "custom_generate": "own.py",
    "trust_remote_code": True,
}


@pytest.fixture
def folder(tmp_path: Path, toy_folder: Path) -> Path:
    """A good model whose files can be changed."""
    made = tmp_path / "model"
    shutil.copytree(toy_folder, made)
    return made


def name_code(folder: Path, **more: Any) -> None:
    (folder / "own.py").write_text(CODE)
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(CODE)
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        file = folder / name
        kept = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(kept | NAMES_CODE | (more if name == "config.json" else {})))


def ran(folder: Path) -> list[Path]:
    return [*folder.rglob("ran"), *folder.rglob("__pycache__")]


def test_fields_that_name_code_are_not_followed(folder: Path) -> None:
    name_code(folder)
    base, tokenizer, _ = loading.load(str(folder), quantization="none", device="cpu")
    assert type(base).__module__.startswith("transformers.")
    assert type(tokenizer).__module__.startswith("transformers.")
    assert ran(folder) == []


def test_a_model_that_is_only_its_code_is_refused_in_one_sentence(folder: Path) -> None:
    name_code(folder, model_type="own", architectures=["OwnForCausalLM"])
    with pytest.raises(ModelError) as told:
        loading.load(str(folder), quantization="none", device="cpu")
    assert "\n" not in str(told.value) and ran(folder) == []


@pytest.mark.parametrize("length", [weight_files.HEADER_LIMIT + 1, 1 << 40, (1 << 64) - 1])
def test_a_header_without_measure_is_refused_before_it_is_read(
    folder: Path, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("a library was asked to read it")

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", read)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(length.to_bytes(8, "little"))
        file.truncate(min(length + 8, 200 << 20))  # a hole, on most file systems
    with pytest.raises(ModelError, match=r"header has [\d,]+ bytes"):
        loading.load(str(folder), quantization="none", device="cpu")


def test_a_header_longer_than_its_file_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((100).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="header"):
        weight_files.check_headers(folder)


def test_good_headers_pass(folder: Path) -> None:
    weight_files.check_headers(folder)
