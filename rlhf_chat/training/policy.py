"""A step of the policy back towards the base."""

from __future__ import annotations

from rlhf_chat.inference.model import Model


def shrink(model: Model, factor: float) -> None:
    """Moves the policy back towards the base: its LoRA change times `factor`. KL falls with about
    the square of it, so a candidate that went too far keeps most of what it learned."""
    state = model.policy_state()
    model.set_policy({k: v * factor if "lora_B" in k else v for k, v in state.items()})
