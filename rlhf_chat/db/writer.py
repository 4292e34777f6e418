"""The writer thread: one connection, one queue of changes, futures that resolve after COMMIT.

Changes that wait together share one transaction and so one fsync.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from rlhf_chat import faults
from rlhf_chat.db.codec import one_value
from rlhf_chat.db.database_file import BUSY_SECONDS, connect, upgrade, wal_is_safe
from rlhf_chat.db.db_errors import store_error
from rlhf_chat.db.row_checksums import seal
from rlhf_chat.errors import StoreError

T = TypeVar("T")

LOCK_SECONDS = 0.3  # how long a click waits for another program that holds the file
GROUP = 50  # clicks that may share one fsync


@dataclass
class _Job:
    change: Callable[[Database], Any]
    alone: bool  # outside any transaction (a checkpoint)
    future: Future[Any]


class Writer(threading.Thread):
    """Owns the one connection that writes. A job's future resolves after its COMMIT."""

    def __init__(self, path: Path, upgrade: bool):
        super().__init__(name="store-writer", daemon=True)
        self.opened: Future[str] = Future()  # journal mode, or why the file could not be opened
        self._path = path
        self._upgrade = upgrade
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._locked_out = False  # another program held the file at the last try
        self._patience = LOCK_SECONDS
        self.commits = 0  # since the file was opened
        self._gate = threading.Lock()
        self._accepting = True

    def submit(self, change: Callable[[Database], T], *, alone: bool = False) -> "Future[T]":
        job = _Job(change, alone, Future())
        with self._gate:  # no job may slip in behind the last one and wait for ever
            if not self._accepting:
                raise StoreError("db.closed_not_saved", name=self._path.name)
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
            self.opened.set_exception(store_error(error, self._path))
            return
        self.opened.set_result(one_value(db, "PRAGMA journal_mode"))
        try:
            while self._step(db):
                pass
        finally:
            self._refuse_the_rest()
            db.close()

    def _open(self) -> Database:
        db = connect(self._path, "rw")
        try:
            if self._upgrade:
                upgrade(db, self._path)
            if not wal_is_safe(sqlite3.sqlite_version_info) or not _use_wal(db):
                db.execute("PRAGMA journal_mode = TRUNCATE")
                self._patience = BUSY_SECONDS  # there our own readers lock the file, too
            # A build may default WAL to NORMAL, which forgets acknowledged rows at a power cut.
            if (
                one_value(db, "PRAGMA synchronous") != 2
                or one_value(db, "PRAGMA foreign_keys") != 1
            ):
                raise StoreError("db.not_synchronous")
        except BaseException:
            db.close()
            raise
        return db

    def _step(self, db: Database) -> bool:
        """Take what is waiting, commit it as one group. False when asked to stop."""
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
            _take_back(db)  # what could not be taken back the last time is still there
            self._begin(db)
        except BaseException as error:  # not caused by a change: another program holds the file
            for job in group:
                job.future.set_exception(store_error(error, self._path))
            return
        try:
            faults.point("write.begun")
            results = [job.change(db) for job in group]
            seal(db)
            faults.point("write.before_commit")
            db.execute("COMMIT")
        except BaseException as error:
            with suppress(sqlite3.Error):
                _take_back(db)
            if len(group) == 1:
                group[0].future.set_exception(store_error(error, self._path))
            else:
                for job in group:
                    self._commit(db, [job])
            return
        self.commits += 1
        faults.point("write.committed")
        for job, result in zip(group, results, strict=True):
            job.future.set_result(result)

    def _begin(self, db: Database) -> None:
        """Waits a moment for another program that holds the file, once: while it goes on holding
        it, the next clicks are told at once, so that none stands behind the wait of another."""
        seconds = 0.0 if self._locked_out else min(self._patience, BUSY_SECONDS)
        db.execute(f"PRAGMA busy_timeout = {int(1000 * seconds)}")
        self._locked_out = True
        db.execute("BEGIN IMMEDIATE")
        self._locked_out = False

    def _run_alone(self, db: Database, job: _Job) -> None:
        try:
            result = job.change(db)
        except BaseException as error:
            job.future.set_exception(store_error(error, self._path))
        else:
            self.commits += 1
            job.future.set_result(result)

    def _refuse_the_rest(self) -> None:
        with self._gate:
            self._accepting = False
            while not self._jobs.empty():
                job = self._jobs.get()
                if job is not None:
                    job.future.set_exception(StoreError("db.closed", name=self._path.name))


def _take_back(db: Database) -> None:
    if db.conn.in_transaction:  # a full disk makes SQLite roll back by itself
        db.execute("ROLLBACK")


def _use_wal(db: Database) -> bool:
    try:
        result: bool = one_value(db, "PRAGMA journal_mode = WAL") == "wal"
        return result
    except sqlite3.OperationalError:  # a file system without shared memory
        return False


def checkpoint(db: Database) -> bool:
    """Move the WAL into the file and empty it. False while a reader still needs it."""
    db.execute("PRAGMA busy_timeout = 0")  # clicks must not queue behind a slow reader
    try:
        result: bool = one_value(db, "PRAGMA wal_checkpoint(TRUNCATE)") == 0
        return result
    finally:
        db.execute(f"PRAGMA busy_timeout = {int(LOCK_SECONDS * 1000)}")


class Reader:
    """One thread's read-only connection; closed with its thread."""

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
