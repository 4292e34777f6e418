"""A short table of instruct models for one consumer GPU, and how `auto` chooses from it.

All are dense, under Apache 2.0 (according to their model pages, November 2026), and of an
architecture that the tests cover. Qwen3.5 (0.8B to 9B, also Apache 2.0) is not in the table: it
loads by its hub id, but three in four of its layers run in slow reference code unless further
packages are installed. The shapes are here so that `auto` can choose without a download.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, is_offline_mode, try_to_load_from_cache
from transformers import LlamaConfig, PreTrainedConfig, Qwen3Config, SmolLM3Config

from rlhf_chat.inference.memory_estimate import COMFORTABLE, GIB, MemoryEstimate, Workload, predict


@dataclass(frozen=True)
class Preset:
    """A model by a short name."""

    name: str
    hub: str  # hub id
    billions: float  # parameters
    licence: str
    kind: type[PreTrainedConfig]
    shape: dict[str, Any]  # arguments of `kind`

    def config(self) -> PreTrainedConfig:
        return self.kind(**self.shape)


def _shape(hidden: int, inner: int, layers: int, heads: int, groups: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": 128,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    }


APACHE = "Apache 2.0"
_SMOL = _shape(2048, 11008, 36, 16, 4) | {"vocab_size": 128256}
_LARGE = _shape(4096, 12288, 36, 32, 8) | {"tie_word_embeddings": False}
_4B = _shape(2560, 9728, 36, 32, 8)
WEIGHTS = "model.safetensors"
# The hub's cache also records files that a repository lacks. In the order in which loading reads.
MAY_BE_MISSING = ("tokenizer_config.json", "generation_config.json")
_POCKET = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
# The preset for machines without a GPU. Not in TABLE, from which `auto` chooses for a GPU; pull.py
# downloads it.
POCKET = Preset(
    "pocket", "HuggingFaceTB/SmolLM2-135M-Instruct", 0.135, APACHE, LlamaConfig, _POCKET
)
TABLE = (  # small to large
    Preset("tiny", "Qwen/Qwen3-0.6B", 0.6, APACHE, Qwen3Config, _shape(1024, 3072, 28, 16, 8)),
    Preset("small", "Qwen/Qwen3-1.7B", 1.7, APACHE, Qwen3Config, _shape(2048, 6144, 28, 16, 8)),
    Preset("middle", "HuggingFaceTB/SmolLM3-3B", 3.1, APACHE, SmolLM3Config, _SMOL),
    Preset("good", "Qwen/Qwen3-4B-Instruct-2507", 4.0, APACHE, Qwen3Config, _4B),
    Preset("large", "Qwen/Qwen3-8B", 8.2, APACHE, Qwen3Config, _LARGE),
)
BY_NAME = {p.name: p for p in (POCKET, *TABLE)}
BY_HUB = {p.hub: p for p in (POCKET, *TABLE)}


def hub_id(name: str) -> str:
    """The hub id of a preset; any other name unchanged."""
    return BY_NAME[name].hub if name in BY_NAME else name


@cache
def _need(name: str, quantization: str, workload: Workload) -> MemoryEstimate:
    return predict(BY_NAME[name].config(), quantization, workload)


def need(preset: Preset, quantization: str, workload: Workload = COMFORTABLE) -> MemoryEstimate:
    """The memory that a preset needs; cached."""
    return _need(preset.name, quantization, workload)


def that_fit(free: int, quantization: str = "nf4") -> list[Preset]:
    """Presets that can chat and train in `free` bytes of GPU memory, largest first."""
    return [p for p in reversed(TABLE) if need(p, quantization).total <= free]


def is_here(hub: str) -> bool:
    """Whether every file that loading reads is in the hub's cache on this machine."""
    try:
        settled = all(try_to_load_from_cache(hub, file) is not None for file in MAY_BE_MISSING)
        index = try_to_load_from_cache(hub, f"{WEIGHTS}.index.json")
        needed = {"config.json", *_shards(index if isinstance(index, str) else None)}
        return settled and all(isinstance(try_to_load_from_cache(hub, n), str) for n in needed)
    except ValueError:  # not a valid hub id, or a truncated index
        return False


def _shards(index: str | None) -> set[str]:
    if index is None:
        return {WEIGHTS}
    return set(json.loads(Path(index).read_text())["weight_map"].values())


def hub_answers(hub: str) -> bool:
    """Whether the hub can be reached and has this model. Waits at most 5 seconds."""
    if is_offline_mode():
        return False
    try:
        HfApi().model_info(hub, timeout=5)
    except Exception:  # no network, no such model, a proxy: no download in any case
        return False
    return True


def choose(
    free: int | None,
    quantization: str = "nf4",
    *,
    here: Callable[[str], bool] = is_here,
    reachable: Callable[[str], bool] = hub_answers,
) -> tuple[str, str]:
    """For `auto`: the model to load, and the reason in one sentence. `free`: bytes of GPU memory,
    None without a GPU."""
    if free is None:
        return "demo", (
            "No graphics card was found, so this is the bundled model; "
            "one made for a processor is started with --model pocket."
        )
    vram = f"{free / GIB:.1f} GiB of video memory are free"
    fitting = that_fit(free, quantization)
    if not fitting:
        return "demo", f"{vram}, too little for the smallest preset: this is the bundled model."
    best = fitting[0]
    if here(best.hub) or reachable(best.hub):
        found = f"{vram}: {best.hub} ({best.billions:g}B, {best.licence}) is the largest that fits"
        return best.hub, f"{found} while it learns."
    for preset in fitting[1:]:
        if here(preset.hub):
            return (
                preset.hub,
                f"{vram}; the hub cannot be reached, so this is {preset.hub}, cached.",
            )
    return "demo", (
        f"The hub cannot be reached and no preset is on this machine: this is the bundled model. "
        f"Once online, --model {best.name} downloads {best.hub}."
    )
