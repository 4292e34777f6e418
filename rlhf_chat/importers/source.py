"""A file as byte streams: plain, gzipped, the members of a .zip, or the files of a folder.

What it is, is told by its first bytes and not by its name. What it may unpack to is bounded, and
nothing is written to disk.
"""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rlhf_chat.importers.problems import StreamError, UnreadableError

Source = str | bytes | Path

MOST_UNPACKED = 2 * 1024**3  # bytes of all members together
MOST_MEMBERS = 10_000
MOST_DIRECTORY = 4 * 1024**2  # bytes of the list of members
TAIL = 70_000  # bytes in which the end of a .zip lies
BESIDE = ("message_feedback.json", "model_comparisons.json")
NAMES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".gz")
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may ask for gigabytes of memory

GZIP, ZIP, PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
FOREIGN = (b"PAR1", b"SQLite format 3\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ")
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, struct.error)
UNZIP_ERRORS = (*DAMAGED, ValueError, KeyError, RuntimeError, OSError)

Report = Callable[[float], None]


def no_report(share: float) -> None:
    pass


@dataclass(frozen=True)
class Member:
    """One file. `open` gives its bytes, unpacked."""

    name: str
    open: Callable[[], Any]  # io.BufferedReader


class Counted(io.RawIOBase):
    """A stream that reports the share of it that has been read."""

    def __init__(self, inner: Any, size: int, report: Report) -> None:
        self._inner, self._size, self._report, self._read = inner, max(size, 1), report, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, at: int, whence: int = 0) -> int:
        return int(self._inner.seek(at, whence))

    def tell(self) -> int:
        return int(self._inner.tell())

    def readinto(self, buffer: Any) -> int:
        count = int(self._inner.readinto(buffer))
        self._read += count
        self._report(min(1.0, self._read / self._size))
        return count


class Limit:
    """How many bytes may still be unpacked."""

    def __init__(self) -> None:
        self.left = MOST_UNPACKED


class Limited(io.RawIOBase):
    """An unpacked stream. Raises UnreadableError when the limit is used up."""

    def __init__(self, inner: Any, limit: Limit) -> None:
        self._inner, self._limit = inner, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        data = self._inner.read(len(view))
        self._limit.left -= len(data)
        if self._limit.left < 0:
            raise StreamError("imports.too_much_unpacked", limit=MOST_UNPACKED // 1024**3)
        view[: len(data)] = data
        return len(data)


@contextmanager
def opened(source: bytes | Path, name: str, report: Report) -> Iterator[Iterator[Member]]:
    """The files in a source, in the order in which they are to be read. Raises UnreadableError."""
    if isinstance(source, Path) and (files := _belonging_together(source)):
        yield _each(files, report)
    else:
        with _opened(source, name, report) as members:
            yield members


@contextmanager
def _opened(source: bytes | Path, name: str, report: Report) -> Iterator[Iterator[Member]]:
    raw = source.open("rb", buffering=0) if isinstance(source, Path) else io.BytesIO(source)
    with raw:
        size = raw.seek(0, io.SEEK_END)
        raw.seek(0)
        counted = io.BufferedReader(Counted(raw, size, report), 1 << 16)
        start, limit = counted.peek(16)[:16], Limit()
        if start.startswith(ZIP):
            _refuse_large_directory(raw, size)
            yield _zip(counted, limit)
        else:
            yield iter([Member(name, lambda: _single(counted, start, limit))])


def _single(stream: Any, start: bytes, limit: Limit) -> Any:
    if start.startswith(PARQUET):
        raise UnreadableError("imports.parquet")
    if start.startswith(FOREIGN):
        raise UnreadableError("imports.foreign_file")
    if start.startswith(GZIP):
        inner = _unpacked(gzip.GzipFile(fileobj=stream), limit)
        if inner.peek(16).startswith((GZIP, ZIP, *FOREIGN)):
            raise UnreadableError("imports.foreign_file")
        return inner
    return stream


def _unpacked(stream: Any, limit: Limit) -> Any:
    return io.BufferedReader(Limited(stream, limit), 1 << 16)


# ---- folders ---------------------------------------------------------------------------------


def _belonging_together(path: Path) -> list[Path]:
    """The readable files of a folder, without those below it; with conversations out of an unpacked
    export the ratings beside them; [] for any other file."""
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.is_file() and _is_data(one.name))
        by_name = {one.name: one for one in files[:MOST_MEMBERS]}
        return [by_name[name] for name in in_order(list(by_name))]
    beside = [path.parent / name for name in BESIDE] if _is_chats(path.name) else []
    found = [one for one in beside if one.is_file()]
    return [*found, path] if found else []


