"""A round is sized so that it ends in about the time it is given."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from rlhf_chat.training import round_cost, round_plan, time_budget
from rlhf_chat.training.context import RoundConfig
from rlhf_chat.training.ppo import PPOConfig
from rlhf_chat.training.round_cost import (
    REUSING,
    MissingReferences,
    ResponseCost,
    Speed,
    stages,
)
from rlhf_chat.training.round_plan import RoundSize, config_for, planned

CONFIG = RoundConfig(ppo=replace(round_plan.REAL_MODELS, max_new_tokens=256))
TEN_MINUTES = 600.0
SPEEDS = [Speed(0.002 * k, 0.002 * k) for k in (0.02, 0.2, 0.7, 1.0, 1.4)]
SPEEDS.append(replace(SPEEDS[-1], passes=REUSING))


def seconds_of(config: RoundConfig, speed: Speed, written: bool = False) -> float:
    """Of all the work of a round, counted here from its sizes. `written`: the base's replies are
    there already."""
    tokens, ppo, scorer = config.ppo.max_new_tokens, config.ppo, config.scorer
    row = (round_cost.PROMPT_TOKENS + tokens) * speed.trained_token
    sampled, passes = tokens * speed.sampled_token * (1 + tokens / 800), speed.passes
    references = float(scorer.rollout_prompts + scorer.probe_prompts + scorer.retained_prompts // 2)
    references *= 4.0 * (sampled + passes.base * row)
    measured = sampled + (passes.base + passes.policy) * row
    rollouts = ppo.updates * ppo.rollouts * (measured + passes.training * row * ppo.ppo_epochs)
    retained = (round_cost.PROMPT_TOKENS + min(tokens, 50)) * speed.trained_token
    steps = ppo.updates * ppo.ppo_epochs * ppo.minibatches
    rollouts += steps * ppo.retention_rows * passes.training * retained
    probes = 1.5 * scorer.probe_prompts * config.probe_samples * measured
    return rollouts + probes + (0 if written else references)


@pytest.mark.parametrize("speed", SPEEDS)
def test_a_round_that_finds_the_bases_replies_written_ends_in_time(speed: Speed) -> None:
    config = planned(CONFIG, speed, TEN_MINUTES)
    assert seconds_of(config, speed, written=True) <= TEN_MINUTES
    assert time_budget.MIN_UPDATES <= config.ppo.updates <= round_plan.MAX_UPDATES


@pytest.mark.parametrize("speed", SPEEDS)
def test_the_time_is_used(speed: Speed) -> None:
    config = planned(CONFIG, speed, TEN_MINUTES)
    full = config.ppo.updates == round_plan.MAX_UPDATES
    assert full or seconds_of(config, speed, written=True) > 0.85 * TEN_MINUTES


@pytest.mark.parametrize("speed", SPEEDS)
def test_there_is_time_for_enough_updates_whoever_writes_the_bases_replies(speed: Speed) -> None:
    config = planned(CONFIG, speed, TEN_MINUTES)
    assert config.ppo.max_new_tokens in round_plan.RESPONSE_TOKENS
    enough, fewest = (
        replace(config, ppo=replace(config.ppo, updates=updates))
        for updates in (round_plan.ENOUGH_UPDATES, round_plan.ENOUGH_UNPREPARED)
    )
    assert seconds_of(enough, speed, written=True) <= TEN_MINUTES
    assert seconds_of(fewest, speed) <= TEN_MINUTES


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("minutes", [5, 10, 30])
def test_a_round_of_fewer_updates_takes_larger_steps(speed: Speed, minutes: float) -> None:
    ppo = planned(CONFIG, speed, 60 * minutes).ppo
    lowest, highest = round_plan.RATES
    assert lowest <= ppo.learning_rate <= highest
    if lowest < ppo.learning_rate < highest:
        way = ppo.learning_rate * ppo.updates
        assert way == pytest.approx(round_plan.RATE_TIMES_UPDATES)
    assert ppo.learning_rate == highest or ppo.updates > 10


def test_a_faster_machine_writes_longer_replies() -> None:
    *lengths, reusing = (planned(CONFIG, s, TEN_MINUTES).ppo.max_new_tokens for s in SPEEDS)
    assert lengths[0] == 256 and lengths == sorted(lengths, reverse=True) and lengths[-1] < 256
    assert reusing > lengths[-1]


def test_more_time_is_never_a_smaller_round() -> None:
    small, large = (planned(CONFIG, SPEEDS[-1], seconds) for seconds in (600, 3600))
    assert large.ppo.max_new_tokens >= small.ppo.max_new_tokens
    assert large.ppo.updates >= small.ppo.updates


def test_a_very_slow_machine_gets_the_smallest_round_that_means_something() -> None:
    config = planned(CONFIG, Speed(0.1, 0.1), TEN_MINUTES)
    assert (config.ppo.updates, config.ppo.max_new_tokens) == (4, 48)
    assert (config.scorer.rollout_prompts, config.scorer.probe_prompts) == (32, 24)


def test_with_the_bundled_model_the_time_changes_nothing() -> None:
    demo: Any = SimpleNamespace(is_demo=True)
    assert config_for(demo, 1) == config_for(demo, 100) == RoundConfig()


def test_the_size_of_a_round_is_that_of_its_config() -> None:
    config = planned(CONFIG, Speed(0.1, 0.1), TEN_MINUTES)
    assert RoundSize.of(config) == RoundSize(updates=4, replies=64, tokens=48)


def test_the_time_left_counts_the_references_that_a_round_writes_on_its_way() -> None:
    ppo = PPOConfig(updates=5, rollouts=32, group=4)  # draws 40 prompts
    config = replace(RoundConfig(), ppo=ppo)
    cost = ResponseCost(sampled=1.0, read=0.2, read_again=0.0, trained=0.0)
    nothing = MissingReferences(0, 0)
    for unwritten, prompts, drawn in ((0, 80, 0), (60, 80, 30), (20, 20, 20)):
        within = MissingReferences(unwritten, unwritten).drawn(ppo, prompts)
        assert within.to_sample == within.to_measure == drawn
        planned = stages(config, cost, nothing, within, 0)[2]["rollouts"]
        assert planned == pytest.approx(5 * 32 * 1.2 + drawn * 4 * 1.2)
    assert nothing.cost(cost) == 0


@pytest.mark.parametrize("speed", SPEEDS)
def test_a_round_that_begins_before_the_base_has_replied_does_with_fewer_prompts(
    speed: Speed,
) -> None:
    config = replace(planned(CONFIG, speed, TEN_MINUTES), minutes=10.0)
    cost = ResponseCost.at(speed, config.ppo.max_new_tokens)
    reply = 4 * (cost.sampled + cost.read)
    for share, changes in ((0.0, False), (0.1, False), (0.19, False), (0.3, True), (2.0, True)):
        missing = share * TEN_MINUTES / reply
        begun = round_plan.begun_early(config, MissingReferences(missing, missing), speed)
        assert begun.ppo == config.ppo and (begun != config) == changes
        if changes:
            assert begun.scorer.rollout_prompts == 32 <= config.scorer.rollout_prompts
            assert begun.scorer.further_prompts == 0
