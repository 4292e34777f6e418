"""Everything the app remembers, behind one name. Left out: all detail, which the parts have."""

from rlhf_chat.db.codec import fetch
from rlhf_chat.db.conversations import ConversationRepository
from rlhf_chat.db.feature_cache import Cache
from rlhf_chat.db.imports import ImportRepository
from rlhf_chat.db.ratings import LOGS, FeedbackRepository
from rlhf_chat.db.rounds import RoundRepository


class Store(ConversationRepository, FeedbackRepository, ImportRepository, Cache, RoundRepository):
    """feedback.db: conversations, what people said of them, rounds, versions, and a cache."""

    def counts(self) -> dict[str, int]:
        tables = {"versions": "adapter_versions"}
        names = ("conversations", "messages", *LOGS, "rounds", "versions")
        parts = [f"(SELECT count(*) FROM {tables.get(name, name)})" for name in names]
        with self._read() as db:
            [row] = fetch(db, f"SELECT {', '.join(parts)}")
        return dict(zip(names, row, strict=True))
