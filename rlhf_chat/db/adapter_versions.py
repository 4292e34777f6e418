"""Adapter versions, and which of them is live for each base model.

A version and the pointer to it change in one transaction. The weights are in folders
(rlhf_chat.versions.adapter_store).
"""

from pathlib import Path
from typing import Any

from sqlite_utils import Database

from rlhf_chat.db.codec import clean_text, fetch, finite, insert, one_value, timestamp
from rlhf_chat.db.connection import Repository
from rlhf_chat.db.events import add_event
from rlhf_chat.db.records import AdapterVersion
from rlhf_chat.db.rounds import close_round, use_number
from rlhf_chat.errors import NotFound, Notice, StoreError, from_stored

SET_LIVE = "UPDATE live_versions SET version = ? WHERE in_use = 1"


class AdapterVersionRepository(Repository):
    def next_number(self) -> int:
        result: int = 1 + self._db.value("SELECT value FROM counters WHERE name = 'version'")
        return result

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
        verdict: dict[str, Any],
    ) -> bool:
        """The version, the live pointer, the round and the event in one transaction. The pointer
        moves only away from `instead_of` (None: from anything), so that a version made live
        meanwhile stays live. Returns whether the version is live."""
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
                raise StoreError("versions.exists", version=version)
            live = _live_version(db)
            serves = instead_of in (None, live)
            note = reason
            if not serves:
                note = Notice("versions.not_live", {"reason": from_stored(reason)}).to_json()
            if round_id is not None:
                close_round(db, round_id, "promoted", note, version, verdict)
            insert(db, "adapter_versions", note=note, **row)
            use_number(db, version)
            if serves:
                db.execute(SET_LIVE, [version])
            add_event(db, "promoted", str(version), {"round_id": round_id, "reason": note})
            return serves

        return self._db.write(change)

    def all(self) -> list[AdapterVersion]:
        return self._db.rows(AdapterVersion, "FROM adapter_versions ORDER BY version")

    def get(self, version: int) -> AdapterVersion:
        """Raises NotFound."""
        found = self._db.rows(AdapterVersion, "FROM adapter_versions WHERE version = ?", [version])
        if not found:
            raise NotFound("versions.unknown", version=version)
        return found[0]

    def deleted(self) -> set[int]:
        """Numbers of versions that were here once and were deleted."""
        with self._db.read() as db:
            sql = "SELECT CAST(ref AS INTEGER) FROM events WHERE kind = 'version_deleted'"
            return {row[0] for row in fetch(db, sql)}

    def live(self, base: str = "") -> int:
        """Of the base model in use, or of the one with this hash: what it had live when it was."""
        with self._db.read() as db:
            return _live_version(db, base)

    def base_in_use(self) -> str:
        """The hash of the base model that `live` is about; "" before one was loaded."""
        with self._db.read() as db:
            return _base_in_use(db)

    def set_live(self, version: int, reason: str, base: str = "") -> None:
        def change(db: Database) -> None:
            _version_exists(db, version)
            before = _live_version(db, base)
            if _is_in_use(db, base):
                db.execute(SET_LIVE, [version])
            else:
                db.execute("INSERT OR REPLACE INTO live_versions VALUES (?, ?, 0)", [base, version])
            add_event(db, "set_live", str(version), {"from": before, "reason": reason})

        self._db.write(change)

    def change_base(self, before: str, now: str) -> int:
        """Another base model is used from now on: what was live is kept for the one before, until
        it is used again, and the new one gets its own back. Returns what is live now."""

        def change(db: Database) -> int:
            db.execute("DELETE FROM live_versions WHERE base_hash = ? AND in_use = 0", [before])
            db.execute("UPDATE live_versions SET base_hash = ? WHERE in_use = 1", [before])
            live, found = _live_version(db, before), _live_version(db, now)
            if before != now:
                db.execute("UPDATE live_versions SET in_use = 0 WHERE in_use = 1")
                sql = "INSERT OR REPLACE INTO live_versions VALUES (?, ?, 1)"
                db.execute(sql, [now, found])
                told = {"from": live, "reason": "another base model is used"}
                add_event(db, "set_live", str(found), told)
            return found

        return self._db.write(change)

    def describe(self, version: int, name: str, remark: str) -> None:
        """Store the name and the note that a person gives a version."""

        def change(db: Database) -> None:
            _version_exists(db, version)
            sql = "UPDATE adapter_versions SET name = ?, remark = ? WHERE version = ?"
            db.execute(sql, [clean_text(name), clean_text(remark), version])

        self._db.write(change)

    def set_tier(self, version: int, tier: str, reason: str) -> None:
        def change(db: Database) -> None:
            _version_exists(db, version)
            db.execute("UPDATE adapter_versions SET tier = ? WHERE version = ?", [tier, version])
            add_event(db, "tier", str(version), {"tier": tier, "reason": reason})

        self._db.write(change)

    def delete(self, version: int) -> None:
        """Delete a version. Its children become children of its parent, so that rolling back
        from them still has a target. The caller removes the folder afterwards."""

        def change(db: Database) -> None:
            _version_exists(db, version)
            if not version:
                raise StoreError("versions.base_not_deletable")
            if _live_version(db) == version:
                raise StoreError("versions.live_not_deletable", version=version)
            sql = """UPDATE adapter_versions SET parent = (SELECT parent FROM adapter_versions
                WHERE version = ?1) WHERE parent = ?1"""
            db.execute(sql, [version])
            sql = """UPDATE live_versions SET version = (SELECT parent FROM adapter_versions
                WHERE version = ?1) WHERE version = ?1"""
            db.execute(sql, [version])
            db.execute("DELETE FROM adapter_versions WHERE version = ?", [version])
            sql = "UPDATE conversations SET adapter_version = NULL WHERE adapter_version = ?"
            db.execute(sql, [version])
            add_event(db, "version_deleted", str(version), {})

        self._db.write(change)


def _version_exists(db: Database, version: int) -> None:
    if not one_value(db, "SELECT 1 FROM adapter_versions WHERE version = ?", [version]):
        raise NotFound("versions.unknown", version=version)


def _base_in_use(db: Database) -> str:
    result: str = one_value(db, "SELECT base_hash FROM live_versions WHERE in_use = 1")
    return result


def _is_in_use(db: Database, base: str) -> bool:
    """Whether the live pointer belongs to this base; one without a known base belongs to any."""
    return base == "" or _base_in_use(db) in ("", base)


def _live_version(db: Database, base: str = "") -> int:
    if _is_in_use(db, base):
        result: int = one_value(db, "SELECT version FROM live_versions WHERE in_use = 1")
        return result
    sql = "SELECT version FROM live_versions WHERE base_hash = ?"
    return one_value(db, sql, [base]) or 0
