"""feedback.db as one object: a repository for each family of tables on one connection."""

from contextlib import AbstractContextManager
from pathlib import Path

from rlhf_chat.db.adapter_versions import AdapterVersionRepository
from rlhf_chat.db.codec import fetch
from rlhf_chat.db.connection import DatabaseConnection
from rlhf_chat.db.conversations import ConversationRepository
from rlhf_chat.db.deletion import finish_erasing
from rlhf_chat.db.events import EventRepository
from rlhf_chat.db.feature_cache import FeatureCache
from rlhf_chat.db.feedback import FeedbackRepository
from rlhf_chat.db.feedback_tables import TABLES
from rlhf_chat.db.imports import ImportRepository
from rlhf_chat.db.integrity import IntegrityRepository
from rlhf_chat.db.messages import MessageRepository
from rlhf_chat.db.rounds import RoundRepository
from rlhf_chat.db.settings import SettingRepository


class Store:
    """An open feedback.db; made where it does not exist. Raises StoreError. `read_only`: beside the
    program that has it open, if there is one. `scratch`: see DatabaseConnection."""

    def __init__(self, path: Path | str, *, read_only: bool = False, scratch: bool = False) -> None:
        self.connection = connection = DatabaseConnection(
            path, read_only=read_only, scratch=scratch
        )
        self.conversations = ConversationRepository(connection)
        self.messages = MessageRepository(connection)
        self.feedback = FeedbackRepository(connection)
        self.imports = ImportRepository(connection)
        self.features = FeatureCache(connection)
        self.rounds = RoundRepository(connection)
        self.adapter_versions = AdapterVersionRepository(connection)
        self.settings = SettingRepository(connection)
        self.events = EventRepository(connection)
        self.integrity = IntegrityRepository(connection)
        if not connection.read_only:
            try:
                finish_erasing(connection)
            except BaseException:
                connection.close()
                raise

    @property
    def path(self) -> Path:
        return self.connection.path

    @property
    def read_only(self) -> bool:
        return self.connection.read_only

    @property
    def journal_mode(self) -> str:
        return self.connection.journal_mode

    @property
    def commits(self) -> int:
        """How often something was stored since the file was opened; 0 if it is only read."""
        return self.connection.commits

    def back_up(self) -> bool:
        """See DatabaseConnection.back_up."""
        return self.connection.back_up()

    def patient(self, seconds: float) -> AbstractContextManager[None]:
        """See DatabaseConnection.patient."""
        return self.connection.patient(seconds)

    @property
    def unerased(self) -> list[Path]:
        """Files that still hold erased words, as something was in the way."""
        return self.connection.unerased

    def finish_erasing(self) -> None:
        """Tries again to erase what `unerased` names."""
        if self.unerased and not self.read_only:
            finish_erasing(self.connection)

    def close(self) -> None:
        """Finish the queued writes, then close the file. Idempotent."""
        self.connection.close()

    def counts(self) -> dict[str, int]:
        """Number of rows of each table that is shown to people."""
        tables = {"versions": "adapter_versions"}
        names = (
            "conversations",
            "messages",
            *(table.name for table in TABLES.values()),
            "rounds",
            "versions",
        )
        parts = [f"(SELECT count(*) FROM {tables.get(name, name)})" for name in names]
        with self.connection.read() as db:
            [row] = fetch(db, f"SELECT {', '.join(parts)}")
        return dict(zip(names, row, strict=True))
