"""The database file: connection settings, its lock, creating, checking, upgrading and copying it.

Never touch feedback.db with open(), shutil or a second SQLite library while it is in use: closing
such a handle drops SQLite's own locks. That is why `sqlite3` comes from sqlite_utils only.
"""

import errno
import os
import sys
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from rlhf_chat import faults
from rlhf_chat.db.codec import fetch, one_value
from rlhf_chat.db.db_errors import backup_number, backups_of, code_of, rescue, store_error
from rlhf_chat.db.row_checksums import is_whole
from rlhf_chat.db.schema import APPLICATION_ID, migrations, schema_version
from rlhf_chat.errors import Busy, DatabaseDamaged, DatabaseTooNew, StoreError, failure

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

BUSY_SECONDS = 5.0  # how long a reader, an upgrade or a copy waits for another program
KEEP_BACKUPS = 7


def wal_is_safe(version: tuple[int, ...]) -> bool:
    """False for SQLite builds whose WAL can lose committed rows at a reset (3.7.0 to 3.51.2)."""
    fixed_branch = version[:2] in ((3, 50), (3, 44)) and version[2] >= {50: 7, 44: 6}[version[1]]
    return version >= (3, 51, 3) or fixed_branch


def connect(path: Path, mode: str) -> Database:
    """One connection with our settings. mode: ro, rw, rwc, or immutable (no lock, no WAL)."""
    query = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    connection = sqlite3.connect(
        f"{path.as_uri()}?{query}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,  # BEGIN IMMEDIATE is sent explicitly
        # Readers are closed by the thread that closes the store; their own lock keeps that safe.
        check_same_thread=mode in ("rw", "rwc"),
    )
    db = Database(connection, execute_plugins=False)
    settings = ["foreign_keys = ON", "trusted_schema = OFF", "cell_size_check = ON"]
    settings += ["mmap_size = 0", "temp_store = MEMORY"]
    if mode in ("rw", "rwc"):
        settings += ["synchronous = FULL", "secure_delete = ON", "journal_size_limit = 16777216"]
        # A plain fsync does not reach the platter on a Mac.
        settings += ["fullfsync = ON", "checkpoint_fullfsync = ON"] * (sys.platform == "darwin")
    else:  # only one connection may ever checkpoint: the writer's
        settings += ["query_only = ON", "wal_autocheckpoint = 0"]
    for setting in settings:
        db.execute(f"PRAGMA {setting}")
    return db


def lock(path: Path) -> int:
    """Hold `<file>.lock`; the system frees it when the process dies, however it dies."""
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            why = error.strerror or str(error)
            raise StoreError("db.no_locks", path=path, error=why) from error
        raise Busy("db.already_open", path=path) from error
    return handle


def inspect(path: Path) -> tuple[int, str]:
    """(schema version, mode a reader can use), or a refusal. Changes nothing in the file."""
    if path.stat().st_size == 0:
        backup = newest_whole_backup(path)
        raise DatabaseDamaged("db.empty_file", path=path, rescue=rescue(path, backup))
    _refuse_foreign_wal(path)
    modes = ["ro"]
    if not has_bytes(Path(f"{path}-wal")):
        modes.append("immutable")  # a WAL-mode file in a folder where no -shm can be made
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        modes = ["ro", "rw"]  # a rollback left by a kill can only be finished by a writer
    for mode in modes:
        try:
            with closing(connect(path, mode)) as db:
                return _checked_version(db, path), mode if mode != "rw" else "ro"
        except sqlite3.Error as error:
            cannot_open = code_of(error).startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY"))
            if mode == modes[-1] or not cannot_open:
                raise store_error(error, path, newest_whole_backup(path)) from error
    raise AssertionError("unreachable")


def _refuse_foreign_wal(path: Path) -> None:
    """A copy put in place of a file whose WAL is still there: SQLite would replay that WAL into it.
    The header of a file tells whether it has a WAL: our copies have none, a live file has one."""
    if not has_bytes(Path(f"{path}-wal")):
        return
    header = b""
    with suppress(OSError), path.open("rb") as stream:  # nothing in this process has it open yet
        header = stream.read(20)
    if header[18:] == b"\1\1":
        raise DatabaseDamaged("db.foreign_wal", path=path, name=path.name)


def _checked_version(db: Database, path: Path) -> int:
    if one_value(db, "PRAGMA application_id") != APPLICATION_ID:
        raise DatabaseDamaged("db.other_program", path=path)
    version: int = one_value(db, "PRAGMA user_version")
    if version > schema_version():
        raise DatabaseTooNew("db.too_new", path=path, version=version, known=schema_version())
    verdict = " ".join(one_value(db, "PRAGMA quick_check(1)").split())
    if verdict != "ok":
        backup = newest_whole_backup(path)
        raise DatabaseDamaged("db.damaged", path=path, error=verdict, rescue=rescue(path, backup))
    return version