def _each(files: list[Path], report: Report) -> Iterator[Member]:
    sizes = [max(1, file.stat().st_size) for file in files]
    for i, file in enumerate(files):
        before, share = sum(sizes[:i]) / sum(sizes), sizes[i] / sum(sizes)
        part = partial(_report_part, report, before, share)
        with _opened(file, file.name, part) as members:
            for member in members:
                yield Member(file.name, member.open)


def _report_part(report: Report, before: float, share: float, done: float) -> None:
    report(before + share * done)


# ---- archives --------------------------------------------------------------------------------


def _zip(stream: Any, limit: Limit) -> Iterator[Member]:
    try:
        archive = zipfile.ZipFile(stream)
    except UNZIP_ERRORS as error:
        raise UnreadableError("imports.archive_damaged") from error
    members = {one.filename: one for one in archive.infolist() if _is_data(one.filename)}
    for name in in_order(list(members)):
        yield Member(name, partial(_member, archive, members[name], limit))


def _refuse_large_directory(raw: Any, size: int) -> None:
    """zipfile reads the list of members at once, so its length is looked up first."""
    raw.seek(max(0, size - TAIL))
    tail = raw.read(TAIL)
    raw.seek(0)
    at, at64 = tail.rfind(b"PK\5\6"), tail.rfind(b"PK\6\6")
    if at < 0 or len(tail) < at + 22:
        raise UnreadableError("imports.archive_damaged")
    count, length = struct.unpack("<HI", tail[at + 10 : at + 16])
    if at64 >= 0 and len(tail) >= at64 + 56:
        count, length = struct.unpack("<QQ", tail[at64 + 32 : at64 + 48])
    elif b"PK\6\7" in tail[max(0, at - 20) : at]:
        raise UnreadableError("imports.too_many_files", limit=MOST_MEMBERS)
    if count > MOST_MEMBERS or length > MOST_DIRECTORY:
        raise UnreadableError("imports.too_many_files", limit=MOST_MEMBERS)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: Limit) -> Any:
    if info.flag_bits & 1:
        raise UnreadableError("imports.encrypted")
    if info.compress_type not in PACKED:
        raise UnreadableError("imports.foreign_file")
    try:
        inner = _unpacked(archive.open(info), limit)
    except UNZIP_ERRORS as error:  # places that are not in the file, for one
        raise UnreadableError("imports.archive_damaged") from error
    start = inner.peek(16)[:16]
    if start.startswith(ZIP):
        raise UnreadableError("imports.foreign_file")
    return _single(inner, start, limit)


# ---- names -----------------------------------------------------------------------------------


def _is_data(name: str) -> bool:
    parts = name.split("/")
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return not hidden and parts[-1].lower().endswith(NAMES)


def _is_chats(name: str) -> bool:
    last = name.rsplit("/", 1)[-1]
    return last.startswith("conversations") and last.endswith(".json")


def in_order(names: list[str]) -> list[str]:
    """Ratings that lie beside conversations first, then the conversations, and of an export that
    has them nothing else: its other files are about the account."""
    chats = [one for one in names if _is_chats(one)]
    if not chats:
        return sorted(names)
    return sorted(name for name in names if name.rsplit("/", 1)[-1] in BESIDE) + sorted(chats)
