"""Which model: a short table of instruct models for one consumer card, and how `auto` chooses.

All are openly licensed (Apache 2.0, as pages about them say; looked up in November 2026), dense,
and of an architecture that the tests live through. Left out on purpose: Qwen3.5 (0.8B to 9B, also
Apache 2.0) loads by its hub id, but three in four of its layers run in slow reference code unless
further packages are installed. Shapes are here so that a choice needs no download.
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
    name: str
    hub: str
    billions: float
    licence: str
    kind: type[PreTrainedConfig]
    shape: dict[str, Any]

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
# The cache remembers what the hub was asked for and does not have. The last is what is read last.
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
# The one preset that is pleasant without a graphics card. It is not in TABLE, from which `auto`
# chooses for a card; where its files come from is pull.py.
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
    """A preset's hub id; any other name as it is."""
    return BY_NAME[name].hub if name in BY_NAME else name


@cache
def _need(name: str, quantization: str, load: Workload) -> MemoryEstimate:
    return predict(BY_NAME[name].config(), quantization, load)


def need(preset: Preset, quantization: str, load: Workload = COMFORTABLE) -> MemoryEstimate:
    return _need(preset.name, quantization, load)


def that_fit(free: int, quantization: str = "nf4") -> list[Preset]:
    """Presets that can chat and learn in `free` bytes of video memory, largest first."""
    return [p for p in reversed(TABLE) if need(p, quantization).total <= free]


def is_here(hub: str) -> bool:
    """Whether all that loading reads is in the hub's cache on this machine."""
    try:
        settled = all(try_to_load_from_cache(hub, file) is not None for file in MAY_BE_MISSING)
        index = try_to_load_from_cache(hub, f"{WEIGHTS}.index.json")
        needed = {"config.json", *_shards(index if isinstance(index, str) else None)}
        return settled and all(isinstance(try_to_load_from_cache(hub, n), str) for n in needed)
    except ValueError:  # no name that the hub could know, or half an index
        return False


def _shards(index: str | None) -> set[str]:
    if index is None:
        return {WEIGHTS}
    return set(json.loads(Path(index).read_text())["weight_map"].values())


def hub_answers(hub: str) -> bool:
    if is_offline_mode():
        return False
    try:
        HfApi().model_info(hub, timeout=5)
    except Exception:  # no network, no such page, a proxy in between: all the same to us
        return False
    return True


def choose(
    free: int | None,
    quantization: str = "nf4",
    *,
    here: Callable[[str], bool] = is_here,
    reachable: Callable[[str], bool] = hub_answers,
) -> tuple[str, str]:
    """`auto`: what to load, and one sentence that says why. `free` None: no graphics card."""
    if free is None:
        return "demo", (
            "No graphics card was found, so this is the bundled model; "
            "a real one is started with --model small (slow without a card)."
        )
    room = f"{free / GIB:.1f} GiB of video memory are free"
    fitting = that_fit(free, quantization)
    if not fitting:
        return "demo", f"{room}, too little for the smallest preset: this is the bundled model."
    best = fitting[0]
    if here(best.hub) or reachable(best.hub):
        told = f"{room}: {best.hub} ({best.billions:g}B, {best.licence}) is the largest that fits"
        return best.hub, f"{told} while it learns."
    for preset in fitting[1:]:
        if here(preset.hub):
            return (
                preset.hub,
                f"{room}; the hub cannot be reached, so this is {preset.hub}, cached.",
            )
    return "demo", (
        f"The hub cannot be reached and no preset is on this machine: this is the bundled model. "
        f"Once online, --model {best.name} downloads {best.hub}."
    )
