"""How each point of rlhf_chat/faults.py is passed, and what holds when something fails there."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from rlhf_chat import faults
from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.compare import Compare
from rlhf_chat.db import Store
from rlhf_chat.db.database_file import connect
from rlhf_chat.errors import AppError, failure
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.model import Model
from rlhf_chat.training import gate
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.versions.adapter_store import AdapterStore
from tests.tiny_models import tiny_round_config

PACKAGE = Path(faults.__file__).parent
OLD = Path(__file__).parent / "data" / "feedback-48d4070.zip"


class App:
    """The app without its screens, in a folder. `acknowledged`: ratings whose call returned."""

    def __init__(self, folder: Path, model: Model) -> None:
        self.folder = folder
        self.store = Store(folder / "feedback.db")
        self.chat = Chat(self.store, model, Sampling(max_new_tokens=4))
        self.worker = TrainingWorker(
            self.store, model, AdapterStore(folder / "adapters"), tiny_round_config(), needed=10**9
        )
        self.worker.recover()
        self.acknowledged: list[str] = []

    def close(self) -> None:
        self.worker.close()
        self.store.close()

    def say(self) -> str:
        *_, reply = self.chat.reply(self.chat.conversations.new(), "hello")
        assert reply.message_id
        return reply.message_id

    def rate(self) -> None:
        reply = self.say()
        self.chat.ratings.rate(reply, 1, comment="kept")
        self.acknowledged.append(reply)

    def vote(self) -> None:
        *_, pair = Compare(self.chat).write("tell me about the sea")
        assert pair.set_id
        Compare(self.chat).vote(pair.set_id, "a")

    def round(self) -> None:
        """Raises what a person would read, where it fails."""
        status = self.worker.run_round("asked")
        error = self.worker.status().error
        if error:
            raise AppError(error.code, **error.params)
        assert status == "promoted"

    def back_up(self) -> None:
        for old in (self.folder / "backups").glob("*"):
            old.unlink()
        self.store.back_up()

    def import_file(self) -> None:
        row = '{"prompt": "the sea", "chosen": "it is blue", "rejected": "it is deep"}'
        self.chat.imports.import_all(row)

    def delete(self) -> None:
        doomed = self.store.messages.get(self.say()).conversation_id
        self.back_up()
        self.chat.conversations.delete(doomed)

    def read_version(self) -> None:
        self.worker.versions.state(self.store.adapter_versions.live())

    def migrate(self) -> None:
        older = self.folder / "older"
        shutil.rmtree(older, ignore_errors=True)
        shutil.unpack_archive(OLD, older)
        with closing(Store(older / "feedback.db")) as store:
            assert len(store.feedback.all()) >= 8

    def check(self) -> None:
        """Chat answers, nothing acknowledged is lost, and what is served is whole."""
        self.say()
        kept = {rating.message_id for rating in self.store.feedback.ratings()}
        assert kept >= {*self.acknowledged}
        # A new connection: FTS5 checks an index against what an older one remembers of it.
        with closing(connect(self.store.path, "ro")) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        versions = self.store.adapter_versions
        for version in versions.all()[1:]:
            assert self.worker.versions.state(version.version)
        self.worker.versions.look_again()
        assert self.worker.model.live.version == versions.live()
        assert not list(self.folder.rglob("*.part"))


Step = Callable[[App], None]
RATE, ROUND, BACK_UP, DELETE = App.rate, App.round, App.back_up, App.delete
CASES: dict[str, Step] = {
    "write.begun": RATE,
    "write.before_commit": RATE,
    "write.committed": RATE,
    "migrate.backed_up": App.migrate,
    "migrate.changed": App.migrate,
    "migrate.applied": App.migrate,
    "backup.copied": BACK_UP,
    "backup.before_rename": BACK_UP,
    "backup.renamed": BACK_UP,
    "import.placed": App.import_file,
    "delete.before_backups": DELETE,
    "delete.in_backup": DELETE,
    "delete.before_wal": DELETE,
    "publish.staged": ROUND,
    "publish.before_rename": ROUND,
    "publish.renamed": ROUND,
    "publish.before_row": ROUND,
    "publish.before_switch": ROUND,
    "adapter.before_read": App.read_version,
    "learn.opened": ROUND,
    "learn.base_measured": ROUND,
    "learn.fitted": ROUND,
    "learn.trained": ROUND,
    "learn.judged": ROUND,
    "learn.closing": ROUND,
}
# After this one the row is there: raising would tell a lie, so only a kill is possible.
ONLY_KILLED = {"write.committed"}
# An error here is kept, told on Data and tried again; the deletion itself is done.
TOLD_LATER = {"delete.in_backup"}


def points() -> set[str]:
    """Every point in the code."""
    code = "".join(file.read_text(encoding="utf-8") for file in PACKAGE.rglob("*.py"))
    return {*re.findall(r'faults\.point\("([a-z._]+)"\)', code)}


def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def memory() -> None:
    raise MemoryError


def broken() -> None:
    raise RuntimeError("a bug")


FAILURES = {full: "full", memory: "memory", broken: ""}  # and the word that names the cause


def promote_everything(*_: object) -> gate.Verdict:
    return gate.Verdict(gate.PASSED, "gate.passed", {"win_rate": 0.6, "kl": 1.0}, ())


def fail_at(app: App, name: str, act: Callable[[], None]) -> str:
    """Runs the step with that failure; what a person is told."""
    try:
        with faults.armed(name, act):
            CASES[name](app)
    except AppError as error:
        return str(error)
    except Exception as error:
        return str(failure(error) or "")
    return ""
