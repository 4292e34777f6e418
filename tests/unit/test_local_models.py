"""Models that Ollama, LM Studio and the hub's cache hold are found where they lie."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlhf_chat import model_list
from rlhf_chat.inference import loading, local_models
from rlhf_chat.inference.loading import ModelError


@pytest.fixture
def ollama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    return tmp_path / "ollama"


def add(ollama: Path, place: str, content: bytes = b"GGUF and more") -> Path:
    digest = f"sha256:{abs(hash(place)):064x}"
    blob = ollama / "blobs" / digest.replace(":", "-")
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    manifest = ollama / "manifests" / place
    manifest.parent.mkdir(parents=True, exist_ok=True)
    layers = [{"mediaType": "text/plain", "digest": "sha256:0"}]
    layers.append({"mediaType": local_models.MODEL_LAYER, "digest": digest})
    manifest.write_text(json.dumps({"layers": layers}))
    return blob


def test_a_model_of_ollama_is_found_by_its_name_and_tag(ollama: Path) -> None:
    blob = add(ollama, "registry.ollama.ai/library/smollm2/latest")
    other = add(ollama, "registry.ollama.ai/someone/small/1b")
    assert local_models.ollama_file("ollama:smollm2") == blob
    assert local_models.ollama_file("ollama:smollm2:latest") == blob
    assert local_models.ollama_file("ollama:someone/small:1b") == other
    assert loading.resolve("ollama:smollm2") == str(blob)
    assert [m.name for m in local_models._ollama()] == [
        "ollama:smollm2:latest",
        "ollama:someone/small:1b",
    ]


@pytest.mark.parametrize("name", ["ollama:absent", "ollama:../../etc/passwd", "ollama:"])
def test_what_ollama_does_not_hold_is_refused_in_a_sentence(ollama: Path, name: str) -> None:
    add(ollama, "registry.ollama.ai/library/smollm2/latest")
    with pytest.raises(ModelError):
        loading.resolve(name)


def test_a_damaged_manifest_or_blob_is_no_model(ollama: Path) -> None:
    add(ollama, "registry.ollama.ai/library/broken/latest", b"no model")
    (ollama / "manifests/registry.ollama.ai/library/broken/half").write_text("{")
    assert list(local_models._ollama()) == []


def test_a_model_of_lm_studio_is_named_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_models, "lm_studio_folders", lambda: [tmp_path])
    file = tmp_path / "publisher" / "model" / "small.gguf"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"GGUF")
    (file.parent / "mmproj-small.gguf").write_bytes(b"GGUF")
    [model] = local_models._lm_studio()
    assert (model.name, model.holder, model.size) == (str(file), "LM Studio", 4)


def test_models_to_choose_from_say_what_they_take(
    ollama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that cannot be read is listed without it."""
    add(ollama, "registry.ollama.ai/library/smollm2/latest")
    monkeypatch.setattr(local_models, "lm_studio_folders", lambda: [])
    monkeypatch.setattr(local_models, "_hugging_face", lambda: iter(()))
    presets = model_list.presets.BY_NAME
    monkeypatch.setattr(model_list.presets, "BY_NAME", {"pocket": presets["pocket"]})
    monkeypatch.setattr(model_list.memory, "free", lambda device: 1 << 40)
    demo, pocket, other = model_list.choices()
    assert (demo.name, demo.here, demo.fits) == ("demo", True, True)
    assert pocket.needs and demo.needs and pocket.needs > demo.needs and pocket.fits
    assert (other.name, other.about, other.here) == ("ollama:smollm2:latest", "Ollama", True)
    assert other.needs is None and other.fits is None
    assert other.command == "rlhf-chat --model ollama:smollm2:latest"
    monkeypatch.setattr(model_list.memory, "free", lambda device: 1 << 20)
    assert model_list.choices()[1].fits is False
