"""In which precision a CPU computes a model: bfloat16 where its kernels are faster, else float32.

Processors with AMX or AVX512-BF16 multiply bfloat16 several times as fast as float32 and read half
the memory; all others emulate it. AMX is told by its flag, anything else is measured once in a few
milliseconds. Small models, whose time is not in their products, stay in float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

SMALL = 64_000_000  # weights; below it float32 is as fast
ROWS, OUTPUTS, INPUTS = 16, 1536, 576  # of the product that is timed: a small model's MLP
TIMED_ROUNDS = 4  # both precisions in turns, since other programs come and go
WORTH_IT = 1.3  # times as fast as float32, to be worth the lost digits


def cpu_dtype(config: Any) -> torch.dtype:
    """For a model of this configuration."""
    small = is_small(config) or not likes_bfloat16()
    return torch.float32 if small else torch.bfloat16


def is_small(config: Any) -> bool:
    """Whether the model, its size estimated from its shape, is one for float32."""
    text = config.get_text_config()
    width, layers = int(text.hidden_size), int(text.num_hidden_layers)
    inner = int(getattr(text, "intermediate_size", None) or 4 * width)
    weights = layers * (3 * width * inner + 4 * width * width) + int(text.vocab_size) * width
    return weights < SMALL


@cache
def likes_bfloat16() -> bool:
    """Whether this processor multiplies packed bfloat16 weights clearly faster than float32."""
    if not torch.backends.mkldnn.is_available():
        return False
    if has_amx():  # no timing, which another busy program could turn round
        return True
    try:
        products = [product(dtype) for dtype in (torch.float32, torch.bfloat16)]
        rounds = [[_fastest(work) for work in products] for _ in range(TIMED_ROUNDS)]
    except RuntimeError:  # an operator that this build or processor does not have
        return False
    float32, bfloat16 = (min(seconds) for seconds in zip(*rounds, strict=True))
    result: bool = float32 >= WORTH_IT * bfloat16
    return result


def has_amx() -> bool:
    """Whether the processor and the kernel offer AMX. False where torch cannot tell."""
    supported = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return bool(supported())


def product(dtype: torch.dtype) -> Callable[[], torch.Tensor]:
    x, weight = torch.randn(ROWS, INPUTS, dtype=dtype), torch.randn(OUTPUTS, INPUTS, dtype=dtype)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
    return lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")


def _fastest(work: Callable[[], object], tries: int = 50) -> float:
    best = float("inf")
    for _ in range(tries):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best
