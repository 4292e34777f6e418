"""Errors of SQLite and the file system as errors of ours, and the backups that help after them."""

import errno
import glob
from collections.abc import Iterator
from pathlib import Path

from sqlite_utils.utils import sqlite3

from rlhf_chat.errors import (
    Busy,
    DatabaseDamaged,
    DiskFull,
    Notice,
    ReadOnly,
    StoreError,
)


def store_error(error: BaseException, path: Path, backup: Path | None = None) -> BaseException:
    """The StoreError for an error of SQLite or the system; other errors pass unchanged. `backup`:
    see `rescue`."""
    if isinstance(error, OSError):
        code = "SQLITE_FULL" if error.errno == errno.ENOSPC else "SQLITE_IOERR"
    elif isinstance(error, sqlite3.Error):
        code = code_of(error)
    else:
        return error
    for start, kind, key in _CODES:
        if code.startswith(start):
            return kind(key, path=path, error=str(error), rescue=rescue(path, backup))
    return StoreError("db.refused", name=path.name, error=str(error))


def code_of(error: BaseException) -> str:
    """SQLite's own name for the error; empty where the Python layer raised it."""
    if "decode to UTF-8" in str(error):  # only ever written as UTF-8
        return "SQLITE_CORRUPT"
    return getattr(error, "sqlite_errorname", "")


_CODES: list[tuple[str, type[StoreError], str]] = [
    ("SQLITE_FULL", DiskFull, "db.disk_full"),
    ("SQLITE_READONLY", ReadOnly, "db.read_only"),
    ("SQLITE_BUSY", Busy, "db.busy"),
    ("SQLITE_LOCKED", Busy, "db.busy"),
    ("SQLITE_CORRUPT", DatabaseDamaged, "db.damaged"),
    ("SQLITE_NOTADB", DatabaseDamaged, "db.no_database"),
    ("SQLITE_IOERR", StoreError, "db.io_error"),
    ("SQLITE_CANTOPEN", StoreError, "db.cannot_open"),
]


def rescue(path: Path, backup: Path | None = None) -> Notice:
    """What to do with a file that will not be opened; names a backup when there is one: `backup`,
    which was found to be whole, else the newest. A WAL that stayed would be replayed into whatever
    comes in its place."""
    if backup or (backups := backups_of(path)):
        return Notice("db.rescue_backup", {"name": path.name, "backup": str(backup or backups[-1])})
    return Notice("db.rescue", {"name": path.name})


def backups_of(path: Path) -> list[Path]:
    """Automatic copies of this file, oldest first (by number, not by clock)."""
    return sorted(_copies(path, ""), key=backup_number)


def unfinished_backups_of(path: Path) -> list[Path]:
    """What a kill left of copies that were being made."""
    return list(_copies(path, ".part*"))


def _copies(path: Path, ending: str) -> Iterator[Path]:
    pattern = f"{glob.escape(path.stem)}-[0-9]*-*{glob.escape(path.suffix)}{ending}"
    folder = path.parent / "backups"
    return iter(()) if folder.is_symlink() else folder.glob(pattern)


def backup_number(backup: Path) -> int:
    digits = backup.stem.rsplit("-", 2)[-2]
    return int(digits) if digits.isdigit() else 0
