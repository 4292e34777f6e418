"""Page after page, the memory of the app stays what it was."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from bench.load import resident_mb
from rlhf_chat.ui import app
from tests.fake_app import ToyChat, parts
from tests.integration.test_ui import Tab, free_port

LOADS = 300
ALLOWED = 12.0  # MB in 200 loads; without an end of sessions it was 0.38 for each of them


@pytest.fixture
def served(tmp_path):
    yield app.launch(
        *parts(ToyChat()), port=free_port(), prevent_thread_lock=True, data_dir=tmp_path
    )
    app.close()


def load(url):
    """As a browser does it: the page, and what it asks for at once."""
    tab = Tab(url)
    with tab.http:
        assert tab.http.get("/").status_code == 200
        for number, fn in app._running.fns.items():
            if fn.name == "refresh" and not fn.inputs:
                body = {"fn_index": number, "session_hash": tab.session, "data": []}
                answer = tab.http.post("gradio_api/run/predict", json=body)
                assert answer.status_code == 200


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_is_flat_over_many_page_loads(served):
    measured = []
    for number in range(1, LOADS + 1):
        load(served)
        if number % 100 == 0:
            gc.collect()
            measured.append(resident_mb())
    assert measured[-1] - measured[0] < ALLOWED, measured
    sessions = app._running.state_holder.session_data
    assert 0 < len(sessions) <= app.SESSIONS
