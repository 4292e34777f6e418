"""The merged form: a folder that transformers loads like any other model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from rlhf_chat.inference.empty_model import empty_model
from rlhf_chat.version_export.merge_gap import Turn, no_turn
from rlhf_chat.version_export.merged_weights import MergedWeights

DTYPE = torch.bfloat16
SHARD = "4GB"

OnShare = Callable[[float], None]  # is told the share that is done


def write(
    folder: Path,
    weights: MergedWeights,
    tokenizer: Any,
    on_share: OnShare = lambda share: None,
    turn: Turn = no_turn,
) -> None:
    """Raises OSError and SafetensorError."""
    plain = empty_model(weights.config, DTYPE)
    state, names = {}, weights.names()
    for done, name in enumerate(names):
        with turn():
            state[name] = weights.tensor(name).to(DTYPE)
        on_share(done / len(names))
    plain.load_state_dict(state, strict=False, assign=True)
    plain.tie_weights()
    plain.generation_config = weights.generation_config
    plain.save_pretrained(folder, max_shard_size=SHARD)
    tokenizer.save_pretrained(folder)


def read(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The model that was written, on the CPU."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, trust_remote_code=False
    ).eval()
