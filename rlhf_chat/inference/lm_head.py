"""From hidden states to log-probs, without ever holding all logits.

A vocabulary of 150,000 words makes the logits of a micro-batch larger than the model itself, and
only one number of each row of them is wanted. So they are made a chunk of positions at a time, and
with a gradient a second time on the way back. Left out: the layers below (model.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

CHUNK_BYTES = 128 << 20  # of float32 logits at a time

Head = Callable[[torch.Tensor], torch.Tensor]  # (N, H) -> (N, V)


def lm_head_of(tree: Any, config: Any) -> Head:
    """The output embeddings with what the model does to their result: a scale, a soft cap."""
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
        return torch.tanh(logits / cap) * cap if cap else logits

    return head


def selected_logprobs(
    head: Head, hidden: torch.Tensor, targets: torch.Tensor, temperature: float, vocabulary: int
) -> torch.Tensor:
    """log softmax(head(hidden) / T) at targets: (N, H), (N,) -> (N,) float32."""

    def part(hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = head(hidden).float() / temperature
        return logits.gather(-1, targets[:, None]).squeeze(-1) - logits.logsumexp(-1)

    size = max(CHUNK_BYTES // (4 * vocabulary), 1)
    if len(targets) <= size:
        return part(hidden, targets)
    again = torch.is_grad_enabled() and hidden.requires_grad
    return torch.cat(
        [
            checkpoint(part, h, t, use_reentrant=False) if again else part(h, t)
            for h, t in zip(hidden.split(size), targets.split(size), strict=True)
        ]
    )
