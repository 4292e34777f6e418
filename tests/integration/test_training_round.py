"""One round as a recipe: what the ratings say reaches the rollouts, the distance is kept, and what
leaves is what was measured. A toy model, and somebody who likes many words. Left out: the parts by
themselves (test_reward_model.py, test_ppo.py, test_gate.py) and what becomes of a candidate
(test_worker.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rlhf_chat.db import Store
from rlhf_chat.feedback.snapshot import take_snapshot
from rlhf_chat.inference import forward_pass
from rlhf_chat.inference.generate import Response
from rlhf_chat.inference.model import Model
from rlhf_chat.reward import dataset, reward_model
from rlhf_chat.reward.features import FeatureExtractor, logprob_floor
from rlhf_chat.reward.scorer import BaseStatistics, RewardModel, SuggestedPrompts
from rlhf_chat.training import algorithm, evaluation, gate, ppo, ppo_loop
from rlhf_chat.training import training_round as round_
from rlhf_chat.training.context import RoundConfig, RoundContext
from rlhf_chat.training.gate import EvalResult, GateConfig
from rlhf_chat.training.training_round import Outcome
from tests.tiny_models import tiny_round_config

MANY, FEW = "you are well today and the sea is deep and blue", "you are"
State = Mapping[str, torch.Tensor]


def nothing(*_: Any) -> None:
    return None


def say(store: Store, model: Model, text: str, *replies: str) -> list[str]:
    conversation = store.conversations.add("compare")
    asked = store.messages.add(conversation, "user", text)
    ids = model.encode([{"role": "user", "content": text}])
    return [
        store.messages.add(
            conversation,
            "assistant",
            reply,
            parent_id=asked,
            prompt_ids=ids,
            response_ids=model.encode_reply(reply),
            adapter_version=0,
            finish_reason="stop",
            make_head=False,
        )
        for reply in replies
    ]


@pytest.fixture(scope="module")
def rated(_toy: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureExtractor]:
    """The archive of somebody who likes many words, and says so of twelve pairs."""
    store = Store(tmp_path_factory.mktemp("rated") / "feedback.db")
    for i in range(12):
        many, few = say(store, _toy, f"tell me about {i}", f"{MANY} {i}", f"{FEW} {i}")
        store.feedback.add_preference(many, few, "a", shown_first="ab"[i % 2])
    yield FeatureExtractor(store, _toy)
    store.close()


@pytest.fixture
def extractor(rated: FeatureExtractor, toy: Model) -> FeatureExtractor:
    """The same for every test, for a round writes nothing; the toy begins anew."""
    return rated


def config_with(
    *, scorer: Mapping[str, Any] | None = None, ppo: Mapping[str, Any] | None = None, **gate: Any
) -> RoundConfig:
    config = tiny_round_config(**gate)
    return replace(
        config,
        ppo=replace(config.ppo, **(ppo or {})),
        scorer=replace(config.scorer, **(scorer or {})),
    )


def plan_for(extractor: FeatureExtractor, config: RoundConfig, target: float = 5.0) -> RoundContext:
    snapshot, tokens = take_snapshot(extractor.store), config.ppo.max_new_tokens
    base_stats = BaseStatistics.of(extractor, config.scorer, tokens, nothing)
    told = dataset.build_dataset(snapshot, extractor, base_stats.feature_map, tokens, 0.5, nothing)
    fit = reward_model.fit(told, base_stats.feature_map.named, config.reward, 0)
    return RoundContext(
        dataset=told,
        fit=fit,
        scorer=RewardModel.of(fit.head, base_stats, config.scorer),
        base_stats=base_stats,
        retained=[],
        target=target,
        demonstrations=[],
        floor=logprob_floor(base_stats.references, extractor.model.temperature),
        extractor=extractor,
        config=config,
        seed=3,
        report=nothing,
        check=nothing,
    )


def run(extractor: FeatureExtractor, config: RoundConfig, parent: State | None = None) -> Outcome:
    parent = extractor.model.base_state() if parent is None else parent
    return round_.run(
        take_snapshot(extractor.store), parent, extractor, config, 3, nothing, nothing
    )


def nudged(model: Model, size: float = 0.3) -> dict[str, torch.Tensor]:
    """An adapter that clearly changes what the model says."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(value.shape, generator=generator) * size
        for name, value in model.base_state().items()
    }


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# ---------------------------------------------------------------------- the whole


