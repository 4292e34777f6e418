"""The whole app with a tiny model and its API, for the tests that talk to it over HTTP."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from rlhf_chat.api import token
from rlhf_chat.api.server import ApiServer
from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.compare import Compare
from rlhf_chat.chat.raters import Raters
from rlhf_chat.db import Store
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.model import Model
from rlhf_chat.training.context import RoundConfig
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui import app
from rlhf_chat.versions.adapter_store import AdapterStore
from tests.entered import base_of
from tests.tiny_models import tiny_round_config

NEVER = 10**6  # so many ratings never come: rounds start only when asked
TOKENS = 8


@dataclass
class Running:
    """An app that answers, and what it is made of."""

    url: str
    data: Path
    store: Store
    chat: Chat
    worker: TrainingWorker
    server: ApiServer
    http: httpx.Client

    @property
    def api(self) -> str:
        return f"{self.url}v1"

    @property
    def token(self) -> str:
        return token.read(self.data)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    """The client may have its answer before the server has put everything away."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


@contextmanager
def api_server(
    model: Model,
    data: Path,
    *,
    at_once: int = 16,
    config: RoundConfig | None = None,
    tokens: int = TOKENS,
) -> Iterator[Running]:
    """`config`: of a round; one of seconds if it is None. `tokens`: of a reply."""
    store = Store(data / "feedback.db")
    adapters, config = AdapterStore(data / "adapters"), config or tiny_round_config()
    worker = TrainingWorker(store, model, adapters, config, needed=NEVER, seed=1)
    worker.start()
    chat = Chat(
        store,
        model,
        Sampling(max_new_tokens=tokens),
        load_view=worker.versions.view,
        scorer=worker.scorer,
    )
    port = free_port()
    server = ApiServer(chat, worker, data, port, at_once=at_once)
    try:
        url = app.launch(
            chat,
            Compare(chat),
            Raters(store),
            worker,
            data_dir=data,
            port=port,
            prevent_thread_lock=True,
            api=server.app,
        )
        headers = {"Authorization": f"Bearer {token.read(data)}"}
        base = base_of(url)
        with httpx.Client(base_url=base, headers=headers, timeout=120) as http:
            yield Running(base, data, store, chat, worker, server, http)
    finally:
        app.close()
        server.close()
        worker.close()
        store.close()
