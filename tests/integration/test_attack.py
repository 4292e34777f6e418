"""The battery of tests/attack.py against the window with a toy in it: every attack is held, and a
door that stands open is noticed."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest

from rlhf_chat.ui import app, connections
from rlhf_chat.ui.entry import Entry
from tests import attack
from tests.fake_app import ToyChat, parts


def launched(data_dir, **more) -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    entry = Entry(port, **more)
    toy = parts(ToyChat(word_seconds=0))
    return app.launch(*toy, port=port, entry=entry, prevent_thread_lock=True, data_dir=data_dir)


@pytest.fixture
def url(tmp_path, monkeypatch) -> Iterator[httpx.URL]:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)
    yield httpx.URL(launched(tmp_path))
    app.close()


def test_every_attack_is_held(url, capfd, caplog):
    target = attack.Target(url.port, url.params["token"])
    try:
        succeeded = attack.run(target)
    finally:
        target.close()
    told = "".join(capfd.readouterr())
    assert succeeded == [], told
    assert told.count("held") == len(attack.ATTACKS)
    assert "Traceback" not in told and not [r for r in caplog.records if r.exc_info]


def test_an_app_without_its_token_is_told_from_one_with_it(tmp_path, capsys):
    url = httpx.URL(launched(tmp_path, required=False))
    target = attack.Target(url.port)
    try:
        assert attack.run(target, (attack.no_token, attack.dns_rebinding)) == ["no token"]
    finally:
        target.close()
        app.close()
    assert "FAILED  no token" in capsys.readouterr().out
