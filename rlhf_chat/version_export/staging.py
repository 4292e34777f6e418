"""A folder that is written aside and then moved in place: whole, or not there at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from safetensors import SafetensorError

from rlhf_chat.errors import DiskFull, ExportError, disk_is_full
from rlhf_chat.versions.adapter_store import fsync

NOTE = "export.json"  # in every exported folder: what it holds, and that an export wrote it
UNFINISHED = ".unfinished-"  # in the name of a folder that is being written, before its process
REPLACED = "-replaced"  # at the end of the name of what it takes the place of
SPARE = 16 << 20  # bytes that stay free beside what is written


@contextmanager
def staged(out: Path, *, force: bool) -> Iterator[Path]:
    """A new folder to write into; it becomes `out` where the block ends well. An earlier export
    there is replaced with `force` only, anything else never. Each export has a folder of its own,
    so that two at once are both whole. Raises ExportError, DiskFull."""
    check_free(out, force=force)
    stage = out.with_name(f".{out.name}{UNFINISHED}{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        _remove_what_was_killed(out)
        stage.mkdir(parents=True)
        yield stage
        for file in [path for path in stage.rglob("*") if path.is_file()]:
            fsync(file)
        check_free(out, force=force)
        _move(stage, out)
    except (OSError, SafetensorError) as error:
        if disk_is_full(error) or _is_full(out.parent):
            raise DiskFull("export.disk_full", folder=out.parent) from error
        raise ExportError("export.not_written", folder=out, error=str(error)) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def check_free(out: Path, *, force: bool) -> None:
    """Raises ExportError where something is in the way."""
    if out.is_file() or out.is_symlink():
        raise ExportError("export.not_a_folder", folder=out)
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / NOTE).is_file():
        raise ExportError("export.folder_of_others", folder=out)
    if not force:
        raise ExportError("export.folder_taken", folder=out)


def check_space(folder: Path, needed: int) -> None:
    """Raises DiskFull before anything is written into it. `needed`: bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE:
        mega = 1_000_000
        counts = {"needed": -(-needed // mega), "free": free // mega}
        raise DiskFull("export.no_space", folder=folder.parent, **counts)


def write_note(stage: Path, about: dict[str, Any]) -> None:
    text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    (stage / NOTE).write_text(text, encoding="utf-8")


def _remove_what_was_killed(out: Path) -> None:
    """Folders of earlier exports to `out` whose process is gone; not one that was being replaced
    by them, as long as there is no other."""
    begin = f".{out.name}{UNFINISHED}"
    for left in out.parent.iterdir() if out.parent.is_dir() else ():
        process = left.name.removeprefix(begin).partition("-")[0]
        if not left.name.startswith(begin) or not process.isdigit():
            continue
        only_one = left.name.endswith(REPLACED) and not out.exists()
        if not only_one and not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _move(stage: Path, out: Path) -> None:
    """What was there goes last, so that one of the two is always there."""
    old = stage.with_name(f"{stage.name}{REPLACED}")
    if out.exists():
        os.rename(out, old)
    try:
        os.rename(stage, out)
    except OSError:
        if old.exists():
            os.rename(old, out)
        raise
    fsync(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _is_full(folder: Path) -> bool:
    """numpy does not say why it wrote less than it was given."""
    try:
        return shutil.disk_usage(folder).free < 1 << 20
    except OSError:
        return False
