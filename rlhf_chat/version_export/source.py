"""The version that is exported: its row, its verified adapter, and what its files say of the
base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from rlhf_chat.db import AdapterVersion, Store
from rlhf_chat.errors import ExportError
from rlhf_chat.inference import loading, presets
from rlhf_chat.inference.model import AdapterConfig, Model
from rlhf_chat.versions.adapter_store import AdapterStore

LIVE = "live"


@dataclass(frozen=True)
class Source:
    version: AdapterVersion
    state: Mapping[str, torch.Tensor]  # LoRA tensors by the keys of PEFT's files
    config: Mapping[str, Any]  # PEFT's adapter_config.json
    manifest: Mapping[str, Any]

    @property
    def number(self) -> int:
        return self.version.version

    @property
    def base_name(self) -> str:
        """As the app names the base: `demo`, a hub id, a folder, a GGUF file, an Ollama model."""
        return str(self.config["base_model_name_or_path"])

    @property
    def quantization(self) -> str:
        """Of the base that it was trained on: nf4 or none."""
        return str(self.manifest.get("quantization") or "nf4")

    @property
    def scaling(self) -> float:
        """What B A is multiplied by."""
        return float(self.config["lora_alpha"]) / float(self.config["r"])

    def factors(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Layer -> A (r, in) and B (out, r), float32, without the scaling."""
        found = {}
        for key, b in self.state.items():
            if key.endswith(".lora_B.weight"):
                layer = key.removesuffix(".lora_B.weight")
                a = self.state[f"{layer}.lora_A.weight"]
                found[layer.removeprefix("base_model.model.")] = a.float(), b.float()
        return found


def find(store: Store, adapters: AdapterStore, name: str) -> Source:
    """A version by its number, "v3", "live" or the name that the person gave it. Raises
    ExportError, NotFound, AdapterError."""
    number = _number(store, name)
    if not number:
        raise ExportError("export.base_has_nothing")
    version = store.adapter_versions.get(number)
    state = adapters.load(number, version.manifest_hash)
    manifest = adapters.manifest(number, version.manifest_hash)
    return Source(version, state, adapters.config(number), manifest)


def _number(store: Store, name: str) -> int:
    if name == LIVE:
        return store.adapter_versions.live()
    plain = name.removeprefix("v") if name != "base" else "0"
    if plain.isascii() and plain.isdecimal():
        return int(plain)
    named = [v.version for v in store.adapter_versions.all() if name and v.name == name]
    if not named:
        raise ExportError("export.unknown_version", name=name)
    return named[-1]


def load_base(source: Source, name: str = "", device: str | None = None) -> Model:
    """The base as it was trained on. `name`: where it is now, if it was moved. Raises ModelError,
    and ExportError if it is another one."""
    adapter = AdapterConfig(int(source.config["r"]), int(source.config["lora_alpha"]))
    wanted = presets.hub_id(name or source.base_name)
    if wanted == presets.POCKET.hub or presets.is_here(wanted):
        loading.stay_offline()
    model = Model.load(wanted, quantization=source.quantization, adapter=adapter, device=device)
    check_base(source, model)
    return model


def check_base(source: Source, model: Model) -> None:
    if model.base_hash != source.manifest.get("base_hash"):
        raise ExportError("export.other_base", version=source.number, name=model.name)
