"""The policy as a whole: its log-probs of given responses, and a step back towards the base."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rlhf_chat.inference.memory import in_parts, parts_within
from rlhf_chat.inference.model import ForwardOutput, Model
from rlhf_chat.training.context import Check


def shrink(model: Model, factor: float) -> None:
    """Moves the policy back towards the base: its LoRA change times `factor`. KL falls with about
    the square of it, so a candidate that went too far keeps most of what it learned."""
    state = model.policy_state()
    model.set_policy({k: v * factor if "lora_B" in k else v for k, v in state.items()})


def logprobs(
    model: Model,
    prompt_ids: Sequence[Sequence[int]],
    ids: Sequence[Sequence[int]],
    check: Check,
) -> list[torch.Tensor]:
    """Per-token log-probs of responses under the policy: one (len,) float32 tensor each, on CPU.
    `check` is called before each batch and may raise."""
    rows: list[torch.Tensor] = []

    def work(part: list[int]) -> ForwardOutput:
        check()
        with model.lease.slice(), torch.no_grad():
            return model.forward(
                model.policy, [prompt_ids[i] for i in part], [ids[i] for i in part]
            )

    lengths = [len(p) + len(r) for p, r in zip(prompt_ids, ids, strict=True)]
    parts = parts_within(lengths, 2 * model.rows_per_slice, model.tokens_per_row)
    for _, out in in_parts(parts, work, model.reduce_batch):
        rows += [out.logprobs[i, out.mask[i] > 0].cpu() for i in range(len(out.mask))]
    return rows
