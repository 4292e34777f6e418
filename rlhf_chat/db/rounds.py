"""Training rounds: one row each, and the numbers of every step."""

import json
from typing import Any

from sqlite_utils import Database

from rlhf_chat.db.codec import as_json, clean_text, fetch, finite, insert, one_value, timestamp
from rlhf_chat.db.connection import Repository
from rlhf_chat.db.deletion import without_lost_words
from rlhf_chat.db.queries import RATER_FILTER
from rlhf_chat.db.records import Round
from rlhf_chat.errors import NotFound, StoreError


class RoundRepository(Repository):
    def open(
        self,
        *,
        trigger: str,
        parent_version: int,
        seed: int,
        watermark: int,
        config: dict[str, Any],
        snapshot_hash: str,
        rater: str = "",
        learned_from: dict[str, list[str]] | None = None,
    ) -> int:
        """Open a round. `rater`: the simulated rater it learns from; "" for people."""
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
            "rater": rater,
            "learned_from": as_json(learned_from or {}),
        }

        def change(db: Database) -> int:
            insert(db, "rounds", **row)
            result: int = one_value(db, "SELECT last_insert_rowid()")
            return result

        return self._db.write(change)

    def add_metrics(self, round_id: int, step: int, values: dict[str, float]) -> None:
        """Numbers of one step; a number that is not finite is kept as NULL."""
        rows = [(round_id, step, name, finite(float(value))) for name, value in values.items()]
        sql = """INSERT INTO metrics (round_id, step, name, value) VALUES (?, ?, ?, ?)
            ON CONFLICT (round_id, step, name) DO UPDATE SET value = excluded.value"""

        def change(db: Database) -> None:
            _round_status(db, round_id)
            db.conn.executemany(sql, rows)

        self._db.write(change)

    def metrics(self, round_id: int) -> list[tuple[int, str, float | None]]:
        sql = "SELECT step, name, value FROM metrics WHERE round_id = ? ORDER BY number"
        with self._db.read() as db:
            return fetch(db, sql, [round_id])

    def close(
        self,
        round_id: int,
        *,
        status: str,
        reason: str,
        version: int | None = None,
        verdict: dict[str, Any] | None = None,
    ) -> None:
        if status not in ("promoted", "discarded", "stopped", "failed", "aborted"):
            raise StoreError("db.invalid", what="status of a round", value=str(status))
        self._db.write(lambda db: close_round(db, round_id, status, reason, version, verdict))

    def get(self, round_id: int) -> Round:
        """Raises NotFound."""
        found = self._db.rows(Round, "FROM rounds WHERE id = ?", [round_id])
        if not found:
            raise NotFound("db.round_unknown", number=round_id)
        return found[0]

    def newest(self, limit: int = 50) -> list[Round]:
        """Newest first."""
        return self._db.rows(Round, "FROM rounds ORDER BY id DESC LIMIT ?", [limit])

    def last_id(self) -> int:
        """Of the newest round; 0 without any."""
        return self._db.value("SELECT max(id) FROM rounds") or 0

    def simulated(self) -> dict[int, str]:
        """Round -> the simulated rater it learned from."""
        sql = "SELECT id, rater FROM rounds WHERE rater <> ''"
        with self._db.read() as db:
            return dict(fetch(db, sql))

    def learned_from(self) -> dict[int, dict[str, list[str]]]:
        """Version -> what its round and its ancestors' learned from."""
        sql = """SELECT v.version, learned_from FROM adapter_versions v
            JOIN rounds r ON r.id = v.round_id"""
        with self._db.read() as db:
            return {version: json.loads(found) for version, found in fetch(db, sql)}

    def abort_open(self, reason: str) -> int:
        """Close what a crash left running; returns how many there were."""

        def change(db: Database) -> int:
            open_ids = [row[0] for row in fetch(db, "SELECT id FROM rounds WHERE ended_at IS NULL")]
            for round_id in open_ids:
                close_round(db, round_id, "aborted", reason, None, None)
            return len(open_ids)

        return self._db.write(change)

    def last_watermark(self, rater: str = "") -> int:
        """Where the newest round that was decided (promoted or discarded) had read up to."""
        sql = f"""SELECT watermark FROM rounds WHERE status IN ('promoted', 'discarded')
            AND {RATER_FILTER} ORDER BY id DESC LIMIT 1"""
        return self._db.value(sql, [rater]) or 0

    def interim_tests(self, snapshot_hash: str, rater: str = "") -> int:
        """How many other states of this rater's feedback (of people's, if "") were tested by rounds
        that were decided; retraining without some of it tests no further state."""
        sql = f"""SELECT count(DISTINCT snapshot_hash) FROM rounds
            WHERE status IN ('promoted', 'discarded') AND "trigger" <> 'retrain_without'
            AND snapshot_hash <> ?2 AND {RATER_FILTER}"""
        result: int = self._db.value(sql, [rater, snapshot_hash])
        return result


def _round_status(db: Database, round_id: int) -> str:
    status: str | None = one_value(db, "SELECT status FROM rounds WHERE id = ?", [round_id])
    if status is None:
        raise NotFound("db.round_unknown", number=round_id)
    return status


def close_round(
    db: Database,
    round_id: int,
    status: str,
    reason: str,
    version: int | None,
    verdict: dict[str, Any] | None,
) -> None:
    before = _round_status(db, round_id)
    if before == status:
        return  # a retry of what is already stored
    if before != "running":
        raise StoreError("db.round_ended", number=round_id, status=before)
    sql = """UPDATE rounds SET status = ?, reason = ?, version = ?, verdict = ?, ended_at = ?
        WHERE id = ?"""
    words = None if verdict is None else without_lost_words(db, as_json(verdict))
    db.execute(sql, [status, clean_text(reason), version, words, timestamp(), round_id])
    use_number(db, version or 0)


def use_number(db: Database, version: int) -> None:
    """A number once used is never given out again, even if its round was discarded."""
    db.execute("UPDATE counters SET value = max(value, ?) WHERE name = 'version'", [version])
