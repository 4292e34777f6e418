"""How large a round may be to end in about the time it is given, from the model's measured speed.

Numbers in, numbers out: `planned` changes the sizes in a RoundConfig, nothing else. Replies as long
as the model is used to come first; where that leaves too few updates, they are shortened.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rlhf_chat.inference.memory_estimate import Workload
from rlhf_chat.inference.model import Model
from rlhf_chat.reward.features import REFERENCES
from rlhf_chat.training.context import RoundConfig
from rlhf_chat.training.ppo import PPOConfig

MINUTES = 10.0  # that a round should take
REAL_MODELS = PPOConfig(rollouts=64, ppo_epochs=1, minibatches=4, learning_rate=4e-4)
# On a CPU a step of 32 rows takes 2.7 times as long as the step of 8 that is timed (docs/LOG.md).
CPU_ROWS = 32 / 2.7
PROMPT_TOKENS = 40  # of an average prompt, with the chat template
RESPONSE_TOKENS = 256, 192, 128, 96, 64, 48  # limits of a reply that are tried, longest first
ENOUGH_UPDATES = 7  # before longer replies are worth it
MIN_UPDATES, MAX_UPDATES = 4, 20
SMALL_PROMPT_SETS = 32, 24  # suggested prompts and probes, where even short replies take too long
FORWARD_SHARE = 1 / 3  # of a training step that is its forward pass
GATE_ATTEMPTS = 1.5  # evaluations of a candidate, on average


@dataclass(frozen=True)
class RoundSize:
    """What a round does, in numbers to be shown."""

    updates: int  # at most
    replies: int  # for each update
    tokens: int  # of a reply, at most

    @classmethod
    def of(cls, config: RoundConfig) -> RoundSize:
        return cls(config.ppo.updates, config.ppo.rollouts, config.ppo.max_new_tokens)


@dataclass(frozen=True)
class Speed:
    """Seconds on this machine."""

    sampled_token: float  # of one reply in a batch
    trained_token: float  # forward and backward


def config_for(model: Model, minutes: float = MINUTES) -> RoundConfig:
    """The settings of a round with this model: the defaults for the bundled one; real ones write
    longer replies and take small, many steps, as many as fit into the time. They have no critic: it
    explained nothing within one round (docs/LOG.md)."""
    if model.is_demo:
        return RoundConfig()
    tokens = min(Workload().response, model.context_tokens // 4)
    config = RoundConfig(algorithm="rloo", ppo=replace(REAL_MODELS, max_new_tokens=tokens))
    if not (model.step_seconds and model.train_token_seconds):
        return config  # never calibrated
    rows = CPU_ROWS if model.device.type == "cpu" else config.ppo.rollouts  # a step costs alike
    speed = Speed(model.step_seconds / rows, model.train_token_seconds)
    return planned(config, speed, 60 * minutes)


@dataclass(frozen=True)
class _Costs:
    """Seconds for one response of a given length."""

    reference: float  # sampled and measured by the base
    evaluated: float  # sampled and read by the policy and the base
    rollout: float  # the same, and trained on

    @classmethod
    def of(cls, speed: Speed, tokens: int, epochs: int) -> _Costs:
        sampled = tokens * speed.sampled_token
        trained = (PROMPT_TOKENS + tokens) * speed.trained_token
        read = FORWARD_SHARE * trained
        return cls(sampled + read, sampled + 2 * read, sampled + 2 * read + epochs * trained)


def planned(config: RoundConfig, speed: Speed, seconds: float) -> RoundConfig:
    """`config` with the length and number of replies, the number of updates and, on very slow
    machines, the number of prompts that end a round in about `seconds`."""
    longest = config.ppo.max_new_tokens
    lengths = [n for n in RESPONSE_TOKENS if n <= longest] or [longest]
    for tokens in lengths:
        updates = updates_within(config, speed, seconds, tokens)
        if updates >= ENOUGH_UPDATES:
            return _sized(config, tokens, updates)
    bank, probes = SMALL_PROMPT_SETS
    small = replace(config.scorer, rollout_prompts=bank, probe_prompts=probes)
    config = replace(config, scorer=small)
    return _sized(config, lengths[-1], updates_within(config, speed, seconds, lengths[-1]))


def updates_within(config: RoundConfig, speed: Speed, seconds: float, tokens: int) -> int:
    """How many updates fit into a round whose replies have up to `tokens` tokens; may be < 0."""
    costs = _Costs.of(speed, tokens, config.ppo.ppo_epochs)
    prompts = config.scorer.rollout_prompts + config.scorer.probe_prompts
    fixed = REFERENCES * prompts * costs.reference
    fixed += GATE_ATTEMPTS * config.scorer.probe_prompts * config.probe_samples * costs.evaluated
    return int((seconds - fixed) / (config.ppo.rollouts * costs.rollout))


def _sized(config: RoundConfig, tokens: int, updates: int) -> RoundConfig:
    updates = min(max(updates, MIN_UPDATES), MAX_UPDATES)
    return replace(config, ppo=replace(config.ppo, max_new_tokens=tokens, updates=updates))
