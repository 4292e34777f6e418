"""Versions exported for other programs: each form is loaded back by what it is for, and computes what
the merged weights say. Tiny random models, adapters with random weights that are not zero."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_chat.db import Store
from rlhf_chat.errors import AppError, DiskFull, ExportError
from rlhf_chat.inference.model import Model
from rlhf_chat.version_export import exporter, staging
from rlhf_chat.version_export.exporter import Request, export
from rlhf_chat.version_export.merge_gap import logprobs
from rlhf_chat.versions.adapter_store import AdapterStore
from rlhf_chat.versions.registry import VersionRegistry

PROMPT, REPLY = [5, 6, 7, 40, 41], [60, 61, 62, 63]


def publish(data: Path, model: Model, size: float = 0.3) -> int:
    """A version as training would leave it, with random LoRA weights."""
    store = Store(data / "feedback.db")
    versions = VersionRegistry(store, model, AdapterStore(data / "adapters"))
    versions.serve_live()
    generator = torch.Generator().manual_seed(1)
    state = {
        name: torch.randn(tensor.shape, generator=generator) * size if "lora_B" in name else tensor
        for name, tensor in model.base_state().items()
    }
    round_id = store.rounds.open(
        trigger="by hand",
        parent_version=0,
        seed=1,
        watermark=store.feedback.count(),
        config={},
        snapshot_hash="x",
    )
    versions.publish(
        state,
        round_id=round_id,
        parent=store.adapter_versions.live(),
        instead_of=store.adapter_versions.live(),
        tier="provisional",
        kl=0.25,
        reason="",
        verdict={},
        about={},
    )
    live = store.adapter_versions.live()
    store.close()
    return live


def served_logprobs(data: Path, model: Model) -> torch.Tensor:
    """What the app computes for the live version."""
    with torch.no_grad(), model.lease.slice():
        state = AdapterStore(data / "adapters").load(1)
        model.set_policy(state)
        return logprobs(model.policy.tree, PROMPT, REPLY)


def of(tree: Any) -> torch.Tensor:
    with torch.no_grad():
        return logprobs(tree.eval().float(), PROMPT, REPLY)


@pytest.fixture(params=["nf4", "none"])
def trained(request: pytest.FixtureRequest, toy_folder: Path, tmp_path: Path) -> tuple[Path, Model]:
    """A data folder with a version of the toy."""
    model = Model.load(str(toy_folder), quantization=request.param)
    publish(tmp_path / "data", model)
    return tmp_path / "data", model


def test_a_merged_folder_computes_what_is_served(trained, tmp_path):
    data, model = trained
    made = export(data, Request(form="merged", out=tmp_path / "out"))
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.allclose(of(again), served_logprobs(data, model), atol=0.03)  # bfloat16
    assert made.gap and made.gap.kl < 1e-3 and made.gap.same_next > 0.9
    words = AutoTokenizer.from_pretrained(tmp_path / "out")
    talk = [{"role": "user", "content": "hello"}]
    assert list(words.apply_chat_template(talk, add_generation_prompt=True)["input_ids"]) == (
        model.encode(talk)
    )


def test_the_adapter_loads_in_peft_and_computes_what_is_served(trained, toy_folder, tmp_path):
    data, model = trained
    export(data, Request(form="peft", out=tmp_path / "out"))
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(toy_folder)
    if model.quantization == "none":
        base = AutoModelForCausalLM.from_pretrained(config["base_model_name_or_path"])
        adapted = PeftModel.from_pretrained(base, tmp_path / "out")
        assert torch.allclose(of(adapted), served_logprobs(data, model), atol=1e-4)


@pytest.mark.parametrize(("kind", "kl"), [("f16", 1e-4), ("q8_0", 1e-2), ("q4_0", 2.0)])
def test_a_gguf_file_computes_what_is_served(trained, tmp_path, kind, kl):
    data, model = trained
    made = export(data, Request(form="gguf", kind=kind, base="trained", out=tmp_path / "out"))
    assert made.gap and made.gap.kl < kl
    [file] = (tmp_path / "out" / "rlhf-chat").glob("*/*.gguf")
    again = Model.load(str(file), quantization="none", device="cpu")
    close = {"f16": 0.01, "q8_0": 0.3, "q4_0": 5.0}[kind]
    expected = served_logprobs(data, model)
    assert (of(again.reference.tree) - expected).abs().max() < close
    talk = [{"role": "user", "content": "hello how are you"}]
    assert again.encode(talk) == model.encode(talk)
    assert again.end_ids == model.end_ids
