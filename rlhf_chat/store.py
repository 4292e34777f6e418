"""The archive: everything the app remembers, in one SQLite file, `feedback.db`.

One thread owns the one connection that writes; a write method returns only after COMMIT has put the
row on the disk. Readers are read-only connections, one per thread, and never wait for the writer.
Ratings and preferences are append-only logs: the newest row counts, and nothing is edited.
Left out: the shape of the tables (store_schema.py), adapter weights (they live in folders, the file
holds only the pointer) and any opinion about what the rows mean.

Never touch feedback.db with open(), shutil or a second SQLite library while it is in use: closing
such a handle drops SQLite's own locks. That is why `sqlite3` comes from sqlite_utils only.
"""

import errno
import glob
import hashlib
import json
import math
import os
import queue
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from rlhf_chat.store_schema import (
    APPLICATION_ID,
    AdapterVersion,
    Conversation,
    Event,
    Message,
    Preference,
    Rating,
    Round,
    migrations,
    schema_version,
)

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

T = TypeVar("T")

BUSY_SECONDS = 5.0  # how long a click waits for another program that holds the file
GROUP = 50  # clicks that may share one fsync
KEEP_BACKUPS = 7
TITLE_LENGTH = 60


# ---------------------------------------------------------------- errors: one clear sentence each


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


def _in_plain_words(error: BaseException, path: Path) -> BaseException:
    """The StoreError for what SQLite or the system said; other errors pass unchanged."""
    if isinstance(error, OSError):
        code = "SQLITE_FULL" if error.errno == errno.ENOSPC else "SQLITE_IOERR"
    elif isinstance(error, sqlite3.Error):
        code = _code(error)
    else:
        return error
    for start, kind, sentence in _SENTENCES:
        if code.startswith(start):
            return kind(sentence.format(path=path, error=error, rescue=_rescue(path)))
    return StoreError(f"{path.name} refused this entry: {error}.")


def _code(error: BaseException) -> str:
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


def _rescue(path: Path) -> str:
    """What to do with a file we will not open; names the newest backup when there is one."""
    backups = _backups(path)
    if backups:
        return f"move it away, then copy {backups[-1]} to its place or start with an empty one"
    return "move it away to start with an empty one"


# ---------------------------------------------------------------- encoding


def _ids_blob(ids: Sequence[int] | None) -> bytes | None:
    return None if ids is None else np.asarray(ids, dtype="<i4").tobytes()


def _ids_list(blob: bytes) -> list[int]:
    return np.frombuffer(blob, dtype="<i4").tolist()


def content_key(prompt_ids: Sequence[int], response_ids: Sequence[int] = ()) -> str:
    """The name of one text as the model saw it: equal token ids, equal key.

    Cache features under this key, so that deleting a conversation can find what belongs to it.
    """
    digest = hashlib.sha256(len(prompt_ids).to_bytes(8, "little"))
    digest.update(_ids_blob(prompt_ids) or b"")
    digest.update(_ids_blob(response_ids) or b"")
    return digest.hexdigest()


_DECODE: dict[str, Callable[[Any], Any]] = {
    "prompt_ids": _ids_list,
    "response_ids": _ids_list,
    "sampling": json.loads,
    "config": json.loads,
    "verdict": json.loads,
    "data": json.loads,
}