@pytest.mark.parametrize("algorithm", ["ppo", "rloo"])
def test_a_round_changes_the_candidate_and_nothing_that_is_served_or_said(
    extractor: FeatureExtractor, algorithm: str
):
    model, store = extractor.model, extractor.store
    before = store.feedback.count(), store.feedback.preferences(), store.adapter_versions.all()
    outcome = run(extractor, replace(config_with(), algorithm=algorithm))
    assert outcome.state and not same(outcome.state, model.base_state())
    assert model.live is model.reference and store.rounds.newest() == []
    assert before == (
        store.feedback.count(),
        store.feedback.preferences(),
        store.adapter_versions.all(),
    )


def test_what_was_said_in_a_long_conversation_teaches_the_taste_but_is_not_practised_on(
    extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
):
    seen: list[list[Any]] = []
    monkeypatch.setitem(
        algorithm.ALGORITHMS,
        RoundConfig().algorithm,
        lambda context, prompts: seen.append(list(prompts)),
    )
    run(extractor, config_with())
    monkeypatch.setattr(extractor.model, "tokens_per_row", 1)
    outcome = run(extractor, config_with())
    own = {p.key for p in take_snapshot(extractor.store).prompts}
    assert own <= {p.key for p in seen[0]} and not own & {p.key for p in seen[1]} and seen[1]
    assert outcome.measured and outcome.measured.labels == 12


def test_only_what_is_practised_on_has_a_zero_point(
    extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
):
    asked: list[Any] = []
    real = RewardModel.baseline
    monkeypatch.setattr(
        RewardModel,
        "baseline",
        lambda scorer, reference: (
            asked.append(reference.replies[0].prompt) or real(scorer, reference)
        ),
    )
    config = config_with(ppo={"updates": 1, "rollouts": 8, "group": 4})
    run(extractor, config)
    assert len(asked) == len(set(asked)) == 2


def test_a_round_begins_with_fewer_prompts_until_the_base_has_replied_to_all(
    rated: FeatureExtractor, _toy: Model, monkeypatch: pytest.MonkeyPatch
):
    extractor = FeatureExtractor(rated.store, _toy)  # has nothing in memory
    prompts = {"rollout_prompts": 40, "probe_prompts": 30, "retained_prompts": 20}
    config = replace(config_with(scorer=prompts), minutes=10.0)
    assert round_.begun_now(extractor, config) == config  # no speed was measured
    monkeypatch.setattr(_toy, "train_token_seconds", 0.5)
    monkeypatch.setattr(_toy, "sampled_token_seconds", 0.5)
    assert round_.begun_now(extractor, replace(config, minutes=0.0)).scorer == config.scorer
    begun = round_.begun_now(extractor, config)
    assert begun.scorer.rollout_prompts == 32 and begun.minutes == 10
    first = SuggestedPrompts.of(extractor, config.scorer).first
    extractor.references(first, config.ppo.max_new_tokens, nothing)
    assert round_.begun_now(extractor, config) == config
    extractor.forget(first)


def test_a_round_needs_nothing_of_an_algorithm_but_the_candidate_it_leaves(
    extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
):
    candidate = nudged(extractor.model, 0.05)

    def set_candidate(context: RoundContext, prompts: Any) -> None:
        context.extractor.model.set_policy(candidate)

    monkeypatch.setitem(algorithm.ALGORITHMS, "test", set_candidate)
    outcome = run(extractor, replace(config_with(), algorithm="test"))
    assert outcome.state and same(outcome.state, candidate)
    assert outcome.measured and outcome.measured.kl > 0


def test_an_unknown_algorithm_is_refused_before_anything_is_computed():
    with pytest.raises(ValueError, match="ppo"):
        algorithm.by_name("dpo")


