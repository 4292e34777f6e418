"""How long a person waits: for a version to be taken back, for the model after Stop or after an API
client left, and for a first word beside a round. Another program may make these fail."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import httpx
import pytest

from rlhf_chat.chat.chat import Chat
from rlhf_chat.db import Store
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.model import Model
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.versions.adapter_store import AdapterStore
from tests.api_server import api_server
from tests.integration.test_worker import rate, shelved
from tests.tiny_models import tiny_round_config

REPLIES = 400  # first words beside rounds
NEVER = 10**6


@pytest.fixture
def chat(store: Store, toy: Model) -> Chat:
    chat = Chat(store, toy, Sampling(max_new_tokens=60))
    chat._rng = random.Random(0)
    return chat


@pytest.fixture
def worker(store: Store, toy: Model, tmp_path: Path):
    made = TrainingWorker(
        store, toy, AdapterStore(tmp_path / "adapters"), tiny_round_config(), needed=NEVER, seed=1
    )
    yield made
    made.close()


def until(condition: Callable[[], bool], seconds: float = 60) -> float:
    began = time.perf_counter()
    while not condition():
        assert time.perf_counter() - began < seconds
        time.sleep(0.001)
    return time.perf_counter() - began


def told(name: str, took: list[float]) -> None:
    ordered = sorted(took)
    p95 = ordered[int(0.95 * len(ordered))]
    most = ordered[-1]
    print(f"{name}: {len(took)} times, p50 {median(took):.3f} s, p95 {p95:.3f}, most {most:.3f}")


def test_going_back_takes_less_than_two_seconds(worker, toy, store):
    took = []
    for version in range(1, 21):
        shelved(worker, toy, version)
        worker.versions.make_live(version)
        began = time.perf_counter()
        worker.versions.roll_back()
        took.append(time.perf_counter() - began)
        assert toy.live.version == store.adapter_versions.live() != version
    told("going back", took)
    assert max(took) < 2


def test_stop_frees_the_model_within_a_second(chat, toy):
    took = []
    for turn in range(30):
        stop = threading.Event()
        stream = chat.reply(chat.conversations.new(), f"hello {turn}", stop=stop)
        reading = threading.Thread(target=lambda stream=stream: list(stream))
        for _ in range(3):
            next(stream)
        reading.start()
        stop.set()
        took.append(until(lambda: not toy.lease.chat_is_waiting))
        reading.join()
        with toy.lease.slice():
            pass
    told("free after Stop", took)
    assert max(took) < 1


def test_a_client_that_leaves_frees_the_model_within_a_second(toy, tmp_path):
    took = []
    with api_server(toy, tmp_path) as app:
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 250}
        for _ in range(20):
            with app.http.stream(
                "POST", "/v1/chat/completions", json=body | {"stream": True}
            ) as answer:
                next(answer.iter_lines())
            took.append(until(lambda: not toy.lease.chat_is_waiting))
        for _ in range(5):
            with pytest.raises(httpx.TimeoutException):
                app.http.post("/v1/chat/completions", json=body, timeout=0.05)
            took.append(until(lambda: not toy.lease.chat_is_waiting))
    told("free after a client left", took)
    assert max(took) < 1


def test_a_first_word_waits_for_one_step_of_a_round_at_most(chat, toy, worker, store):
    """Counted only where a round ran when the person asked; beside it, the same without a round."""
    rate(chat, 6)
    chat.settings.sampling = Sampling(max_new_tokens=3)

    def first_word() -> float:
        conversation = chat.conversations.new()
        began = time.perf_counter()
        stream = chat.reply(conversation, "hello how are you")
        next(stream)
        took = time.perf_counter() - began
        list(stream)
        return took

    alone = [first_word() for _ in range(50)]
    worker.start()
    toy.lease.longest_slice = 0.0
    beside: list[float] = []
    pause = random.Random(2)
    while len(beside) < REPLIES:
        if worker.status().round_id is None:
            worker.train_now()
            until(lambda: worker.status().round_id is not None)
        time.sleep(pause.uniform(0, 0.05))
        if worker.status().round_id is not None:
            beside.append(first_word())
    told("first word alone", alone)
    told("first word beside a round", beside)
    slice_ = toy.lease.longest_slice
    print(f"longest step of a round {slice_:.3f} s, {len(store.rounds.newest(1000))} rounds")
    assert max(beside) < slice_ + max(alone) + 0.25, (max(beside), slice_, max(alone))
