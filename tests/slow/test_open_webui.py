"""Open WebUI itself: started beside the app, it chats through the API, and a button of our function
(docs/open_webui_feedback.py) sends a thumb that arrives in the database. Skipped without it: set
OPEN_WEBUI to the program `open-webui`, in an environment of its own (`pip install open-webui`)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from rlhf_chat.inference.model import Model
from tests.api_server import Running, api_server, eventually, free_port
from tests.processes import end

FUNCTION = Path(__file__).parents[2] / "docs" / "open_webui_feedback.py"
HELLO = [{"role": "user", "content": "hello how are you"}]
START = 300  # seconds it may take; 30 on two quiet cores
QUIET = {"OFFLINE_MODE": "true", "HF_HUB_OFFLINE": "1", "ANONYMIZED_TELEMETRY": "false"}
QUIET |= {"SCARF_NO_ANALYTICS": "true", "DO_NOT_TRACK": "true", "ENABLE_OLLAMA_API": "false"}
QUIET |= {"RAG_EMBEDDING_ENGINE": "openai", "WEBUI_SECRET_KEY": "x" * 32}


@pytest.fixture(scope="module")
def app(_toy: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with api_server(_toy, tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture(scope="module")
def web(app: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Somebody who has entered; the first one there is its administrator."""
    program = os.environ.get("OPEN_WEBUI", "")
    if not Path(program).is_file():
        pytest.skip("OPEN_WEBUI names no program: pip install open-webui, elsewhere")
    with started(program, app, tmp_path_factory.mktemp("open-webui")) as url:
        with httpx.Client(base_url=url, timeout=120) as client:
            kim = {"name": "Kim", "email": "kim@localhost.example", "password": "x" * 16}
            entered = client.post("/api/v1/auths/signup", json=kim).raise_for_status().json()
            client.headers["Authorization"] = f"Bearer {entered['token']}"
            yield client


@contextmanager
def started(program: str, app: Running, folder: Path) -> Iterator[str]:
    port, log = free_port(), folder / "log"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | QUIET
    env |= {"DATA_DIR": str(folder / "data"), "OPENAI_API_KEY": app.token}
    with log.open("w") as file:
        process = subprocess.Popen(
            [program, "serve", "--host", "127.0.0.1", "--port", str(port)],
            env=env | {"OPENAI_API_BASE_URL": app.api},
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            return httpx.get(f"{url}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        eventually(answers, START)
        yield url
    finally:
        end(process, signal.SIGINT)


def test_it_chats_through_the_api_and_its_thumb_arrives(web, app):
    found = web.get("/api/models").raise_for_status().json()["data"]
    assert {"live", "base"} <= {one["id"] for one in found}
    asked = {"model": "live", "messages": HELLO, "stream": False}
    made = web.post("/api/chat/completions", json=asked).raise_for_status().json()
    text = made["choices"][0]["message"]["content"]
    newest = app.store.messages.newest_reply()
    assert newest and newest.content == text
    with web.stream("POST", "/api/chat/completions", json=asked | {"stream": True}) as answer:
        assert [line for line in answer.iter_lines()][-2:].count("data: [DONE]") == 1

    function: dict[str, Any] = {
        "id": "rlhf_chat",
        "name": "Rate",
        "meta": {"description": "thumbs"},
    }
    function |= {"content": FUNCTION.read_text()}
    added = web.post("/api/v1/functions/create", json=function).raise_for_status().json()
    assert added["type"] == "action"
    path = "/api/v1/functions/id/rlhf_chat"
    web.post(f"{path}/toggle").raise_for_status()
    web.post(f"{path}/toggle/global").raise_for_status()
    valves = {"url": app.api, "token": app.token}
    web.post(f"{path}/valves/update", json=valves).raise_for_status()
    [live] = [m for m in web.get("/api/models").json()["data"] if m["id"] == "live"]
    assert [one["name"] for one in live["actions"]] == ["Good reply", "Bad reply"]

    for button, value in zip(live["actions"], (1, -1), strict=True):
        talk = [*HELLO, {"role": "assistant", "content": text}]
        pressed = {"model": "live", "messages": talk, "chat_id": "local:1", "id": "1"}
        done = web.post(f"/api/chat/actions/{button['id']}", json=pressed | {"session_id": "1"})
        done.raise_for_status()
        assert app.chat.ratings.of(newest.id, "Kim").value == value
