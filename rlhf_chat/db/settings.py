"""Settings of the app: JSON values by key."""

import json
from typing import Any

from sqlite_utils import Database

from rlhf_chat.db.codec import as_json
from rlhf_chat.db.connection import Repository


class SettingRepository(Repository):
    def get(self, key: str, default: Any = None) -> Any:
        value = self._db.value("SELECT value FROM settings WHERE key = ?", [key])
        return default if value is None else json.loads(value)

    def set(self, key: str, value: Any) -> None:
        self._db.write(lambda db: put_setting(db, key, value))


def put_setting(db: Database, key: str, value: Any) -> None:
    db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", [key, as_json(value)])
