"""The wheel holds all that the app reads, and works from any folder without the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import rlhf_chat

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked; hatchling comes with requirements-dev.txt, so nothing is downloaded."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    assert file.name == f"rlhf_chat-{rlhf_chat.__version__}-py3-none-any.whl"
    zipfile.ZipFile(file).extractall(folder / "installed")
    return folder / "installed"


def run(wheel: Path, folder: Path, *arguments: str) -> str:
    """What `rlhf-chat` prints when the wheel is installed and `folder` is the current one."""
    ended = subprocess.run(
        [sys.executable, "-m", "rlhf_chat", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(wheel), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode < 2, ended.stderr
    return ended.stdout


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    package = ROOT / "rlhf_chat"
    made = ("__pycache__", ".pyc")
    there = {
        file.relative_to(ROOT).as_posix()
        for file in package.rglob("*")
        if file.is_file() and not any(part in str(file) for part in made)
    }
    packed = {file.relative_to(wheel).as_posix() for file in wheel.rglob("*") if file.is_file()}
    assert {name for name in packed if ".dist-info/" not in name} == there
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in packed)


def test_the_command_answers_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    assert run(wheel, tmp_path, "--version").split() == ["rlhf-chat", rlhf_chat.__version__]
    assert "doctor" in run(wheel, tmp_path, "--help")
    assert not list(tmp_path.iterdir())


def test_the_doctor_needs_no_checkout(wheel: Path, tmp_path: Path) -> None:
    """The versions that were tested and the bundled model are in the package."""
    told = json.loads(run(wheel, tmp_path, "doctor", "--json"))
    lines = {line["what"]: line for line in told["lines"]}
    assert lines["packages"]["value"] and lines["model"]["level"] == "ok"


def test_threads_do_not_wait_by_computing_where_torch_is_imported_after_the_package() -> None:
    """One busy program beside them would nearly stop them (docs/LOG.md)."""
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    for given, kept in ((None, "10000"), ("7", "7")):
        told = {**environment, "GOMP_SPINCOUNT": given} if given else environment
        code = "import os, rlhf_chat; print(os.environ['GOMP_SPINCOUNT'])"
        run = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True)
        assert run.stdout.strip() == kept, run.stderr
