"""Eight hours of use, the clock moved by the test: a minute is one reply, one rating, looks at the
screens' data and a step of the worker; an hour ends with a round. Memory stays flat."""

from __future__ import annotations

import gc
import random
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.load import resident_mb
from rlhf_chat.chat.chat import Chat
from rlhf_chat.db import Store
from rlhf_chat.db.db_errors import backups_of
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.model import Model
from rlhf_chat.training import idle_tasks
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.versions.adapter_store import AdapterStore
from tests.integration.test_worker import rate
from tests.tiny_models import tiny_round_config

HOURS, MINUTES = 8, 60
WARM_UP = 2  # hours: caches of torch and of the app fill
GROWTH = 1.05


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_is_flat_over_eight_hours(disk_path: Path, toy: Model, monkeypatch) -> None:
    minutes = 0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 60 * minutes)
    monkeypatch.setattr(idle_tasks, "time", clock)
    store, measured = Store(disk_path / "feedback.db"), []
    chat = Chat(store, toy, Sampling(max_new_tokens=8))
    chat._rng = rng = random.Random(0)
    worker = TrainingWorker(
        store, toy, AdapterStore(disk_path / "adapters"), tiny_round_config(), needed=10**6, seed=1
    )
    try:
        rate(chat, 6)
        for _ in range(HOURS):
            for minute in range(MINUTES):
                conversation = chat.conversations.new()
                *_, reply = chat.reply(conversation, f"hello {minute}")
                assert reply.message_id
                chat.ratings.rate(reply.message_id, rng.choice((1, -1)), comment="a word")
                chat.conversations.history(conversation)
                chat.ratings.page("hello")
                chat.ratings.tally()
                if minute % 10 == 9:
                    chat.conversations.delete(conversation)
                worker.step()
                worker.status()
                minutes += 1
            rate(chat, 2)
            assert worker.run_round("asked") in ("promoted", "discarded")
            gc.collect()
            measured.append(round(resident_mb(), 1))
        assert len(backups_of(store.path)) == 1 and not store.integrity.damage
        wal = Path(f"{store.path}-wal").stat().st_size
    finally:
        worker.close()
        store.close()
    print("MB after each hour:", measured, "WAL", wal)
    assert measured[-1] <= GROWTH * measured[WARM_UP - 1], measured
    assert wal <= 16 << 20
