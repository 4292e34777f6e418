"""Settings of the app: JSON values by key."""

import json
from typing import Any

from sqlite_utils import Database

from rlhf_chat.db.codec import as_json, one_value
from rlhf_chat.db.connection import Repository

CHAT_DEFAULTS = "manner"  # key of what conversations begin with (chat/settings.py)


class SettingRepository(Repository):
    def get(self, key: str, default: Any = None) -> Any:
        with self._db.read() as db:
            value = one_value(db, "SELECT value FROM settings WHERE key = ?", [key])
            return default if value is None else json.loads(value)

    def set(self, key: str, value: Any) -> None:
        self._db.write(lambda db: put_setting(db, key, value))

    # of conversations not yet begun

    @property
    def system_prompt(self) -> str:
        prompt: str = (self.get(CHAT_DEFAULTS) or {}).get("system_prompt", "")
        return prompt

    @property
    def sampling(self) -> dict[str, Any]:
        """{} while the model's own is used."""
        sampling: dict[str, Any] = (self.get(CHAT_DEFAULTS) or {}).get("sampling", {})
        return sampling


def put_setting(db: Database, key: str, value: Any) -> None:
    db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", [key, as_json(value)])