def has_bytes(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def create(path: Path) -> None:
    """Make a complete new file aside and move it in place, so a kill never leaves a 0-byte one."""
    if has_bytes(Path(f"{path}-wal")):
        raise DatabaseDamaged("db.missing", path=path, name=path.name)
    new = path.with_name(path.name + ".new")
    for leftover in (new, Path(f"{new}-journal")):
        leftover.unlink(missing_ok=True)
    with closing(connect(new, "rwc")) as db:
        migrations.apply(db)
    new.chmod(0o600)
    os.replace(new, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return  # a folder cannot be opened there, and NTFS journals the rename
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def upgrade(db: Database, path: Path) -> None:
    """Bring an older file to today's shape, after a verified copy of it is safe in backups/."""
    if not migrations.pending(db):
        return
    add_backup(db, path)
    faults.point("migrate.backed_up")
    try:
        broken = apply_migrations(db)
    except Exception as error:
        why = failure(error) or str(error) or type(error).__name__
        raise StoreError("db.upgrade_failed", path=path, error=why, rescue=rescue(path)) from error
    if broken:
        raise DatabaseDamaged("db.dangling_rows", path=path, rescue=rescue(path))


def apply_migrations(db: Database) -> list[tuple[object, ...]]:
    """Brings an older file to today's shape; rows that point nowhere afterwards."""
    if not migrations.pending(db):
        return []
    # Rebuilding a table that others point at must not cascade; the check stands in for it.
    db.execute("PRAGMA foreign_keys = OFF")
    migrations.apply(db)
    faults.point("migrate.applied")
    broken = fetch(db, "PRAGMA foreign_key_check")
    db.execute("PRAGMA foreign_keys = ON")
    return broken


def is_corrupt(path: Path) -> bool:
    """Whether SQLite's integrity check says so: not for a file that is locked or unreadable."""
    try:
        with closing(connect(path, "ro")) as db:
            return bool(one_value(db, "PRAGMA integrity_check(1)") != "ok")
    except sqlite3.Error as error:
        return code_of(error).startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def newest_whole_backup(path: Path) -> Path | None:
    """The newest automatic copy in which nothing is damaged."""
    for backup in reversed(backups_of(path)):
        with suppress(sqlite3.Error), closing(connect(backup, "ro")) as db:
            if is_whole(db):
                return backup
    return None


def add_backup(db: Database, path: Path, kept: Path | None = None) -> None:
    """A verified copy in backups/; the oldest beyond KEEP_BACKUPS goes, unless it is `kept`."""
    folder = path.parent / "backups"
    if folder.is_symlink():
        raise StoreError("db.is_link", path=folder)
    folder.mkdir(mode=0o700, exist_ok=True)
    number = 1 + max((backup_number(old) for old in backups_of(path)), default=0)
    copy_to(db, folder / f"{path.stem}-{number:04d}-{_today()}{path.suffix}")
    for old in backups_of(path)[:-KEEP_BACKUPS]:
        if old != kept:
            old.unlink()


def backup_is_due(db: Database, path: Path) -> bool:
    """Whether anything was added since the newest copy, and that copy is not of today."""
    counted = "SELECT sum(value) FROM counters"
    if not (now := one_value(db, counted)):
        return False
    newest = backups_of(path)[-1:]
    if not newest or newest[0].stem.endswith(_today()):
        return not newest
    try:
        with closing(connect(newest[0], "ro")) as copy:
            result: bool = one_value(copy, counted) != now
            return result
    except sqlite3.Error:
        return True


def _today() -> str:
    return f"{datetime.now(UTC):%Y%m%d}"


def copy_to(db: Database, target: Path) -> None:
    """A verified copy through SQLite's backup call; complete under its name or not there at all."""
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        with closing(connect(part, "rwc")) as copy:
            db.conn.backup(copy.conn)
            faults.point("backup.copied")
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, no companions
            verdict = one_value(copy, "PRAGMA integrity_check(1)")
        if verdict != "ok":
            raise DatabaseDamaged("db.copy_damaged", path=target, error=verdict)
        part.chmod(0o600)
        faults.point("backup.before_rename")
        os.replace(part, target)
    except BaseException:  # it would hold space, perhaps the last, and words that may be deleted
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    faults.point("backup.renamed")
    _sync_folder(target.parent)
