"""The program `llm` against the API, in an environment of its own, as docs/api.md configures it. It
is installed from the package index: skipped where that cannot be reached."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api_server import api_server

LLM = "llm==0.36"


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llm")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    ended = subprocess.run(
        [folder / "bin" / "pip", "install", "-q", LLM], capture_output=True, text=True
    )
    if ended.returncode:
        pytest.skip(f"llm cannot be installed: {ended.stderr.strip()[-200:]}")
    return folder / "bin" / "llm"


def test_llm_chats_streams_and_its_reply_can_be_rated(llm, toy, tmp_path):
    with api_server(toy, tmp_path / "data") as app:
        user = tmp_path / "llm"
        user.mkdir()
        (user / "extra-openai-models.yaml").write_text(
            "- model_id: rlhf-chat\n  model_name: live\n"
            f'  api_base: "{app.api}"\n  api_key_name: rlhf-chat\n'
        )

        def run(*arguments: str) -> str:
            return subprocess.run(
                [llm, *arguments],
                env=os.environ | {"LLM_USER_PATH": str(user)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=True,
                timeout=300,
            ).stdout

        run("keys", "set", "rlhf-chat", "--value", app.token)
        streamed = run("-m", "rlhf-chat", "hello how", "-o", "temperature", "0")
        whole = run("-m", "rlhf-chat", "hello how", "-o", "temperature", "0", "--no-stream")
        assert streamed.strip() == whole.strip() != ""
        newest = app.store.messages.newest_reply()
        assert newest and newest.content.strip() == whole.strip()
        answer = app.http.post("/v1/feedback", json={"response_id": "last", "thumb": "up"})
        assert answer.json()["response_id"] == newest.id
        run("-c", "thank you", "-m", "rlhf-chat")  # goes on in the same chat
        after = app.store.messages.newest_reply()
        assert after and newest.id in [m.id for m in app.store.messages.path_to(after.id)]
