"""The exercise: rollouts -> rewards -> advantages -> one small update of the candidate adapter.

Pure functions first (tensors in, tensors out), then the two steps that use a model: `collect` and
`update`. Everything is right-aligned: in a (B, R) tensor the last column is each response's last
token, so the score always lands in the last column. Names and signs as in TRL and OpenAI's
lm-human-preferences. Left out: what scores a response (reward.py), when to stop trusting the
candidate (gate.py), what to do with it (trainer.py).

Sources: Schulman et al. 2017 (PPO), 2016 (GAE); Ziegler et al. 2019 (KL in the reward);
Ye et al. 2020 (dual clip).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch

from rlhf_chat.decode import Response, Sampling
from rlhf_chat.memory import in_parts
from rlhf_chat.model import Model


@dataclass(frozen=True)
class PPOConfig:
    """One round of PPO. Defaults are for a small model; see docs/LOG.md for what was tried."""

    updates: int = 20  # collect + update, this many times
    rollouts: int = 32  # responses per update
    group: int = 4  # responses per prompt
    ppo_epochs: int = 2  # passes over the rollouts
    minibatches: int = 2  # optimiser steps per pass
    learning_rate: float = 1e-3
    value_learning_rate: float = 3e-3
    warmup_steps: int = 5
    adam_eps: float = 1e-5
    max_grad_norm: float = 1.0
    cliprange: float = 0.2
    cliprange_value: float = 0.2
    dual_clip: float = 3.0
    kl_coef_start: float = 0.3  # of the theoretical coefficient: a short round stays far from it
    gamma: float = 1.0
    lam: float = 1.0
    max_new_tokens: int = 96
    missing_end_penalty: float = 1.0  # log-odds, for a response cut off by the limit
    fluency_coef: float = 1.0  # reward per nat that a token is less likely than the floor
    whiten_floor: float = 0.1  # smallest std that advantages are divided by
    sft_coef: float = 0.03  # of the loss on what people wrote themselves
    sft_rows: int = 4  # demonstrations in one optimiser step
    target_approxkl: float = 0.015  # per token; more than this ends the epochs of an update
    max_clipfrac: float = 0.3


class Rollouts(NamedTuple):
    """One batch of sampled responses with their tensors; (N, R) tensors are right-aligned."""

    prompts: list[list[int]]
    responses: list[list[int]]
    mask: torch.Tensor  # (N, R) 1 on response tokens
    logprobs: torch.Tensor  # (N, R) of the policy that sampled, from the training forward
    ref_logprobs: torch.Tensor  # (N, R)
    values: torch.Tensor  # (N, R) state value before each token
    scores: torch.Tensor  # (N,)
    rewards: torch.Tensor  # (N, R)
    advantages: torch.Tensor  # (N, R) whitened over the whole batch
    returns: torch.Tensor  # (N, R)
    microbatches: list[list[int]]  # row numbers; the same in every forward, so that ratio is 1

    @property
    def kl(self) -> float:
        """Nats per response from the base, by the responses themselves."""
        return float(((self.logprobs - self.ref_logprobs) * self.mask).sum(-1).mean())


class Demonstration(NamedTuple):
    """A reply as a person would have had it, and how much each of its tokens is their own."""

    prompt: Sequence[int]
    response: Sequence[int]
    weights: Sequence[float]  # one a token of the response


class Scorer(Protocol):
    """Scores responses: (prompt numbers, responses, pooled reference states (N, P)) -> (N,)."""

    def __call__(
        self, numbers: Sequence[int], responses: Sequence[Response], pooled: torch.Tensor
    ) -> np.ndarray: ...


# ---------------------------------------------------------------------- pure parts


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

    Tokens that the reference finds less likely than `floor` cost `fluency_coef` per nat: a style
    learned by breaking the grammar is not learned.
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
            "approxkl": float(((torch.exp(-log_ratio) - 1 + log_ratio) * mask).sum()),
            "ratio_max": float((ratio * mask).max()),
        }
    return -(gain * mask).sum(), stats


def imitation_loss(logprobs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean negative log-prob of demonstrated tokens (B, R), weighted."""
    return -(weights * logprobs).sum() / weights.sum().clamp(min=1e-6)


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


def kl_target(effective_labels: float) -> float:
    """Nats per response the policy may spend: more evidence, more distance."""
    return min(max(0.25 * math.sqrt(max(effective_labels, 0.0)), 1.0), 10.0)


