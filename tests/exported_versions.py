"""Makes a version as training would leave it, for the tests of what is exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rlhf_chat.db import Store
from rlhf_chat.inference.model import Model
from rlhf_chat.versions.adapter_store import AdapterStore
from rlhf_chat.versions.registry import VersionRegistry


def publish(data: Path, model: Model, size: float = 0.3, **of_round: Any) -> int:
    """Publishes a version with random LoRA weights, live at once; returns its number. `of_round`:
    `reason`, `verdict`, `rater`, `config` and `kl` of its round."""
    store = Store(data / "feedback.db")
    try:
        versions = VersionRegistry(store, model, AdapterStore(data / "adapters"))
        versions.serve_live()
        parent = store.adapter_versions.live()
        round_id = store.rounds.open(
            trigger="by hand",
            parent_version=parent,
            seed=1,
            watermark=store.feedback.count(),
            config=of_round.get("config", {}),
            snapshot_hash="x",
            rater=of_round.get("rater", ""),
        )
        versions.publish(
            random_state(model, size),
            round_id=round_id,
            parent=parent,
            instead_of=parent,
            tier="provisional",
            kl=of_round.get("kl", 0.25),
            reason=of_round.get("reason", ""),
            verdict=of_round.get("verdict", {}),
            about={},
        )
        return store.adapter_versions.live()
    finally:
        store.close()


def random_state(model: Model, size: float) -> dict[str, torch.Tensor]:
    """A of the base's adapter, and B that is not zero."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(tensor.shape, generator=generator) * size if "lora_B" in name else tensor
        for name, tensor in model.base_state().items()
    }
