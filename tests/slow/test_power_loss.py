"""A power cut at any moment: what was acknowledged is there, and every version is whole.

A child process rates and publishes under strace, which records every write. From the recording the
states that a disk may be in after a cut are made: what was synced is there; of the rest, writes are
dropped, kept or torn at 512 bytes, and of the renamed, created and removed names a prefix survives.
RLHF_CHAT_CUTS says how many states; without strace the test is skipped.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rlhf_chat.db.codec import fetch
from rlhf_chat.db.database_file import connect
from rlhf_chat.errors import AdapterError
from rlhf_chat.versions.adapter_store import AdapterStore

ROOT = Path(__file__).parents[2]
CUTS = int(os.environ.get("RLHF_CHAT_CUTS", "2000"))
SECTOR = 512
CALLS = (
    "openat,close,dup,dup3,fcntl,pwrite64,write,lseek,fsync,fdatasync,ftruncate,unlink,unlinkat,"
)
CALLS += "rename,renameat,renameat2,mkdir,mkdirat,rmdir"
LINE = re.compile(r"^\d+\s+(\w+)\((.*)\)\s+=\s+(-?\d+)")
RESUMED = re.compile(r"^(\d+)\s+<\.\.\. \w+ resumed>(.*)$")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


def child(folder: Path) -> None:
    """Ratings and versions; after each a line in `acknowledged`, which is written last."""
    import torch

    from rlhf_chat.db import Store

    store, adapters = Store(folder / "feedback.db"), AdapterStore(folder / "adapters")
    log = os.open(folder / "acknowledged", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    chat = store.conversations.add()
    for i in range(40):
        asked = store.messages.add(chat, "user", f"question {i}")
        reply = store.messages.add(
            chat, "assistant", f"reply {i} " * 30, parent_id=asked, prompt_ids=[1], response_ids=[2]
        )
        store.feedback.add_rating(reply, 1, comment=f"note {i}")
        if i % 10 == 5:
            store.feedback.add_rating(reply, -1)  # erases the comment, also from the log
        os.write(log, f"rating {reply} {-1 if i % 10 == 5 else 1}\n".encode())
        if i % 8 == 7:
            version = store.adapter_versions.next_number()
            state = {"w": torch.full((64, 64), float(version))}
            made, digest = adapters.publish(version, state, {"r": 1}, {"base_hash": "b"})
            store.adapter_versions.promote(
                version=version,
                parent=version - 1,
                round_id=None,
                tier="passed",
                folder=made.name,
                manifest_hash=digest,
                kl=0.0,
                reason="",
                verdict={},
            )
            os.write(log, f"version {version}\n".encode())
        if i == 20:
            assert store.back_up()
    os.kill(os.getpid(), 9)


# ---- the recording ------------------------------------------------------------------------------


@dataclass
class File:
    """What of a file is on the disk, and what was written since it was last synced."""

    content: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, bytes | None]] = field(default_factory=list)  # None: cut off there


Operation = tuple[str, Path, int, bytes]  # kind, path, offset or length, bytes (or the new name)


def recorded(log: Path, root: Path) -> list[Operation]:
    """The operations below `root`, in order."""
    found: list[Operation] = []
    open_files: dict[int, tuple[Path, int]] = {}
    begun: dict[str, str] = {}  # by thread: calls that another thread's came into
    for line in log.read_text(errors="replace").splitlines():
        if line.endswith("<unfinished ...>"):
            begun[line.split()[0]] = line.removesuffix("<unfinished ...>")
            continue
        if rest := RESUMED.match(line):
            line = begun.pop(rest[1], "") + rest[2]
        call = LINE.match(line)
        if call and int(call[3]) >= 0:
            found += _operations(call[1], call[2], int(call[3]), root, open_files)
    return found


def _operations(
    call: str, given: str, result: int, root: Path, files: dict[int, tuple[Path, int]]
) -> list[Operation]:
    names = [
        Path(os.path.normpath(root / os.fsdecode(bytes.fromhex(text.replace("\\x", "")))))
        for text in TEXT.findall(given)
    ]
    first = given.split(",")[0]
    handle = int(first) if first.lstrip("-").isdigit() else -1
    path, place = files.get(handle, (Path("/"), 0))
    ours = root in path.parents or path == root
    if call == "openat":
        files[result] = (names[0], 0)
        if root in names[0].parents and "O_CREAT" in given:
            cut = [("cut", names[0], 0, b"")] if "O_TRUNC" in given else []
            return [("create", names[0], 0, b""), *cut]  # type: ignore[list-item]
    elif call == "close":
        files.pop(handle, None)
    elif call in ("dup", "dup3", "fcntl") and handle in files and "F_DUPFD" in f"{given} {call}":
        files[result] = files[handle]
    elif call in ("write", "pwrite64") and ours:
        text = TEXT.findall(given)[0]
        data = bytes.fromhex(text.replace("\\x", ""))[:result]
        offset = int(given.rsplit(",", 1)[1]) if call == "pwrite64" else place
        if call == "write":
            files[handle] = (path, place + result)
        return [("write", path, offset, data)]
    elif call == "lseek" and handle in files:
        files[handle] = (path, result)
    elif call in ("fsync", "fdatasync") and ours:
        return [("sync", path, 0, b"")]
    elif call == "ftruncate" and ours:
        return [("cut", path, int(given.split(",")[1]), b"")]
    elif call in ("unlink", "unlinkat", "rmdir") and names and root in names[0].parents:
        return [("remove", names[0], 0, b"")]
    elif call.startswith("rename") and root in names[0].parents:
        return [("rename", names[0], 0, os.fsencode(names[1]))]
    elif call.startswith("mkdir") and root in names[0].parents:
        return [("mkdir", names[0], 0, b"")]
    return []


# ---- states of the disk ----------------------------------------------------------------------


class Disk:
    """Names and contents as they are for running programs, and as they are on the disk."""

    def __init__(self) -> None:
        self.names: dict[Path, File | None] = {}  # None: a folder
        self.durable: dict[Path, File | None] = {}
        self.changes: list[tuple[str, Path, Path, File | None]] = []  # not yet on the disk
        self.acknowledged = b""

    def do(self, operation: Operation) -> None:
        kind, path, place, data = operation
        if kind in ("create", "mkdir"):
            if path not in self.names:
                made = File() if kind == "create" else None
                self.names[path] = made
                self.changes.append(("add", path, path, made))
        elif kind == "remove":
            self.names.pop(path, None)
            self.changes.append(("remove", path, path, None))
        elif kind == "rename":
            self._rename(path, Path(os.fsdecode(data)))
        elif kind == "sync":
            self._sync(path)
        elif isinstance(file := self.names.get(path), File):
            if path.name == "acknowledged":
                self.acknowledged += data
            file.unsynced.append((place, data if kind == "write" else None))

    def _rename(self, path: Path, to: Path) -> None:
        for old in [p for p in self.names if p == path or path in p.parents]:
            self.names[to / old.relative_to(path)] = self.names.pop(old)
        self.changes.append(("rename", path, to, None))

    def _sync(self, path: Path) -> None:
        """Of a file: its contents, and the journal up to its name. Of a folder: its names."""
        file = self.names.get(path)
        if isinstance(file, File):
            for place, data in file.unsynced:
                _apply(file.content, place, data)
            file.unsynced.clear()
            upto = [i for i, c in enumerate(self.changes) if c[0] == "add" and c[3] is file]
        else:
            upto = [i for i, c in enumerate(self.changes) if path in (c[1].parent, c[2].parent)]
        if upto:
            for change in self.changes[: upto[-1] + 1]:
                _journal(self.durable, change)
            del self.changes[: upto[-1] + 1]

    def after_cut(self, rng: random.Random) -> dict[Path, bytes | None]:
        names = dict(self.durable)
        for change in self.changes[: rng.randrange(len(self.changes) + 1)]:
            _journal(names, change)
        return {path: None if file is None else _torn(file, rng) for path, file in names.items()}


def _journal(names: dict[Path, File | None], change: tuple[str, Path, Path, File | None]) -> None:
    kind, path, to, file = change
    if kind == "add":
        names[path] = file
    elif kind == "remove":
        names.pop(path, None)
    else:
        for old in [p for p in names if p == path or path in p.parents]:
            names[to / old.relative_to(path)] = names.pop(old)


def _apply(content: bytearray, place: int, data: bytes | None) -> None:
    if len(content) < place:
        content.extend(bytes(place - len(content)))
    if data is None:
        del content[place:]
    else:
        content[place : place + len(data)] = data


def _torn(file: File, rng: random.Random) -> bytes:
    content = bytearray(file.content)
    for place, data in file.unsynced:
        luck = rng.random()
        if luck < 0.5:
            continue
        if data is not None and luck < 0.75:
            data = data[: rng.randrange(len(data) // SECTOR + 1) * SECTOR]
        _apply(content, place, data)
    return bytes(content)


# ---- the test -------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_nothing_acknowledged_is_lost_and_no_version_is_half(tmp_path: Path, disk_path: Path):
    root, log = disk_path / "data", tmp_path / "trace"
    root.mkdir()
    trace = ["strace", "-f", "-xx", "-s", "2000000", "-e", f"trace={CALLS}", "-o", str(log)]
    victim = [sys.executable, "-m", "tests.slow.test_power_loss", str(root)]
    done = subprocess.run([*trace, *victim], cwd=ROOT, capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr and not (root / "feedback.db").exists():
        pytest.skip("strace may not trace here")
    operations = recorded(log, root)
    told = (root / "acknowledged").read_bytes()
    assert told.count(b"rating") == 40, done.stderr[-2000:]
    seed = random.SystemRandom().getrandbits(32)
    rng = random.Random(seed)
    cuts = sorted(rng.randrange(1, len(operations) + 1) for _ in range(CUTS))
    disk, at = Disk(), 0
    for number, cut in enumerate(cuts):
        while at < cut:
            disk.do(operations[at])
            at += 1
        state = tmp_path / "state"
        shutil.rmtree(state, ignore_errors=True)
        _write(disk.after_cut(rng), root, state)
        _check(state, disk.acknowledged.decode(), f"state {number} of seed {seed}")
    assert disk.acknowledged == told[: len(disk.acknowledged)]


def _write(names: dict[Path, bytes | None], root: Path, state: Path) -> None:
    state.mkdir()
    for path, content in sorted(names.items()):
        here = state / path.relative_to(root)
        if content is None:
            here.mkdir(parents=True, exist_ok=True)
        elif here.parent.exists() and not path.name.endswith("-shm"):
            here.write_bytes(content)


def _check(state: Path, told: str, where: str) -> None:
    promised = [line.split() for line in told.splitlines()]
    database = state / "feedback.db"
    if not database.exists():
        assert not promised, where
        return
    with closing(connect(database, "rw")) as db:
        assert fetch(db, "PRAGMA integrity_check") == [("ok",)], where
        kept = dict(fetch(db, "SELECT message_id, value FROM ratings ORDER BY number"))
        versions = dict(fetch(db, "SELECT version, manifest_hash FROM adapter_versions"))
    for what, name, *value in promised:
        if what == "rating":
            assert str(kept.get(name)) == value[0], f"{name} is lost, {where}"
        else:
            assert int(name) in versions, f"version {name} is lost, {where}"
    adapters = AdapterStore(state / "adapters")
    for version, digest in versions.items():
        try:
            assert not version or adapters.load(version, digest)
        except AdapterError as error:
            raise AssertionError(f"{error} {where}") from error


if __name__ == "__main__":
    child(Path(sys.argv[1]))
