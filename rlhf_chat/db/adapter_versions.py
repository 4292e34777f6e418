"""Adapter versions, and which of them is live for each base model.

A version and the pointer to it change in one transaction. The weights are in folders
(rlhf_chat.versions.adapter_store).
"""

from pathlib import Path
from typing import Any

from sqlite_utils import Database

from rlhf_chat.db.codec import as_json, clean_text, fetch, finite, insert, one_value, timestamp
from rlhf_chat.db.connection import Repository
from rlhf_chat.db.db_errors import NotFound, StoreError
from rlhf_chat.db.events import add_event
from rlhf_chat.db.rounds import close_round, use_number
from rlhf_chat.db.schema import AdapterVersion
from rlhf_chat.db.settings import put_setting

NOT_LIVE = "You made another version live meanwhile, so it waits on the Versions screen."


class AdapterVersionRepository(Repository):
    def next_number(self) -> int:
        return 1 + self._db.value("SELECT value FROM counters WHERE name = 'version'")

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
                close_round(db, round_id, "promoted", note, version, verdict)
            insert(db, "adapter_versions", note=note, **row)
            use_number(db, version)
            if serves:
                db.execute("UPDATE live SET version = ?", [version])
            add_event(db, "promoted", str(version), {"round_id": round_id, "reason": note})
            return serves

        return self._db.write(change)

    def all(self) -> list[AdapterVersion]:
        return self._db.rows(AdapterVersion, "FROM adapter_versions ORDER BY version")

    def get(self, version: int) -> AdapterVersion:
        """Raises NotFound."""
        found = self._db.rows(AdapterVersion, "FROM adapter_versions WHERE version = ?", [version])
        if not found:
            raise NotFound(f"There is no version {version}.")
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

    def set_live(self, version: int, reason: str, base: str = "") -> None:
        def change(db: Database) -> None:
            _version_exists(db, version)
            before = _live_version(db, base)
            if _is_in_use(db, base):
                db.execute("UPDATE live SET version = ?", [version])
            else:
                put_setting(db, f"live:{base}", version)
            add_event(db, "set_live", str(version), {"from": before, "reason": reason})

        self._db.write(change)

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

        return self._db.write(change)

    def describe(self, version: int, name: str, remark: str) -> None:
        """What the person calls a version, and what they want to remember of it."""

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

        self._db.write(change)


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
