"""Log-probs from hidden states without materialising all logits.

With a vocabulary of 150,000 the logits of a micro-batch are larger than the model, and one number
per row of them is needed. They are computed in chunks of positions and, if a gradient is needed,
recomputed in backward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

CHUNK_BYTES = 128 << 20  # of float32 logits in one chunk

Head = Callable[[torch.Tensor], torch.Tensor]  # (N, H) -> (N, V)


def lm_head_of(tree: Any, config: Any) -> Head:
    """The output embeddings followed by the scaling or soft cap that `config` names."""
    embeddings = tree.get_output_embeddings()
    divisor = float(getattr(config, "logits_scaling", None) or 1.0)
    factor = float(getattr(config, "logit_scale", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)

    def head(hidden: torch.Tensor) -> torch.Tensor:
        logits = embeddings(hidden)
        if divisor != 1.0:
            logits = logits / divisor
        if factor != 1.0:
            logits = logits * factor
        result: torch.Tensor = torch.tanh(logits / cap) * cap if cap else logits
        return result

    return head


def selected_logprobs(
    head: Head, hidden: torch.Tensor, targets: torch.Tensor, temperature: float, vocabulary: int
) -> torch.Tensor:
    """log softmax(head(hidden) / temperature) at targets: (N, H), (N,) int64 -> (N,) float32.
    `vocabulary` (V) sizes the chunks."""

    def chunk(hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = head(hidden).float() / temperature
        return logits.gather(-1, targets[:, None]).squeeze(-1) - logits.logsumexp(-1)

    size = max(CHUNK_BYTES // (4 * vocabulary), 1)
    if len(targets) <= size:
        return chunk(hidden, targets)
    recompute = torch.is_grad_enabled() and hidden.requires_grad
    return torch.cat(
        [
            checkpoint(chunk, h, t, use_reentrant=False) if recompute else chunk(h, t)
            for h, t in zip(hidden.split(size), targets.split(size), strict=True)
        ]
    )
