"""The merged form: a folder that transformers loads like any other model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from rlhf_chat.version_export.merged_weights import MergedWeights

DTYPE = torch.bfloat16
SHARD = "4GB"


def write(folder: Path, weights: MergedWeights, tokenizer: Any, dtype: torch.dtype = DTYPE) -> None:
    """Raises OSError and SafetensorError."""
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(weights.config, dtype=dtype)
    state = {name: weights.tensor(name).to(dtype) for name in weights.names()}
    plain.load_state_dict(state, strict=False, assign=True)
    plain.tie_weights()
    plain.generation_config = weights.generation_config
    plain.save_pretrained(folder, max_shard_size=SHARD)
    tokenizer.save_pretrained(folder)


def read(folder: Path) -> Any:
    """As it was written, in float32 on the CPU."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    ).eval()
