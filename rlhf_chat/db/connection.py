"""The open archive: one file, one writer, a reader for each thread; settings, events, backups.

A write returns only after COMMIT has put the row on the disk. Readers are read-only connections and
never wait for the writer. Left out: the shape of the tables (schema.py), the file and the thread
that writes it (database_file.py, writer.py), and everything that is stored (the other files).
"""

import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from rlhf_chat.db.codec import (
    as_json,
    fetch,
    insert,
    one_value,
    select,
    timestamp,
)
from rlhf_chat.db.database_file import (
    add_backup,
    backup_is_due,
    connect,
    create,
    inspect,
    lock,
)
from rlhf_chat.db.db_errors import Busy, ReadOnly, StoreError, in_plain_words
from rlhf_chat.db.schema import (
    Event,
    schema_version,
)
from rlhf_chat.db.writer import Reader, Writer, checkpoint

T = TypeVar("T")


class DatabaseConnection:
    """feedback.db, open. `read_only` is True when it can be read but not written."""

    def __init__(self, path: Path | str):
        self.path = Path(path).expanduser().resolve()
        self.read_only = False
        self.journal_mode = ""
        self._handle: int | None = None
        self._writer: Writer | None = None
        self._reader_mode = "ro"
        self._closed = False
        self.copying = threading.Lock()  # held while backups are made or cleaned
        self._local = threading.local()
        self._readers: weakref.WeakSet[Reader] = weakref.WeakSet()
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
            self._handle = lock(self.path)
        except OSError as error:
            if not self.path.exists():
                sentence = f"{self.path} cannot be made ({error.strerror}); choose another folder."
                raise ReadOnly(sentence) from error
            self.read_only = True

    def _open(self) -> None:
        if not self.path.exists():
            try:
                create(self.path)
            except (sqlite3.Error, OSError) as error:
                raise in_plain_words(error, self.path) from error
        version, self._reader_mode = inspect(self.path)
        older = version < schema_version()
        if self.read_only:
            if older:
                raise ReadOnly(f"{self.path} needs an upgrade but is read-only; make it writable.")
            return
        self._writer = Writer(self.path, upgrade=older)
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
                raise in_plain_words(error, self.path) from error

    def _reader(self) -> Reader:
        reader = getattr(self._local, "reader", None)
        if reader is not None:
            return reader
        with self._readers_lock:
            if self._closed:
                raise StoreError(f"{self.path.name} is closed.")
            try:
                reader = Reader(connect(self.path, self._reader_mode))
            except sqlite3.Error as error:
                raise in_plain_words(error, self.path) from error
            self._readers.add(reader)
        self._local.reader = reader
        return reader

    def _list(self, record: type[T], rest: str, values: Sequence[Any] = ()) -> list[T]:
        with self._read() as db:
            return select(db, record, rest, values)

    def _ids(self, sql: str, of: str) -> list[str]:
        with self._read() as db:
            return [row[0] for row in fetch(db, sql, [of])]

    def _value(self, sql: str, values: Sequence[Any] = ()) -> Any:
        with self._read() as db:
            return one_value(db, sql, values)

    def _empty_wal(self) -> None:
        """Deleted text lives on in the WAL until a checkpoint; readers in its way are short."""
        assert self._writer is not None
        for _ in range(100):
            if self._writer.submit(checkpoint, alone=True).result():
                return
            time.sleep(0.02)
        raise Busy(
            f"The conversation is deleted, but {self.path.name}-wal is in use and still holds its "
            "words; close the app to finish."
        )

    # ---- events, settings, upkeep

    def add_event(self, kind: str, ref: str = "", data: dict | None = None) -> None:
        self._write(lambda db: add_event(db, kind, str(ref), data or {}))

    def events(self, limit: int = 100) -> list[Event]:
        """Newest first."""
        return self._list(Event, "FROM events ORDER BY id DESC LIMIT ?", [limit])

    def setting(self, key: str, default: Any = None) -> Any:
        value = self._value("SELECT value FROM settings WHERE key = ?", [key])
        return default if value is None else json.loads(value)

    def set_setting(self, key: str, value: Any) -> None:
        self._write(lambda db: put_setting(db, key, value))

    def back_up(self) -> bool:
        """Once a day in which something was said: a copy in backups/. Returns whether one was made.
        Whoever deletes something meanwhile waits, so that no copy keeps what is gone."""
        if self.read_only:
            return False
        try:
            with self.copying, self._read() as db:
                if due := backup_is_due(db, self.path):
                    add_backup(db, self.path)
                return due
        except (OSError, sqlite3.Error) as error:
            raise in_plain_words(error, self.path.parent / "backups") from error


def add_event(db: Database, kind: str, ref: str, data: dict) -> None:
    insert(db, "events", kind=kind, ref=ref, data=as_json(data), created_at=timestamp())


def put_setting(db: Database, key: str, value: Any) -> None:
    db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", [key, as_json(value)])
