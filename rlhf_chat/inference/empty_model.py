"""A model of a configuration without its weights, for counting them or to be filled."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM


def empty_model(config: Any, dtype: torch.dtype) -> Any:
    """On the meta device, with parameters of `dtype`. Changes `config.dtype` to it, as transformers
    does.

    Built in float32 and cast afterwards: while it builds, transformers makes the dtype asked for
    the default of all threads, and another one may be in the middle of an update.
    """
    with torch.device("meta"):
        made: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    made.to(dtype)
    made.config.dtype = dtype
    return made
