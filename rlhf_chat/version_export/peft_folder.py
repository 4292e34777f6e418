"""The adapter as PEFT loads it: its weights as they are stored, and a configuration that names the
base so that other programs find it."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from rlhf_chat.version_export.source import Source
from rlhf_chat.versions.adapter_store import CONFIG, WEIGHTS


def write(folder: Path, source: Source, base: str) -> None:
    """`base`: a hub id, or where it is on this machine. Raises OSError and SafetensorError."""
    state = {name: tensor.contiguous() for name, tensor in source.state.items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    config = {**source.config, "base_model_name_or_path": base}
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")
