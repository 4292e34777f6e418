"""kill -9 at a random moment: what was acknowledged is there, and what is served is whole.

A child process chats, rates, trains and publishes (every round promotes), imports, undoes imports,
deletes chats and backs up, all at once and at full speed, and prints a line after each COMMIT; the
parent kills it and opens what is left. RLHF_CHAT_KILLS=30 kills more often. Left out: power loss,
which test_power_loss.py replays.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_chat.db import StoreError
from rlhf_chat.db.database_file import connect
from rlhf_chat.db.db_errors import backups_of
from rlhf_chat.db.row_checksums import is_whole

KILLS = int(os.environ.get("RLHF_CHAT_KILLS", "4"))
ROOT = Path(__file__).parents[2]
START_SECONDS = 600  # a start is slow on a busy machine
LONGEST_LIFE = 3.0  # seconds from the first acknowledged rating to the kill, at most


class Acts:
    """What people and the worker do to one store, each in a thread of its own, with a line for each
    act that was acknowledged: its kind, then what it was about."""

    def __init__(self, store: Any, chat: Any, wake: Callable[[], None]) -> None:
        self.store, self.chat, self.wake = store, chat, wake
        self.life = uuid.uuid4().hex  # the next child in this folder must not repeat our event ids
        self._printing = threading.Lock()

    def say(self, *told: object) -> None:
        with self._printing:
            os.write(1, (" ".join(map(str, told)) + "\n").encode())

    def rate(self, number: int) -> None:
        for turn in range(10**6):
            *_, reply = self.chat.reply(self.chat.conversations.new(), f"hello {number} {turn}")
            assert reply.message_id
            value = 1 if turn % 2 else -1
            event = f"{self.life}-{number}-{turn}"
            self.chat.ratings.rate(reply.message_id, value, event_id=event)
            self.say("rated", reply.message_id, value)
            self.wake()

    def import_(self) -> None:
        from rlhf_chat.db import ImportedFeedback

        for turn in range(10**6):
            rows = [
                ImportedFeedback(
                    "thumb",
                    (("user", f"asked {self.life} {turn} {i}"),),
                    (f"imported {i}",),
                    1,
                    response_ids=((1, i),),
                )
                for i in range(20)
            ]
            origin, new = self.store.imports.add(rows, counts=bool(turn % 2))
            self.say("imported", origin, new)
            if turn % 3 == 0:
                self.store.imports.undo(origin)
                self.say("undone", origin, 0)

    def delete(self) -> None:
        for turn in range(10**6):
            canary = f"canary{self.life}x{turn}x"
            conversation = self.store.conversations.add()
            self.store.messages.add(conversation, "user", canary)
            time.sleep(0.01)  # so that a backup may hold it
            with suppress(StoreError):  # the WAL was in use: told to the person, tried again later
                self.store.conversations.delete(conversation)
                self.say("deleted", conversation, canary)

    def back_up(self) -> None:
        from rlhf_chat.db import connection

        connection.backup_is_due = lambda *_: True
        while True:
            assert self.store.back_up()
            self.say("copied", "feedback", 0)


def child(folder: Path, toy_folder: Path) -> None:
    """The victim: three people who rate, one who imports, one who deletes, copies without end, and
    a trainer that promotes all the time."""
    torch.set_num_threads(1)
    from rlhf_chat.chat.chat import Chat
    from rlhf_chat.db import Store
    from rlhf_chat.inference.generate import Sampling
    from rlhf_chat.inference.model import Model
    from rlhf_chat.training import gate
    from rlhf_chat.training.worker import TrainingWorker
    from rlhf_chat.versions.adapter_store import AdapterStore
    from tests.tiny_models import tiny_round_config

    gate.judge = lambda *_: gate.Verdict(gate.PASSED, "Served: a test says so.", {}, ())
    store = Store(folder / "feedback.db")
    model = Model.load(str(toy_folder), quantization="none")
    worker = TrainingWorker(
        store, model, AdapterStore(folder / "adapters"), tiny_round_config(), needed=2
    )
    worker.start()
    acts = Acts(store, Chat(store, model, Sampling(max_new_tokens=3)), worker.wake)
    people = [partial(acts.rate, number) for number in range(3)]
    every: list[Callable[[], None]] = [*people, acts.import_, acts.delete, acts.back_up]
    for act in every:
        threading.Thread(target=act, daemon=True).start()
    time.sleep(600)


def killed(folder: Path, toy_folder: Path, life: float) -> list[str]:
    """Runs a child for `life` seconds after its first rating, kills it; the acts it promised."""
    command = [sys.executable, "-m", "tests.slow.test_kill", str(folder), str(toy_folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        timer = threading.Timer(START_SECONDS, process.kill)
        timer.start()
        try:
            first = ""
            while "rated" not in first and (line := process.stdout.readline()):
                first += line
            if "rated" not in first:
                raise AssertionError(f"the child did not start: {process.stderr.read()[-2000:]}")
            time.sleep(life)
        finally:
            timer.cancel()
            process.kill()
        rest = process.stdout.read()
    lines = (first + rest).splitlines(keepends=True)
    return [line.strip() for line in lines if line.endswith("\n")]  # a torn line promised nothing


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_nothing_acknowledged_is_lost_and_what_is_served_is_whole(disk_path, toy_folder, toy):
    from rlhf_chat.db import Store
    from rlhf_chat.training.worker import TrainingWorker
    from rlhf_chat.versions.adapter_store import AdapterStore
    from tests.tiny_models import tiny_round_config

    seed = random.SystemRandom().getrandbits(32)
    rng, counted = random.Random(seed), Counter[str]()
    promised: list[list[str]] = []
    for kill in range(KILLS):
        # the same folder again after some kills: a start in the ruins is part of the test
        folder = disk_path / f"run{kill // 3}"
        if kill % 3 == 0:
            promised = []
        told = [line.split() for line in killed(folder, toy_folder, rng.uniform(0, LONGEST_LIFE))]
        assert told, f"seed {seed}"
        promised += told
        counted.update(act[0] for act in told)

        toy.serve(toy.reference)
        with closing(Store(folder / "feedback.db")) as store:
            check_acts(store, promised, kill % 3 + 1, seed)
            check_versions(
                store,
                TrainingWorker(store, toy, AdapterStore(folder / "adapters"), tiny_round_config()),
                seed,
            )
        check_files(folder, promised, seed)
        if kill % 3 == 2:
            shutil.rmtree(folder)
    print(f"{KILLS} kills, acknowledged: {dict(counted)}")


def check_acts(store: Any, promised: list[list[str]], lives: int, seed: int) -> None:
    """What was rated, imported, undone and deleted."""
    by_kind: dict[str, dict[str, str]] = {}
    for kind, about, value in promised:
        by_kind.setdefault(kind, {})[about] = value
    rated = by_kind.get("rated", {})
    kept = {r.message_id: str(r.value) for r in store.feedback.ratings()}
    lost = {m: v for m, v in rated.items() if kept.get(m) != v}
    assert not lost, f"{len(lost)} of {len(rated)} ratings lost, seed {seed}"
    for message in list(rated)[-20:]:
        assert store.messages.get(message).response_ids
    held = {batch.id: str(batch.conversations) for batch in store.imports.newest(10**6)}
    undone = by_kind.get("undone", {})
    gone = 0
    for origin, count in by_kind.get("imported", {}).items():
        gone += origin not in held and origin not in undone
        assert held.get(origin) in (None, *(() if origin in undone else (count,))), f"seed {seed}"
    assert gone <= lives, f"seed {seed}"  # the last one of a life may be undone without a word
    chats = {c.id for c in store.conversations.all()}
    assert not chats & set(by_kind.get("deleted", {})), f"seed {seed}"
    with store.connection.read() as db:
        assert is_whole(db), f"seed {seed}"
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []


def check_files(folder: Path, promised: list[list[str]], seed: int) -> None:
    """Every copy is whole, and nowhere is a word of what was deleted."""
    for backup in backups_of(folder / "feedback.db"):
        with closing(connect(backup, "ro")) as db:
            assert is_whole(db), f"{backup}, seed {seed}"
    words = [value.encode() for kind, _, value in promised if kind == "deleted"]
    for file in (file for file in folder.rglob("*") if file.is_file()):
        held = file.read_bytes()
        assert not [word for word in words if word in held], f"{file}, seed {seed}"


def check_versions(store, worker, seed: int) -> None:
    """Every version in the database is whole on disk, and recovering leaves nothing open."""
    live = store.adapter_versions.live()
    rounds = {r.id: r for r in store.rounds.newest(10_000)}
    for version in store.adapter_versions.all()[1:]:
        assert worker.versions.adapter_store.load(version.version, version.manifest_hash), (
            f"seed {seed}"
        )
        assert rounds[version.round_id].status == "promoted"
        assert rounds[version.round_id].version == version.version
    assert sum(r.ended_at is None for r in rounds.values()) <= 1
    worker.recover()
    assert worker.model.live.version == store.adapter_versions.live() == live, f"seed {seed}"
    assert all(r.ended_at is not None for r in store.rounds.newest(10_000))
    known = {f"v{v.version:04d}" for v in store.adapter_versions.all()[1:]}
    folder = worker.versions.adapter_store.folder  # made with the first version
    on_disk = {f.name for f in folder.glob("*")} - {"staging", "lost"}
    assert on_disk == known
    assert not any((folder / "staging").glob("*"))
    assert not worker.status().error


if __name__ == "__main__":
    child(Path(sys.argv[1]), Path(sys.argv[2]))