def test_a_round_begins_with_its_parent(
    extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(algorithm.ALGORITHMS, RoundConfig().algorithm, nothing)
    parent = nudged(extractor.model, 0.05)
    outcome = run(extractor, config_with(), parent)
    assert outcome.state and same(outcome.state, parent)


def test_a_mere_hint_may_spend_only_a_share_of_the_distance(extractor: FeatureExtractor):
    proved = run(extractor, config_with(passed_p=99.0))
    hinted = run(extractor, config_with(passed_p=0.0))
    assert proved.measured and hinted.measured
    whole = ppo.kl_target(plan_for(extractor, config_with()).fit.effective)
    assert proved.measured.kl_target == pytest.approx(whole)
    assert hinted.measured.kl_target == pytest.approx(RoundConfig().provisional_kl * whole)


# ---------------------------------------------------------------------- what a response is worth


def scored(context: RoundContext, number: int, ids: list[list[int]]) -> np.ndarray:
    """The scores that rollouts get: responses to one practice prompt."""
    prompts, model = context.base_stats.prompts.bank, context.extractor.model
    pooled = forward_pass.reference_pass(model, [prompts[number].ids] * len(ids), ids).pooled
    responses = [Response(one, True) for one in ids]
    return ppo_loop._scorer(context, prompts)([number] * len(ids), responses, pooled)


def test_what_people_like_scores_higher(extractor: FeatureExtractor):
    context = plan_for(extractor, config_with())
    many, few = scored(context, 0, [extractor.model.encode_reply(text) for text in (MANY, FEW)])
    assert many > few + 0.1


def test_what_the_base_says_is_the_zero_of_every_prompt(extractor: FeatureExtractor):
    """Uncertainty, the cap on length and flaws included, since the base pays for them, too."""
    context = plan_for(extractor, config_with(scorer={"lcb": 0.5}))
    for number, prompt in enumerate(context.base_stats.prompts.bank):
        [base] = extractor.references([prompt], context.config.ppo.max_new_tokens, nothing)
        given = scored(context, number, [list(r.ids) for r in base.replies])
        assert given.std() > 0
        assert given.mean() == pytest.approx(0, abs=1e-3)


def test_saying_a_thing_twice_is_charged(extractor: FeatureExtractor):
    ids = [extractor.model.encode_reply(f"{MANY}. {MANY}.")]
    [free] = scored(plan_for(extractor, config_with(scorer={"degeneration_penalty": 0.0})), 0, ids)
    [charged] = scored(
        plan_for(extractor, config_with(scorer={"degeneration_penalty": 3.0})), 0, ids
    )
    assert free - charged == pytest.approx(3.0)


# ---------------------------------------------------------------------- distance


def test_a_step_too_far_is_taken_back(extractor: FeatureExtractor):
    """One huge step: the next rollouts are far beyond the limit, so it never happened."""
    config = config_with(
        ppo={"updates": 4, "learning_rate": 0.5, "warmup_steps": 1}, max_kl_over_target=1.5
    )
    start = nudged(extractor.model, 0.01)
    extractor.model.set_policy(start)
    seen: list[tuple[str, float]] = []
    context = plan_for(extractor, config, target=1.0)
    context = replace(
        context, report=lambda phase, done, step, n: seen.append((phase, n.get("kl", 0.0)))
    )
    ppo_loop.run_ppo(context, context.base_stats.prompts.bank)
    distance = [kl for phase, kl in seen if phase == "ppo" and kl]
    assert len(distance) == 2 and distance[0] < 1.0 and distance[1] > 1.5
    assert same(extractor.model.policy_state(), start)


def test_a_step_within_the_limit_is_kept(extractor: FeatureExtractor):
    context = plan_for(extractor, config_with(ppo={"updates": 1, "learning_rate": 1e-3}))
    start = extractor.model.policy_state()
    ppo_loop.run_ppo(context, context.base_stats.prompts.bank)
    assert not same(extractor.model.policy_state(), start)


class Probe:
    """Stands in for the probe: so many nats from the base, one number for each attempt; keeps what
    was measured and in which state."""

    def __init__(self, *kl: float) -> None:
        self.kl = kl
        self.measured: list[EvalResult] = []
        self.states: list[State] = []

    def __call__(self, context: RoundContext) -> tuple[EvalResult, np.ndarray]:
        speech = gate.GenerationStats(0.0, 0.0, 0.0, 0.0, 1.0, 10.0)
        kl = self.kl[len(self.measured)]
        self.measured.append(
            EvalResult(
                labels=context.fit.labels,
                p_value=context.fit.p_value,
                log_loss=context.fit.log_loss,
                bootstrap_gain=1.0,
                bootstrap_gain_low=0.5,
                win_rate=0.7,
                kl=kl,
                kl_target=context.target,
                base=speech,
                candidate=speech,
                finite=True,
            )
        )
        self.states.append(context.extractor.model.policy_state())
        return self.measured[-1], np.zeros(context.dataset.dim)


@pytest.fixture
def probing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Probe]:
    def one(*kl: float) -> Probe:
        probe = Probe(*kl)
        monkeypatch.setattr(evaluation, "probe", probe)
        return probe

    return one


