"""A feedback.db of an older version opens, keeps its feedback and serves the same live version.

How the file was made is in tests/data/README.md.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rlhf_chat.db import Store
from rlhf_chat.db.codec import fetch, one_value
from rlhf_chat.db.schema import schema_version
from rlhf_chat.feedback.snapshot import take_snapshot
from rlhf_chat.inference.model import Model
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.versions.adapter_store import AdapterStore
from tests.tiny_models import tiny_round_config

OLD = Path(__file__).parent.parent / "data" / "feedback-48d4070.zip"
BASE, OTHER_BASE = "ede2aa90c5fca035", "00000000"  # hashes of the base models it was used with


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with zipfile.ZipFile(OLD) as archive:
        archive.extractall(tmp_path)
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with closing(Store(folder / "feedback.db")) as opened:
        yield opened


def test_it_is_upgraded_after_a_copy_was_made(store: Store, folder: Path) -> None:
    with store.connection.read() as db:
        assert one_value(db, "PRAGMA user_version") == schema_version()
        assert fetch(db, "PRAGMA foreign_key_check") == []
    assert len(list((folder / "backups").glob("*.db"))) == 1


def test_the_same_version_is_served(store, folder, toy: Model, monkeypatch) -> None:
    monkeypatch.setattr(toy, "base_hash", BASE)  # other releases of torch draw other weights
    worker = TrainingWorker(
        store, toy, AdapterStore(folder / "adapters"), config=tiny_round_config()
    )
    with closing(worker):
        worker.recover()
        assert not worker.status().error
        assert toy.live.version == store.adapter_versions.live() == 1
        assert [v.version for v in worker.versions.all()] == [0, 1, 2]


def test_each_base_keeps_its_live_version(store: Store) -> None:
    live = store.adapter_versions
    assert (live.base_in_use(), live.live(BASE), live.live(OTHER_BASE)) == (BASE, 1, 2)
    assert live.live("never used") == 0
    assert live.change_base(BASE, OTHER_BASE) == 2
    assert (live.base_in_use(), live.live(), live.live(BASE)) == (OTHER_BASE, 2, 1)


def test_rounds_say_whose_feedback_they_learned_from(store: Store) -> None:
    told = [(r.trigger, r.rater, r.status) for r in store.rounds.newest()]
    assert told == [
        ("retrain_without", "", "discarded"),
        ("ratings", "simulated:lists", "discarded"),
        ("asked", "", "promoted"),
        ("asked", "", "promoted"),
    ]
    assert store.rounds.simulated() == {3: "simulated:lists"}
    assert store.rounds.last_watermark() > 0


def test_metrics_have_their_new_names(store: Store) -> None:
    names = {name for _, name, _ in store.rounds.metrics(1)}
    assert {"bootstrap_gain", "bootstrap_gain_low", "bootstrap_win_rate"} <= names
    assert not any(name.startswith("judged") for name in names)


def test_feedback_and_settings_are_kept(store: Store) -> None:
    assert store.feedback.quarantined() == {"visitor"}
    assert sorted(item.rater for item in take_snapshot(store).items) == ["me"] * 8
    assert [told.kind for told in store.feedback.all("visitor")] == ["thumb"]
    assert store.settings.get("feature_weights")
    assert {told.kind for told in store.feedback.all()} == {
        "thumb",
        "stars",
        "comparison",
        "correction",
    }
