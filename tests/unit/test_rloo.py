"""Properties of RLOO: the leave-one-out baseline by itself, and in the trainer that PPO uses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlhf_chat.inference import forward_pass, lora_modules
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.model import Model
from rlhf_chat.training.advantages import Critic, LeaveOneOut
from rlhf_chat.training.ppo import PPOConfig, masked_mean
from rlhf_chat.training.ppo_trainer import PPOTrainer, Rollouts
from rlhf_chat.training.rloo import leave_one_out_advantages, scale
from tests.unit.test_model import random_state

CONFIG = PPOConfig(
    updates=1,
    rollouts=8,
    group=4,
    max_new_tokens=10,
    minibatches=2,
    warmup_steps=1,
    learning_rate=1e-3,
    fluency_coef=0.0,
)


def make_trainer(model: Model, **changes: object) -> PPOTrainer:
    config = PPOConfig(**{**CONFIG.__dict__, **changes})
    return PPOTrainer(
        model, config, target=1.0, score_std=1.0, floor=-50.0, estimator=LeaveOneOut(config)
    )


def collect(trainer: PPOTrainer, score, seed: int = 1, rows: int = 8) -> Rollouts:
    """Groups of four responses to one prompt."""
    numbers = [i // 4 for i in range(rows)]
    prompts = [
        trainer.model.encode([{"role": "user", "content": "tell me " + "sea " * (n % 3)}])
        for n in numbers
    ]
    return trainer.collect(prompts, numbers, score, seed)[0]


def by_tokens(numbers, responses, pooled) -> np.ndarray:
    return np.array([sum(r.ids) % 7 / 3 for r in responses])


# ---------------------------------------------------------------------- the baseline


@pytest.mark.parametrize("sizes", [(4, 4, 4), (2, 3, 8)])
def test_advantages_equal_the_brute_force_difference(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    groups = torch.tensor([n for n, size in enumerate(sizes) for _ in range(size)])
    groups = groups[torch.randperm(len(groups))]
    returns = torch.randn(len(groups))
    advantages = leave_one_out_advantages(returns, groups)
    for i in range(len(groups)):
        same_prompt = [j for j in range(len(groups)) if groups[j] == groups[i] and j != i]
        expected = float(returns[i]) - np.mean([float(returns[j]) for j in same_prompt])
        assert float(advantages[i]) == pytest.approx(expected, abs=1e-5)
    for group in groups.unique():
        assert float(advantages[groups == group].sum()) == pytest.approx(0, abs=1e-5)


def test_the_base_replies_count_as_more_responses_to_expect_a_return_from() -> None:
    """Returns are relative to the base: on a prompt without others one expects what the policy has
    gained elsewhere."""
    torch.manual_seed(0)
    groups, returns = torch.arange(6).repeat_interleave(4), torch.randn(24)
    advantages = leave_one_out_advantages(returns, groups, base_replies=2.0)
    for i in range(24):
        others = returns[(groups == groups[i]) & (torch.arange(24) != i)]
        elsewhere = returns[groups != groups[i]].mean()
        expected = returns[i] - (others.sum() + 2 * elsewhere) / 5
        assert float(advantages[i]) == pytest.approx(float(expected), abs=1e-5)
    assert float(advantages.sum()) == pytest.approx(0, abs=1e-4)
    alone = leave_one_out_advantages(returns[:4], groups[:4], base_replies=2.0)
    torch.testing.assert_close(alone, leave_one_out_advantages(returns[:4], groups[:4]))


def test_the_base_replies_make_advantages_less_noisy() -> None:
    """Returns whose mean is the same on all prompts, relative to four replies of the base each."""
    torch.manual_seed(0)
    groups = torch.arange(2000).repeat_interleave(4)
    signal = torch.randn(8000)  # of each response; the rest of its advantage is noise
    returns = signal - torch.randn(2000, 4).mean(1).repeat_interleave(4)
    noise = [
        float((leave_one_out_advantages(returns, groups, count) - signal).var())
        for count in (0.0, 2.0)
    ]
    assert noise[0] == pytest.approx(1 / 3, rel=0.1) and noise[1] < 0.55 * noise[0]


def test_a_constant_added_to_a_prompts_returns_changes_nothing() -> None:
    returns, groups = torch.randn(8), torch.tensor([0, 0, 0, 0, 5, 5, 5, 5])
    shifted = returns + torch.where(groups == 5, 3.0, -1.0)
    torch.testing.assert_close(
        leave_one_out_advantages(returns, groups), leave_one_out_advantages(shifted, groups)
    )


def test_a_single_response_to_a_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="two responses"):
        leave_one_out_advantages(torch.zeros(3), torch.tensor([0, 0, 1]))


def test_scaling_keeps_the_sign_and_does_not_amplify_noise() -> None:
    x, mask = torch.tensor([[2.0, -2.0, 9.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    assert scale(x, mask, 0.1).tolist() == [[1.0, -1.0, 0.0]]
    assert scale(1e-6 * x, mask, 0.1).abs().max() < 1e-4


def test_padding_changes_no_advantage() -> None:
    torch.manual_seed(0)
    estimator, groups = LeaveOneOut(CONFIG), torch.tensor([0, 0, 1, 1])
    mask = torch.tensor([[0.0, 0, 1], [0, 1, 1], [1, 1, 1], [0, 1, 1]])
    rewards = torch.randn(4, 3)
    narrow, _ = estimator.estimate(rewards, torch.zeros(4, 3), mask, groups)
    pad = torch.zeros(4, 5)
    wide_mask = torch.cat([pad, mask], -1)
    wide, returns = estimator.estimate(
        torch.cat([pad + 9, rewards], -1), torch.zeros(4, 8), wide_mask, groups
    )
    assert torch.equal(wide[:, 5:], narrow) and not wide[:, :5].any() and not returns[:, :5].any()
    assert torch.allclose(
        estimator.normalize(wide, wide_mask)[:, 5:], estimator.normalize(narrow, mask)
    )


def test_the_kl_penalty_is_part_of_the_return() -> None:
    """Two responses with equal scores: the one that strayed further is the worse one."""
    rewards = torch.tensor([[-0.5, 1.0], [-0.1, 1.0]])
    advantages, returns = LeaveOneOut(CONFIG).estimate(
        rewards, torch.zeros(2, 2), torch.ones(2, 2), torch.tensor([0, 0])
    )
    assert returns[:, 0].tolist() == pytest.approx([0.5, 0.9])
    assert advantages[0].tolist() == pytest.approx([-0.4, -0.4])


# ---------------------------------------------------------------------- in the trainer


def test_there_is_no_critic(toy: Model) -> None:
    trainer = make_trainer(toy)
    assert trainer.estimator.parameters() == []
    trained = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in toy.policy_parameters()}
    rollouts = collect(trainer, by_tokens)
    assert not rollouts.values.any()
    assert trainer.update(rollouts, seed=0)["vf_loss"] == 0.0
    assert PPOTrainer(toy, CONFIG, target=1.0, score_std=1.0, floor=-50.0).estimator.parameters()


def test_each_token_of_a_response_has_the_same_advantage(toy: Model) -> None:
    rollouts = collect(make_trainer(toy), by_tokens)
    for row, mask in zip(rollouts.advantages, rollouts.mask, strict=True):
        assert len(row[mask > 0].unique()) == 1
    by_prompt = rollouts.advantages[:, -1].reshape(2, 4).sum(-1)
    assert by_prompt.tolist() == pytest.approx([0, 0], abs=1e-5)
    assert float(masked_mean(rollouts.advantages**2, rollouts.mask)) == pytest.approx(1, abs=1e-4)


def test_equal_scores_give_no_gradient(toy: Model) -> None:
    """Also where the prompts differ in their level: only within a prompt is anything compared."""
    trainer = make_trainer(toy, missing_end_penalty=0.0)
    rollouts = collect(trainer, lambda numbers, responses, pooled: np.array(numbers) * 3.0)
    assert rollouts.advantages.abs().max() < 1e-3
    with toy.lease.slice(), torch.enable_grad():
        loss, _, _ = trainer._losses(list(range(8)), rollouts)
        trainer._add_gradient(loss)
    grads = [p.grad for p in toy.policy_parameters() if p.grad is not None]
    assert grads and all(float(g.abs().max()) < 1e-2 for g in grads)
    trainer._zero_grad()


def test_the_first_ratio_is_exactly_1(toy: Model) -> None:
    trainer = make_trainer(toy)
    rollouts = collect(trainer, by_tokens)
    for rows in rollouts.microbatches:
        with toy.lease.slice(), torch.enable_grad():
            _, _, stats = trainer._losses(rows, rollouts)
        assert stats["ratio_max"] == 1.0


@pytest.mark.parametrize("adapter", ["fresh", "that changes lower layers"])
def test_layers_that_are_not_trained_are_computed_once(toy: Model, adapter: str) -> None:
    """And nothing of the rollouts changes: neither of the policy nor of the base."""
    if adapter != "fresh":
        toy.set_policy(random_state(toy))
    rollouts = collect(make_trainer(toy), by_tokens)
    assert list(map(list, rollouts.lower)) == rollouts.microbatches
    base = forward_pass.reference_pass(
        toy, rollouts.prompts, rollouts.responses, parts=rollouts.microbatches
    )
    assert bool(base.lower) == (adapter == "fresh")
    logprobs = forward_pass.policy_pass(
        toy, rollouts.prompts, rollouts.responses, rollouts.microbatches, base.lower
    )
    with toy.lease.slice(), torch.no_grad():
        ours = forward_pass.forward(toy, toy.policy, rollouts.prompts, rollouts.responses)
        bases = forward_pass.forward(toy, toy.reference, rollouts.prompts, rollouts.responses)
    for i, row in enumerate(rollouts.mask > 0):
        for found in (rollouts.logprobs[i, row], logprobs[i]):
            assert torch.allclose(found, ours.logprobs[i, row], atol=1e-5)
        for found in (rollouts.ref_logprobs[i, row], base.logprobs[i]):
            assert torch.allclose(found, bases.logprobs[i, row], atol=1e-5)


def test_layers_computed_before_are_not_called_again(toy: Model) -> None:
    trainer = make_trainer(toy)
    rollouts = collect(trainer, by_tokens)
    calls: list[int] = []
    layers = lora_modules.layers_of(toy.policy.tree, toy.config.num_hidden_layers)
    handles = [
        layer.get_submodule("self_attn").register_forward_hook(lambda *_, i=i: calls.append(i))
        for i, layer in enumerate(layers)
    ]
    try:
        with toy.lease.slice(), torch.enable_grad():
            trainer._losses(rollouts.microbatches[0], rollouts)
    finally:
        for handle in handles:
            handle.remove()
    first = lora_modules.first_trained(len(layers))
    assert first > 0 and calls == list(range(first, len(layers)))
    assert all("forward" not in layer.__dict__ for layer in layers)


@pytest.mark.parametrize("sampling", [Sampling(0.7, 0.9), Sampling(1.3, 1.0, 20), Sampling(0.0)])
def test_however_replies_are_sampled_an_untouched_adapter_has_ratio_1_and_kl_0(
    toy: Model, sampling: Sampling
) -> None:
    toy.set_policy({k: torch.zeros_like(v) for k, v in toy.policy_state().items()})
    toy.sampling = sampling
    trainer = make_trainer(toy)
    rollouts = collect(trainer, by_tokens)
    assert rollouts.kl == pytest.approx(0, abs=1e-4)
    for rows in rollouts.microbatches:
        with toy.lease.slice(), torch.enable_grad():
            _, _, stats = trainer._losses(rows, rollouts)
        assert stats["ratio_max"] == 1.0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rewarded_tokens_become_frequent_and_punished_ones_rare(toy: Model, sign: float) -> None:
    trainer = make_trainer(toy, learning_rate=1e-2, ppo_epochs=2, max_new_tokens=6)
    trainer.kl_coef = trainer.initial_kl_coef = 0.01

    def even(ids: list[int]) -> float:
        return float(np.mean([t % 2 == 0 for t in ids]))

    def score(numbers, responses, pooled) -> np.ndarray:
        return np.array([3 * sign * even(r.ids) for r in responses])

    def share(seed: int) -> float:
        return float(np.mean([even(r) for r in collect(trainer, score, seed, 32).responses]))

    before = np.mean([share(100), share(101)])
    for i in range(24):
        trainer.update(collect(trainer, score, i, 32), seed=i)
    after = np.mean([share(100), share(101)])
    assert sign * (after - before) > 0.1


def test_both_estimators_agree_on_which_response_is_better(toy: Model) -> None:
    """A critic that expects nothing and the leave-one-out baseline order responses to a prompt
    alike."""
    rewards, mask = torch.tensor([[0.0, 1.0], [0.0, -1.0], [0.0, 0.2]]), torch.ones(3, 2)
    groups, values = torch.zeros(3, dtype=torch.int64), torch.zeros(3, 2)
    critic, _ = Critic(8, toy.device, CONFIG).estimate(rewards, values, mask, groups)
    group, _ = LeaveOneOut(CONFIG).estimate(rewards, values, mask, groups)
    assert critic[:, 0].argsort().tolist() == group[:, 0].argsort().tolist()
