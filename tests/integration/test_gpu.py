"""The measurements of a graphics card run, on a toy and a CPU: they are right where they count
something, and they leave a whole record. Left out: a card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit

from bench import decode as decode_bench
from bench import gpu, random_weights
from rlhf_chat.inference.model import Model
from rlhf_chat.inference.self_test import self_test
from tests.unit.test_model import random_state


@pytest.fixture(scope="module")
def made() -> Model:
    return random_weights.make("toy", random_weights.toy(), torch.device("cpu"))


def test_a_model_made_of_nothing_is_a_real_one(made: Model) -> None:
    self_test(made)
    linears = [m for m in made.reference.tree.modules() if isinstance(m, Linear4bit)]
    assert len(linears) == 2 * 7 and all(p.device.type == "cpu" for p in linears[0].parameters())
    tree = made.reference.tree
    assert tree.get_output_embeddings().weight is tree.get_input_embeddings().weight
    assert all(bool(torch.isfinite(b).all()) for b in tree.buffers())


def test_every_measurement_is_in_the_record(tmp_path: Path) -> None:
    gpu.main(["--caps", "6", "--json", str(tmp_path / "out.json")])
    told = json.loads((tmp_path / "out.json").read_text())
    (record,) = told["models"]
    assert "CPU" in told["card"] and record["self_test"] == "passed"
    assert record["twins"] == {"replies": 3, "wrong_replies": 0, "wrong_gradients": 0}
    assert [d["rows"] for d in record["decode"]] == [1, 16]
    assert all(d["ratio"] > 0 for d in record["decode"])
    assert record["first_token"]["round"]["p95"] > 0 and record["first_token"]["longest_slice"] > 0
    assert record["update_seconds"]["all"] > record["update_seconds"]["update"] > 0
    assert record["caps"][0]["fits"] and record["caps"][0]["predicted"]["total"] > 0


def test_twins_that_go_wrong_are_counted(made: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    made.serve(made.make_view(1, random_state(made, size=0.5)))
    right = made.live
    assert gpu.twins(made, 2)["wrong_replies"] == 0
    other = made.make_view(2, random_state(made, seed=9, size=2.0))
    real, asked = made.stream, []

    def stream(view, prompts, sampling, *, seed):
        asked.append(1)
        return real(other if len(asked) > 1 else right, prompts, sampling, seed=seed)

    monkeypatch.setattr(made, "stream", stream)
    assert gpu.twins(made, 2)["wrong_replies"] == 2


def test_both_sides_write_as_much(made: Model) -> None:
    ends = made.end_ids
    told = decode_bench.measure(decode_bench.ready(made), 3, 5, 1)
    assert told["ours"] > 0 and told["generate"] > 0 and made.end_ids == ends
    assert told["ratio"] == pytest.approx(told["ours"] / told["generate"])
