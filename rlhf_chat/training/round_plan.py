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
from rlhf_chat.training.round_cost import (
    GATE_ATTEMPTS,
    MissingReferences,
    ResponseCost,
    Speed,
    gate_cost,
    update_cost,
)
from rlhf_chat.training.time_budget import MIN_UPDATES

MINUTES = 10.0  # that a round should take
REAL_MODELS = PPOConfig(rollouts=64, ppo_epochs=1, minibatches=4)
RESPONSE_TOKENS = 256, 192, 128, 96, 64, 48  # limits of a reply that are tried, longest first
# Before longer replies are worth it: of a round that finds the base's replies written, as nearly
# all do, and of one that has to write them. Of 48 tokens most are cut and teach no length.
ENOUGH_UPDATES, ENOUGH_UNPREPARED = 10, 5
MAX_UPDATES = 20
# How far a round goes is about its learning rate times its updates. Ten at 1e-3 used a third of the
# distance that 50 ratings allow, ten at 2e-3 nearly all, with what must be kept kept (docs/LOG.md).
RATE_TIMES_UPDATES, RATES = 0.02, (1e-3, 2e-3)
# Suggested, probe and retained prompts, where even short replies take too long, or the base would
# write its own for too long before the first update.
SMALL_PROMPT_SETS = 32, 24, 16
WRITING_SHARE = 0.2  # of the time of a round, for which the base may write before the first update


@dataclass(frozen=True)
class RoundSize:
    """What a round does, in numbers to be shown."""

    updates: int  # at most
    replies: int  # for each update
    tokens: int  # of a reply, at most

    @classmethod
    def of(cls, config: RoundConfig) -> RoundSize:
        return cls(config.ppo.updates, config.ppo.rollouts, config.ppo.max_new_tokens)


def config_for(model: Model, minutes: float = MINUTES) -> RoundConfig:
    """The settings of a round with this model: the defaults for the bundled one; real ones write
    longer replies and take small, many steps, as many as fit into the time. They have no critic: it
    explained nothing within one round (docs/LOG.md)."""
    if model.is_demo:
        return RoundConfig()
    tokens = min(Workload().response, model.context_tokens // 4)
    ppo = replace(REAL_MODELS, max_new_tokens=tokens)
    config = RoundConfig(algorithm="rloo", minutes=minutes, ppo=ppo)
    speed = Speed.of(model)
    return planned(config, speed, 60 * minutes) if speed else config


def planned(config: RoundConfig, speed: Speed, seconds: float) -> RoundConfig:
    """`config` with the length and number of replies, the number of updates and, on very slow
    machines, the number of prompts that end a round in about `seconds`.

    Replies are as long as leaves time for enough updates; there are as many as fit into a round
    that finds the base's replies written."""
    longest = config.ppo.max_new_tokens
    lengths = [n for n in RESPONSE_TOKENS if n <= longest] or [longest]
    for tokens in lengths:
        prepared = updates_within(config, speed, seconds, tokens, written=True)
        unprepared = updates_within(config, speed, seconds, tokens)
        if prepared >= ENOUGH_UPDATES and unprepared >= ENOUGH_UNPREPARED:
            return _sized(config, speed, seconds, tokens)
    return _sized(_with_small_prompt_sets(config), speed, seconds, lengths[-1])


def begun_early(config: RoundConfig, missing: MissingReferences, speed: Speed) -> RoundConfig:
    """`config` for a round that begins now, where the base has not replied to so many of its
    prompts: the first round of somebody who votes at once does with fewer prompts."""
    cost = ResponseCost.at(speed, config.ppo.max_new_tokens)
    if missing.cost(cost) <= WRITING_SHARE * 60 * config.minutes:
        return config
    small = _with_small_prompt_sets(config)
    return replace(small, scorer=replace(small.scorer, further_prompts=0))


def _with_small_prompt_sets(config: RoundConfig) -> RoundConfig:
    bank, probes, retained = SMALL_PROMPT_SETS
    scorer = replace(
        config.scorer, rollout_prompts=bank, probe_prompts=probes, retained_prompts=retained
    )
    return replace(config, scorer=scorer)


def updates_within(
    config: RoundConfig, speed: Speed, seconds: float, tokens: int, *, written: bool = False
) -> int:
    """How many updates fit into a round whose replies have up to `tokens` tokens; may be < 0.
    `written`: the base's replies are there already."""
    cost = ResponseCost.at(speed, tokens)
    scorer = config.scorer
    prompts = scorer.rollout_prompts + scorer.probe_prompts
    prompts += scorer.retained_prompts // 2  # whose replies are half as long
    prompts = 0 if written else prompts
    fixed = REFERENCES * prompts * cost.reference + GATE_ATTEMPTS * gate_cost(config, cost)
    return int((seconds - fixed) / update_cost(config, cost))


def _sized(config: RoundConfig, speed: Speed, seconds: float, tokens: int) -> RoundConfig:
    fitting = updates_within(config, speed, seconds, tokens, written=True)
    updates = min(max(fitting, MIN_UPDATES), MAX_UPDATES)
    lowest, highest = RATES
    rate = min(max(RATE_TIMES_UPDATES / updates, lowest), highest)
    ppo = replace(config.ppo, max_new_tokens=tokens, updates=updates, learning_rate=rate)
    return replace(config, ppo=ppo)
