"""Everything the app remembers, behind one name. Left out: all detail, which the parts have."""

from rlhf_chat.store.arrivals import ArrivalLogs
from rlhf_chat.store.cache import Cache
from rlhf_chat.store.feedback import LOGS, FeedbackLogs
from rlhf_chat.store.history import History
from rlhf_chat.store.rows import fetch
from rlhf_chat.store.talk import Talk


class Store(Talk, FeedbackLogs, ArrivalLogs, Cache, History):
    """feedback.db: conversations, what people said of them, rounds, versions, and a cache."""

    def counts(self) -> dict[str, int]:
        tables = {"versions": "adapter_versions"}
        names = ("conversations", "messages", *LOGS, "rounds", "versions")
        parts = [f"(SELECT count(*) FROM {tables.get(name, name)})" for name in names]
        with self._read() as db:
            [row] = fetch(db, f"SELECT {', '.join(parts)}")
        return dict(zip(names, row, strict=True))
