"""One round as a recipe: what the ratings say reaches the rollouts, the distance is kept, and what
leaves is what was measured. A toy model, and somebody who likes many words. Left out: the parts by
themselves (test_reward.py, test_ppo.py, test_gate.py) and what becomes of a candidate
(test_trainer.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rlhf_chat.engine.decode import Response
from rlhf_chat.engine.model import Model
from rlhf_chat.preference import evidence, reward
from rlhf_chat.preference.gauge import Gauge, fluency_floor
from rlhf_chat.preference.said import take_snapshot
from rlhf_chat.preference.taste import Ground, Taste
from rlhf_chat.store import Store
from rlhf_chat.training import evaluation, gate, ppo, practice
from rlhf_chat.training import round as round_
from rlhf_chat.training.gate import GateConfig, Measured
from rlhf_chat.training.plan import Plan, RoundConfig
from rlhf_chat.training.round import Outcome
from tests.tiny import tiny_round_config

MANY, FEW = "you are well today and the sea is deep and blue", "you are"
State = Mapping[str, torch.Tensor]


def nothing(*_: Any) -> None:
    return None


def say(store: Store, model: Model, text: str, *replies: str) -> list[str]:
    conversation = store.add_conversation("compare")
    asked = store.add_message(conversation, "user", text)
    ids = model.encode([{"role": "user", "content": text}])
    return [
        store.add_message(
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
def rated(_toy: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gauge]:
    """The archive of somebody who likes many words, and says so of twelve pairs."""
    store = Store(tmp_path_factory.mktemp("rated") / "feedback.db")
    for i in range(12):
        many, few = say(store, _toy, f"tell me about {i}", f"{MANY} {i}", f"{FEW} {i}")
        store.add_preference(many, few, "a", shown_first="ab"[i % 2])
    yield Gauge(store, _toy)
    store.close()


@pytest.fixture
def gauge(rated: Gauge, toy: Model) -> Gauge:
    """The same for every test, for a round writes nothing; the toy begins anew."""
    return rated


def config_with(
    *, taste: Mapping[str, Any] | None = None, ppo: Mapping[str, Any] | None = None, **gate: Any
) -> RoundConfig:
    config = tiny_round_config(**gate)
    return replace(
        config,
        ppo=replace(config.ppo, **(ppo or {})),
        taste=replace(config.taste, **(taste or {})),
    )


def plan_for(gauge: Gauge, config: RoundConfig, target: float = 5.0) -> Plan:
    snapshot, tokens = take_snapshot(gauge.store), config.ppo.max_new_tokens
    ground = Ground.of(gauge, config.taste, tokens, nothing)
    told = evidence.build(snapshot, gauge, ground.feature_map, tokens, 0.5, nothing)
    fit = reward.fit(told, ground.feature_map.named, config.reward, 0)
    return Plan(
        told=told,
        fit=fit,
        taste=Taste(fit.head, ground.feature_map, config.taste),
        ground=ground,
        target=target,
        demonstrations=[],
        floor=fluency_floor(ground.references),
        gauge=gauge,
        config=config,
        seed=3,
        report=nothing,
        check=nothing,
    )


def run(gauge: Gauge, config: RoundConfig, parent: State | None = None) -> Outcome:
    parent = gauge.model.base_state() if parent is None else parent
    return round_.run(take_snapshot(gauge.store), parent, gauge, config, 3, nothing, nothing)


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


def test_a_round_changes_the_candidate_and_nothing_that_is_served_or_said(gauge: Gauge):
    model, store = gauge.model, gauge.store
    before = store.feedback_count(), store.preferences(), store.adapter_versions()
    outcome = run(gauge, config_with())
    assert outcome.state and not same(outcome.state, model.base_state())
    assert model.live is model.reference and store.rounds() == []
    assert before == (store.feedback_count(), store.preferences(), store.adapter_versions())


def test_what_was_said_in_a_long_conversation_teaches_the_taste_but_is_not_practised_on(
    gauge: Gauge, monkeypatch: pytest.MonkeyPatch
):
    seen: list[list[Any]] = []
    monkeypatch.setattr(practice, "practise", lambda plan, practice: seen.append(list(practice)))
    run(gauge, config_with())
    monkeypatch.setattr(gauge.model, "tokens_per_row", 1)
    outcome = run(gauge, config_with())
    own = {p.key for p in take_snapshot(gauge.store).prompts}
    assert own <= {p.key for p in seen[0]} and not own & {p.key for p in seen[1]} and seen[1]
    assert outcome.measured and outcome.measured.labels == 12


def test_only_what_is_practised_on_has_a_zero_point(gauge: Gauge, monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []
    real = practice.zero_points
    monkeypatch.setattr(
        practice,
        "zero_points",
        lambda prompts, *rest: asked.extend(prompts) or real(prompts, *rest),
    )
    config = config_with(ppo={"updates": 1, "rollouts": 8, "group": 4})
    run(gauge, config)
    assert len(asked) == len(set(asked)) == 2


def test_a_round_begins_with_its_parent(gauge: Gauge, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(practice, "practise", nothing)
    parent = nudged(gauge.model, 0.05)
    outcome = run(gauge, config_with(), parent)
    assert outcome.state and same(outcome.state, parent)


def test_a_mere_hint_may_spend_only_a_share_of_the_distance(gauge: Gauge):
    proved = run(gauge, config_with(proved_p=99.0))
    hinted = run(gauge, config_with(proved_p=0.0))
    assert proved.measured and hinted.measured
    whole = ppo.kl_target(plan_for(gauge, config_with()).fit.effective)
    assert proved.measured.kl_target == pytest.approx(whole)
    assert hinted.measured.kl_target == pytest.approx(RoundConfig().provisional_kl * whole)


# ---------------------------------------------------------------------- what a response is worth


def scored(plan: Plan, number: int, ids: list[list[int]]) -> np.ndarray:
    """The scores that rollouts get: responses to one practice prompt."""
    prompts, model = plan.ground.bank, plan.gauge.model
    _, pooled = model.reference_pass([prompts[number].ids] * len(ids), ids)
    responses = [Response(one, True) for one in ids]
    return practice._scorer(plan, prompts)([number] * len(ids), responses, pooled)


def test_what_people_like_scores_higher(gauge: Gauge):
    plan = plan_for(gauge, config_with())
    many, few = scored(plan, 0, [gauge.model.encode_reply(text) for text in (MANY, FEW)])
    assert many > few + 0.1


def test_what_the_base_says_is_the_zero_of_every_prompt(gauge: Gauge):
    plan = plan_for(gauge, config_with(taste={"lcb": 0.0, "max_score": 1e9, "length_cap": 1e9}))
    for number, prompt in enumerate(plan.ground.bank):
        [base] = gauge.references([prompt], plan.config.ppo.max_new_tokens, nothing)
        said = scored(plan, number, [list(r.ids) for r in base.replies])
        charged = plan.taste.charge([r.text for r in base.replies])
        assert said.std() > 0
        assert (said + charged).mean() == pytest.approx(0, abs=1e-3)


def test_saying_a_thing_twice_is_charged(gauge: Gauge):
    ids = [gauge.model.encode_reply(f"{MANY}. {MANY}.")]
    [free] = scored(plan_for(gauge, config_with(taste={"flaw_penalty": 0.0})), 0, ids)
    [charged] = scored(plan_for(gauge, config_with(taste={"flaw_penalty": 3.0})), 0, ids)
    assert free - charged == pytest.approx(3.0)


# ---------------------------------------------------------------------- distance


def test_a_step_too_far_is_taken_back(gauge: Gauge):
    """One huge step: the next rollouts are far beyond the limit, so it never happened."""
    config = config_with(
        ppo={"updates": 4, "learning_rate": 0.5, "warmup_steps": 1}, max_kl_over_target=1.5
    )
    start = nudged(gauge.model, 0.01)
    gauge.model.set_policy(start)
    seen: list[tuple[str, float]] = []
    plan = plan_for(gauge, config, target=1.0)
    plan = replace(plan, report=lambda phase, done, step, n: seen.append((phase, n.get("kl", 0.0))))
    practice.practise(plan, plan.ground.bank)
    distance = [kl for phase, kl in seen if phase == "ppo" and kl]
    assert len(distance) == 2 and distance[0] < 1.0 and distance[1] > 1.5
    assert same(gauge.model.policy_state(), start)


def test_a_step_within_the_limit_is_kept(gauge: Gauge):
    plan = plan_for(gauge, config_with(ppo={"updates": 1, "learning_rate": 1e-3}))
    start = gauge.model.policy_state()
    practice.practise(plan, plan.ground.bank)
    assert not same(gauge.model.policy_state(), start)


class Probe:
    """Stands in for the probe: so many nats from the base, one number for each attempt; keeps what
    was measured and in which state."""

    def __init__(self, *kl: float) -> None:
        self.kl = kl
        self.measured: list[Measured] = []
        self.states: list[State] = []

    def __call__(self, plan: Plan) -> tuple[Measured, np.ndarray]:
        speech = gate.Speech(0.0, 0.0, 0.0, 0.0, 1.0, 10.0)
        kl = self.kl[len(self.measured)]
        self.measured.append(
            Measured(
                labels=plan.fit.labels,
                p_value=plan.fit.p_value,
                log_loss=plan.fit.log_loss,
                judged_gain=1.0,
                judged_gain_low=0.5,
                win_rate=0.7,
                kl=kl,
                kl_target=plan.target,
                base=speech,
                candidate=speech,
                finite=True,
            )
        )
        self.states.append(plan.gauge.model.policy_state())
        return self.measured[-1], np.zeros(plan.told.dim)


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


def test_a_candidate_that_went_too_far_is_shrunk_and_tried_again(gauge: Gauge, probing):
    probe = probing(1000.0, 1.0)
    outcome = run(gauge, config_with(max_kl_over_target=1.5, proved_p=99.0))
    assert outcome.verdict.promoted and outcome.kl == 1.0
    first, second = map(size, probe.states)
    factor = (outcome.measured.kl_target / 1000.0) ** 0.5
    assert second == pytest.approx(first * factor, rel=1e-5) and second > 0
    assert same(outcome.state, probe.states[1])


def test_what_leaves_after_the_last_attempt_is_what_was_measured(gauge: Gauge, probing):
    config = config_with(max_kl_over_target=1.5)
    probe = probing(*[1000.0] * 9)
    outcome = run(gauge, config)
    assert len(probe.measured) == config.attempts and not outcome.verdict.promoted
    assert outcome.measured is probe.measured[-1]
    assert size(outcome.state) > 0
    assert same(outcome.state, probe.states[-1])
    assert same(gauge.model.policy_state(), probe.states[-1])


def test_what_fails_for_another_reason_is_not_tried_again(gauge: Gauge, probing, monkeypatch):
    probe = probing(1.0, 1.0)
    worse = {"judges": False}
    judge = gate.judge

    def strict(measured: Measured, config: GateConfig):
        verdict = judge(measured, config)
        checks = tuple((n, worse.get(n, ok), text) for n, ok, text in verdict.checks)
        return replace(verdict, tier=gate.DISCARDED, checks=checks)

    monkeypatch.setattr(gate, "judge", strict)
    run(gauge, config_with())
    assert len(probe.measured) == 1


# ---------------------------------------------------------------------- the probe


def test_the_probe_measures_the_candidate_and_not_the_base(gauge: Gauge):
    plan = plan_for(gauge, replace(config_with(), probe_samples=4))
    idle, _ = evaluation.probe(plan)
    assert idle.kl == pytest.approx(0, abs=1e-3)
    gauge.model.set_policy(nudged(gauge.model, 0.1))
    moved, direction = evaluation.probe(plan)
    assert moved.kl > 0.1  # of its own replies; of the base's it would be below zero
    assert np.abs(direction).max() > 0


def test_every_judge_is_fitted_on_half_of_what_was_rated(
    gauge: Gauge, monkeypatch: pytest.MonkeyPatch
):
    config = replace(config_with(), judges=6)
    plan, fitted, fit_head = plan_for(gauge, config), [], reward.fit_head

    def kept(told, named, config):
        fitted.append(told)
        return fit_head(told, named, config)

    monkeypatch.setattr(reward, "fit_head", kept)
    gauge.model.set_policy(nudged(gauge.model, 0.1))
    measured, _ = evaluation.probe(plan)
    assert [len(told.groups) for told in fitted] == [len(plan.told.groups) // 2] * 6
    assert len({tuple(told.groups) for told in fitted}) > 1  # and not always the same half
    assert measured.judged_gain_low < measured.judged_gain
