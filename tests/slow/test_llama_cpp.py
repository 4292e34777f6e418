"""Exported GGUF files in llama.cpp, token by token, through node-llama-cpp. Skipped without it: set
NODE_LLAMA_CPP to a folder where `npm install --ignore-scripts node-llama-cpp` was run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import SmolLM3Config

from bench import llama_cpp
from rlhf_chat.inference import loading, presets, pull
from rlhf_chat.inference.model import Model
from rlhf_chat.version_export import gguf_file, merge_gap
from rlhf_chat.version_export.exporter import Request, export
from rlhf_chat.version_export.merge_gap import PROMPTS, TOKENS
from tests.exported_versions import publish
from tests.families import FAMILIES, Family, make_family
from tests.unit.test_version_export import with_biases, with_llama3_rope

TEXTS = (
    "In 2024, 3 cats ate 12345 fish's tails.\n\n\tdef f(x):\n        return x+100\n",
    "<|im_start|>user\nHi there<|im_end|>\n",
    "naïve café 東京 😀 1.5e-3 I'LL don't",
)


@pytest.fixture(scope="module")
def node() -> Path:
    folder = Path(os.environ.get("NODE_LLAMA_CPP", ""))
    if not shutil.which("node") or not (folder / "node_modules" / "node-llama-cpp").is_dir():
        pytest.skip("NODE_LLAMA_CPP names no folder with node-llama-cpp")
    return folder


def same(one: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> float:
    """Share of places with the same token."""
    pairs = [zip(a, b, strict=False) for a, b in zip(one, other, strict=True)]
    equal = sum(a == b for pair in pairs for a, b in pair)
    return equal / sum(map(len, one))


def written(
    model: Model, tree: Any, prompts: list[list[int]], tokens: int = TOKENS
) -> list[list[int]]:
    return [
        merge_gap.greedy(tree, prompt, tokens, model.end_ids, merge_gap.no_turn)
        for prompt in prompts
    ]


@pytest.fixture(scope="module")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    """A data folder with a version of the pocket model."""
    if not pull.is_here(presets.POCKET.name):
        pytest.skip("the pocket model is not on this machine")
    model = Model.load(presets.POCKET.hub)
    data = tmp_path_factory.mktemp("pocket") / "data"
    publish(data, model, size=0.05)
    return data, model


def test_llama_cpp_writes_what_the_exported_model_says(node, pocket, tmp_path):
    """The goal is 95% of the first 32 tokens; texts are cut into the same tokens."""
    data, model = pocket
    export(data, Request(form="gguf", out=tmp_path / "out", measure=False))
    [file] = (tmp_path / "out" / "rlhf-chat").glob("*/*.gguf")
    prompts = [model.encode([{"role": "user", "content": one}]) for one in PROMPTS]
    tree = gguf_file.read(file, loading.plain_text_config(model.config))
    expected = written(model, tree, prompts)
    found, texts = llama_cpp.greedy(node, file, prompts, TOKENS, texts=TEXTS)
    share = same(expected, found)
    print(f"llama.cpp, f16, the same tokens: {share:.1%}")
    assert share >= 0.95
    assert texts == [model.tokenizer.encode(one, add_special_tokens=False) for one in TEXTS]


def test_the_adapter_above_the_base_is_the_merged_model(node, pocket, tmp_path):
    """LoRA as llama.cpp applies it at run time, above the same base without it."""
    data, model = pocket
    export(data, Request(form="gguf", base="original", out=tmp_path / "out", measure=False))
    [merged] = (tmp_path / "out" / "rlhf-chat").glob("*/*.gguf")
    [lora] = (tmp_path / "out").glob("*-lora-f16.gguf")
    publish(tmp_path / "none", model, size=0.0)
    export(
        tmp_path / "none", Request(form="gguf", base="original", out=tmp_path / "b", measure=False)
    )
    [base] = (tmp_path / "b" / "rlhf-chat").glob("*/*.gguf")
    prompts = [model.encode([{"role": "user", "content": one}]) for one in PROMPTS]
    expected, _ = llama_cpp.greedy(node, merged, prompts, TOKENS)
    found, _ = llama_cpp.greedy(node, base, prompts, TOKENS, lora)
    without, _ = llama_cpp.greedy(node, base, prompts, TOKENS)
    print(f"adapter at run time {same(expected, found):.1%}, without {same(expected, without):.1%}")
    assert same(expected, found) >= 0.9 > same(expected, without)


# Of random weights the likeliest tokens are close to each other, and llama.cpp keeps 16 bits of
# keys and values: now and then a token differs, and then all after it.
FEW = 3
SMOLLM3 = Family(SmolLM3Config, options={"no_rope_layers": [1, 1, 1, 0]}, layers=4)


@pytest.mark.parametrize("family", ["llama untied", "llama 3 rope", "qwen2", "qwen3", "smollm3"])
def test_llama_cpp_computes_each_architecture_as_transformers_does(
    node, family, tmp_path, monkeypatch
):
    monkeypatch.setitem(FAMILIES, "smollm3", SMOLLM3)
    base = make_family("llama" if family == "llama 3 rope" else family, tmp_path / "base")
    if family == "llama 3 rope":
        base = with_llama3_rope(base, tmp_path / "scaled")
    model = Model.load(str(with_biases(base, tmp_path / "biases")), quantization="none")
    publish(tmp_path / "data", model)
    export(tmp_path / "data", Request(form="gguf", out=tmp_path / "out", measure=False))
    [file] = (tmp_path / "out" / "rlhf-chat").glob("*/*.gguf")
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(10, 300, (40, 90), generator=generator).tolist()
    tree = gguf_file.read(file, loading.plain_text_config(model.config))
    expected = written(model, tree, drawn, FEW)
    found, _ = llama_cpp.greedy(node, file, drawn, FEW)
    assert same(expected, found) >= 0.95
    tree.model.rotary_emb.inv_freq *= 0.8  # another model: the test can tell
    assert same(written(model, tree, drawn, FEW), found) < 0.9
