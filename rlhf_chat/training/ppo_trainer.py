"""Clipped policy-gradient updates of the candidate adapter: rollouts, rewards, advantages, steps.

`collect` and `update` are the two steps; `PPOTrainer` is what lasts from one to the next. Work is
cut into micro-batches, each one lease slice, so that chat can go first. PPO and RLOO use the same
trainer with another advantage estimator (advantages.py); the formulas are in ppo.py and rloo.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch

from rlhf_chat.errors import NumericError
from rlhf_chat.inference import forward_pass
from rlhf_chat.inference.forward_pass import LowerStates
from rlhf_chat.inference.generate import Response
from rlhf_chat.inference.generator import Generator
from rlhf_chat.inference.memory import in_parts, parts_within
from rlhf_chat.inference.model import Model
from rlhf_chat.training import demonstrations as demonstrations_
from rlhf_chat.training import ppo
from rlhf_chat.training.advantages import AdvantageEstimator, Critic
from rlhf_chat.training.demonstrations import Demonstration
from rlhf_chat.training.ppo import PPOConfig
from rlhf_chat.training.progress import CountedCheck, within
from rlhf_chat.training.retention import Retention

SAMPLING_SHARE = 0.7  # of the time of `collect`


class Rollouts(NamedTuple):
    """One batch of sampled responses with their tensors; (N, R) tensors are right-aligned."""

    prompts: list[list[int]]
    responses: list[list[int]]
    mask: torch.Tensor  # (N, R) 1 on response tokens
    logprobs: torch.Tensor  # (N, R) of the policy that sampled, from the training forward
    ref_logprobs: torch.Tensor  # (N, R)
    values: torch.Tensor  # (N, R) expected return before each token; 0 without a critic
    scores: torch.Tensor  # (N,)
    rewards: torch.Tensor  # (N, R)
    advantages: torch.Tensor  # (N, R) scaled over the whole batch, by PPO centred too
    returns: torch.Tensor  # (N, R)
    microbatches: list[list[int]]  # row numbers; the same in every forward, so that ratio is 1
    lower: LowerStates  # of these, where no update changes them

    @property
    def kl(self) -> float:
        """Nats per response from the base, by the responses themselves."""
        return float(((self.logprobs - self.ref_logprobs) * self.mask).sum(-1).mean())


class Scorer(Protocol):
    """Scores responses: (prompt numbers, responses, pooled reference states (N, P)) -> (N,)."""

    def __call__(
        self, numbers: Sequence[int], responses: Sequence[Response], pooled: torch.Tensor
    ) -> np.ndarray: ...


class PPOTrainer:
    """What lasts through one round: optimiser, advantage estimator, KL coefficient."""

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
        retention: Retention | None = None,
        estimator: AdvantageEstimator | None = None,
        generator: Generator | None = None,
    ) -> None:
        """`target`: nats per response that the policy may spend; `score_std`: of the base's own
        replies; `floor`: log-prob below which a token costs reward; `estimator`: a critic (PPO)
        unless another one is given.

        `base_ends`: the share of the base's own replies that end within the limit. Where the base
        often runs into the limit, penalising that would only teach brevity."""
        self.model = model
        self.generator: Generator = generator or model  # of rollouts
        self.config = config
        self.target = target
        self.floor = floor
        self.end_penalty = config.missing_end_penalty * base_ends
        self.demonstrations = list(demonstrations)
        self.retention = retention
        self.initial_kl_coef = config.kl_coef_start * ppo.initial_kl_coef(score_std, target)
        self.kl_coef = self.initial_kl_coef
        self.estimator = estimator or Critic(model.config.hidden_size, model.device, config)
        self.optimizer = torch.optim.AdamW(
            model.policy_parameters(),
            lr=config.learning_rate,
            eps=config.adam_eps,
            weight_decay=0.0,
        )
        self.steps = 0
        self._sampling_checks = 20  # calls of `check` while sampling; later as many as last time

    # -- collect

    def collect(
        self,
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[int],
        score: Scorer,
        seed: int,
        check: Callable[[], None] = lambda: None,
        advance: Callable[[float], None] = lambda share: None,
    ) -> tuple[Rollouts, dict[str, float]]:
        """Samples one response per entry of prompts and computes everything `update` needs.

        `numbers` names each prompt for the scorer and for advantages within a prompt; `check` is
        called between slices and may raise to stop the round; `advance` gets the share done, 0..1.
        """
        config, model = self.config, self.model
        responses = self._sample(prompts, seed, check, within(advance, 0.0, SAMPLING_SHARE))
        ids = [r.ids for r in responses]
        width = max(len(r) for r in ids)
        parts = self._microbatches(prompts, ids)
        counted = CountedCheck(check, within(advance, SAMPLING_SHARE, 1.0), len(parts))
        ref_rows, pooled, lower = forward_pass.reference_pass(model, prompts, ids, parts=parts)
        mask, logprobs, values = self._policy_pass(prompts, ids, parts, lower, width, counted)
        unfinished = torch.tensor([not r.finished for r in responses])
        scores = torch.as_tensor(np.asarray(score(numbers, responses, pooled)), dtype=torch.float32)
        scores = scores - self.end_penalty * unfinished.float()
        ref_logprobs = ppo.right_aligned(ref_rows, width)
        rewards = ppo.compute_rewards(
            scores, logprobs, ref_logprobs, mask, self.kl_coef, self.floor, config.fluency_coef
        )
        advantages, returns = self.estimator.estimate(
            rewards, values, mask, torch.as_tensor(list(numbers))
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
            self.estimator.normalize(advantages, mask),
            returns,
            parts,
            lower,
        )
        model.release_freed()  # half a gigabyte of both passes, which the update need not add to
        explained = ppo.explained_variance(returns - advantages, returns, mask)
        return rollouts, self._stats(rollouts, unfinished) | {"explained_variance": explained}

    def _sample(
        self,
        prompts: Sequence[Sequence[int]],
        seed: int,
        check: Callable[[], None],
        advance: Callable[[float], None],
    ) -> list[Response]:
        sampling = self.model.sampling.limited(self.config.max_new_tokens)
        counted = CountedCheck(check, advance, self._sampling_checks)
        responses = self.generator.sample(
            self.model.inference_policy(), prompts, sampling, seed=seed, check=counted
        )
        self._sampling_checks = counted.calls
        check()
        return responses

    def _microbatches(
        self, prompts: Sequence[Sequence[int]], ids: Sequence[Sequence[int]]
    ) -> list[list[int]]:
        """Row numbers, rows of like length together, so that little is padding. Never so large that
        a fast machine would take fewer optimiser steps than a slow one."""
        lengths = [len(p) + len(r) for p, r in zip(prompts, ids, strict=True)]
        rows = min(self.model.microbatch_rows, max(len(ids) // self.config.minibatches, 1))
        by_length = sorted(range(len(lengths)), key=lambda i: lengths[i])
        return parts_within(lengths, rows, self.model.tokens_per_row, by_length)

    def _stats(self, rollouts: Rollouts, unfinished: torch.Tensor) -> dict[str, float]:
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
        }

    def _policy_pass(
        self,
        prompts: Sequence[Sequence[int]],
        ids: Sequence[Sequence[int]],
        parts: list[list[int]],
        lower: LowerStates,
        width: int,
        check: Callable[[], None],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """mask, logprobs, values (N, R). Leaves in `lower` what `update` need not compute again.
        Grad stays enabled where kernels differ without it: the first ratio of `update` has to be
        exactly 1."""
        mask, logprobs, values = torch.zeros(3, len(ids), width, dtype=torch.float32).unbind()

        def work(rows: list[int]) -> None:
            grad = not self.model.same_without_grad
            with self.model.lease.slice(), torch.set_grad_enabled(grad):
                out = forward_pass.forward_rows(
                    self.model, self.model.policy, rows, prompts, ids, lower
                )
                r = out.mask.shape[1]
                mask[rows, width - r :] = out.mask.cpu()
                logprobs[rows, width - r :] = out.logprobs.detach().cpu()
                expected = self.estimator.values(out.hidden) * out.mask
                values[rows, width - r :] = expected.detach().cpu()
                if out.lower is not None:
                    lower[tuple(rows)] = out.lower

        done = []
        for rows, _ in in_parts(parts, work, self.model.reduce_batch):
            done.append(rows)
            check()
        parts[:] = done  # smaller ones where memory was short; `update` must use the same
        return mask, logprobs, values

    # -- update

    def update(
        self,
        rollouts: Rollouts,
        seed: int,
        check: Callable[[], None] = lambda: None,
        advance: Callable[[float], None] = lambda share: None,
    ) -> dict[str, float]:
        """PPO epochs over one batch of rollouts. Raises NumericError on a loss or gradient
        that is not finite, before it reaches a weight."""
        config = self.config
        check = CountedCheck(check, advance, config.ppo_epochs * len(rollouts.microbatches))
        rng = np.random.default_rng(seed)
        totals: dict[str, float] = {}
        stopped = 0.0
        kl = rollouts.kl
        imitate = bool(self.demonstrations) and kl < self.target
        for _ in range(config.ppo_epochs):
            order = rng.permutation(len(rollouts.microbatches))
            for chosen in np.array_split(order, min(config.minibatches, len(order))):
                parts = [rollouts.microbatches[i] for i in chosen]
                shown = (
                    demonstrations_.choose(self.demonstrations, config.sft_rows, rng)
                    if imitate
                    else []
                )
                stats = self._step(parts, rollouts, check, shown, rng)
                for key, value in stats.items():
                    totals[key] = max(totals.get(key, 0.0), value)
            if (
                totals["approxkl"] > config.target_approxkl
                or totals["clipfrac"] > config.max_clipfrac
            ):
                stopped = 1.0
                break
        self.kl_coef = ppo.adapted_kl_coef(self.kl_coef, kl, self.target, self.initial_kl_coef)
        self.model.release_freed()
        return {**totals, "stopped_early": stopped}

    def _step(
        self,
        parts: list[list[int]],
        rollouts: Rollouts,
        check: Callable[[], None],
        shown: Sequence[Demonstration],
        rng: np.random.Generator,
    ) -> dict[str, float]:
        """One optimiser step over a minibatch, micro-batch by micro-batch."""
        tokens = float(sum(rollouts.mask[rows].sum() for rows in parts))
        self._zero_grad()  # a step that failed half-way may have left some
        totals = {"clipfrac": 0.0, "approxkl": 0.0, "ratio_max": 0.0, "loss": 0.0, "vf_loss": 0.0}

        def work(rows: list[int]) -> dict[str, float]:
            with self.model.lease.slice(), torch.enable_grad():
                loss, vf_loss, stats = self._losses(rows, rollouts)
                total = (loss + vf_loss) / tokens
                if not torch.isfinite(total):
                    raise NumericError("round.ppo_loss_not_finite")
                self._add_gradient(total)
                return stats | {"loss": float(loss.detach()), "vf_loss": float(vf_loss.detach())}

        for _, stats in in_parts(parts, work, self.model.reduce_batch):
            totals["ratio_max"] = max(totals["ratio_max"], stats.pop("ratio_max"))
            for key, value in stats.items():
                totals[key] += value / tokens
            check()
        if shown:
            totals["sft_loss"] = self._imitate(shown)
        if self.retention:
            coef = self.config.retention_coef
            totals["retention_kl"] = self.retention.add_gradient(self._add_gradient, coef, rng)
        with self.model.lease.slice():
            totals["grad_norm"] = self._apply()
        return totals

    def _imitate(self, shown: Sequence[Demonstration]) -> float:
        """Adds the gradient of the supervised term; returns its loss."""
        total_weight = max(sum(sum(d.weights) for d in shown), 1e-6)

        def work(rows: list[int]) -> float:
            batch = [shown[i] for i in rows]
            with self.model.lease.slice(), torch.enable_grad():
                out = forward_pass.forward(
                    self.model,
                    self.model.policy,
                    [d.prompt for d in batch],
                    [d.response for d in batch],
                )
                width, device = out.mask.shape[1], out.logprobs.device
                weights = ppo.right_aligned(
                    [torch.tensor(d.weights, dtype=torch.float32) for d in batch], width
                )
                worth = torch.tensor([d.worth for d in batch], dtype=torch.float32, device=device)
                loss = ppo.imitation_loss(out.logprobs, weights.to(device), worth) / total_weight
                if not torch.isfinite(loss):
                    raise NumericError("round.demonstration_loss_not_finite")
                self._add_gradient(self.config.sft_coef * loss)
                return float(loss.detach())

        lengths = [len(d.prompt) + len(d.response) for d in shown]
        parts = parts_within(lengths, self.model.microbatch_rows, self.model.tokens_per_row)
        return sum(loss for _, loss in in_parts(parts, work, self.model.reduce_batch))

    def _add_gradient(self, total: torch.Tensor) -> None:
        """Adds to .grad all of it or, when memory runs out on the way, nothing."""
        params = [*self.model.policy_parameters(), *self.estimator.parameters()]
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
        out = forward_pass.forward_rows(
            self.model,
            self.model.policy,
            rows,
            rollouts.prompts,
            rollouts.responses,
            rollouts.lower,
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
        vf_loss = self.estimator.loss(
            out.hidden, part(rollouts.values), part(rollouts.returns), out.mask
        )
        return loss, vf_loss, stats

    def _apply(self) -> float:
        """Clips, checks and takes the optimiser step; returns the gradient norm."""
        params = self.model.policy_parameters()
        if any(p.grad is None for p in params):
            raise NumericError("round.no_gradient")
        norm = float(torch.nn.utils.clip_grad_norm_(params, self.config.max_grad_norm))
        if not math.isfinite(norm):
            raise NumericError("round.gradient_not_finite")
        self.steps += 1
        warm = min(1.0, self.steps / max(self.config.warmup_steps, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * warm
        self.optimizer.step()
        self.estimator.step()
        self._zero_grad()
        return norm

    def _zero_grad(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        for param in self.estimator.parameters():
            param.grad = None
