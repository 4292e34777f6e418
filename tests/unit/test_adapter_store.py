"""The shelf: a version is whole, verified and never overwritten, and PEFT itself can read it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from rlhf_chat.db import Store
from rlhf_chat.inference.model import Model, ModelError
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.versions.adapter_store import CONFIG, MANIFEST, WEIGHTS, AdapterError, AdapterStore


@pytest.fixture
def adapter_store(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "adapters")


def state_of(model: Model, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(value.shape, generator=generator) * 0.2
        for name, value in model.base_state().items()
    }


def publish(
    adapter_store: AdapterStore, model: Model, version: int = 1, **changed: torch.Tensor
) -> str:
    manifest = {"parent": version - 1, "base_hash": model.base_hash}
    state = state_of(model, version) | changed
    folder, manifest_hash = adapter_store.publish(version, state, model.adapter_config(), manifest)
    assert folder == adapter_store.path(version)
    return manifest_hash


def refused(action: Callable[[], object], *words: str) -> None:
    with pytest.raises((AdapterError, ModelError)) as error:
        action()
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 200
    assert all(word in text for word in words), text


# ---------------------------------------------------------------------- whole


def test_what_is_published_comes_back_bit_for_bit(adapter_store, toy):
    manifest_hash = publish(adapter_store, toy)
    expected = state_of(toy, 1)
    loaded = adapter_store.load(1, manifest_hash)
    assert set(loaded) == set(expected)
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    told = adapter_store.manifest(1)
    assert (told["version"], told["parent"], told["base_hash"]) == (1, 0, toy.base_hash)
    assert set(told["sha256"]) == {WEIGHTS, CONFIG}
    assert sorted(f.name for f in adapter_store.path(1).iterdir()) == sorted(
        [WEIGHTS, CONFIG, MANIFEST]
    )
    assert not any((adapter_store.folder / "staging").iterdir())


def test_peft_itself_reads_it_and_says_the_same(adapter_store, toy, toy_folder):
    publish(adapter_store, toy)
    view = toy.make_view(1, adapter_store.load(1))
    ids = torch.tensor([toy.encode([{"role": "user", "content": "tell me about the sea"}])])
    base = AutoModelForCausalLM.from_pretrained(toy_folder, dtype=torch.float32)
    with torch.no_grad():
        bare = base(input_ids=ids).logits
        theirs = (
            PeftModel.from_pretrained(base, str(adapter_store.path(1))).eval()(input_ids=ids).logits
        )
        with toy.lease.turn():
            ours = view.tree(input_ids=ids).logits
    assert torch.allclose(ours, theirs, atol=1e-4)  # a folded tree rounds otherwise
    assert not torch.allclose(bare, theirs)


def test_peft_merges_it_into_a_model_that_stands_alone(adapter_store, toy, toy_folder, tmp_path):
    publish(adapter_store, toy)
    base = AutoModelForCausalLM.from_pretrained(toy_folder, dtype=torch.float32)
    with_adapter = PeftModel.from_pretrained(base, str(adapter_store.path(1))).eval()
    ids = torch.tensor([toy.encode([{"role": "user", "content": "tell me about the sea"}])])
    with torch.no_grad():
        expected = with_adapter(input_ids=ids).logits
        with_adapter.merge_and_unload().save_pretrained(tmp_path)
        alone = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
        assert torch.allclose(alone(input_ids=ids).logits, expected, atol=1e-4)


def test_a_version_is_never_overwritten(adapter_store, toy):
    first = publish(adapter_store, toy)
    before = {f.name: f.read_bytes() for f in adapter_store.path(1).iterdir()}
    refused(lambda: publish(adapter_store, toy), "Version 1", "never overwritten")
    assert {f.name: f.read_bytes() for f in adapter_store.path(1).iterdir()} == before
    assert adapter_store.load(1, first)


def test_a_version_is_published_where_only_writers_may_sync_a_file(adapter_store, toy, monkeypatch):
    """As on Windows, whose flush refuses a handle that cannot write."""
    for_reading: dict[int, bool] = {}
    real_open, real_sync = os.open, os.fsync

    def opened(path, flags, *rest, **named) -> int:
        handle = real_open(path, flags, *rest, **named)
        for_reading[handle] = not flags & (os.O_RDWR | os.O_WRONLY)
        return handle

    def sync(handle: int) -> None:
        if for_reading[handle] and stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        real_sync(handle)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", sync)
    assert adapter_store.load(1, publish(adapter_store, toy)) and for_reading


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_not_published(adapter_store, toy, number):
    name = next(iter(toy.base_state()))
    bad = torch.full(toy.base_state()[name].shape, number)
    weights: dict[str, Any] = {name: bad}
    refused(lambda: publish(adapter_store, toy, **weights), "not finite")
    assert not adapter_store.path(1).exists()


def test_sweep_keeps_what_is_known_and_removes_what_was_deleted(adapter_store, toy):
    for version in (1, 2, 3):
        publish(adapter_store, toy, version)
    half = adapter_store.folder / "staging" / "half"
    half.mkdir(parents=True, exist_ok=True)
    (half / WEIGHTS).write_bytes(b"half")
    (adapter_store.folder / "notes").mkdir()  # not ours: stays
    adapter_store.collect_garbage({0, 1, 3}, {2, 3})
    left = sorted(f.name for f in adapter_store.folder.iterdir())
    assert left == ["notes", "staging", "v0001", "v0003"]
    assert not any((adapter_store.folder / "staging").iterdir())
    adapter_store.collect_garbage({0, 1, 3}, {2, 3})


def test_a_version_nobody_knows_is_put_aside_whole_and_its_number_is_free(
    adapter_store, toy, caplog
):
    for _ in range(2):
        publish(adapter_store, toy, 3)
        before = {f.name: f.read_bytes() for f in adapter_store.path(3).iterdir()}
        adapter_store.collect_garbage({0})
        assert not adapter_store.path(3).exists()
    lost = list((adapter_store.folder / "lost").iterdir())
    assert len(lost) == 2 and all(f.name.startswith("v0003-") for f in lost)
    assert all({f.name: f.read_bytes() for f in folder.iterdir()} == before for folder in lost)
    assert len(caplog.messages) == 2 and all(f.name in caplog.text for f in lost)
    adapter_store.collect_garbage({0})
    assert sorted((adapter_store.folder / "lost").iterdir()) == sorted(lost)


# ---------------------------------------------------------------------- damaged


def truncate(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])


def flip(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[-7] ^= 1  # in a weight, safetensors alone would not notice
    (folder / name).write_bytes(bytes(data))


def remove(folder: Path, name: str) -> None:
    (folder / name).unlink()


def empty(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")


def turn_into_a_folder(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, MANIFEST])
@pytest.mark.parametrize("damage", [truncate, flip, remove, empty, turn_into_a_folder])
@pytest.mark.parametrize("with_hash", [True, False])
def test_damage_is_refused_in_one_sentence(adapter_store, toy, name, damage, with_hash):
    manifest_hash = publish(adapter_store, toy)
    damage(adapter_store.path(1), name)
    if (damage, name, with_hash) == (flip, MANIFEST, False):
        pytest.skip("one bit of a manifest shows only against the hash in the database")
    refused(lambda: adapter_store.load(1, manifest_hash if with_hash else None), "Version 1")


def test_a_missing_version_is_refused(adapter_store):
    refused(lambda: adapter_store.load(7), "Version 7")
    refused(lambda: adapter_store.load(7, "hash"), "Version 7")
    refused(lambda: adapter_store.manifest(7), "Version 7")


def test_a_changed_manifest_is_refused(adapter_store, toy):
    """Weights swapped together with their hashes: the database knows better."""
    manifest_hash = publish(adapter_store, toy)
    publish(adapter_store, toy, 2)
    shutil.rmtree(adapter_store.path(1))
    shutil.copytree(adapter_store.path(2), adapter_store.path(1))
    refused(lambda: adapter_store.load(1, manifest_hash), "changed on disk")


def rewrite(adapter_store: AdapterStore, version: int, state: dict[str, torch.Tensor]) -> None:
    """Other weights with a manifest that agrees with them."""
    folder = adapter_store.path(version)
    save_file(state, folder / WEIGHTS)
    told = json.loads((folder / MANIFEST).read_text())
    told["sha256"][WEIGHTS] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(told))


def test_a_nan_on_disk_is_refused(adapter_store, toy):
    publish(adapter_store, toy)
    state = load_file(adapter_store.path(1) / WEIGHTS)
    next(iter(state.values()))[0, 0] = torch.nan
    rewrite(adapter_store, 1, state)
    refused(lambda: adapter_store.load(1), "not finite")


@pytest.mark.parametrize("what", ["shape", "missing", "extra", "base"])
def test_what_does_not_fit_the_model_is_never_served(what, adapter_store, toy, store: Store):
    publish(adapter_store, toy)
    state = dict(adapter_store.load(1))
    name = next(iter(state))
    if what == "shape":
        state[name] = state[name][:-1].clone()
    elif what == "missing":
        del state[name]
    elif what == "extra":
        state["one.more.lora_A.weight"] = torch.zeros(2, 2)
    shutil.rmtree(adapter_store.path(1))
    base_hash = "another" if what == "base" else toy.base_hash
    _, manifest_hash = adapter_store.publish(
        1, state, toy.adapter_config(), {"base_hash": base_hash}
    )
    round_id = store.rounds.open(
        trigger="asked", parent_version=0, seed=0, watermark=0, config={}, snapshot_hash=""
    )
    store.adapter_versions.promote(
        version=1,
        parent=0,
        round_id=round_id,
        tier="passed",
        folder="v0001",
        manifest_hash=manifest_hash,
        kl=1.0,
        reason="a test",
        verdict={},
    )
    worker = TrainingWorker(store, toy, adapter_store)
    refused(lambda: worker.versions.view(1))
    refused(lambda: worker.versions.make_live(1))
    worker.recover()
    assert toy.live.version == 0 and store.adapter_versions.live() == 0
    policy = toy.policy_state()
    refused(lambda: toy.set_policy(state) if what != "base" else worker.versions.view(1))
    assert all(torch.equal(policy[k], v) for k, v in toy.policy_state().items())


def test_an_adapter_too_large_to_be_one_is_refused(adapter_store, toy, monkeypatch):
    publish(adapter_store, toy)
    monkeypatch.setattr("rlhf_chat.versions.adapter_store.MAX_BYTES", 1000)
    refused(lambda: adapter_store.load(1), "too large")
