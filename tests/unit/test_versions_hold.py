"""What is served when versions cannot be read: another, in memory, until they can be read again."""

from __future__ import annotations

import errno
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from rlhf_chat.db import Store
from rlhf_chat.db.database_file import connect
from rlhf_chat.errors import AdapterError, AdapterUnavailable, Busy, DiskFull, Notice, failure
from rlhf_chat.inference.model import Model
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.versions import adapter_store as files
from rlhf_chat.versions import registry
from rlhf_chat.versions.adapter_store import MANIFEST, WEIGHTS, AdapterStore
from tests.tiny_models import tiny_round_config


def state_of(model: Model, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: value.shape for name, value in model.base_state().items()}
    return {name: torch.randn(s, generator=generator) * 0.2 for name, s in shapes.items()}


@pytest.fixture
def adapters(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "adapters")


@pytest.fixture
def worker(store: Store, toy: Model, adapters: AdapterStore, monkeypatch) -> TrainingWorker:
    """With v1 and v2, the second one live."""
    monkeypatch.setattr(registry, "RETRY_SECONDS", 0.0)
    made = TrainingWorker(store, toy, adapters, tiny_round_config(), needed=10**9)
    for version in (1, 2):
        round_id = store.rounds.open(
            trigger="asked", parent_version=version - 1, seed=0, watermark=0, config={},
            snapshot_hash="",
        )  # fmt: skip
        made.versions.publish(
            state_of(toy, version), round_id=round_id, parent=version - 1, instead_of=version - 1,
            tier="passed", kl=0.0, reason="", verdict={}, about={},
        )  # fmt: skip
    assert toy.live.version == 2
    return made


def restart(worker: TrainingWorker, toy: Model) -> None:
    toy.serve(toy.reference)
    worker.recover()


def step(worker: TrainingWorker, monkeypatch) -> None:
    monkeypatch.setattr(worker.idle_tasks, "prepare_reward_model", lambda check: None)
    worker.step()


@pytest.mark.parametrize("gone", ["", "v0002", f"v0002/{WEIGHTS}", f"v0002/{MANIFEST}"])
def test_what_is_missing_is_replaced_in_memory_and_returns_by_itself(
    worker, store, toy, adapters, tmp_path, monkeypatch, gone
):
    place, aside = adapters.folder / gone, tmp_path / "aside"
    shutil.move(place, aside)
    restart(worker, toy)
    assert toy.live.version == (0 if gone == "" else 1)
    assert store.adapter_versions.live() == 2  # nothing proves that it is lost
    assert "Version 2" in str(worker.status().error)
    step(worker, monkeypatch)
    assert toy.live.version != 2
    shutil.rmtree(place, ignore_errors=True)
    shutil.move(aside, place)
    step(worker, monkeypatch)
    assert toy.live.version == 2 and worker.status().error is None


def test_an_error_of_the_disk_is_no_damage(worker, store, toy, monkeypatch):
    def broken(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(files, "_sha256", broken)
        restart(worker, toy)
        assert (toy.live.version, store.adapter_versions.live()) == (0, 2)
    step(worker, monkeypatch)
    assert toy.live.version == 2


def test_a_slow_disk_delays_nothing_for_long(worker, store, toy, adapters, monkeypatch):
    go, real = threading.Event(), AdapterStore.load

    def slow(*arguments):
        go.wait(30)
        return real(*arguments)

    monkeypatch.setattr(registry, "PATIENCE", 0.1)
    monkeypatch.setattr(AdapterStore, "load", slow)
    began = time.monotonic()
    restart(worker, toy)
    assert time.monotonic() - began < 5
    assert (toy.live.version, store.adapter_versions.live()) == (0, 2)
    assert "slow" in str(worker.status().error)
    step(worker, monkeypatch)  # still slow
    assert toy.live.version == 0
    go.set()
    deadline = time.monotonic() + 10
    while toy.live.version != 2 and time.monotonic() < deadline:
        step(worker, monkeypatch)
        time.sleep(0.02)
    assert toy.live.version == 2 and worker.status().error is None


def test_only_proof_of_damage_moves_the_pointer(worker, store, toy, adapters):
    weights = adapters.path(2) / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    restart(worker, toy)
    assert toy.live.version == store.adapter_versions.live() == 1


def test_the_pointer_stays_where_what_follows_is_damaged_but_it_is_only_missing(
    worker, store, toy, adapters, tmp_path
):
    weights = adapters.path(1) / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    shutil.move(adapters.path(2), tmp_path / "aside")
    restart(worker, toy)
    assert (toy.live.version, store.adapter_versions.live()) == (0, 2)


# ---- links and what is gone ---------------------------------------------------------------------


def test_what_a_link_points_to_is_neither_read_nor_removed(adapters, toy, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "keep").mkdir(parents=True)
    (elsewhere / "v0009").mkdir()
    adapters.folder.mkdir(exist_ok=True)
    (adapters.folder / "staging").symlink_to(elsewhere)
    (adapters.folder / "v0009").symlink_to(elsewhere / "v0009")
    (adapters.folder / "lost").symlink_to(elsewhere)
    adapters.collect_garbage(set(), {9})
    adapters.remove(9)
    adapters.publish(1, state_of(toy, 1), toy.adapter_config(), {})
    (adapters.folder / "v0007").mkdir()
    adapters.collect_garbage({1})
    assert sorted(p.name for p in elsewhere.iterdir()) == ["keep", "v0009"]
    assert not (adapters.folder / "staging").is_symlink()
    adapters.path(1).rename(elsewhere / "v0001")
    adapters.path(1).symlink_to(elsewhere / "v0001")
    with pytest.raises(AdapterUnavailable, match="link"):
        adapters.load(1)


def test_a_linked_folder_of_versions_is_not_written_to(tmp_path, toy):
    (tmp_path / "real").mkdir()
    (tmp_path / "adapters").symlink_to(tmp_path / "real")
    linked = AdapterStore(tmp_path / "adapters")
    linked.collect_garbage(set())
    with pytest.raises(AdapterError, match="link"):
        linked.publish(1, state_of(toy, 1), toy.adapter_config(), {})
    assert not any((tmp_path / "real").iterdir())


def test_a_database_and_backups_that_are_links_are_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "feedback.db").symlink_to(tmp_path / "elsewhere" / "feedback.db")
    with pytest.raises(Exception, match="link"):
        Store(tmp_path / "data" / "feedback.db")
    assert not any((tmp_path / "elsewhere").iterdir())
    (tmp_path / "data" / "backups").symlink_to(tmp_path / "elsewhere")
    with closing(Store(tmp_path / "data" / "other.db")) as store:
        store.conversations.add()
        with pytest.raises(Exception, match="link"):
            store.back_up()
    assert not any((tmp_path / "elsewhere").iterdir())


