"""The archive: everything the app remembers, as verbs.

A write method returns only after COMMIT has put the row on the disk. Readers are read-only
connections, one per thread, and never wait for the writer. Ratings and preferences are append-only
logs: the newest row counts, and nothing is edited. Left out: the shape of the tables (schema.py),
the file and the thread that writes it (file.py, writer.py), adapter weights (they live in folders,
the file holds only the pointer) and any opinion about what the rows mean.
"""

import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from rlhf_chat.store.erase import erase, erase_from_backup
from rlhf_chat.store.errors import Busy, NotFound, ReadOnly, StoreError, backups_of, in_plain_words
from rlhf_chat.store.feedback import LOGS, FeedbackLogs, message_row
from rlhf_chat.store.file import connect, copy_to, create, has_bytes, inspect, lock
from rlhf_chat.store.ledger import (
    SIMULATED,
    WHOSE,
    erase_rater,
    feedback,
    like,
    recent_prompts,
    votes_between_versions,
)
from rlhf_chat.store.rows import (
    as_json,
    clean_text,
    content_key,
    fetch,
    finite,
    fresh_id,
    ids_blob,
    ids_list,
    insert,
    next_number,
    one_value,
    select,
    split,
    timestamp,
)
from rlhf_chat.store.schema import (
    AdapterVersion,
    Conversation,
    Event,
    Feedback,
    Message,
    Round,
    schema_version,
)
from rlhf_chat.store.writer import Reader, Writer, checkpoint

T = TypeVar("T")

TITLE_LENGTH = 60


