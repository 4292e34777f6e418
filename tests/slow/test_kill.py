"""kill -9 at a random moment: what was acknowledged is there, and what is served is whole.

A child process chats, rates and trains at full speed (every round promotes) and prints a line after
each COMMIT; the parent kills it and opens what is left. RLHF_CHAT_KILLS=30 kills more often. Left
out: power loss, which a test on one machine cannot make (store.py syncs, see test_store.py).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
import torch

KILLS = int(os.environ.get("RLHF_CHAT_KILLS", "4"))
ROOT = Path(__file__).parents[2]
START_SECONDS = 600  # a start is slow on a busy machine
LONGEST_LIFE = 3.0  # seconds from the first acknowledged rating to the kill, at most


def child(folder: Path, toy_folder: Path) -> None:
    """The victim: three people who rate and a trainer that promotes all the time."""
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
    chat = Chat(store, model, Sampling(max_new_tokens=3))
    worker = TrainingWorker(
        store, model, AdapterStore(folder / "adapters"), tiny_round_config(), needed=2
    )
    worker.start()
    say, printing = lambda line: os.write(1, f"{line}\n".encode()), threading.Lock()
    life = uuid.uuid4().hex  # the next child in this folder must not repeat our event ids

    def person(number: int) -> None:
        for turn in range(10**6):
            *_, reply = chat.reply(chat.new_conversation(), f"hello {number} {turn}")
            assert reply.message_id
            event = f"{life}-{number}-{turn}"
            value = 1 if turn % 2 else -1
            chat.ratings.rate(reply.message_id, value, event_id=event)
            with printing:
                say(f"{event} {reply.message_id} {value}")
            worker.wake()

    for number in range(3):
        threading.Thread(target=person, args=(number,), daemon=True).start()
    time.sleep(600)


def killed(folder: Path, toy_folder: Path, life: float) -> list[str]:
    """Runs a child for `life` seconds after its first rating, kills it; the ratings it promised."""
    command = [sys.executable, "-m", "tests.slow.test_kill", str(folder), str(toy_folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        timer = threading.Timer(START_SECONDS, process.kill)
        timer.start()
        try:
            first = process.stdout.readline()
            if not first:
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
    rng = random.Random(seed)
    promised: dict[str, str] = {}
    for kill in range(KILLS):
        # the same folder again after some kills: a start in the ruins is part of the test
        folder = disk_path / f"run{kill // 3}"
        if kill % 3 == 0:
            promised = {}
        acknowledged = killed(folder, toy_folder, rng.uniform(0, LONGEST_LIFE))
        assert acknowledged, f"seed {seed}"
        promised |= {line.split()[1]: line.split()[2] for line in acknowledged}

        toy.serve(toy.reference)
        store = Store(folder / "feedback.db")
        try:
            kept = {r.message_id: str(r.value) for r in store.feedback.ratings()}
            lost = {m: v for m, v in promised.items() if kept.get(m) != v}
            assert not lost, f"{len(lost)} of {len(promised)} ratings lost, seed {seed}"
            with store.connection.read() as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert db.execute("PRAGMA foreign_key_check").fetchall() == []
            for message in list(promised)[-20:]:
                assert store.messages.get(message).response_ids
            check_versions(
                store,
                TrainingWorker(store, toy, AdapterStore(folder / "adapters"), tiny_round_config()),
                seed,
            )
        finally:
            store.close()


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
    on_disk = {f.name for f in worker.versions.adapter_store.folder.iterdir()} - {
        "staging",
        "lost",
    }
    assert on_disk == known
    assert not any((worker.versions.adapter_store.folder / "staging").iterdir())
    assert not worker.status().error


if __name__ == "__main__":
    child(Path(sys.argv[1]), Path(sys.argv[2]))
