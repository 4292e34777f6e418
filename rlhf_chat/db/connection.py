"""The open database file: one writer thread, one read-only connection for each reading thread.

A write returns only after COMMIT has put the row on the disk. Readers never wait for the writer.
The file on disk is in database_file.py, the thread that writes in writer.py, the tables in
schema.py; the repositories (store.py lists them) read and write through `DatabaseConnection`.
"""

import json
import os
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from rlhf_chat.db.codec import fetch, one_value, select
from rlhf_chat.db.database_file import (
    add_backup,
    backup_is_due,
    connect,
    create,
    inspect,
    lock,
)
from rlhf_chat.db.db_errors import rescue, store_error
from rlhf_chat.db.schema import schema_version
from rlhf_chat.db.writer import Reader, Writer, checkpoint
from rlhf_chat.errors import Busy, DatabaseDamaged, ReadOnly, StoreError

T = TypeVar("T")


class DatabaseConnection:
    """feedback.db, open. `read_only` is True when it can be read but not written, or when that was
    asked for: then it takes no lock, so that a running app is not in the way, nor is it. With
    `scratch` what is written to a file that can only be read goes into a copy of it, which is gone
    at the end, so that one can chat; feedback is refused all the same.

    Raises StoreError (a subclass names the cause) where the file cannot be opened, read or written.
    """

    def __init__(self, path: Path | str, *, read_only: bool = False, scratch: bool = False):
        given = Path(path).expanduser()
        if given.is_symlink():
            raise StoreError("db.is_link", path=given)
        self.path = given.resolve()
        self._file = self.path  # what is read and written
        self.read_only, self._scratch = read_only, scratch
        self._folder: tempfile.TemporaryDirectory[str] | None = None  # of the copy
        self.journal_mode = ""
        self._handle: int | None = None
        self._writer: Writer | None = None
        self._reader_mode = "ro"
        self._closed = False
        self.unerased: list[Path] = []  # files that still hold erased words
        self.kept_backup: Path | None = None  # never removed: the last one without damage
        self.copying = threading.Lock()  # held while backups are made or cleaned
        self._local = threading.local()
        self._readers: weakref.WeakSet[Reader] = weakref.WeakSet()
        self._readers_lock = threading.Lock()
        self._revision, self._revision_lock = 0, threading.Lock()
        if not read_only:
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
            self._handle = lock(self.path)
        except OSError as error:
            if not self.path.exists():
                why = error.strerror or str(error)
                raise ReadOnly("db.cannot_create", path=self.path, error=why) from error
            self.read_only = True

    def _open(self) -> None:
        if not self.path.exists():
            if self.read_only:
                raise ReadOnly("db.read_only", path=self.path)
            try:
                create(self.path)
            except (sqlite3.Error, OSError) as error:
                raise store_error(error, self.path) from error
        version, self._reader_mode = inspect(self.path)
        older = version < schema_version()
        if self.read_only:
            if older:
                raise ReadOnly("db.upgrade_read_only", path=self.path)
            if not self._scratch:
                return
            self._file = self._copy()
        self._writer = Writer(self._file, upgrade=older)
        self._writer.start()
        self.journal_mode = self._writer.opened.result()
        self._reader_mode = "ro"

    def _copy(self) -> Path:
        """In a folder that only this account can read."""
        self._folder = tempfile.TemporaryDirectory(prefix="rlhf-chat-", ignore_cleanup_errors=True)
        copy = Path(self._folder.name) / self.path.name
        try:
            with closing(connect(self.path, self._reader_mode).conn) as source:
                with closing(sqlite3.connect(copy)) as target:
                    source.backup(target)
        except sqlite3.Error as error:
            raise store_error(error, self.path) from error
        return copy

    def close(self) -> None:
        """Finish the queued writes, then close the file and release its lock. Idempotent."""
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
        if self._folder is not None:
            self._folder.cleanup()

    def write(self, change: Callable[[Database], T]) -> T:
        """Run `change` on the writer thread, in a transaction; its result, after COMMIT. Raises
        Busy at once where another program holds the file, unless the thread is `patient`."""
        if self._writer is None:
            raise ReadOnly("db.read_only", path=self.path)
        patience = getattr(self._local, "patience", 0.0)
        if not patience:
            return self._writer.submit(change).result()
        deadline = time.monotonic() + patience
        while True:
            try:
                return self._writer.submit(change).result()
            except Busy:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.1)

    @contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """In this block the writes of this thread wait that long for another program."""
        before = getattr(self._local, "patience", 0.0)
        self._local.patience = seconds
        try:
            yield
        finally:
            self._local.patience = before

    def write_feedback(self, change: Callable[[Database], T]) -> T:
        """`write`, for a change after which other feedback may count: `feedback_writes` rises."""
        if self.read_only:
            raise ReadOnly("db.read_only", path=self.path)
        try:
            return self.write(change)
        finally:  # after COMMIT and before the caller goes on
            with self._revision_lock:
                self._revision += 1

    @property
    def commits(self) -> int:
        """How often anything was written since the file was opened; 0 if it is only read."""
        return self._writer.commits if self._writer is not None else 0

    @property
    def feedback_writes(self) -> int:
        """How many writes in this process may have changed what feedback counts."""
        return self._revision

    def execute_many(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """One statement for each row of values, in one transaction."""

        def change(db: Database) -> None:
            db.conn.executemany(sql, rows)

        self.write(change)

    @contextmanager
    def read(self) -> Iterator[Database]:
        """This thread's read-only connection."""
        reader = self._reader()
        with reader.lock:
            if reader.db is None:
                raise StoreError("db.closed", name=self.path.name)
            try:
                yield reader.db
            except sqlite3.Error as error:
                raise store_error(error, self.path) from error
            except json.JSONDecodeError as error:  # what was stored could be read
                told = {"path": self.path, "error": str(error), "rescue": rescue(self.path)}
                raise DatabaseDamaged("db.damaged", **told) from error

    def _reader(self) -> Reader:
        reader: Reader | None = getattr(self._local, "reader", None)
        if reader is not None:
            return reader
        with self._readers_lock:
            if self._closed:
                raise StoreError("db.closed", name=self.path.name)
            try:
                reader = Reader(connect(self._file, self._reader_mode))
            except sqlite3.Error as error:
                raise store_error(error, self.path) from error
            self._readers.add(reader)
        self._local.reader = reader
        return reader

    def rows(self, record: type[T], rest: str, values: Sequence[Any] = ()) -> list[T]:
        """SELECT the fields of `record`, `rest` being FROM and what follows."""
        with self.read() as db:
            return select(db, record, rest, values)

    def ids(self, sql: str, of: str) -> list[str]:
        """The first column of every row of a query with one parameter."""
        with self.read() as db:
            return [row[0] for row in fetch(db, sql, [of])]

    def value(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """The first column of the first row, or None."""
        with self.read() as db:
            return one_value(db, sql, values)

    def empty_wal(self) -> None:
        """Deleted text stays in the WAL until a checkpoint, which open readers delay: retried for
        two seconds. Raises Busy."""
        assert self._writer is not None
        for _ in range(100):
            if self._writer.submit(checkpoint, alone=True).result():
                return
            time.sleep(0.02)
        raise Busy("db.wal_in_use", name=self.path.name)

    def back_up(self) -> bool:
        """A copy in backups/, at most once a day and only after a change. Returns whether one was
        made. Deletions wait for it, so that no copy keeps deleted text."""
        if self.read_only:
            return False
        try:
            with self.copying, self.read() as db:
                if due := backup_is_due(db, self.path):
                    add_backup(db, self.path, self.kept_backup)
                return due
        except (OSError, sqlite3.Error) as error:
            raise store_error(error, self.path.parent / "backups") from error


class Repository:
    """Base of the repositories: one family of tables behind one connection."""

    def __init__(self, connection: DatabaseConnection) -> None:
        self._db = connection