class Store(FeedbackLogs):
    """feedback.db, open. `read_only` is True when it can be read but not written."""

    def __init__(self, path: Path | str):
        self.path = Path(path).expanduser().resolve()
        self.read_only = False
        self.journal_mode = ""
        self._handle: int | None = None
        self._writer: Writer | None = None
        self._reader_mode = "ro"
        self._closed = False
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

    # ---- conversations

    def add_conversation(self, kind: str = "chat", title: str = "", system_prompt: str = "") -> str:
        if kind not in ("chat", "compare"):
            raise StoreError(f"A conversation is of kind chat or compare, not {kind!r}.")
        new_id, now = fresh_id(), timestamp()

        def change(db: Database) -> str:
            insert(
                db,
                "conversations",
                id=new_id,
                kind=kind,
                title=title,
                system_prompt=system_prompt,
                last_number=next_number(db, "conversation"),
                created_at=now,
                updated_at=now,
            )
            return new_id

        return self._write(change)

    def conversations(self, kind: str = "chat", containing: str = "") -> list[Conversation]:
        """Newest first: the one that was last added to. `containing`: in its title or messages."""
        rest = """FROM conversations AS c WHERE kind = ?1 AND (?2 = '%%'
            OR title LIKE ?2 ESCAPE '\\' OR EXISTS (SELECT 1 FROM messages
                WHERE conversation_id = c.id AND content LIKE ?2 ESCAPE '\\'))
            ORDER BY last_number DESC"""
        return self._list(Conversation, rest, [kind, like(containing)])

    def conversation(self, conversation_id: str) -> Conversation:
        found = self._list(Conversation, "FROM conversations WHERE id = ?", [conversation_id])
        if not found:
            raise NotFound("That conversation is not here any more.")
        return found[0]

    def rename_conversation(self, id: str, title: str) -> None:
        def change(db: Database) -> None:
            _conversation_row(db, id)
            db.execute("UPDATE conversations SET title = ? WHERE id = ?", [clean_text(title), id])

        self._write(change)

    def set_manner(
        self, id: str, system_prompt: str, sampling: dict | None, adapter_version: int | None
    ) -> None:
        """How this conversation is answered from the next reply on."""
        words = None if sampling is None else as_json(sampling)

        def change(db: Database) -> None:
            _conversation_row(db, id)
            sql = """UPDATE conversations SET system_prompt = ?, sampling = ?, adapter_version = ?
                WHERE id = ?"""
            db.execute(sql, [clean_text(system_prompt), words, adapter_version, id])

        self._write(change)

    def delete_conversation(self, id: str) -> None:
        """Remove every trace of it from the file, its WAL and the automatic backups."""

        def change(db: Database) -> None:
            _conversation_row(db, id)
            erase(db, id)
            _add_event(db, "conversation_deleted", id, {})

        self._write(change)
        self._empty_wal()
        for backup in backups_of(self.path):
            erase_from_backup(backup, id)

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

    def set_head(self, conversation_id: str, message_id: str) -> None:
        def change(db: Database) -> None:
            _conversation_row(db, conversation_id)
            message_row(db, message_id, conversation_id)
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
            "id": fresh_id(),
            "conversation_id": conversation_id,
            "parent_id": parent_id,
            "role": role,
            "content": content,
            "prompt_ids": ids_blob(prompt_ids),
            "response_ids": ids_blob(response_ids),
            "content_key": None,
            "adapter_version": adapter_version,
            "sampling": None if sampling is None else as_json(sampling),
            "finish_reason": finish_reason,
            "event_id": event_id,
            "created_at": timestamp(),
        }
        if prompt_ids is not None and response_ids is not None:
            row["content_key"] = content_key(prompt_ids, response_ids)

        def change(db: Database) -> str:
            stored = one_value(db, "SELECT id FROM messages WHERE event_id = ?", [event_id])
            if stored is not None:
                return stored
            title = _conversation_row(db, conversation_id)[0]
            if parent_id is not None:
                message_row(db, parent_id, conversation_id)
            insert(db, "messages", **row)
            if role == "user" and not title:
                title = clean_text(" ".join(content.split())[:TITLE_LENGTH])
            sql = "UPDATE conversations SET title = ?, last_number = ?, updated_at = ? WHERE id = ?"
            number = next_number(db, "conversation")
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

    # ---- what was said, and by whom

    def votes_between_versions(self, rater: str = "") -> list[tuple[int, int, str]]:
        """(version of a, version of b, outcome) of each vote that counts, oldest first, where two
        different versions wrote the drafts."""
        with self._read() as db:
            return votes_between_versions(db, rater)

    def feedback(
        self, rater: str = "", *, containing: str = "", kind: str = "", said: str = ""
    ) -> list[Feedback]:
        """Every rating and vote that counts now, newest first, with the words it is about."""
        with self._read() as db:
            return feedback(db, rater, containing, kind, said)

    def recent_prompts(self, limit: int) -> list[str]:
        """What was asked in chats, newest first, each once."""
        with self._read() as db:
            return recent_prompts(db, limit)

    def erase_rater(self, rater: str) -> None:
        """A simulated person with all it left: votes, drafts, rounds and their versions' rows."""
        if not rater.startswith(SIMULATED):
            raise StoreError("Only a simulated person can be removed as a whole.")
        self._write(lambda db: erase_rater(db, rater))

    def drop_unanswered(self, before: str) -> int:
        """Compared drafts from before that time which nobody answered; how many sets there were."""

        def change(db: Database) -> int:
            sql = """SELECT c.id FROM conversations c WHERE kind = 'compare' AND created_at < ?
                AND NOT EXISTS (SELECT 1 FROM messages m JOIN preferences
                    ON m.id IN (message_a, message_b) WHERE m.conversation_id = c.id)
                AND NOT EXISTS (SELECT 1 FROM messages m JOIN rankings ON m.id = asked_id
                    WHERE m.conversation_id = c.id)"""
            found = [row[0] for row in fetch(db, sql, [before])]
            for id in found:
                erase(db, id)
            return len(found)

        return self._write(change)

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
            found = fetch(db, sql, [feature_key, json.dumps(list(content_keys))])
        return {key: np.frombuffer(vector, dtype="<f4").copy() for key, vector in found}

    def put_reference_responses(
        self,
        feature_key: str,
        prompt_key: str,
        prompt_ids: Sequence[int],
        responses: list[list[int]],
    ) -> None:
        lengths = ids_blob([len(response) for response in responses])
        flat = ids_blob([token for response in responses for token in response])
        values = (feature_key, prompt_key, ids_blob(prompt_ids), lengths, flat)
        self._run_sql("INSERT OR REPLACE INTO reference_responses VALUES (?, ?, ?, ?, ?)", [values])

    def reference_responses(
        self, feature_key: str, prompt_keys: Iterable[str]
    ) -> dict[str, list[list[int]]]:
        sql = """SELECT prompt_key, lengths, response_ids FROM reference_responses
            WHERE feature_key = ? AND prompt_key IN (SELECT value FROM json_each(?))"""
        with self._read() as db:
            found = fetch(db, sql, [feature_key, json.dumps(list(prompt_keys))])
        return {key: split(ids_list(flat), ids_list(lengths)) for key, lengths, flat in found}

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
            "started_at": timestamp(),
            "trigger": trigger,
            "status": "running",
            "reason": "",
            "parent_version": parent_version,
            "seed": seed,
            "watermark": watermark,
            "config": as_json(config),
            "snapshot_hash": snapshot_hash,
        }

        def change(db: Database) -> int:
            insert(db, "rounds", **row)
            return one_value(db, "SELECT last_insert_rowid()")

        return self._write(change)

    def add_metrics(self, round_id: int, step: int, values: dict[str, float]) -> None:
        """Numbers of one step; a number that is not finite is kept as NULL."""
        rows = [(round_id, step, name, finite(float(value))) for name, value in values.items()]
        sql = """INSERT INTO metrics (round_id, step, name, value) VALUES (?, ?, ?, ?)
            ON CONFLICT (round_id, step, name) DO UPDATE SET value = excluded.value"""

        def change(db: Database) -> None:
            _round_status(db, round_id)
            db.conn.executemany(sql, rows)

        self._write(change)

    def metrics(self, round_id: int) -> list[tuple[int, str, float | None]]:
        sql = "SELECT step, name, value FROM metrics WHERE round_id = ? ORDER BY number"
        with self._read() as db:
            return fetch(db, sql, [round_id])

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

    def rounds_begun_by(self, trigger: str) -> list[tuple[int, str]]:
        """(round, trigger) of the rounds whose trigger begins so."""
        sql = """SELECT id, "trigger" FROM rounds WHERE "trigger" LIKE ? ESCAPE '\\'"""
        with self._read() as db:
            return fetch(db, sql, [like(trigger)[1:]])

    def abort_open_rounds(self, reason: str) -> int:
        """Close what a crash left running; returns how many there were."""

        def change(db: Database) -> int:
            open_ids = [row[0] for row in fetch(db, "SELECT id FROM rounds WHERE ended_at IS NULL")]
            for round_id in open_ids:
                _close_round(db, round_id, "aborted", reason, None, None)
            return len(open_ids)

        return self._write(change)

    def last_watermark(self, rater: str = "") -> int:
        """Where the newest round that was decided (promoted or discarded) had read up to.

        A round on a simulated person's ratings has that person's name as its trigger."""
        sql = f"""SELECT watermark FROM rounds WHERE status IN ('promoted', 'discarded')
            AND {WHOSE.replace("rater", '"trigger"')} ORDER BY id DESC LIMIT 1"""
        return self._value(sql, [rater]) or 0

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
            "kl": None if kl is None else finite(float(kl)),
            "note": reason,
            "created_at": timestamp(),
        }

        def change(db: Database) -> None:
            _version_exists(db, parent)
            if one_value(db, "SELECT 1 FROM adapter_versions WHERE version = ?", [version]):
                raise StoreError(f"Version {version} exists; a version is never overwritten.")
            if round_id is not None:
                _close_round(db, round_id, "promoted", reason, version, verdict)
            insert(db, "adapter_versions", **row)
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
            before = one_value(db, "SELECT version FROM live")
            db.execute("UPDATE live SET version = ?", [version])
            _add_event(db, "set_live", str(version), {"from": before, "reason": reason})

        self._write(change)

    def describe_version(self, version: int, name: str, remark: str) -> None:
        """What the person calls a version, and what they want to remember of it."""

        def change(db: Database) -> None:
            _version_exists(db, version)
            sql = "UPDATE adapter_versions SET name = ?, remark = ? WHERE version = ?"
            db.execute(sql, [clean_text(name), clean_text(remark), version])

        self._write(change)

    def set_tier(self, version: int, tier: str, reason: str) -> None:
        def change(db: Database) -> None:
            _version_exists(db, version)
            db.execute("UPDATE adapter_versions SET tier = ? WHERE version = ?", [tier, version])
            _add_event(db, "tier", str(version), {"tier": tier, "reason": reason})

        self._write(change)

    def delete_version(self, version: int) -> None:
        """Forget a version. What was made from it now hangs on its parent, so that rolling back
        from there still arrives somewhere. The caller removes the folder afterwards."""

        def change(db: Database) -> None:
            _version_exists(db, version)
            if not version:
                raise StoreError("The base cannot be deleted.")
            if one_value(db, "SELECT version FROM live") == version:
                raise StoreError(f"v{version} is live; make another version live first.")
            sql = """UPDATE adapter_versions SET parent = (SELECT parent FROM adapter_versions
                WHERE version = ?1) WHERE parent = ?1"""
            db.execute(sql, [version])
            db.execute("DELETE FROM adapter_versions WHERE version = ?", [version])
            sql = "UPDATE conversations SET adapter_version = NULL WHERE adapter_version = ?"
            db.execute(sql, [version])
            _add_event(db, "version_deleted", str(version), {})

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
        self._run_sql("INSERT OR REPLACE INTO settings VALUES (?, ?)", [(key, as_json(value))])

    def backup(self, path: Path | str) -> None:
        """A verified copy of everything, made while the app goes on."""
        target = Path(path).expanduser().resolve()
        if target == self.path:
            raise StoreError(f"A backup of {self.path.name} needs another name than its own.")
        if has_bytes(Path(f"{target}-wal")):  # it would be replayed over the new copy
            raise Busy(f"{target} is open in another program; close it or choose another name.")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._read() as db:
                copy_to(db, target)
        except (OSError, sqlite3.Error) as error:
            raise in_plain_words(error, target) from error

    def counts(self) -> dict[str, int]:
        tables = {"versions": "adapter_versions"}
        names = ("conversations", "messages", *LOGS, "rounds", "versions")
        parts = [f"(SELECT count(*) FROM {tables.get(name, name)})" for name in names]
        with self._read() as db:
            [row] = fetch(db, f"SELECT {', '.join(parts)}")
        return dict(zip(names, row, strict=True))


# ---------------------------------------------------------------- steps inside a transaction


def _conversation_row(db: Database, conversation_id: str) -> tuple:
    """(title,) of a conversation that exists."""
    rows = fetch(db, "SELECT title FROM conversations WHERE id = ?", [conversation_id])
    if not rows:
        raise NotFound("That conversation is not here any more.")
    return rows[0]


def _round_status(db: Database, round_id: int) -> str:
    status = one_value(db, "SELECT status FROM rounds WHERE id = ?", [round_id])
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
    words = None if verdict is None else as_json(verdict)
    db.execute(sql, [status, clean_text(reason), version, words, timestamp(), round_id])
    _used_version(db, version or 0)


def _version_exists(db: Database, version: int) -> None:
    if not one_value(db, "SELECT 1 FROM adapter_versions WHERE version = ?", [version]):
        raise NotFound(f"Version {version} does not exist.")


def _used_version(db: Database, version: int) -> None:
    """A number once used is never given out again, even if its round was discarded."""
    db.execute("UPDATE counters SET value = max(value, ?) WHERE name = 'version'", [version])


def _add_event(db: Database, kind: str, ref: str, data: dict) -> None:
    insert(db, "events", kind=kind, ref=ref, data=as_json(data), created_at=timestamp())
