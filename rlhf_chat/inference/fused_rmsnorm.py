"""RMS norms in one kernel instead of seven.

transformers writes the norm out, operation by operation; a 4B model has 145 of them, and on a
graphics card each operation is a launch, and its float32 copy is kept for the way back. PyTorch has
the same formula as one kernel. A norm is replaced only where both say the same, so a model that
means something else by the name (Gemma's 1 + weight) keeps its own. Left out: CPUs, where PyTorch
writes it out as well.
"""

from __future__ import annotations

from typing import Any

import torch


def fuse(base: torch.nn.Module) -> int:
    """Replaces the RMS norms of a model in place, over the same weights; returns how many."""
    named = [(p, m) for p, m in base.named_modules() if type(m).__name__.endswith("RMSNorm")]
    fused = [(path, new) for path, old in named if (new := _fused(old)) is not None]
    for path, new in fused:
        parent, _, child = path.rpartition(".")
        setattr(base.get_submodule(parent), child, new)
    return len(fused)


def _fused(own: Any) -> torch.nn.RMSNorm | None:
    weight, eps = getattr(own, "weight", None), getattr(own, "variance_epsilon", None)
    if weight is None or eps is None or weight.dim() != 1:
        return None
    made = torch.nn.RMSNorm(len(weight), eps=eps, device="meta")
    made.weight = weight
    generator = torch.Generator(weight.device).manual_seed(0)
    x = torch.empty(4, len(weight), device=weight.device, dtype=weight.dtype)
    x.normal_(0, 3, generator=generator)
    with torch.no_grad():
        fused_output, expected = made(x).float(), own(x).float()
    tolerance = 4 * torch.finfo(weight.dtype).eps
    return made if torch.allclose(fused_output, expected, tolerance, tolerance) else None
