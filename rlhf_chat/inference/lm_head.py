"""Log-probs from hidden states without materialising all logits.

With a vocabulary of 150,000 the logits of a micro-batch are larger than the model, and one number
per row of them is needed. They are computed in chunks of positions. If a gradient is needed, on a
CPU it is computed along with them, as it is linear in the gradient of each log-prob; elsewhere the
chunk is recomputed in backward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

CHUNK_BYTES = 128 << 20  # of float32 logits in one chunk
CPU_CHUNK = 128  # positions: what they need stays near the processor (docs/LOG.md)


@dataclass(frozen=True)
class Head:
    """The output embeddings followed by a scaling or a soft cap: (N, H) -> (N, V)."""

    embeddings: torch.nn.Module
    divisor: float
    factor: float
    cap: float | None

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.embeddings(hidden)
        if self.divisor != 1.0:
            logits = logits / self.divisor
        if self.factor != 1.0:
            logits = logits * self.factor
        return torch.tanh(logits / self.cap) * self.cap if self.cap else logits

    def weight_on_cpu(self) -> torch.Tensor | None:
        """(V, H), where this is one product with it and nothing else, on a CPU."""
        plain = self.divisor == self.factor == 1.0 and not self.cap
        if not plain or not isinstance(self.embeddings, torch.nn.Linear):
            return None
        weight = self.embeddings.weight
        frozen = self.embeddings.bias is None and not weight.requires_grad
        return weight if frozen and weight.device.type == "cpu" else None


def lm_head_of(tree: Any, config: Any) -> Head:
    """The head of a tree, with the scaling or soft cap that `config` names."""
    return Head(
        tree.get_output_embeddings(),
        divisor=float(getattr(config, "logits_scaling", None) or 1.0),
        factor=float(getattr(config, "logit_scale", None) or 1.0),
        cap=getattr(config, "final_logit_softcapping", None),
    )


def selected_logprobs(
    head: Head, hidden: torch.Tensor, targets: torch.Tensor, temperature: float, vocabulary: int
) -> torch.Tensor:
    """log softmax(head(hidden) / temperature) at targets: (N, H), (N,) int64 -> (N,) float32.
    `vocabulary` (V) sizes the chunks."""
    weight = head.weight_on_cpu()
    if weight is not None:
        chosen: torch.Tensor = SelectedLogprobs.apply(  # type: ignore[no-untyped-call]
            hidden, weight, targets, temperature
        )
        return chosen

    def chunk(hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = head(hidden).float() / temperature
        return logits.gather(-1, targets[:, None]).squeeze(-1) - logits.logsumexp(-1)

    return _in_chunks(chunk, hidden, targets, CHUNK_BYTES // (4 * vocabulary))


def kl_from_base(
    head: Head, hidden: torch.Tensor, base: torch.Tensor, temperature: float, vocabulary: int
) -> torch.Tensor:
    """KL(base || policy) of the next token, softmax(head(.) / temperature), for each row of last
    hidden states, the policy's and the base's: (N, H), (N, H) -> (N,) float32, nats.
    `vocabulary` (V) sizes the chunks."""
    weight = head.weight_on_cpu()
    if weight is not None:
        found: torch.Tensor = KLFromBase.apply(hidden, base, weight, temperature)  # type: ignore[no-untyped-call]
        return found

    def chunk(hidden: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        logprobs = (head(hidden).float() / temperature).log_softmax(-1)
        with torch.no_grad():
            expected = (head(base).float() / temperature).log_softmax(-1)
        return (expected.exp() * (expected - logprobs)).sum(-1)

    return _in_chunks(chunk, hidden, base, CHUNK_BYTES // (8 * vocabulary))


def _in_chunks(
    chunk: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    hidden: torch.Tensor,
    other: torch.Tensor,
    size: int,
) -> torch.Tensor:
    """chunk(hidden, other), (N,), of `size` rows at a time, each computed again in backward if
    there are several."""
    size = max(size, 1)
    if len(hidden) <= size:
        return chunk(hidden, other)
    recompute = torch.is_grad_enabled() and hidden.requires_grad
    return torch.cat(
        [
            checkpoint(chunk, h, o, use_reentrant=False) if recompute else chunk(h, o)
            for h, o in zip(hidden.split(size), other.split(size), strict=True)
        ]
    )


class LinearInStates(torch.autograd.Function):
    """Of hidden states (N, H) and three more inputs, one number for each row. `forward` saves its
    slopes (N, H), or nothing where no gradient is asked for: no logits are kept for backward."""

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return (grads[0][:, None] * slopes.float()).to(slopes.dtype), None, None, None


class SelectedLogprobs(LinearInStates):
    """log softmax(h W' / T) at targets: h (N, H), frozen W (V, H), targets (N,) int64, T
    -> (N,) float32. With respect to h its gradient is (W[target] - p W) / T for each row, where p
    is the softmax: known as soon as p is."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        temperature: float,
    ) -> torch.Tensor:
        logprobs = torch.empty(len(targets), dtype=torch.float32)
        slopes = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None  # (N, H)
        for start in range(0, len(targets), CPU_CHUNK):
            rows = slice(start, start + CPU_CHUNK)
            logits = torch.nn.functional.linear(hidden[rows], weight).float().div_(temperature)
            total = logits.logsumexp(-1, keepdim=True)
            logprobs[rows] = (logits.gather(-1, targets[rows, None]) - total).squeeze(-1)
            if slopes is not None:
                p = logits.sub_(total).exp_().to(weight.dtype)
                slopes[rows] = (weight[targets[rows]] - p @ weight) / temperature
        ctx.save_for_backward(*[] if slopes is None else [slopes])
        return logprobs


class KLFromBase(LinearInStates):
    """KL(q || p) of q = softmax(g W' / T) and p = softmax(h W' / T): h and g (N, H), frozen W
    (V, H), T -> (N,) float32. Its gradient with respect to h is (p - q) W / T, 0 where h = g, so
    that a policy that is still the base gets no noise from it."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        base: torch.Tensor,
        weight: torch.Tensor,
        temperature: float,
    ) -> torch.Tensor:
        kl = torch.empty(len(hidden), dtype=torch.float32)
        slopes = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None  # (N, H)
        for start in range(0, len(hidden), CPU_CHUNK):
            rows = slice(start, start + CPU_CHUNK)

            def logprobs(states: torch.Tensor, rows: slice = rows) -> torch.Tensor:
                logits = torch.nn.functional.linear(states[rows], weight).float()
                return logits.div_(temperature).log_softmax(-1)

            policy, reference = logprobs(hidden), logprobs(base)
            q = reference.exp()
            kl[rows] = (q * (reference - policy)).sum(-1)
            if slopes is not None:
                slopes[rows] = policy.exp_().sub_(q).to(weight.dtype) @ weight / temperature
        ctx.save_for_backward(*[] if slopes is None else [slopes])
        return kl