def test_the_staging_folder_is_made_again(adapters, toy):
    adapters.publish(1, state_of(toy, 1), toy.adapter_config(), {})
    shutil.rmtree(adapters.folder / "staging")
    adapters.publish(2, state_of(toy, 2), toy.adapter_config(), {})
    shutil.rmtree(adapters.folder)
    adapters.collect_garbage({1, 2})
    adapters.publish(3, state_of(toy, 3), toy.adapter_config(), {})
    assert adapters.load(3)


# ---- causes ------------------------------------------------------------------------------------


FULL = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), FULL])
def test_a_full_disk_is_named_and_leaves_nothing_behind(adapters, toy, monkeypatch, error):
    def full(*_: object) -> None:
        raise error

    adapters.publish(1, state_of(toy, 1), toy.adapter_config(), {})
    for name in ("save_file", "fsync"):
        with monkeypatch.context() as disk:
            disk.setattr(files, name, full)
            with pytest.raises(DiskFull, match="full"):
                adapters.publish(2, state_of(toy, 2), toy.adapter_config(), {})
        assert not any((adapters.folder / "staging").iterdir()) and not adapters.path(2).exists()
    adapters.publish(2, state_of(toy, 2), toy.adapter_config(), {})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "common.out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "common.out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "common.out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "common.disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "common.disk_full"),
        (FULL, "common.disk_full"),
        (ValueError("something else"), None),
    ],
)
def test_lack_of_memory_and_of_space_have_their_own_sentence(error, code):
    assert failure(error) == (Notice(code) if code else None)


# ---- a foreign lock ------------------------------------------------------------------------------


def test_a_foreign_lock_is_told_to_every_click_at_once(store: Store):
    chat = store.conversations.add()

    def ask(_: int) -> float:
        began = time.monotonic()
        with pytest.raises(Busy):
            store.conversations.rename(chat, "x")
        return time.monotonic() - began

    with closing(connect(store.path, "rw")) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(8) as people:
            waits = list(people.map(ask, range(24)))
        assert max(waits) < 2.0  # eight at a time: nobody stands behind the wait of another
        other.execute("ROLLBACK")
    store.conversations.rename(chat, "y")
    assert store.conversations.get(chat).title == "y"


def test_a_round_waits_out_a_foreign_lock(store: Store):
    chat = store.conversations.add()
    with closing(connect(store.path, "rw")) as other, ThreadPoolExecutor(1) as trainer:
        other.execute("BEGIN IMMEDIATE")

        def patient() -> None:
            with store.patient(30):
                store.conversations.rename(chat, "kept")

        waiting = trainer.submit(patient)
        time.sleep(1.0)
        assert not waiting.done()
        other.execute("ROLLBACK")
        waiting.result(20)
    assert store.conversations.get(chat).title == "kept"


def test_a_file_where_the_folder_of_versions_belongs(store, toy, tmp_path):
    place = tmp_path / "adapters"
    place.write_text("not a folder")
    made = TrainingWorker(store, toy, AdapterStore(place), tiny_round_config(), needed=10**9)
    made.recover()
    assert toy.live.version == 0 and place.read_text() == "not a folder"
    with pytest.raises(AdapterError, match=str(place)):
        AdapterStore(place).publish(1, state_of(toy, 1), {}, {})
    assert place.read_text() == "not a folder"
