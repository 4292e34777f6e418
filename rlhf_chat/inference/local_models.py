"""Models that other programs on this machine hold already: found and listed, never copied.

Ollama keeps manifests that name files by their hash; LM Studio keeps GGUF files in folders by
publisher; the Hugging Face cache keeps snapshots.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from rlhf_chat.inference import gguf

OLLAMA = "ollama:"
MODEL_LAYER = "application/vnd.ollama.image.model"


@dataclass(frozen=True)
class LocalModel:
    """`name` is what --model takes."""

    name: str
    holder: str  # the program that keeps it
    size: int  # bytes on disk


def ollama_folder() -> Path:
    return Path(os.environ.get("OLLAMA_MODELS") or Path.home() / ".ollama" / "models")


def ollama_file(name: str) -> Path | None:
    """The GGUF file of `ollama:NAME[:TAG]`, as its manifest says; None if it is not here."""
    model, _, tag = name.removeprefix(OLLAMA).partition(":")
    parts = model.split("/")
    owner = parts if len(parts) > 1 else ["library", *parts]
    registry = [] if len(parts) > 2 else ["registry.ollama.ai"]
    root = ollama_folder() / "manifests"
    manifest = root.joinpath(*registry, *owner, tag or "latest")
    if not manifest.resolve().is_relative_to(root.resolve()) or not manifest.is_file():
        return None
    return _model_layer(manifest)


def _model_layer(manifest: Path) -> Path | None:
    try:
        layers = json.loads(manifest.read_text(encoding="utf-8"))["layers"]
        digest = next(str(x["digest"]) for x in layers if x["mediaType"] == MODEL_LAYER)
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
    file = ollama_folder() / "blobs" / Path(digest.replace(":", "-")).name
    return file if gguf.is_gguf(file) else None


def _ollama() -> Iterator[LocalModel]:
    root = ollama_folder() / "manifests"
    for manifest in sorted(root.rglob("*")) if root.is_dir() else []:
        file = _model_layer(manifest) if manifest.is_file() else None
        if file is None:
            continue
        *owner, model, tag = manifest.relative_to(root).parts
        owner = [part for part in owner if part not in ("registry.ollama.ai", "library")]
        name = f"{OLLAMA}{'/'.join([*owner, model])}:{tag}"
        yield LocalModel(name, "Ollama", file.stat().st_size)


def lm_studio_folders() -> list[Path]:
    home = Path.home()
    return [home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"]


def _lm_studio() -> Iterator[LocalModel]:
    for root in lm_studio_folders():
        for file in sorted(root.rglob("*.gguf")) if root.is_dir() else []:
            if not file.name.startswith("mmproj"):  # the eyes of a model that also sees
                yield LocalModel(str(file), "LM Studio", file.stat().st_size)


def _hugging_face() -> Iterator[LocalModel]:
    try:
        repositories = sorted(scan_cache_dir().repos, key=lambda repo: repo.repo_id)
    except CacheNotFound:
        return
    for repo in repositories:
        if repo.repo_type == "model":
            yield LocalModel(repo.repo_id, "Hugging Face cache", repo.size_on_disk)


def found() -> list[LocalModel]:
    """What other programs hold, in a fixed order."""
    return [*_hugging_face(), *_ollama(), *_lm_studio()]
