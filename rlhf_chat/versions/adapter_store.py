"""The files of adapter versions: each is a folder that is either complete or absent.

A version is `adapters/v0003/` with adapter_model.safetensors, adapter_config.json (PEFT's own
format) and manifest.json, which holds the hash of every file. Order of publishing: staging folder,
fsync, verify from disk, rename, fsync parent; only then may the database point at it
(AdapterVersionRepository.promote) and the live tree be changed. Version 0 is the base and has no
folder. Folders that the database does not know are moved to lost/. Links are never followed: what
they point to is neither read, nor written, nor removed. Which version is live: registry.py.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from rlhf_chat import faults
from rlhf_chat.errors import AdapterError, AdapterUnavailable, DiskFull, disk_is_full

if sys.platform == "darwin":
    import fcntl

log = logging.getLogger(__name__)

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
MANIFEST = "manifest.json"
MAX_BYTES = 2 << 30


class AdapterStore:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._staging = folder / "staging"

    def path(self, version: int) -> Path:
        return self.folder / f"v{version:04d}"

    def publish(
        self,
        version: int,
        state: Mapping[str, torch.Tensor],
        config: Mapping[str, Any],
        manifest: Mapping[str, Any],
    ) -> tuple[Path, str]:
        """Writes a version so that a crash at any moment leaves it complete or absent.

        Returns its folder and the hash of its manifest. Raises AdapterError if the files read
        back differ from what was written, or the version exists; DiskFull.
        """
        final = self.path(version)
        if final.exists() or final.is_symlink():
            raise AdapterError("versions.exists", version=version)
        try:
            staged = self._stage()
            try:
                faults.point("publish.staged")
                self._write(staged, version, state, config, manifest)
                faults.point("publish.before_rename")
                os.rename(staged, final)
            except BaseException:
                _remove_tree(staged)
                raise
            try:
                faults.point("publish.renamed")
                fsync(self.folder)
            except BaseException:
                _remove_tree(final)
                raise
        except (OSError, SafetensorError) as error:
            if disk_is_full(error):
                raise DiskFull("versions.disk_full", folder=self.folder) from error
            raise AdapterError("versions.not_written", error=str(error)) from error
        return final, _sha256(final / MANIFEST)

    def _stage(self) -> Path:
        """A new folder to write a version into."""
        if self.folder.is_symlink():
            raise AdapterError("versions.is_link", path=self.folder)
        if self._staging.is_symlink():
            self._staging.unlink()
        staged = self._staging / uuid.uuid4().hex
        staged.mkdir(parents=True)
        return staged

    def _write(
        self,
        staged: Path,
        version: int,
        state: Mapping[str, torch.Tensor],
        config: Mapping[str, Any],
        manifest: Mapping[str, Any],
    ) -> None:
        """All files of a version, on the disk and verified."""
        save_file({k: v.contiguous() for k, v in state.items()}, staged / WEIGHTS)
        _write_json(staged / CONFIG, config)
        hashes = {name: _sha256(staged / name) for name in (WEIGHTS, CONFIG)}
        _write_json(staged / MANIFEST, {"version": version, **manifest, "sha256": hashes})
        for file in staged.iterdir():
            fsync(file)
        fsync(staged)
        self._read(staged, version)

    def load(self, version: int, manifest_hash: str | None = None) -> dict[str, torch.Tensor]:
        """The weights of a version, verified. Raises AdapterError where it is damaged, and
        AdapterUnavailable where it cannot be read, which proves nothing."""
        faults.point("adapter.before_read")
        self._check(version, manifest_hash)
        return self._read(self.path(version), version)

    def manifest(self, version: int, manifest_hash: str | None = None) -> dict[str, Any]:
        self._check(version, manifest_hash)
        try:
            manifest = json.loads((self.path(version) / MANIFEST).read_text())
        except OSError as error:
            raise AdapterUnavailable("versions.unreadable", version=version) from error
        except ValueError as error:
            raise AdapterError("versions.unreadable", version=version) from error
        return manifest if isinstance(manifest, dict) else {}

    def config(self, version: int) -> dict[str, Any]:
        """PEFT's adapter_config.json of a version that `load` has verified."""
        found: dict[str, Any] = json.loads((self.path(version) / CONFIG).read_text())
        return found

    def _check(self, version: int, manifest_hash: str | None) -> None:
        manifest = self.path(version) / MANIFEST
        for path in (self.folder, self.path(version), manifest):
            if path.is_symlink():
                raise AdapterUnavailable("versions.is_link", path=path)
        try:
            changed = manifest_hash and _sha256(manifest) != manifest_hash
        except FileNotFoundError as error:
            raise AdapterUnavailable("versions.incomplete", version=version) from error
        except OSError as error:
            raise AdapterUnavailable("versions.unreadable", version=version) from error
        if changed:
            raise AdapterError("versions.changed_on_disk", version=version)

    def remove(self, version: int) -> None:
        """Deletes the files of a version; after a crash `collect_garbage` removes the rest."""
        _remove_tree(self.path(version))

    def collect_garbage(self, known: set[int], deleted: Container[int] = ()) -> None:
        """Removes half-written stages and the `deleted` versions that a crash left behind. Any
        other version that is not `known` is moved to lost/: it may belong to a database that was
        moved away or replaced by an older copy."""
        if self.folder.is_symlink():
            return
        try:
            for stage in [] if self._staging.is_symlink() else self._staging.iterdir():
                _remove_tree(stage)
        except OSError as error:
            log.debug("no staging folder: %s", error)
        for folder in self.folder.glob("v[0-9]*"):
            if not folder.name[1:].isdigit() or (version := int(folder.name[1:])) in known:
                continue
            if version in deleted:
                log.info("removing %s: it was deleted", folder.name)
                _remove_tree(folder)
            elif not folder.is_symlink():
                self._quarantine(folder)

    def _quarantine(self, folder: Path) -> None:
        """Moves it to lost/ under a unique name, since the next version may need its number."""
        aside = self.folder / "lost" / f"{folder.name}-{uuid.uuid4().hex[:8]}"
        try:
            if aside.parent.is_symlink():
                raise NotADirectoryError(errno.ENOTDIR, "lost is a link")
            aside.parent.mkdir(exist_ok=True)
            os.rename(folder, aside)
        except OSError as error:
            log.warning("%s is in no database and cannot be moved (%s)", folder, error.strerror)
        else:
            log.warning("%s is in no database; it is kept as %s", folder.name, aside)

    def restore(self, version: int, manifest_hash: str) -> None:
        """Moves a version back from lost/ where the database in use knows it."""
        lost = self.folder / "lost"
        if self.folder.is_symlink() or lost.is_symlink() or self.path(version).exists():
            return
        for aside in lost.glob(f"{self.path(version).name}-*"):
            manifest = aside / MANIFEST
            if manifest.is_file() and _sha256(manifest) == manifest_hash:
                with contextlib.suppress(OSError):  # it stays safe where it is
                    os.rename(aside, self.path(version))
                return

    def _read(self, folder: Path, version: int) -> dict[str, torch.Tensor]:
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            for name in (WEIGHTS, CONFIG):
                file = folder / name
                if file.is_symlink():
                    raise AdapterUnavailable("versions.is_link", path=file)
                if file.stat().st_size > MAX_BYTES:
                    raise AdapterError("versions.too_large", version=version)
                if _sha256(file) != manifest["sha256"][name]:
                    raise AdapterError("versions.damaged", version=version, file=name)
            state = load_file(folder / WEIGHTS)
        except FileNotFoundError as error:
            raise AdapterUnavailable("versions.incomplete", version=version) from error
        except OSError as error:
            raise AdapterUnavailable("versions.unreadable", version=version) from error
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            raise AdapterError("versions.unreadable", version=version) from error
        if not all(torch.isfinite(tensor).all() for tensor in state.values()):
            raise AdapterError("versions.not_finite", version=version)
        return state


def _remove_tree(path: Path) -> None:
    """What is there, as far as possible; of a link, the link."""
    if path.is_symlink():
        with contextlib.suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, default=str))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Forces a file or a folder to the disk."""
    is_folder = path.is_dir()
    if is_folder and sys.platform == "win32":
        return  # a folder cannot be opened there, and NTFS journals the rename
    # Windows flushes a file only through a handle that may write to it.
    handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(handle)
        if sys.platform == "darwin" and not is_folder:
            with contextlib.suppress(OSError):  # not every disk can
                # A plain fsync does not reach the platter on a Mac.
                fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
    finally:
        os.close(handle)
