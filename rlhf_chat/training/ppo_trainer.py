"""The exercise: rollouts -> rewards -> advantages -> small updates of the candidate adapter.

`collect` and `update` are the two steps; what lasts from one to the next is the `PPOTrainer`. Work is
cut into micro-batches, each a slice of compute that gives way to chat. Left out: the formulas
(ppo.py), what scores a response (reward_model.py), when to stop trusting the candidate (gate.py), what to
do with it (worker.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch

from rlhf_chat.inference.generate import Response, Sampling
from rlhf_chat.inference.memory import in_parts, parts_within
from rlhf_chat.inference.model import Model
from rlhf_chat.training import ppo
from rlhf_chat.training.ppo import PPOConfig


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
    worth: float = 1.0  # of the whole: little for a mended typo


class Scorer(Protocol):
    """Scores responses: (prompt numbers, responses, pooled reference states (N, P)) -> (N,)."""

    def __call__(
        self, numbers: Sequence[int], responses: Sequence[Response], pooled: torch.Tensor
    ) -> np.ndarray: ...


def mask_unlikely(
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
        token_logprobs = out.logprobs[0][out.mask[0].bool()].tolist()
        weights = [
            w if p >= floor else 0.0 for w, p in zip(one.weights, token_logprobs, strict=True)
        ]
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


class PPOTrainer:
    """What lasts through one round of PPO: optimisers, value head, KL coefficient."""

    def __init__(
        self,
        model: Model,
        config: PPOConfig,
        *,
        target: float,
        score_std: float,
        floor: float,
        base_ends: float = 1.0,
        demonstrations: Sequence[Demonstration] = (),
    ) -> None:
        """`base_ends`: the share of the base's own replies that end within the limit. Where it
        often runs on, being cut off is no fault, and punishing it would teach brevity."""
        self.model = model
        self.config = config
        self.target = target
        self.floor = floor
        self.end_penalty = config.missing_end_penalty * base_ends
        self.demonstrations = list(demonstrations)
        self.initial_kl_coef = config.kl_coef_start * ppo.initial_kl_coef(score_std, target)
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
        responses = model.sample(
            model.inference_policy(), prompts, sampling, seed=seed, check=check
        )
        check()
        ids = [r.ids for r in responses]
        ref_rows, pooled = model.reference_pass(prompts, ids, 2 * model.rows_per_slice)
        check()
        raw = torch.as_tensor(np.asarray(score(numbers, responses, pooled)), dtype=torch.float32)
        unfinished = torch.tensor([not r.finished for r in responses])
        scores = raw - self.end_penalty * unfinished.float()
        width = max(len(r) for r in ids)
        lengths = [len(p) + len(r) for p, r in zip(prompts, ids, strict=True)]
        # never so large that a fast machine would take fewer optimiser steps than a slow one
        rows = min(model.rows_per_slice, max(len(ids) // config.minibatches, 1))
        alike = sorted(range(len(lengths)), key=lambda i: lengths[i])  # little is padding
        parts = parts_within(lengths, rows, model.tokens_per_row, alike)
        mask, logprobs, values = self._policy_pass(prompts, ids, parts, width, check)
        ref_logprobs = ppo.right_aligned(ref_rows, width)
        rewards = ppo.compute_rewards(
            scores, logprobs, ref_logprobs, mask, self.kl_coef, self.floor, config.fluency_coef
        )
        advantages, returns = ppo.compute_advantages(
            rewards, values, mask, config.gamma, config.lam
        )
        rollouts = Rollouts(
            [list(p) for p in prompts],
            ids,
            mask,
            logprobs,
            ref_logprobs,
            values,
            scores,
            rewards,
            ppo.center_and_scale(advantages, mask, config.whiten_floor),
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
            "entropy": -float(ppo.masked_mean(logprobs, mask)),
            "unfinished": float(unfinished.float().mean()),
            "explained_variance": ppo.explained_variance(rollouts.values, rollouts.returns, mask),
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
        for rows, _ in in_parts(parts, work, self.model.reduce_batch):
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
        self.kl_coef = ppo.adapted_kl_coef(self.kl_coef, kl, self.target, self.initial_kl_coef)
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

        for _, stats in in_parts(parts, work, self.model.reduce_batch):
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
        everything = max(sum(sum(d.weights) for d in shown), 1e-6)

        def work(rows: list[int]) -> float:
            some = [shown[i] for i in rows]
            with self.model.lease.slice(), torch.enable_grad():
                out = self.model.forward(
                    self.model.policy, [d.prompt for d in some], [d.response for d in some]
                )
                width, device = out.mask.shape[1], out.logprobs.device
                weights = ppo.right_aligned([torch.tensor(d.weights) for d in some], width)
                worth = torch.tensor([d.worth for d in some], device=device)
                loss = ppo.imitation_loss(out.logprobs, weights.to(device), worth) / everything
                if not torch.isfinite(loss):
                    raise FloatingPointError("the loss on your own words is not a finite number")
                self._add_gradient(self.config.sft_coef * loss)
                return float(loss.detach())

        lengths = [len(d.prompt) + len(d.response) for d in shown]
        parts = parts_within(lengths, self.model.rows_per_slice, self.model.tokens_per_row)
        return sum(loss for _, loss in in_parts(parts, work, self.model.reduce_batch))

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

        loss, stats = ppo.policy_loss(
            out.logprobs,
            part(rollouts.logprobs),
            part(rollouts.advantages),
            out.mask,
            config.cliprange,
            config.dual_clip,
        )
        vf_loss = ppo.value_loss(
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
