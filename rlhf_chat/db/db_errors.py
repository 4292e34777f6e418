"""What the archive refuses or cannot do, in one clear sentence each.

Left out: deciding when; every other file of this room raises these.
"""

import errno
import glob
from collections.abc import Iterator
from pathlib import Path

from sqlite_utils.utils import sqlite3


class StoreError(Exception):
    """Something the archive refuses or cannot do, in a sentence for the person."""


class ReadOnly(StoreError):
    pass


class DatabaseTooNew(StoreError):
    pass


class DatabaseDamaged(StoreError):
    pass


class Busy(StoreError):
    pass


class DiskFull(StoreError):
    pass


class NotFound(StoreError):
    pass


def in_plain_words(error: BaseException, path: Path) -> BaseException:
    """The StoreError for what SQLite or the system said; other errors pass unchanged."""
    if isinstance(error, OSError):
        code = "SQLITE_FULL" if error.errno == errno.ENOSPC else "SQLITE_IOERR"
    elif isinstance(error, sqlite3.Error):
        code = code_of(error)
    else:
        return error
    for start, kind, sentence in _SENTENCES:
        if code.startswith(start):
            return kind(sentence.format(path=path, error=error, rescue=rescue(path)))
    return StoreError(f"{path.name} refused this entry: {error}.")


def code_of(error: BaseException) -> str:
    """SQLite's own name for the error; empty where the Python layer raised it."""
    return getattr(error, "sqlite_errorname", "")


_SENTENCES: list[tuple[str, type[StoreError], str]] = [
    ("SQLITE_FULL", DiskFull, "The disk of {path} is full, so nothing was saved; free some space."),
    ("SQLITE_READONLY", ReadOnly, "{path} is read-only, so nothing was saved; make it writable."),
    ("SQLITE_BUSY", Busy, "Another program is holding {path}; close it and try again."),
    ("SQLITE_LOCKED", Busy, "Another program is holding {path}; close it and try again."),
    ("SQLITE_CORRUPT", DatabaseDamaged, "{path} is damaged ({error}); {rescue}."),
    ("SQLITE_NOTADB", DatabaseDamaged, "{path} is damaged or no database ({error}); {rescue}."),
    ("SQLITE_IOERR", StoreError, "{path} could not be read or written ({error}); check the disk."),
    ("SQLITE_CANTOPEN", StoreError, "{path} could not be opened ({error}); check the folder."),
]


def rescue(path: Path) -> str:
    """What to do with a file we will not open; names the newest backup when there is one.
    A WAL that stayed would be replayed into whatever comes in its place."""
    away = f"move it away together with {path.name}-wal and {path.name}-shm where they exist"
    if backups := backups_of(path):
        return f"{away}, then copy {backups[-1]} to its place or start with an empty one"
    return f"{away}, then start with an empty one"


def backups_of(path: Path) -> list[Path]:
    """Automatic copies of this file, oldest first (by number, not by clock)."""
    return sorted(_copies(path, ""), key=backup_number)


def unfinished_backups_of(path: Path) -> list[Path]:
    """What a kill left of copies that were being made."""
    return list(_copies(path, ".part*"))


def _copies(path: Path, ending: str) -> Iterator[Path]:
    pattern = f"{glob.escape(path.stem)}-[0-9]*-*{glob.escape(path.suffix)}{ending}"
    return (path.parent / "backups").glob(pattern)


def backup_number(backup: Path) -> int:
    digits = backup.stem.rsplit("-", 2)[-2]
    return int(digits) if digits.isdigit() else 0
