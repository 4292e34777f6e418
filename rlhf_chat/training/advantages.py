"""How rewards become advantages: the part in which PPO and RLOO differ.

`Critic` is PPO's: a value head learns what to expect, and generalised advantage estimation compares
with that. `LeaveOneOut` is RLOO's: the other responses to the same prompt are the baseline, and
there is nothing to learn. Both give the trainer (ppo_trainer.py) the same kind of numbers.
"""

from __future__ import annotations

from typing import Protocol

import torch

from rlhf_chat.training import ppo, rloo
from rlhf_chat.training.ppo import PPOConfig


class AdvantageEstimator(Protocol):
    """Turns per-token rewards into advantages, with or without parameters of its own."""

    def parameters(self) -> list[torch.nn.Parameter]:
        """What is trained beside the adapter."""

    def values(self, hidden: torch.Tensor) -> torch.Tensor:
        """Expected return before each token, from the policy's hidden states: (B, R, H) ->
        (B, R) float32 on the same device; zeros where nothing is expected."""

    def estimate(
        self,
        rewards: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor,
        groups: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, R) rewards, values, mask and the prompt number of each row (N,) ->
        (advantages, returns), both (N, R) and 0 outside the mask."""

    def normalize(self, advantages: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Advantages of one batch (N, R) at the scale that the policy loss expects."""

    def loss(
        self,
        hidden: torch.Tensor,
        values: torch.Tensor,
        returns: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        """Loss of the estimator's own parameters on one micro-batch, summed over tokens."""

    def step(self) -> None:
        """One optimiser step on the estimator's own parameters."""


class ValueHead(torch.nn.Module):
    """State values: linear on the policy's detached hidden state, zero at the start."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(hidden_size, 1, dtype=torch.float32)
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, R, H) -> (B, R)."""
        result: torch.Tensor = self.linear(hidden.detach().float()).squeeze(-1)
        return result


class Critic:
    """A value head and generalised advantage estimation (Schulman et al. 2016)."""

    def __init__(self, hidden_size: int, device: torch.device, config: PPOConfig) -> None:
        self.config = config
        self.value_head = ValueHead(hidden_size).to(device)
        self.optimizer = torch.optim.AdamW(
            self.value_head.parameters(), lr=config.value_learning_rate, weight_decay=0.0
        )

    def parameters(self) -> list[torch.nn.Parameter]:
        return list(self.value_head.parameters())

    def values(self, hidden: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.value_head(hidden)
        return result

    def estimate(
        self,
        rewards: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor,
        groups: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return ppo.compute_advantages(rewards, values, mask, self.config.gamma, self.config.lam)

    def normalize(self, advantages: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return ppo.center_and_scale(advantages, mask, self.config.whiten_floor)

    def loss(
        self,
        hidden: torch.Tensor,
        values: torch.Tensor,
        returns: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        new_values = self.value_head(hidden)
        return ppo.value_loss(new_values, values, returns, mask, self.config.cliprange_value)

    def step(self) -> None:
        self.optimizer.step()


class LeaveOneOut:
    """The mean return of the other responses to the same prompt as the baseline (rloo.py)."""

    def __init__(self, config: PPOConfig, base_replies: float = 0.0) -> None:
        """`base_replies`: responses that the base's own replies count for, where rewards are
        relative to them."""
        self.config, self.base_replies = config, base_replies

    def parameters(self) -> list[torch.nn.Parameter]:
        return []

    def values(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.new_zeros(hidden.shape[:2], dtype=torch.float32)

    def estimate(
        self,
        rewards: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor,
        groups: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        returns = (rewards * mask).sum(-1)
        advantages = rloo.leave_one_out_advantages(returns, groups, self.base_replies)
        return advantages[:, None] * mask, returns[:, None] * mask

    def normalize(self, advantages: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return rloo.scale(advantages, mask, self.config.whiten_floor)

    def loss(
        self,
        hidden: torch.Tensor,
        values: torch.Tensor,
        returns: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        return hidden.new_zeros(())

    def step(self) -> None:
        return None
