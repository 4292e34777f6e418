"""PPO in formulas: tensors in, tensors out.

Everything is right-aligned: in a (B, R) tensor the last column is each response's last token, so
the score always lands in the last column. Names and signs as in TRL and OpenAI's
lm-human-preferences. What calls a model: ppo_trainer.py.

Sources: Schulman et al. 2017 (PPO), 2016 (GAE); Ziegler et al. 2019 (KL in the reward);
Ye et al. 2020 (dual clip).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

# Nats per response, however few or many ratings. Even a head fitted to ten votes holds as far as
# the first: the best of 32 drafts (2.5 nats) by it wins .79, the best of 8 (1.2 nats) .73. Further
# out the language suffers before the preference does (docs/LOG.md).
KL_TARGETS = 2.0, 10.0
KL_TOKENS = 48.0  # of a reply: longer ones may go as far by token, and so further as a whole


@dataclass(frozen=True)
class PPOConfig:
    """One round of PPO or RLOO. Defaults are for the bundled model (docs/LOG.md)."""

    updates: int = 20  # at most; fewer where the KL target is reached
    rollouts: int = 32  # responses per update
    group: int = 4  # responses per prompt
    ppo_epochs: int = 2  # passes over the rollouts
    minibatches: int = 2  # optimiser steps per pass
    learning_rate: float = 1e-3
    value_learning_rate: float = 3e-3  # of the critic, as are cliprange_value, gamma and lam
    warmup_steps: int = 5
    adam_eps: float = 1e-5
    max_grad_norm: float = 1.0
    cliprange: float = 0.2
    cliprange_value: float = 0.2
    dual_clip: float = 3.0
    kl_coef_start: float = 0.3  # share of `initial_kl_coef`, which a short round stays far from
    gamma: float = 1.0
    lam: float = 1.0
    max_new_tokens: int = 96  # for the bundled model; others write longer replies (round_plan.py)
    missing_end_penalty: float = 1.0  # log-odds, for a response cut off where the base ends
    fluency_coef: float = 1.0  # reward per nat that a token is less likely than the floor
    whiten_floor: float = 0.1  # smallest std that advantages are divided by
    sft_coef: float = 0.03  # of the supervised loss on corrected replies
    sft_rows: int = 4  # demonstrations in one optimiser step
    retention_coef: float = 0.1  # of the KL from the base on what must be retained (retention.py)
    retention_rows: int = 8  # of replies to that and of plain text in one step
    target_approxkl: float = 0.015  # per token; more than this ends the epochs of an update
    max_clipfrac: float = 0.3


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (x * mask).sum() / mask.sum().clamp(min=1)


def center_and_scale(x: torch.Tensor, mask: torch.Tensor, floor: float) -> torch.Tensor:
    """(x - mean) / max(std, floor) over masked entries; 0 elsewhere.

    The floor keeps a batch of equal rewards from being blown up into full-strength noise.
    """
    mean = masked_mean(x, mask)
    std = masked_mean((x - mean) ** 2, mask).sqrt()
    return (x - mean) / std.clamp(min=floor) * mask


def compute_rewards(
    scores: torch.Tensor,
    logprobs: torch.Tensor,
    ref_logprobs: torch.Tensor,
    mask: torch.Tensor,
    kl_coef: float,
    floor: float = -math.inf,
    fluency_coef: float = 0.0,
) -> torch.Tensor:
    """Per-token reward (N, R): -kl_coef * (logprob - ref_logprob), the score on the last token.

    Tokens that the reference finds less likely than `floor` cost `fluency_coef` per nat, so that a
    style is not bought with broken grammar.
    """
    rewards = -kl_coef * (logprobs - ref_logprobs)
    if fluency_coef:
        rewards = rewards - fluency_coef * (floor - ref_logprobs).clamp(min=0)
    rewards = rewards * mask
    rewards[:, -1] += scores
    return rewards


def compute_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalised advantage estimation, right to left; returns (advantages, returns), (N, R)."""
    advantages = torch.zeros_like(rewards)
    next_value = torch.zeros_like(rewards[:, 0])
    running = torch.zeros_like(next_value)
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        running = (delta + gamma * lam * running) * mask[:, t]
        advantages[:, t] = running
        next_value = values[:, t] * mask[:, t]
    return advantages, (advantages + values) * mask