def size(state: State) -> float:
    """Of the change: LoRA's B; A is left as it is."""
    return float(sum((v**2).sum() for k, v in state.items() if "lora_B" in k)) ** 0.5


def test_a_candidate_that_went_too_far_is_shrunk_and_tried_again(
    extractor: FeatureExtractor, probing
):
    probe = probing(1000.0, 1.0)
    outcome = run(extractor, config_with(max_kl_over_target=1.5, passed_p=99.0))
    assert outcome.verdict.promoted and outcome.kl == 1.0
    assert outcome.measured and outcome.state
    first, second = map(size, probe.states)
    factor = (outcome.measured.kl_target / 1000.0) ** 0.5
    assert second == pytest.approx(first * factor, rel=1e-5) and second > 0
    assert same(outcome.state, probe.states[1])


def test_what_leaves_after_the_last_attempt_is_what_was_measured(
    extractor: FeatureExtractor, probing
):
    config = config_with(max_kl_over_target=1.5)
    probe = probing(*[1000.0] * 9)
    outcome = run(extractor, config)
    assert len(probe.measured) == config.attempts and not outcome.verdict.promoted
    assert outcome.state and outcome.measured is probe.measured[-1]
    assert size(outcome.state) > 0
    assert same(outcome.state, probe.states[-1])
    assert same(extractor.model.policy_state(), probe.states[-1])


def test_what_fails_for_another_reason_is_not_tried_again(
    extractor: FeatureExtractor, probing, monkeypatch
):
    probe = probing(1.0, 1.0)
    worse = {"judges": False}
    judge = gate.judge

    def strict(measured: EvalResult, config: GateConfig):
        verdict = judge(measured, config)
        checks = tuple(replace(c, passed=worse.get(c.name, c.passed)) for c in verdict.checks)
        return replace(verdict, tier=gate.DISCARDED, checks=checks)

    monkeypatch.setattr(gate, "judge", strict)
    run(extractor, config_with())
    assert len(probe.measured) == 1


# ---------------------------------------------------------------------- the probe


def test_the_probe_measures_the_candidate_and_not_the_base(extractor: FeatureExtractor):
    context = plan_for(extractor, replace(config_with(), probe_samples=4))
    idle, _ = evaluation.probe(context)
    assert idle.kl == pytest.approx(0, abs=1e-3)
    extractor.model.set_policy(nudged(extractor.model, 0.1))
    moved, direction = evaluation.probe(context)
    assert moved.kl > 0.1  # of its own replies; of the base's it would be below zero
    assert np.abs(direction).max() > 0


def test_a_distance_is_never_below_zero_whatever_the_samples_say():
    ours, base = [torch.tensor([-2.0, -1.0])], [torch.tensor([-1.9, -1.0])]
    assert evaluation._mean_kl(ours, base) == 0
    assert evaluation._mean_kl(base, ours) == pytest.approx(0.1)


def test_every_judge_is_fitted_on_half_of_what_was_rated(
    extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
):
    config = replace(config_with(), bootstrap_heads=6)
    context, truncate, fit_head = plan_for(extractor, config), [], reward_model.fit_head

    def kept(told, named, config):
        truncate.append(told)
        return fit_head(told, named, config)

    monkeypatch.setattr(reward_model, "fit_head", kept)
    extractor.model.set_policy(nudged(extractor.model, 0.1))
    measured, _ = evaluation.probe(context)
    assert [len(told.groups) for told in truncate] == [len(context.dataset.groups) // 2] * 6
    assert len({tuple(told.groups) for told in truncate}) > 1  # and not always the same half
    assert measured.bootstrap_gain_low < measured.bootstrap_gain
