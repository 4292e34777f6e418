"""What the work of a round costs: in seconds on this machine or, before anything was timed, in
sampled responses. Only sizes and speeds go in; the planner (round_plan.py) and the time left
(progress.py) work with the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from rlhf_chat.inference.model import Model
from rlhf_chat.reward.features import REFERENCES
from rlhf_chat.training.context import RoundConfig
from rlhf_chat.training.ppo import PPOConfig
from rlhf_chat.training.progress import Stage

PROMPT_TOKENS = 40  # of an average prompt, with the chat template
# Work in a round / the same from timed steps: scoring, the optimiser, padding; of sampling also
# the drawing of tokens, and the context, which grows (docs/LOG.md).
OVERHEAD, SAMPLING_OVERHEAD, TOKENS_OF_HALF_MORE = 1.1, 1.6, 400
RETAINED_TOKENS = 50  # of an average reply to what is retained, its end included
GATE_ATTEMPTS = 1.5  # evaluations of a candidate, on average
FIT, PUBLISH = 10.0, 3.0  # seconds / seconds of one sampled response


class Passes(NamedTuple):
    """Passes over a response, in timed training steps: forward and backward through all layers
    with a gradient in those that are trained."""

    base: float  # forward through the base
    policy: float  # forward through the policy, after the base
    training: float  # forward and backward, after both


# Where gradients reach only the upper layers, and where moreover the lower ones are computed once.
SEPARATE, REUSING = Passes(0.55, 0.55, 1.0), Passes(0.45, 0.30, 0.72)


@dataclass(frozen=True)
class Speed:
    """Seconds on this machine."""

    sampled_token: float  # of one reply in a batch, at its beginning
    trained_token: float  # forward and backward
    passes: Passes = SEPARATE

    @classmethod
    def of(cls, model: Model) -> Speed | None:
        """As `calibrate` timed it; None if it never ran."""
        if not (model.sampled_token_seconds and model.train_token_seconds):
            return None
        return cls(
            SAMPLING_OVERHEAD * model.sampled_token_seconds,
            OVERHEAD * model.train_token_seconds,
            REUSING if model.computes_lower_layers_once else SEPARATE,
        )


@dataclass(frozen=True)
class ResponseCost:
    """Of one response with its prompt, in any unit of time."""

    sampled: float
    read: float  # by the base
    read_again: float  # by the policy
    trained: float  # forward and backward, once
    retained: float = 0.0  # a retained reply, forward and backward, once

    @classmethod
    def at(cls, speed: Speed, tokens: int) -> ResponseCost:
        """Seconds, of responses of so many tokens."""
        step = (PROMPT_TOKENS + tokens) * speed.trained_token
        sampled = tokens * speed.sampled_token * (1 + 0.5 * tokens / TOKENS_OF_HALF_MORE)
        retained = (PROMPT_TOKENS + min(tokens, RETAINED_TOKENS)) * speed.trained_token
        passes = speed.passes
        return cls(
            sampled,
            read=passes.base * step,
            read_again=passes.policy * step,
            trained=passes.training * step,
            retained=passes.training * retained,
        )

    @property
    def reference(self) -> float:
        return self.sampled + self.read

    @property
    def evaluated(self) -> float:
        """Sampled, and read by the base and the policy; collecting a rollout is the same work."""
        return self.sampled + self.read + self.read_again


# Of the bundled model, in its sampled responses (docs/LOG.md).
BUNDLED = ResponseCost(sampled=1.0, read=0.15, read_again=0.15, trained=0.7)


def response_cost(model: Model, config: RoundConfig) -> ResponseCost:
    """With this model and these settings."""
    speed = None if model.is_demo else Speed.of(model)
    return ResponseCost.at(speed, config.ppo.max_new_tokens) if speed else BUNDLED


def update_cost(config: RoundConfig, cost: ResponseCost) -> float:
    """Of one update: its rollouts and the passes over them."""
    return config.ppo.rollouts * cost.evaluated + training_cost(config.ppo, cost)


def training_cost(config: PPOConfig, cost: ResponseCost) -> float:
    """Of the optimiser steps of one update."""
    retained = config.minibatches * config.retention_rows * cost.retained
    return config.ppo_epochs * (config.rollouts * cost.trained + retained)


def gate_cost(config: RoundConfig, cost: ResponseCost) -> float:
    """Of one evaluation of a candidate."""
    return config.scorer.probe_prompts * config.probe_samples * cost.evaluated


def updates_for_gate(config: RoundConfig, cost: ResponseCost) -> float:
    """What the evaluations after the updates take, in updates."""
    return GATE_ATTEMPTS * gate_cost(config, cost) / update_cost(config, cost)


@dataclass(frozen=True)
class MissingReferences:
    """Numbers of prompts, without those whose reference replies are there."""

    to_sample: float  # whose replies are not written
    to_measure: float  # written or not

    def cost(self, cost: ResponseCost) -> float:
        return REFERENCES * (self.to_sample * cost.sampled + self.to_measure * cost.read)

    def drawn(self, config: PPOConfig, prompts: int) -> MissingReferences:
        """Of so many prompts, how many of these a round is expected to draw."""
        batch = max(config.rollouts // config.group, 1)
        share = min(config.updates * batch / max(prompts, 1), 1.0)
        return MissingReferences(share * self.to_sample, share * self.to_measure)


def stages(
    config: RoundConfig,
    cost: ResponseCost,
    before: MissingReferences,
    within: MissingReferences,
    replies: int,
) -> list[Stage]:
    """Expected work of each phase. `before` and `within`: reference replies that are made before
    all else, and with the rollouts of their prompts; `replies`: rated ones not measured yet."""
    rollouts = config.ppo.updates * config.ppo.rollouts
    return [
        {"features": before.cost(cost)},
        {"reward head": FIT * cost.sampled + replies * cost.read},
        {
            "rollouts": rollouts * cost.evaluated + within.cost(cost),
            "ppo": config.ppo.updates * training_cost(config.ppo, cost),
        },
        {"gate": gate_cost(config, cost)},
        {"publishing": PUBLISH * cost.sampled},
    ]