def policy_loss(
    new_logprobs: torch.Tensor,
    logprobs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    cliprange: float,
    dual_clip: float,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Clipped surrogate, *summed* over tokens (the caller divides by the minibatch's tokens)."""
    log_ratio = (new_logprobs - logprobs).clamp(-20, 20)
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - cliprange, 1 + cliprange)
    gain = torch.minimum(ratio * advantages, clipped * advantages)
    gain = torch.where(advantages < 0, torch.maximum(gain, dual_clip * advantages), gain)
    with torch.no_grad():
        stats = {
            "clipfrac": float((((ratio - 1).abs() > cliprange).float() * mask).sum()),
            "approxkl": float(((ratio - 1 - log_ratio) * mask).sum()),
            "ratio_max": float((ratio * mask).max()),
        }
    return -(gain * mask).sum(), stats


def imitation_loss(
    logprobs: torch.Tensor, weights: torch.Tensor, worth: torch.Tensor
) -> torch.Tensor:
    """Negative log-prob of demonstrated tokens (B, R), weighted and *summed* (the caller divides by
    the weights of the whole minibatch), times the worth of each demonstration (B,)."""
    return -(worth[:, None] * weights * logprobs).sum()


def value_loss(
    new_values: torch.Tensor,
    values: torch.Tensor,
    returns: torch.Tensor,
    mask: torch.Tensor,
    cliprange_value: float,
) -> torch.Tensor:
    """Clipped squared error, summed over tokens, halved."""
    clipped = values + (new_values - values).clamp(-cliprange_value, cliprange_value)
    worst = torch.maximum((new_values - returns) ** 2, (clipped - returns) ** 2)
    return 0.5 * (worst * mask).sum()


def kl_target(effective_labels: float, tokens: float = KL_TOKENS) -> float:
    """KL to the base, nats per response, for so many ratings and responses of `tokens` tokens on
    average: 0.25 sqrt(n) within KL_TARGETS, for long responses in proportion to their length."""
    least, most = KL_TARGETS
    short = min(max(0.25 * math.sqrt(max(effective_labels, 0.0)), least), most)
    return short * max(tokens / KL_TOKENS, 1.0)


def updates_to_target(first: float, kl: float, done: int, target: float) -> float:
    """How many more updates reach the KL target; inf where it does not grow. `first`: KL before the
    first update, `kl`: after `done` ones, nats. The KL of like steps grows with the square of their
    number, so that its root grows evenly."""
    start, now, end = (math.sqrt(max(x, 0.0)) for x in (first, kl, target))
    if done < 1 or now <= start:
        return math.inf
    return max((end - now) / (now - start) * done, 0.0)


def initial_kl_coef(score_std: float, target: float) -> float:
    """The coefficient whose optimum has KL `target`: for Gaussian scores, ref * exp(score /
    kl_coef) has KL score_std^2 / (2 kl_coef^2)."""
    return max(score_std, 1e-3) / math.sqrt(2 * target)


def adapted_kl_coef(kl_coef: float, kl: float, target: float, initial: float) -> float:
    """One proportional step towards the target, kept within a factor 10 of where it began."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return min(max(kl_coef * (1 + 0.5 * error), initial / 10), initial * 10)


def explained_variance(values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor) -> float:
    """1 - mean squared error / variance of the returns, over masked entries; 1 is perfect."""
    mean = masked_mean(returns, mask)
    total = masked_mean((returns - mean) ** 2, mask)
    return float(1 - masked_mean((returns - values) ** 2, mask) / total.clamp(min=1e-8))


def right_aligned(rows: Sequence[torch.Tensor], width: int) -> torch.Tensor:
    """List of (len,) -> (N, width) float32, zeros on the left."""
    out = torch.zeros(len(rows), width, dtype=torch.float32)
    for i, row in enumerate(rows):
        out[i, width - len(row) :] = row
    return out