def _json(value: Any) -> str:
    """JSON that SQLite's json_valid accepts: NaN and infinity become null."""
    try:
        return _text(json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain))
    except ValueError:
        return _text(json.dumps(_finite(value), ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    """numpy values and paths as plain ones; the rest is for json to refuse."""
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be kept as JSON")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _text(text: str) -> str:
    """Half of a surrogate pair, which a browser can send, is not UTF-8: it becomes a "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _new_id() -> str:
    return uuid.uuid4().hex


def _columns(record: type) -> str:
    return ", ".join(f'"{field.name}"' for field in fields(record))


def _rows(db: Database, sql: str, values: Sequence[Any] = ()) -> list[tuple]:
    # fetchall at once: an unfinished cursor would pin its snapshot and block the checkpoint.
    return db.execute(sql, values).fetchall()


def _select(db: Database, record: type[T], rest: str, values: Sequence[Any] = ()) -> list[T]:
    names = [field.name for field in fields(record)]  # type: ignore[arg-type]
    decode = [_DECODE.get(name) for name in names]
    return [
        record(*(d(v) if d and v is not None else v for d, v in zip(decode, row, strict=True)))
        for row in _rows(db, f"SELECT {_columns(record)} {rest}", values)
    ]


def _insert(db: Database, table: str, **values: Any) -> None:
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join("?" * len(values))
    cleaned = [_text(value) if isinstance(value, str) else value for value in values.values()]
    db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", cleaned)


def _one(db: Database, sql: str, values: Sequence[Any] = ()) -> Any:
    """The first column of the first row, or None."""
    rows = _rows(db, sql, values)
    return rows[0][0] if rows else None


def _next(db: Database, counter: str) -> int:
    """The next number of a named sequence. Only inside a transaction of the writer."""
    sql = "UPDATE counters SET value = value + 1 WHERE name = ? RETURNING value"
    return _one(db, sql, [counter])


# ---------------------------------------------------------------- opening the file


def wal_is_safe(version: tuple[int, ...]) -> bool:
    """False for SQLite builds whose WAL can lose committed rows at a reset (3.7.0 to 3.51.2)."""
    fixed_branch = version[:2] in ((3, 50), (3, 44)) and version[2] >= {50: 7, 44: 6}[version[1]]
    return version >= (3, 51, 3) or fixed_branch


def _connect(path: Path, mode: str) -> Database:
    """One connection with our settings. mode: ro, rw, rwc, or immutable (no lock, no WAL)."""
    query = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    connection = sqlite3.connect(
        f"{path.as_uri()}?{query}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,  # we say BEGIN IMMEDIATE ourselves
        # A reader is closed by whoever closes the store; its own lock keeps that safe.
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


def _lock(path: Path) -> int:
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
            sentence = f"{path} is on a disk without file locks ({error.strerror}); move it."
            raise StoreError(sentence) from error
        raise Busy(f"{path} is already open in this app; use that window or close it.") from error
    return handle


def _inspect(path: Path) -> tuple[int, str]:
    """(schema version, mode a reader can use), or a refusal. Changes nothing in the file."""
    if path.stat().st_size == 0:
        raise DatabaseDamaged(f"{path} is empty (0 bytes), not a feedback file; {_rescue(path)}.")
    modes = ["ro"]
    if not _has_bytes(Path(f"{path}-wal")):
        modes.append("immutable")  # a WAL-mode file in a folder where no -shm can be made
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        modes = ["ro", "rw"]  # a rollback left by a kill can only be finished by a writer
    for mode in modes:
        try:
            with closing(_connect(path, mode)) as db:
                return _checked_version(db, path), mode if mode != "rw" else "ro"
        except sqlite3.Error as error:
            cannot_open = _code(error).startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY"))
            if mode == modes[-1] or not cannot_open:
                raise _in_plain_words(error, path) from error
    raise AssertionError("unreachable")


def _checked_version(db: Database, path: Path) -> int:
    if _one(db, "PRAGMA application_id") != APPLICATION_ID:
        sentence = f"{path} was made by another program; move it away or choose another file."
        raise DatabaseDamaged(sentence)
    version = _one(db, "PRAGMA user_version")
    if version > schema_version():
        raise DatabaseTooNew(
            f"{path} was written by a newer version of this app (format {version}, this one knows "
            f"{schema_version()}); update the app or choose another file."
        )
    verdict = " ".join(_one(db, "PRAGMA quick_check(1)").split())
    if verdict != "ok":
        raise DatabaseDamaged(f"{path} is damaged ({verdict}); {_rescue(path)}.")
    return version


def _has_bytes(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _create(path: Path) -> None:
    """Make a complete new file aside and move it in place, so a kill never leaves a 0-byte one."""
    if _has_bytes(Path(f"{path}-wal")):
        raise DatabaseDamaged(
            f"{path} is missing but {path.name}-wal beside it still holds rows; "
            "put the file back, or move that one away."
        )
    new = path.with_name(path.name + ".new")
    for leftover in (new, Path(f"{new}-journal")):
        leftover.unlink(missing_ok=True)
    with closing(_connect(new, "rwc")) as db:
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


def _upgrade(db: Database, path: Path) -> None:
    """Bring an older file to today's shape, after a verified copy of it is safe in backups/."""
    if not migrations.pending(db):
        return
    folder = path.parent / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    number = 1 + max((_backup_number(old) for old in _backups(path)), default=0)
    _copy(db, folder / f"{path.stem}-{number:04d}-{datetime.now(UTC):%Y%m%d}{path.suffix}")
    for old in _backups(path)[:-KEEP_BACKUPS]:
        old.unlink()
    # Rebuilding a table that others point at must not cascade; the check below stands in for it.
    db.execute("PRAGMA foreign_keys = OFF")
    try:
        migrations.apply(db)
        broken = _rows(db, "PRAGMA foreign_key_check")
    except Exception as error:
        sentence = f"{path} could not be upgraded ({error}); its rows are safe, {_rescue(path)}."
        raise StoreError(sentence) from error
    db.execute("PRAGMA foreign_keys = ON")
    if broken:
        raise DatabaseDamaged(f"{path} has rows that point at nothing; {_rescue(path)}.")


def _backups(path: Path) -> list[Path]:
    """Automatic copies of this file, oldest first (by number, not by clock)."""
    pattern = f"{glob.escape(path.stem)}-[0-9]*-*{glob.escape(path.suffix)}"
    found = (path.parent / "backups").glob(pattern)
    return sorted(found, key=_backup_number)


def _backup_number(backup: Path) -> int:
    digits = backup.stem.rsplit("-", 2)[-2]
    return int(digits) if digits.isdigit() else 0


def _copy(db: Database, target: Path) -> None:
    """A verified copy through SQLite's backup call; complete under its name or not there at all."""
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    with closing(_connect(part, "rwc")) as copy:
        db.conn.backup(copy.conn)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, no companions
        verdict = _one(copy, "PRAGMA integrity_check(1)")
    if verdict != "ok":
        part.unlink()
        raise DatabaseDamaged(f"The copy {target} failed its check ({verdict}) and was removed.")
    part.chmod(0o600)
    os.replace(part, target)
    _sync_folder(target.parent)


# ---------------------------------------------------------------- the writer thread


@dataclass
class _Job:
    change: Callable[[Database], Any]
    alone: bool  # outside any transaction (a checkpoint)
    future: Future


class _Writer(threading.Thread):
    """Owns the one connection that writes. A job's future resolves after its COMMIT."""

    def __init__(self, path: Path, upgrade: bool):
        super().__init__(name="store-writer", daemon=True)
        self.opened: Future[str] = Future()  # journal mode, or why the file could not be opened
        self._path = path
        self._upgrade = upgrade
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._accepting = True

    def submit(self, change: Callable[[Database], T], *, alone: bool = False) -> "Future[T]":
        job = _Job(change, alone, Future())
        with self._gate:  # no job may slip in behind the last one and wait for ever
            if not self._accepting:
                raise StoreError(f"{self._path.name} is closed, so nothing was saved.")
            self._jobs.put(job)
        return job.future

    def stop(self) -> None:
        with self._gate:
            self._accepting = False
            self._jobs.put(None)
        self.join()

    def run(self) -> None:
        try:
            db = self._open()
        except BaseException as error:
            self.opened.set_exception(_in_plain_words(error, self._path))
            return
        self.opened.set_result(_one(db, "PRAGMA journal_mode"))
        try:
            while self._step(db):
                pass
        finally:
            self._refuse_the_rest()
            db.close()

    def _open(self) -> Database:
        db = _connect(self._path, "rw")
        try:
            if self._upgrade:
                _upgrade(db, self._path)
            if not wal_is_safe(sqlite3.sqlite_version_info) or not _use_wal(db):
                db.execute("PRAGMA journal_mode = TRUNCATE")
            # A build may default WAL to NORMAL, which forgets acknowledged rows at a power cut.
            if _one(db, "PRAGMA synchronous") != 2 or _one(db, "PRAGMA foreign_keys") != 1:
                raise StoreError("This SQLite ignores synchronous=FULL: ratings would not be safe.")
        except BaseException:
            db.close()
            raise
        return db

    def _step(self, db: Database) -> bool:
        """Take what is waiting, commit it as one group. False when told to stop."""
        group: list[_Job] = []
        job = self._jobs.get()
        while job is not None and not job.alone:
            group.append(job)
            if len(group) == GROUP:
                break
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
        if group:
            self._commit(db, group)
        if job is not None and job.alone:
            self._run_alone(db, job)
        return job is not None

    def _commit(self, db: Database, group: list[_Job]) -> None:
        """One transaction for the group; if that fails, one for each, to spare the innocent."""
        try:
            db.execute("BEGIN IMMEDIATE")
        except BaseException as error:  # nobody's fault: another program holds the file
            for job in group:
                job.future.set_exception(_in_plain_words(error, self._path))
            return
        try:
            results = [job.change(db) for job in group]
            db.execute("COMMIT")
        except BaseException as error:
            if db.conn.in_transaction:  # a full disk makes SQLite roll back by itself
                db.execute("ROLLBACK")
            if len(group) == 1:
                group[0].future.set_exception(_in_plain_words(error, self._path))
            else:
                for job in group:
                    self._commit(db, [job])
            return
        for job, result in zip(group, results, strict=True):
            job.future.set_result(result)

    def _run_alone(self, db: Database, job: _Job) -> None:
        try:
            result = job.change(db)
        except BaseException as error:
            job.future.set_exception(_in_plain_words(error, self._path))
        else:
            job.future.set_result(result)

    def _refuse_the_rest(self) -> None:
        with self._gate:
            self._accepting = False
            while not self._jobs.empty():
                job = self._jobs.get()
                if job is not None:
                    job.future.set_exception(StoreError(f"{self._path.name} is closed."))


def _use_wal(db: Database) -> bool:
    try:
        return _one(db, "PRAGMA journal_mode = WAL") == "wal"
    except sqlite3.OperationalError:  # a file system without shared memory
        return False


def _checkpoint(db: Database) -> bool:
    """Move the WAL into the file and empty it. False while a reader still needs it."""
    db.execute("PRAGMA busy_timeout = 0")  # clicks must not queue behind a slow reader
    try:
        return _one(db, "PRAGMA wal_checkpoint(TRUNCATE)") == 0
    finally:
        db.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")


class _Reader:
    """One thread's read-only connection; gone with its thread."""

    def __init__(self, db: Database):
        self.db: Database | None = db
        self.lock = threading.Lock()

    def close(self) -> None:
        with self.lock:
            if self.db is not None:
                self.db.close()
                self.db = None

    def __del__(self) -> None:
        self.close()


# ---------------------------------------------------------------- the store


class Store:
    """feedback.db, open. `read_only` is True when it can be read but not written."""

    def __init__(self, path: Path | str):
        self.path = Path(path).expanduser().resolve()
        self.read_only = False
        self.journal_mode = ""
        self._handle: int | None = None
        self._writer: _Writer | None = None
        self._reader_mode = "ro"
        self._closed = False
        self._local = threading.local()
        self._readers: weakref.WeakSet[_Reader] = weakref.WeakSet()
        self._readers_lock = threading.Lock()
        self._take_lock()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _take_lock(self) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.exists() and not os.access(self.path, os.W_OK):
                raise PermissionError
            self._handle = _lock(self.path)
        except OSError as error:
            if not self.path.exists():
                sentence = f"{self.path} cannot be made ({error.strerror}); choose another folder."
                raise ReadOnly(sentence) from error
            self.read_only = True

    def _open(self) -> None:
        if not self.path.exists():
            try:
                _create(self.path)
            except (sqlite3.Error, OSError) as error:
                raise _in_plain_words(error, self.path) from error
        version, self._reader_mode = _inspect(self.path)
        older = version < schema_version()
        if self.read_only:
            if older:
                raise ReadOnly(f"{self.path} needs an upgrade but is read-only; make it writable.")
            return
        self._writer = _Writer(self.path, upgrade=older)
        self._writer.start()
        self.journal_mode = self._writer.opened.result()
        self._reader_mode = "ro"

    def close(self) -> None:
        """Finish what was asked, then let go of the file. Idempotent."""
        with self._readers_lock:
            self._closed = True
            readers = list(self._readers)
        for reader in readers:  # first, so that the writer's close can empty the WAL
            reader.close()
        if self._writer is not None and self._writer.is_alive():
            self._writer.stop()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    # ---- the two ways in

    def _write(self, change: Callable[[Database], T]) -> T:
        if self._writer is None:
            raise ReadOnly(f"{self.path} is read-only, so nothing was saved; make it writable.")
        return self._writer.submit(change).result()

    def _run_sql(self, sql: str, rows: Sequence[tuple]) -> None:
        def change(db: Database) -> None:
            db.conn.executemany(sql, rows)

        self._write(change)

    @contextmanager
    def _read(self) -> Iterator[Database]:
        reader = self._reader()
        with reader.lock:
            if reader.db is None:
                raise StoreError(f"{self.path.name} is closed.")
            try:
                yield reader.db
            except sqlite3.Error as error:
                raise _in_plain_words(error, self.path) from error

    def _reader(self) -> _Reader:
        reader = getattr(self._local, "reader", None)
        if reader is not None:
            return reader
        with self._readers_lock:
            if self._closed:
                raise StoreError(f"{self.path.name} is closed.")
            try:
                reader = _Reader(_connect(self.path, self._reader_mode))
            except sqlite3.Error as error:
                raise _in_plain_words(error, self.path) from error
            self._readers.add(reader)
        self._local.reader = reader
        return reader

    def _list(self, record: type[T], rest: str, values: Sequence[Any] = ()) -> list[T]:
        with self._read() as db:
            return _select(db, record, rest, values)

    def _ids(self, sql: str, of: str) -> list[str]:
        with self._read() as db:
            return [row[0] for row in _rows(db, sql, [of])]

    def _value(self, sql: str, values: Sequence[Any] = ()) -> Any:
        with self._read() as db:
            return _one(db, sql, values)

    # ---- conversations

    def add_conversation(self, kind: str = "chat", title: str = "", system_prompt: str = "") -> str:
        if kind not in ("chat", "compare"):
            raise StoreError(f"A conversation is of kind chat or compare, not {kind!r}.")
        new_id, now = _new_id(), _now()

        def change(db: Database) -> str:
            _insert(
                db,
                "conversations",
                id=new_id,
                kind=kind,
                title=title,
                system_prompt=system_prompt,
                last_number=_next(db, "conversation"),
                created_at=now,
                updated_at=now,
            )
            return new_id

        return self._write(change)

    def conversations(self, kind: str = "chat") -> list[Conversation]:
        """Newest first: the one that was last added to."""
        rest = "FROM conversations WHERE kind = ? ORDER BY last_number DESC"
        return self._list(Conversation, rest, [kind])

    def conversation(self, conversation_id: str) -> Conversation:
        found = self._list(Conversation, "FROM conversations WHERE id = ?", [conversation_id])
        if not found:
            raise NotFound("That conversation is not here any more.")
        return found[0]

    def rename_conversation(self, id: str, title: str) -> None:
        def change(db: Database) -> None:
            _conversation_row(db, id)
            db.execute("UPDATE conversations SET title = ? WHERE id = ?", [_text(title), id])

        self._write(change)

    def delete_conversation(self, id: str) -> None:
        """Remove every trace of it from the file, its WAL and the automatic backups."""

        def change(db: Database) -> None:
            _conversation_row(db, id)
            _erase(db, id)
            _add_event(db, "conversation_deleted", id, {})

        self._write(change)
        self._empty_wal()
        for backup in _backups(self.path):
            _erase_from_backup(backup, id)

    def _empty_wal(self) -> None:
        """Deleted text lives on in the WAL until a checkpoint; readers in its way are short."""
        assert self._writer is not None
        for _ in range(100):
            if self._writer.submit(_checkpoint, alone=True).result():
                return
            time.sleep(0.02)
        raise Busy(
            f"The conversation is deleted, but {self.path.name}-wal is in use and still holds its "
            "words; close the app to finish."
        )

    def set_head(self, conversation_id: str, message_id: str) -> None:
        def change(db: Database) -> None:
            _conversation_row(db, conversation_id)
            _message_row(db, message_id, conversation_id)
            sql = "UPDATE conversations SET head_id = ? WHERE id = ?"
            db.execute(sql, [message_id, conversation_id])

        self._write(change)

    # ---- messages

    def add_message(
        self,
        conversation_id: str,
        role: str,
        content: str,
        *,
        parent_id: str | None = None,
        prompt_ids: Sequence[int] | None = None,
        response_ids: Sequence[int] | None = None,
        adapter_version: int | None = None,
        sampling: dict | None = None,
        finish_reason: str | None = None,
        event_id: str | None = None,
        make_head: bool = True,
    ) -> str:
        """Store one message under its parent; the same event_id again gives the same id."""
        if role not in ("system", "user", "assistant"):
            raise StoreError(f"A message is by system, user or assistant, not {role!r}.")
        row: dict[str, Any] = {
            "id": _new_id(),
            "conversation_id": conversation_id,
            "parent_id": parent_id,
            "role": role,
            "content": content,
            "prompt_ids": _ids_blob(prompt_ids),
            "response_ids": _ids_blob(response_ids),
            "content_key": None,
            "adapter_version": adapter_version,
            "sampling": None if sampling is None else _json(sampling),
            "finish_reason": finish_reason,
            "event_id": event_id,
            "created_at": _now(),
        }
        if prompt_ids is not None and response_ids is not None:
            row["content_key"] = content_key(prompt_ids, response_ids)

        def change(db: Database) -> str:
            stored = _one(db, "SELECT id FROM messages WHERE event_id = ?", [event_id])
            if stored is not None:
                return stored
            title = _conversation_row(db, conversation_id)[0]
            if parent_id is not None:
                _message_row(db, parent_id, conversation_id)
            _insert(db, "messages", **row)
            if role == "user" and not title:
                title = _text(" ".join(content.split())[:TITLE_LENGTH])
            sql = "UPDATE conversations SET title = ?, last_number = ?, updated_at = ? WHERE id = ?"
            number = _next(db, "conversation")
            db.execute(sql, [title, number, row["created_at"], conversation_id])
            if make_head:
                sql = "UPDATE conversations SET head_id = ? WHERE id = ?"
                db.execute(sql, [row["id"], conversation_id])
            return row["id"]

        return self._write(change)

    def message(self, id: str) -> Message:
        found = self._list(Message, "FROM messages WHERE id = ?", [id])
        if not found:
            raise NotFound("That message is not here any more.")
        return found[0]

    def message_of_event(self, event_id: str) -> Message | None:
        """What an event stored, if it did."""
        found = self._list(Message, "FROM messages WHERE event_id = ?", [event_id])
        return found[0] if found else None

    def path_to(self, message_id: str) -> list[Message]:
        """The branch from the root to this message, both included."""
        rest = """FROM messages JOIN (
                WITH RECURSIVE branch (step_id, up, depth) AS (
                    SELECT id, parent_id, 0 FROM messages WHERE id = ?
                    UNION ALL
                    SELECT m.id, m.parent_id, depth + 1 FROM messages m JOIN branch ON m.id = up
                ) SELECT step_id, depth FROM branch
            ) ON id = step_id ORDER BY depth DESC"""
        found = self._list(Message, rest, [message_id])
        if not found:
            raise NotFound("That message is not here any more.")
        return found

    def siblings(self, message_id: str) -> list[str]:
        """Messages with the same parent and role, oldest first, this one included."""
        sql = """SELECT s.id FROM messages m JOIN messages s
            ON s.parent_id IS m.parent_id AND s.role = m.role
            AND s.conversation_id = m.conversation_id
            WHERE m.id = ? ORDER BY s.number"""
        found = self._ids(sql, message_id)
        if not found:
            raise NotFound("That message is not here any more.")
        return found

    def children(self, message_id: str) -> list[str]:
        """Messages right under this one, oldest first."""
        return self._ids("SELECT id FROM messages WHERE parent_id = ? ORDER BY number", message_id)

    def roots(self, conversation_id: str) -> list[str]:
        """Messages of a conversation with no parent, oldest first."""
        sql = """SELECT id FROM messages WHERE conversation_id = ? AND parent_id IS NULL
            ORDER BY number"""
        return self._ids(sql, conversation_id)

    # ---- ratings and preferences

    def add_rating(
        self,
        message_id: str,
        value: int,
        *,
        reason: str = "",
        comment: str = "",
        rater: str = "me",
        event_id: str | None = None,
    ) -> str:
        """One thumb: +1, -1, or 0 to take it back. The same event_id twice is stored once."""
        if value not in (-1, 0, 1):
            raise StoreError(f"A rating is +1, -1 or 0 (taken back), not {value!r}.")

        def check(db: Database) -> None:
            if _message_row(db, message_id)[0] != "assistant":
                raise StoreError("Only replies of the assistant can be rated.")

        row = {"message_id": message_id, "value": int(value), "reason": reason, "comment": comment}
        return self._append("ratings", event_id, check, {**row, "rater": rater})

    def _append(
        self,
        log: str,
        event_id: str | None,
        check: Callable[[Database], None],
        row: dict[str, Any],
    ) -> str:
        """One event at the end of a log. A retried event_id gives the id that is there already."""
        row = {"id": _new_id(), "event_id": event_id or _new_id(), "created_at": _now(), **row}

        def change(db: Database) -> str:
            sql = f"SELECT id FROM {log} WHERE event_id = ?"
            stored = _one(db, sql, [row["event_id"]])
            if stored is not None:
                return stored
            check(db)
            _insert(db, log, number=_next(db, "feedback"), **row)
            return row["id"]

        return self._write(change)

    def ratings(self) -> list[Rating]:
        """What counts now, oldest first; ratings taken back are left out."""
        return self._list(Rating, f"FROM ratings AS r WHERE {_CURRENT_RATING} ORDER BY number")

    def rating_of(self, message_ids: Iterable[str]) -> dict[str, Rating]:
        """The current rating of each of these messages that has one (the newest of any rater)."""
        rest = f"""FROM ratings AS r WHERE {_CURRENT_RATING}
            AND message_id IN (SELECT value FROM json_each(?)) ORDER BY number"""
        found = self._list(Rating, rest, [json.dumps(list(message_ids))])
        return {rating.message_id: rating for rating in found}

    def add_preference(
        self,
        message_a: str,
        message_b: str,
        outcome: str,
        *,
        shown_first: str,
        rater: str = "me",
        event_id: str | None = None,
    ) -> str:
        """One vote between two replies to the same message; the newest vote on a pair counts."""
        if outcome not in ("a", "b", "tie", "both_bad", "withdrawn"):
            raise StoreError(f"A preference is a, b, tie, both_bad or withdrawn, not {outcome!r}.")
        if shown_first not in ("a", "b"):
            raise StoreError(f"The reply shown first is a or b, not {shown_first!r}.")
        row = {"message_a": message_a, "message_b": message_b, "outcome": outcome}
        return self._append(
            "preferences",
            event_id,
            lambda db: _check_pair(db, message_a, message_b),
            {**row, "shown_first": shown_first, "rater": rater},
        )

    def preferences(self) -> list[Preference]:
        """What counts now, oldest first; votes taken back are left out."""
        rest = """FROM preferences AS p WHERE outcome <> 'withdrawn' AND number =
            (SELECT max(number) FROM preferences
             WHERE pair_key = p.pair_key AND rater = p.rater) ORDER BY number"""
        return self._list(Preference, rest)

    def feedback_count(self) -> int:
        """The number of the newest rating or preference event; it never goes back."""
        return self._value("SELECT value FROM counters WHERE name = 'feedback'")

    def feedback_since(self, watermark: int) -> int:
        """How many rating and preference events came after the watermark, withdrawals included."""
        sql = """SELECT (SELECT count(*) FROM ratings WHERE number > ?1)
            + (SELECT count(*) FROM preferences WHERE number > ?1)"""
        return self._value(sql, [watermark])

    # ---- features and reference responses: a cache by content

    def put_features(self, feature_key: str, rows: Sequence[tuple[str, np.ndarray]]) -> None:
        """Cache one vector per content key (see content_key); an existing one is replaced."""
        values = []
        for key, vector in rows:
            vector = np.asarray(vector, dtype="<f4")
            if vector.ndim != 1:
                raise StoreError(f"A feature is one vector, not an array of shape {vector.shape}.")
            values.append((feature_key, key, vector.tobytes()))
        sql = "INSERT OR REPLACE INTO features VALUES (?, ?, ?)"
        self._run_sql(sql, values)

    def features(self, feature_key: str, content_keys: Iterable[str]) -> dict[str, np.ndarray]:
        """The cached vectors among those asked for."""
        sql = """SELECT content_key, vector FROM features WHERE feature_key = ?
            AND content_key IN (SELECT value FROM json_each(?))"""
        with self._read() as db:
            found = _rows(db, sql, [feature_key, json.dumps(list(content_keys))])
        return {key: np.frombuffer(vector, dtype="<f4").copy() for key, vector in found}

    def put_reference_responses(
        self,
        feature_key: str,
        prompt_key: str,
        prompt_ids: Sequence[int],
        responses: list[list[int]],
    ) -> None:
        lengths = _ids_blob([len(response) for response in responses])
        flat = _ids_blob([token for response in responses for token in response])
        values = (feature_key, prompt_key, _ids_blob(prompt_ids), lengths, flat)
        self._run_sql("INSERT OR REPLACE INTO reference_responses VALUES (?, ?, ?, ?, ?)", [values])

    def reference_responses(
        self, feature_key: str, prompt_keys: Iterable[str]
    ) -> dict[str, list[list[int]]]:
        sql = """SELECT prompt_key, lengths, response_ids FROM reference_responses
            WHERE feature_key = ? AND prompt_key IN (SELECT value FROM json_each(?))"""
        with self._read() as db:
            found = _rows(db, sql, [feature_key, json.dumps(list(prompt_keys))])
        return {key: _split(_ids_list(flat), _ids_list(lengths)) for key, lengths, flat in found}

    # ---- rounds

    def open_round(
        self,
        *,
        trigger: str,
        parent_version: int,
        seed: int,
        watermark: int,
        config: dict,
        snapshot_hash: str,
    ) -> int:
        row = {
            "started_at": _now(),
            "trigger": trigger,
            "status": "running",
            "reason": "",
            "parent_version": parent_version,
            "seed": seed,
            "watermark": watermark,
            "config": _json(config),
            "snapshot_hash": snapshot_hash,
        }

        def change(db: Database) -> int:
            _insert(db, "rounds", **row)
            return _one(db, "SELECT last_insert_rowid()")

        return self._write(change)

    def add_metrics(self, round_id: int, step: int, values: dict[str, float]) -> None:
        """Numbers of one step; a number that is not finite is kept as NULL."""
        rows = [(round_id, step, name, _finite(float(value))) for name, value in values.items()]
        sql = """INSERT INTO metrics (round_id, step, name, value) VALUES (?, ?, ?, ?)
            ON CONFLICT (round_id, step, name) DO UPDATE SET value = excluded.value"""

        def change(db: Database) -> None:
            _round_status(db, round_id)
            db.conn.executemany(sql, rows)

        self._write(change)

    def metrics(self, round_id: int) -> list[tuple[int, str, float | None]]:
        sql = "SELECT step, name, value FROM metrics WHERE round_id = ? ORDER BY number"
        with self._read() as db:
            return _rows(db, sql, [round_id])

    def close_round(
        self,
        round_id: int,
        *,
        status: str,
        reason: str,
        version: int | None = None,
        verdict: dict | None = None,
    ) -> None:
        if status not in ("promoted", "discarded", "stopped", "failed", "aborted"):
            raise StoreError(f"A round does not end as {status!r}.")
        self._write(lambda db: _close_round(db, round_id, status, reason, version, verdict))

    def rounds(self, limit: int = 50) -> list[Round]:
        return self._list(Round, "FROM rounds ORDER BY id DESC LIMIT ?", [limit])

    def abort_open_rounds(self, reason: str) -> int:
        """Close what a crash left running; returns how many there were."""

        def change(db: Database) -> int:
            open_ids = [row[0] for row in _rows(db, "SELECT id FROM rounds WHERE ended_at IS NULL")]
            for round_id in open_ids:
                _close_round(db, round_id, "aborted", reason, None, None)
            return len(open_ids)

        return self._write(change)

    def last_watermark(self) -> int:
        """Where the newest round that was decided (promoted or discarded) had read up to."""
        sql = """SELECT watermark FROM rounds WHERE status IN ('promoted', 'discarded')
            ORDER BY id DESC LIMIT 1"""
        return self._value(sql) or 0

    # ---- adapter versions

    def next_version(self) -> int:
        return 1 + self._value("SELECT value FROM counters WHERE name = 'version'")

    def promote(
        self,
        *,
        version: int,
        parent: int,
        round_id: int | None,
        tier: str,
        folder: Path | str,
        manifest_hash: str,
        kl: float | None,
        reason: str,
        verdict: dict,
    ) -> None:
        """The version, the live pointer, the round and the event in one transaction."""
        row = {
            "version": version,
            "parent": parent,
            "round_id": round_id,
            "tier": tier,
            "folder": str(folder),
            "manifest_hash": manifest_hash,
            "kl": None if kl is None else _finite(float(kl)),
            "note": reason,
            "created_at": _now(),
        }

        def change(db: Database) -> None:
            _version_exists(db, parent)
            if _one(db, "SELECT 1 FROM adapter_versions WHERE version = ?", [version]):
                raise StoreError(f"Version {version} exists; a version is never overwritten.")
            if round_id is not None:
                _close_round(db, round_id, "promoted", reason, version, verdict)
            _insert(db, "adapter_versions", **row)
            _used_version(db, version)
            db.execute("UPDATE live SET version = ?", [version])
            _add_event(db, "promoted", str(version), {"round_id": round_id, "reason": reason})

        self._write(change)

    def adapter_versions(self) -> list[AdapterVersion]:
        return self._list(AdapterVersion, "FROM adapter_versions ORDER BY version")

    def live_version(self) -> int:
        return self._value("SELECT version FROM live")

    def set_live(self, version: int, reason: str) -> None:
        def change(db: Database) -> None:
            _version_exists(db, version)
            before = _one(db, "SELECT version FROM live")
            db.execute("UPDATE live SET version = ?", [version])
            _add_event(db, "set_live", str(version), {"from": before, "reason": reason})

        self._write(change)

    # ---- events, settings, upkeep

    def add_event(self, kind: str, ref: str = "", data: dict | None = None) -> None:
        self._write(lambda db: _add_event(db, kind, str(ref), data or {}))

    def events(self, limit: int = 100) -> list[Event]:
        """Newest first."""
        return self._list(Event, "FROM events ORDER BY id DESC LIMIT ?", [limit])

    def setting(self, key: str, default: Any = None) -> Any:
        value = self._value("SELECT value FROM settings WHERE key = ?", [key])
        return default if value is None else json.loads(value)

    def set_setting(self, key: str, value: Any) -> None:
        self._run_sql("INSERT OR REPLACE INTO settings VALUES (?, ?)", [(key, _json(value))])

    def backup(self, path: Path | str) -> None:
        """A verified copy of everything, made while the app goes on."""
        target = Path(path).expanduser().resolve()
        if target == self.path:
            raise StoreError(f"A backup of {self.path.name} needs another name than its own.")
        if _has_bytes(Path(f"{target}-wal")):  # it would be replayed over the new copy
            raise Busy(f"{target} is open in another program; close it or choose another name.")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._read() as db:
                _copy(db, target)
        except (OSError, sqlite3.Error) as error:
            raise _in_plain_words(error, target) from error

    def counts(self) -> dict[str, int]:
        tables = {"versions": "adapter_versions"}
        names = ("conversations", "messages", "ratings", "preferences", "rounds", "versions")
        parts = [f"(SELECT count(*) FROM {tables.get(name, name)})" for name in names]
        with self._read() as db:
            [row] = _rows(db, f"SELECT {', '.join(parts)}")
        return dict(zip(names, row, strict=True))


# ---------------------------------------------------------------- steps inside a transaction

_CURRENT_RATING = """value <> 0 AND number = (SELECT max(number) FROM ratings
    WHERE message_id = r.message_id AND rater = r.rater)"""


def _conversation_row(db: Database, conversation_id: str) -> tuple:
    """(title,) of a conversation that exists."""
    rows = _rows(db, "SELECT title FROM conversations WHERE id = ?", [conversation_id])
    if not rows:
        raise NotFound("That conversation is not here any more.")
    return rows[0]


def _message_row(db: Database, message_id: str, conversation_id: str | None = None) -> tuple:
    """(role, parent_id, conversation_id) of a message, which must be in the named conversation."""
    sql = "SELECT role, parent_id, conversation_id FROM messages WHERE id = ?"
    rows = _rows(db, sql, [message_id])
    if not rows or conversation_id not in (None, rows[0][2]):
        raise NotFound("That message is not here any more.")
    return rows[0]


def _check_pair(db: Database, message_a: str, message_b: str) -> None:
    a, b = _message_row(db, message_a), _message_row(db, message_b)
    if message_a == message_b:
        raise StoreError("A reply cannot be compared with itself.")
    if a[0] != "assistant" or b[0] != "assistant" or a[1] is None or a[1] != b[1]:
        raise StoreError("Only two replies of the assistant to the same message can be compared.")


def _round_status(db: Database, round_id: int) -> str:
    status = _one(db, "SELECT status FROM rounds WHERE id = ?", [round_id])
    if status is None:
        raise NotFound(f"Round {round_id} does not exist.")
    return status


def _close_round(
    db: Database, round_id: int, status: str, reason: str, version: int | None, verdict: dict | None
) -> None:
    before = _round_status(db, round_id)
    if before == status:
        return  # a retry of what is already stored
    if before != "running":
        raise StoreError(f"Round {round_id} has already ended as {before}.")
    sql = """UPDATE rounds SET status = ?, reason = ?, version = ?, verdict = ?, ended_at = ?
        WHERE id = ?"""
    words = None if verdict is None else _json(verdict)
    db.execute(sql, [status, _text(reason), version, words, _now(), round_id])
    _used_version(db, version or 0)


def _version_exists(db: Database, version: int) -> None:
    if not _one(db, "SELECT 1 FROM adapter_versions WHERE version = ?", [version]):
        raise NotFound(f"Version {version} does not exist.")


def _used_version(db: Database, version: int) -> None:
    """A number once used is never given out again, even if its round was discarded."""
    db.execute("UPDATE counters SET value = max(value, ?) WHERE name = 'version'", [version])


def _add_event(db: Database, kind: str, ref: str, data: dict) -> None:
    _insert(db, "events", kind=kind, ref=ref, data=_json(data), created_at=_now())


def _erase(db: Database, conversation_id: str) -> None:
    """The conversation with all that hangs on it, and every cached thing made from its words."""
    _erase_prompts(db, conversation_id)
    db.execute("DELETE FROM conversations WHERE id = ?", [conversation_id])
    # Vectors that nothing left accounts for go too: losing a cache costs a moment, not data.
    cached = _rows(db, "SELECT prompt_ids, lengths, response_ids FROM reference_responses")
    kept = [
        content_key(_ids_list(prompt), response)
        for prompt, lengths, flat in cached
        for response in _split(_ids_list(flat), _ids_list(lengths))
    ]
    db.execute(
        """DELETE FROM features WHERE content_key NOT IN
        (SELECT content_key FROM messages WHERE content_key IS NOT NULL
         UNION SELECT value FROM json_each(?))""",
        [json.dumps(kept)],
    )


def _erase_prompts(db: Database, conversation_id: str) -> None:
    """Cached prompts that hold this conversation's words, unless another one has the same."""
    sql = "SELECT DISTINCT prompt_ids FROM messages WHERE conversation_id = ? AND prompt_ids <> x''"
    own = [row[0] for row in _rows(db, sql, [conversation_id])]
    for (cached,) in _rows(db, "SELECT DISTINCT prompt_ids FROM reference_responses"):
        if any(_is_part(cached, prompt) for prompt in own):
            db.execute(
                """DELETE FROM reference_responses WHERE prompt_ids = ?1 AND NOT EXISTS
                (SELECT 1 FROM messages WHERE prompt_ids = ?1 AND conversation_id <> ?2)""",
                [cached, conversation_id],
            )


def _is_part(cached: bytes, prompt: bytes) -> bool:
    """One contains the other, or `cached` is the start of `prompt` joined to its end.

    The second is what a chat template makes of the last turn alone: same preamble, same tail.
    """
    if cached in prompt or prompt in cached:
        return True
    a, b = np.frombuffer(cached, "<i4"), np.frombuffer(prompt, "<i4")
    n = min(len(a), len(b))
    same_start, same_end = a[:n] == b[:n], a[::-1][:n] == b[::-1][:n]
    runs = [int(np.argmin(np.append(same, False))) for same in (same_start, same_end)]
    return sum(runs) >= len(a)


def _erase_from_backup(backup: Path, conversation_id: str) -> None:
    """Deleted means deleted: a backup that cannot be cleaned is removed."""
    try:
        with closing(_connect(backup, "rw")) as db, db.atomic():
            _erase(db, conversation_id)
    except sqlite3.Error:
        backup.unlink(missing_ok=True)


def _split(flat: list[int], lengths: list[int]) -> list[list[int]]:
    ends = np.cumsum(lengths).tolist()
    return [flat[end - length : end] for end, length in zip(ends, lengths, strict=True)]