def initial_kl_coef(score_std: float, target: float) -> float:
    """For Gaussian scores, ref * exp(score / kl_coef) has KL score_std^2 / (2 kl_coef^2)."""
    return max(score_std, 1e-3) / math.sqrt(2 * target)


def adapted_kl_coef(kl_coef: float, kl: float, target: float, initial: float) -> float:
    """One proportional step towards the target, kept within a factor 10 of where it began."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return min(max(kl_coef * (1 + 0.5 * error), initial / 10), initial * 10)


def explained_variance(values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor) -> float:
    mean = masked_mean(returns, mask)
    total = masked_mean((returns - mean) ** 2, mask)
    return float(1 - masked_mean((returns - values) ** 2, mask) / total.clamp(min=1e-8))


def plausible(
    model: Model,
    given: Sequence[Demonstration],
    floor: float,
    check: Callable[[], None] = lambda: None,
) -> list[Demonstration]:
    """Demonstrations without the tokens that the base would never say (log-prob under `floor`): one
    cannot lead there from tens of words, and trying to breaks the language on the way."""
    found = []
    for one in given:
        with model.lease.slice(), torch.no_grad():
            out = model.forward(model.reference, [one.prompt], [one.response])
        said = out.logprobs[0][out.mask[0].bool()].tolist()
        weights = [w if p >= floor else 0.0 for w, p in zip(one.weights, said, strict=True)]
        if any(weights):
            found.append(one._replace(weights=weights))
        check()
    return found


def _some(
    given: Sequence[Demonstration], count: int, rng: np.random.Generator
) -> list[Demonstration]:
    """At most `count` of them, at random."""
    if not given:
        return []
    chosen = rng.choice(len(given), size=min(count, len(given)), replace=False)
    return [given[i] for i in chosen]


def right_aligned(rows: Sequence[torch.Tensor], width: int) -> torch.Tensor:
    """List of (len,) -> (N, width), zeros on the left."""
    out = torch.zeros(len(rows), width)
    for i, row in enumerate(rows):
        out[i, width - len(row) :] = row
    return out


def microbatches_by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Row numbers in micro-batches of similar length, so that little is padding."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    return [order[i : i + size] for i in range(0, len(order), size)]


# ---------------------------------------------------------------------- with a model


class ValueHead(torch.nn.Module):
    """State values: linear on the policy's detached hidden state, zero at the start."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(hidden_size, 1)
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, R, H) -> (B, R)."""
        return self.linear(hidden.detach().float()).squeeze(-1)


class Learner:
    """What lasts through one round of PPO: optimisers, value head, KL coefficient."""

    def __init__(
        self,
        model: Model,
        config: PPOConfig,
        *,
        target: float,
        score_std: float,
        floor: float,
        demonstrations: Sequence[Demonstration] = (),
    ) -> None:
        self.model = model
        self.config = config
        self.target = target
        self.floor = floor
        self.demonstrations = list(demonstrations)
        self.initial_kl_coef = config.kl_coef_start * initial_kl_coef(score_std, target)
        self.kl_coef = self.initial_kl_coef
        self.value_head = ValueHead(model.config.hidden_size).to(model.device)
        self.optimizer = torch.optim.AdamW(
            model.policy_parameters(),
            lr=config.learning_rate,
            eps=config.adam_eps,
            weight_decay=0.0,
        )
        self.value_optimizer = torch.optim.AdamW(
            self.value_head.parameters(), lr=config.value_learning_rate, weight_decay=0.0
        )
        self.steps = 0

    # -- collect

    def collect(
        self,
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[int],
        score: Scorer,
        seed: int,
        check: Callable[[], None] = lambda: None,
    ) -> tuple[Rollouts, dict[str, float]]:
        """Samples one response per entry of prompts and works out everything `update` needs.

        `numbers` names each prompt for the scorer; `check` is called between slices and may raise
        to stop the round.
        """
        config, model = self.config, self.model
        sampling = Sampling(max_new_tokens=config.max_new_tokens)
        responses = model.sample(model.speaking_policy(), prompts, sampling, seed=seed, check=check)
        check()
        ids = [r.ids for r in responses]
        ref_rows, pooled = model.reference_pass(prompts, ids, 2 * model.rows_per_slice)
        check()
        raw = torch.as_tensor(np.asarray(score(numbers, responses, pooled)), dtype=torch.float32)
        unfinished = torch.tensor([not r.finished for r in responses])
        scores = raw - config.missing_end_penalty * unfinished.float()
        width = max(len(r) for r in ids)
        lengths = [len(p) + len(r) for p, r in zip(prompts, ids, strict=True)]
        # never so large that a fast machine would take fewer optimiser steps than a slow one
        rows = min(model.rows_per_slice, max(len(ids) // config.minibatches, 1))
        parts = microbatches_by_length(lengths, rows)
        mask, logprobs, values = self._policy_pass(prompts, ids, parts, width, check)
        ref_logprobs = right_aligned(ref_rows, width)
        rewards = compute_rewards(
            scores, logprobs, ref_logprobs, mask, self.kl_coef, self.floor, config.fluency_coef
        )
        advantages, returns = compute_advantages(rewards, values, mask, config.gamma, config.lam)
        rollouts = Rollouts(
            [list(p) for p in prompts],
            ids,
            mask,
            logprobs,
            ref_logprobs,
            values,
            scores,
            rewards,
            center_and_scale(advantages, mask, config.whiten_floor),
            returns,
            parts,
        )
        return rollouts, self._told(rollouts, unfinished)

    def _told(self, rollouts: Rollouts, unfinished: torch.Tensor) -> dict[str, float]:
        """Means over a batch, for the Learning screen and the log."""
        mask, logprobs, scores = rollouts.mask, rollouts.logprobs, rollouts.scores
        return {
            "score": float(scores.mean()),
            "score_std": float(scores.std()),
            "kl": rollouts.kl,
            "kl_coef": self.kl_coef,
            "reward": float(rollouts.rewards.sum(-1).mean()),
            "response_tokens": float(mask.sum(-1).mean()),
            "entropy": -float(masked_mean(logprobs, mask)),
            "unfinished": float(unfinished.float().mean()),
            "explained_variance": explained_variance(rollouts.values, rollouts.returns, mask),
        }

    def _policy_pass(
        self,
        prompts: Sequence[Sequence[int]],
        ids: Sequence[Sequence[int]],
        parts: list[list[int]],
        width: int,
        check: Callable[[], None],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """mask, logprobs, values (N, R). Grad stays enabled: quantised kernels differ without it,
        and the first ratio of `update` has to be exactly 1."""
        mask = torch.zeros(len(ids), width)
        logprobs = torch.zeros(len(ids), width)
        values = torch.zeros(len(ids), width)

        def work(rows: list[int]) -> None:
            with self.model.lease.slice(), torch.enable_grad():
                out = self.model.forward(
                    self.model.policy, [prompts[i] for i in rows], [ids[i] for i in rows]
                )
                r = out.mask.shape[1]
                mask[rows, width - r :] = out.mask.cpu()
                logprobs[rows, width - r :] = out.logprobs.detach().cpu()
                values[rows, width - r :] = (self.value_head(out.hidden) * out.mask).detach().cpu()

        done = []
        for rows, _ in in_parts(parts, work, self.model.relieve):
            done.append(rows)
            check()
        parts[:] = done  # smaller ones, where memory was short: update uses the same
        return mask, logprobs, values

    # -- update

    def update(
        self, rollouts: Rollouts, seed: int, check: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """PPO epochs over one batch of rollouts. Raises FloatingPointError on a loss or gradient
        that is not finite, before it reaches a weight."""
        config = self.config
        rng = np.random.default_rng(seed)
        totals: dict[str, float] = {}
        stopped = 0.0
        kl = rollouts.kl
        imitate = bool(self.demonstrations) and kl < self.target
        for _ in range(config.ppo_epochs):
            order = rng.permutation(len(rollouts.microbatches))
            for chosen in np.array_split(order, min(config.minibatches, len(order))):
                parts = [rollouts.microbatches[i] for i in chosen]
                shown = _some(self.demonstrations, config.sft_rows, rng) if imitate else []
                stats = self._step(parts, rollouts, check, shown)
                for key, value in stats.items():
                    totals[key] = max(totals.get(key, 0.0), value)
            if (
                totals["approxkl"] > config.target_approxkl
                or totals["clipfrac"] > config.max_clipfrac
            ):
                stopped = 1.0
                break
        self.kl_coef = adapted_kl_coef(self.kl_coef, kl, self.target, self.initial_kl_coef)
        return {**totals, "stopped_early": stopped}

    def _step(
        self,
        parts: list[list[int]],
        rollouts: Rollouts,
        check: Callable[[], None],
        shown: Sequence[Demonstration] = (),
    ) -> dict[str, float]:
        """One optimiser step over a minibatch, micro-batch by micro-batch."""
        tokens = float(sum(rollouts.mask[rows].sum() for rows in parts))
        self._forget_gradient()  # of a step that failed half way
        totals = {"clipfrac": 0.0, "approxkl": 0.0, "ratio_max": 0.0, "loss": 0.0, "vf_loss": 0.0}

        def work(rows: list[int]) -> dict[str, float]:
            with self.model.lease.slice(), torch.enable_grad():
                loss, vf_loss, stats = self._losses(rows, rollouts)
                total = (loss + vf_loss) / tokens
                if not torch.isfinite(total):
                    raise FloatingPointError("the PPO loss is not a finite number")
                self._add_gradient(total)
                return stats | {"loss": float(loss.detach()), "vf_loss": float(vf_loss.detach())}

        for _, stats in in_parts(parts, work, self.model.relieve):
            totals["ratio_max"] = max(totals["ratio_max"], stats.pop("ratio_max"))
            for key, value in stats.items():
                totals[key] += value / tokens
            check()
        if shown:
            totals["sft_loss"] = self._imitate(shown)
        with self.model.lease.slice():
            totals["grad_norm"] = self._apply()
        return totals

    def _imitate(self, shown: Sequence[Demonstration]) -> float:
        """Adds the gradient of the supervised term to PPO's; returns its loss."""
        with self.model.lease.slice(), torch.enable_grad():
            out = self.model.forward(
                self.model.policy, [d.prompt for d in shown], [d.response for d in shown]
            )
            weights = right_aligned([torch.tensor(d.weights) for d in shown], out.mask.shape[1])
            loss = imitation_loss(out.logprobs, weights.to(out.logprobs.device))
            if not torch.isfinite(loss):
                raise FloatingPointError("the loss on your own words is not a finite number")
            self._add_gradient(self.config.sft_coef * loss)
        return float(loss.detach())

    def _add_gradient(self, total: torch.Tensor) -> None:
        """All of it or, when memory runs out on the way, nothing."""
        params = [*self.model.policy_parameters(), *self.value_head.parameters()]
        for param, grad in zip(
            params, torch.autograd.grad(total, params, allow_unused=True), strict=True
        ):
            if grad is not None:
                param.grad = grad if param.grad is None else param.grad.add_(grad)

    def _losses(
        self, rows: list[int], rollouts: Rollouts
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """Summed policy and value loss of one micro-batch."""
        config, device = self.config, self.model.device
        out = self.model.forward(
            self.model.policy,
            [rollouts.prompts[i] for i in rows],
            [rollouts.responses[i] for i in rows],
        )
        width = out.mask.shape[1]

        def part(x: torch.Tensor) -> torch.Tensor:
            return x[rows, x.shape[1] - width :].to(device)

        loss, stats = policy_loss(
            out.logprobs,
            part(rollouts.logprobs),
            part(rollouts.advantages),
            out.mask,
            config.cliprange,
            config.dual_clip,
        )
        vf_loss = value_loss(
            self.value_head(out.hidden),
            part(rollouts.values),
            part(rollouts.returns),
            out.mask,
            config.cliprange_value,
        )
        return loss, vf_loss, stats

    def _apply(self) -> float:
        """Clips, checks and takes the optimiser step; returns the gradient norm."""
        params = self.model.policy_parameters()
        if any(p.grad is None for p in params):
            raise FloatingPointError("an adapter weight received no gradient")
        norm = float(torch.nn.utils.clip_grad_norm_(params, self.config.max_grad_norm))
        if not math.isfinite(norm):
            raise FloatingPointError("the PPO gradient is not a finite number")
        self.steps += 1
        warm = min(1.0, self.steps / max(self.config.warmup_steps, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * warm
        self.optimizer.step()
        self.value_optimizer.step()
        self._forget_gradient()
        return norm

    def _forget_gradient(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.value_optimizer.zero_grad(set_to_none=True)
