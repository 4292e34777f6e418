"""Rounds with their numbers, adapter versions, and which of them is live.

A version and the pointer to it change in one transaction. Left out: the weights, which live in
folders (rlhf_chat.versions.adapter_store); the file holds only the pointer.
"""

from pathlib import Path
from typing import Any

from sqlite_utils import Database

from rlhf_chat.db.codec import (
    as_json,
    clean_text,
    fetch,
    finite,
    insert,
    one_value,
    timestamp,
)
from rlhf_chat.db.connection import DatabaseConnection, add_event, put_setting
from rlhf_chat.db.db_errors import NotFound, StoreError
from rlhf_chat.db.deletion import without_lost_words
from rlhf_chat.db.queries import (
    RATER_FILTER,
    like,
)
from rlhf_chat.db.schema import (
    AdapterVersion,
    Round,
)

NOT_LIVE = "You made another version live meanwhile, so it waits on the VersionRegistry screen."


class RoundRepository(DatabaseConnection):
    """The part of the store that keeps rounds and versions."""

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
            AND {RATER_FILTER.replace("rater", '"trigger"')} ORDER BY id DESC LIMIT 1"""
        return self._value(sql, [rater]) or 0

    def interim_tests(self, snapshot_hash: str, rater: str = "") -> int:
        """How many other states of what this person (people, if none is named) said were tested by
        rounds that were decided; rebuilding leaves answers out and is no look at more of them."""
        sql = f"""SELECT count(DISTINCT snapshot_hash) FROM rounds
            WHERE status IN ('promoted', 'discarded') AND "trigger" <> 'rebuild'
            AND snapshot_hash <> ?2 AND {RATER_FILTER.replace("rater", '"trigger"')}"""
        return self._value(sql, [rater, snapshot_hash])

    # ---- adapter versions

    def next_version(self) -> int:
        return 1 + self._value("SELECT value FROM counters WHERE name = 'version'")

    def promote(
        self,
        *,
        version: int,
        parent: int,
        instead_of: int | None = None,
        round_id: int | None,
        tier: str,
        folder: Path | str,
        manifest_hash: str,
        kl: float | None,
        reason: str,
        verdict: dict,
    ) -> bool:
        """The version, the live pointer, the round and the event in one transaction. The pointer
        stays where somebody has put it meanwhile: it moves only away from `instead_of` (None: from
        anything). Returns whether the version is live."""
        row: dict[str, Any] = {
            "version": version,
            "parent": parent,
            "round_id": round_id,
            "tier": tier,
            "folder": str(folder),
            "manifest_hash": manifest_hash,
            "kl": None if kl is None else finite(float(kl)),
            "created_at": timestamp(),
        }

        def change(db: Database) -> bool:
            _version_exists(db, parent)
            if one_value(db, "SELECT 1 FROM adapter_versions WHERE version = ?", [version]):
                raise StoreError(f"Version {version} exists; a version is never overwritten.")
            live = one_value(db, "SELECT version FROM live")
            serves = instead_of in (None, live)
            note = reason if serves else f"{reason} {NOT_LIVE}"
            if round_id is not None:
                _close_round(db, round_id, "promoted", note, version, verdict)
            insert(db, "adapter_versions", note=note, **row)
            _used_version(db, version)
            if serves:
                db.execute("UPDATE live SET version = ?", [version])
            add_event(db, "promoted", str(version), {"round_id": round_id, "reason": note})
            return serves

        return self._write(change)

    def adapter_versions(self) -> list[AdapterVersion]:
        return self._list(AdapterVersion, "FROM adapter_versions ORDER BY version")

    def deleted_versions(self) -> set[int]:
        """Numbers of versions that were here once and were deleted."""
        with self._read() as db:
            sql = "SELECT CAST(ref AS INTEGER) FROM events WHERE kind = 'version_deleted'"
            return {row[0] for row in fetch(db, sql)}

    def live_version(self, base: str = "") -> int:
        """Of the base model in use, or of the one with this hash: what it had live when it was."""
        with self._read() as db:
            return _live_version(db, base)

    def set_live(self, version: int, reason: str, base: str = "") -> None:
        def change(db: Database) -> None:
            _version_exists(db, version)
            before = _live_version(db, base)
            if _is_in_use(db, base):
                db.execute("UPDATE live SET version = ?", [version])
            else:
                put_setting(db, f"live:{base}", version)
            add_event(db, "set_live", str(version), {"from": before, "reason": reason})

        self._write(change)

    def change_base(self, before: str, now: str) -> int:
        """Another base model is used from now on: what was live is kept for the one before, until
        it is used again, and the new one gets its own back. Returns what is live now."""

        def change(db: Database) -> int:
            put_setting(db, "base", before)
            live, found = _live_version(db, before), _live_version(db, now)
            put_setting(db, "base", now)
            if before != now:
                put_setting(db, f"live:{before}", live)
                db.execute("UPDATE live SET version = ?", [found])
                told = {"from": live, "reason": "another base model is used"}
                add_event(db, "set_live", str(found), told)
            return found

        return self._write(change)

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
            add_event(db, "tier", str(version), {"tier": tier, "reason": reason})

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
            sql = """UPDATE settings SET value = (SELECT parent FROM adapter_versions
                WHERE version = ?1) WHERE key LIKE 'live:%' AND value = CAST(?1 AS TEXT)"""
            db.execute(sql, [version])
            db.execute("DELETE FROM adapter_versions WHERE version = ?", [version])
            sql = "UPDATE conversations SET adapter_version = NULL WHERE adapter_version = ?"
            db.execute(sql, [version])
            add_event(db, "version_deleted", str(version), {})

        self._write(change)


# ---------------------------------------------------------------- steps inside a transaction


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
    words = None if verdict is None else without_lost_words(db, as_json(verdict))
    db.execute(sql, [status, clean_text(reason), version, words, timestamp(), round_id])
    _used_version(db, version or 0)


def _version_exists(db: Database, version: int) -> None:
    if not one_value(db, "SELECT 1 FROM adapter_versions WHERE version = ?", [version]):
        raise NotFound(f"Version {version} does not exist.")


def _is_in_use(db: Database, base: str) -> bool:
    """Whether the live pointer is this base's; an older app did not say whose it is."""
    used = one_value(db, "SELECT value FROM settings WHERE key = 'base'")
    return base == "" or used in (None, as_json(base))


def _live_version(db: Database, base: str) -> int:
    if _is_in_use(db, base):
        return one_value(db, "SELECT version FROM live")
    sql = """SELECT version FROM adapter_versions
        WHERE version = (SELECT CAST(value AS INTEGER) FROM settings WHERE key = ?)"""
    return one_value(db, sql, [f"live:{base}"]) or 0


def _used_version(db: Database, version: int) -> None:
    """A number once used is never given out again, even if its round was discarded."""
    db.execute("UPDATE counters SET value = max(value, ?) WHERE name = 'version'", [version])
