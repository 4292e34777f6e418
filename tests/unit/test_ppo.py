"""Properties of PPO: the classic ways RLHF breaks in silence, one test each."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rlhf_chat.inference import forward_pass
from rlhf_chat.inference.model import Model
from rlhf_chat.training.advantages import Critic, ValueHead
from rlhf_chat.training.demonstrations import Demonstration, mask_unlikely
from rlhf_chat.training.ppo import (
    PPOConfig,
    adapted_kl_coef,
    center_and_scale,
    compute_advantages,
    compute_rewards,
    imitation_loss,
    initial_kl_coef,
    kl_target,
    masked_mean,
    policy_loss,
    value_loss,
)
from rlhf_chat.training.ppo_loop import prompt_batches
from rlhf_chat.training.ppo_trainer import PPOTrainer

CONFIG = PPOConfig(
    updates=1,
    rollouts=8,
    group=2,
    max_new_tokens=10,
    minibatches=2,
    warmup_steps=1,
    learning_rate=1e-3,
    fluency_coef=0.0,
)


def make_trainer(model: Model, **changes: object) -> PPOTrainer:
    config = PPOConfig(**{**CONFIG.__dict__, **changes})
    torch.manual_seed(0)
    return PPOTrainer(model, config, target=1.0, score_std=1.0, floor=-50.0)


def flat_gradient(model: Model) -> torch.Tensor:
    """(P,) of all adapter parameters."""
    grads = [p.grad for p in model.policy_parameters()]
    return torch.cat([g.flatten() for g in grads if g is not None])


def prompts_of(model: Model, rows: int = 8) -> list[list[int]]:
    return [
        model.encode([{"role": "user", "content": "tell me " + "sea " * (i % 3)}])
        for i in range(rows)
    ]


def some_score(numbers, responses, pooled) -> np.ndarray:
    return np.array([sum(r.ids) % 7 / 3 for r in responses])


def collect(trainer: PPOTrainer, seed: int = 1):
    prompts = prompts_of(trainer.model)
    return trainer.collect(prompts, list(range(len(prompts))), some_score, seed)


def random_mask(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    lengths = torch.randint(1, width + 1, (rows,), generator=torch.Generator().manual_seed(seed))
    return (torch.arange(width) >= width - lengths[:, None]).float()


# ---------------------------------------------------------------------- rewards and advantages


def test_exactly_one_reward_per_response_is_not_kl_and_it_is_the_last() -> None:
    mask = random_mask(5, 7)
    logprobs = torch.randn(5, 7) * mask
    scores = torch.arange(5.0)
    rewards = compute_rewards(scores, logprobs, logprobs.clone(), mask, kl_coef=0.3)
    assert torch.equal(rewards[:, -1], scores)
    assert torch.equal(rewards[:, :-1], torch.zeros(5, 6))


def test_kl_is_paid_per_token_with_the_right_sign() -> None:
    logprobs = torch.tensor([[-1.0, -1.0]])
    ref_logprobs = torch.tensor([[-3.0, -0.5]])
    rewards = compute_rewards(torch.zeros(1), logprobs, ref_logprobs, torch.ones(1, 2), kl_coef=0.5)
    assert rewards.tolist() == [[-1.0, 0.25]]  # likelier than the reference costs


def test_words_the_base_would_never_say_cost_beyond_the_floor_only() -> None:
    ref = torch.tensor([[-9.0, -2.0]])
    rewards = compute_rewards(torch.zeros(1), ref, ref, torch.ones(1, 2), 0.0, -7.0, 0.3)
    assert rewards[0].tolist() == pytest.approx([-0.6, 0.0])


@pytest.mark.parametrize("gamma, lam", [(1.0, 1.0), (1.0, 0.95), (0.9, 0.5), (1.0, 0.0)])
def test_advantages_equal_the_brute_force_sum(gamma: float, lam: float) -> None:
    torch.manual_seed(1)
    mask = random_mask(4, 6, 2)
    rewards, values = torch.randn(4, 6) * mask, torch.randn(4, 6) * mask
    advantages, returns = compute_advantages(rewards, values, mask, gamma, lam)
    for row in range(4):
        steps = [t for t in range(6) if mask[row, t]]
        for t in steps:
            total = 0.0
            for k in [s for s in steps if s >= t]:
                after = float(values[row, k + 1]) if k + 1 < 6 else 0.0
                delta = float(rewards[row, k]) + gamma * after - float(values[row, k])
                total += (gamma * lam) ** (k - t) * delta
            assert float(advantages[row, t]) == pytest.approx(total, abs=1e-5)
    assert torch.allclose(returns, (advantages + values) * mask)
    assert not (advantages * (1 - mask)).any()


def test_with_lam_1_the_advantage_is_return_minus_value() -> None:
    rewards, values = torch.randn(3, 5), torch.randn(3, 5)
    advantages, _ = compute_advantages(rewards, values, torch.ones(3, 5), 1.0, 1.0)
    to_go = rewards.flip(-1).cumsum(-1).flip(-1)
    assert torch.allclose(advantages, to_go - values, atol=1e-5)


def test_padding_changes_no_statistic() -> None:
    torch.manual_seed(0)
    mask = random_mask(6, 8)
    x, new = torch.randn(6, 8) * mask, torch.randn(6, 8) * 0.1 * mask

    def wide(t: torch.Tensor, fill: float) -> torch.Tensor:
        return torch.cat([torch.full((6, 50), fill), t], -1)

    wide_mask = wide(mask, 0.0)
    assert masked_mean(x, mask) == pytest.approx(float(masked_mean(wide(x, 9.0), wide_mask)))
    small = center_and_scale(x, mask, 0.1)
    assert torch.allclose(small, center_and_scale(wide(x, 9.0), wide_mask, 0.1)[:, 50:], atol=1e-6)
    loss, stats = policy_loss(new, torch.zeros(6, 8), x, mask, 0.2, 3.0)
    again, wide_stats = policy_loss(
        wide(new, -4.0), torch.zeros(6, 58), wide(x, 9.0), wide_mask, 0.2, 3.0
    )
    assert float(loss) == pytest.approx(float(again), abs=1e-5)
    assert stats == pytest.approx(wide_stats)


def test_equal_rewards_are_no_lesson() -> None:
    """Without a floor, whitening would blow rounding noise up to full strength."""
    mask = torch.ones(4, 5)
    out = center_and_scale(torch.full((4, 5), 2.0) + 1e-6 * torch.randn(4, 5), mask, 0.1)
    assert out.abs().max() < 1e-3
    assert torch.isfinite(out).all()


# ---------------------------------------------------------------------- losses


def test_policy_loss_falls_as_the_ratio_follows_the_advantage() -> None:
    advantages, mask = torch.tensor([[1.0, -1.0]]), torch.ones(1, 2)
    good, _ = policy_loss(
        torch.tensor([[0.1, -0.1]]), torch.zeros(1, 2), advantages, mask, 0.2, 3.0
    )
    bad, _ = policy_loss(torch.tensor([[-0.1, 0.1]]), torch.zeros(1, 2), advantages, mask, 0.2, 3.0)
    assert good < bad


def test_no_gradient_beyond_the_clip_and_a_bound_on_bad_surprises() -> None:
    new = torch.tensor([[0.5, 5.0]], requires_grad=True)  # ratio 1.65 and 148
    advantages = torch.tensor([[1.0, -1.0]])
    loss, stats = policy_loss(new, torch.zeros(1, 2), advantages, torch.ones(1, 2), 0.2, 3.0)
    loss.backward()
    assert new.grad is not None and not new.grad.any()
    assert float(loss) == pytest.approx(-1.2 + 3.0)
    assert stats["clipfrac"] == 2


def test_value_loss_takes_the_worse_of_clipped_and_plain() -> None:
    loss = value_loss(
        torch.tensor([[1.0]]), torch.tensor([[0.0]]), torch.tensor([[1.0]]), torch.ones(1, 1), 0.2
    )
    assert float(loss) == pytest.approx(0.5 * 0.8**2)


def test_kl_estimators_agree_with_the_exact_kl() -> None:
    torch.manual_seed(0)
    p, q = torch.randn(5).log_softmax(-1), torch.randn(5).log_softmax(-1)
    exact = float((p.exp() * (p - q)).sum())
    drawn = torch.multinomial(p.exp(), 40000, replacement=True)
    k1 = (p - q)[drawn]
    k3 = torch.exp(-k1) - 1 + k1
    for estimate in (k1, k3):
        error = 3 * float(estimate.std()) / math.sqrt(len(drawn))
        assert float(estimate.mean()) == pytest.approx(exact, abs=error)
    assert (k3 >= 0).all()


def test_the_kl_of_an_update_is_that_of_the_policy_that_wrote_the_rollouts() -> None:
    """Tokens were drawn from the old policy p; approxkl estimates KL(p || q), not the reverse."""
    torch.manual_seed(3)
    p, q = (2 * torch.randn(5)).log_softmax(-1), torch.randn(5).log_softmax(-1)
    exact, reverse = (float((x.exp() * (x - y)).sum()) for x, y in ((p, q), (q, p)))
    drawn = torch.multinomial(p.exp(), 40000, replacement=True)
    old, new = p[drawn][None], q[drawn][None]
    _, stats = policy_loss(new, old, torch.zeros_like(old), torch.ones_like(old), 0.2, 3.0)
    assert abs(exact - reverse) > 0.2  # else it would show nothing
    assert stats["approxkl"] / len(drawn) == pytest.approx(exact, rel=0.05)


def test_the_kl_coefficient_starts_where_a_gaussian_score_meets_its_target() -> None:
    """Tilting N(0, s^2) scores by exp(score / kl_coef) has KL s^2 / (2 kl_coef^2)."""
    for target in (1.0, 2.5):
        kl_coef = initial_kl_coef(0.8, target)
        assert 0.8**2 / (2 * kl_coef**2) == pytest.approx(target)


def test_more_ratings_allow_more_distance_within_bounds() -> None:
    assert kl_target(0) == kl_target(10) == 2.0
    assert kl_target(100) == pytest.approx(2.5) and kl_target(400) == pytest.approx(5.0)
    assert kl_target(1e9) == 10.0
    assert kl_target(10, tokens=8) == 2.0 and kl_target(10, tokens=96) == pytest.approx(4.0)


def test_the_kl_coefficient_pushes_towards_the_target_within_bounds() -> None:
    assert adapted_kl_coef(1.0, kl=9.0, target=1.0, initial=1.0) > 1.0
    assert adapted_kl_coef(1.0, kl=0.1, target=1.0, initial=1.0) < 1.0
    kl_coef = 1.0
    for _ in range(500):
        kl_coef = adapted_kl_coef(kl_coef, kl=99.0, target=1.0, initial=1.0)
    assert kl_coef == pytest.approx(10.0)


# ---------------------------------------------------------------------- with the toy model


@pytest.mark.parametrize("kind", ["toy", "toy_nf4"])
def test_the_first_ratio_is_exactly_1(kind: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    state = {k: torch.randn_like(v) * 0.1 for k, v in model.base_state().items()}
    model.set_policy(state)
    trainer = make_trainer(model)
    rollouts, _ = collect(trainer)
    for rows in rollouts.microbatches:
        with model.lease.slice(), torch.enable_grad():
            _, _, stats = trainer._losses(rows, rollouts)
        assert stats["ratio_max"] == 1.0 and stats["approxkl"] == 0.0


def test_at_the_start_kl_is_zero_and_values_are_zero(toy: Model) -> None:
    rollouts, stats = collect(make_trainer(toy))
    assert stats["kl"] == pytest.approx(0, abs=1e-4)
    assert not rollouts.values.any()


def test_a_learning_rate_of_0_changes_nothing(toy: Model) -> None:
    before = toy.policy_state()
    trainer = make_trainer(toy, learning_rate=0.0, ppo_epochs=3)
    rollouts, _ = collect(trainer)
    stats = trainer.update(rollouts, seed=0)
    after = toy.policy_state()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert stats["ratio_max"] == 1.0


def test_training_moves_the_policy_and_nothing_else(toy: Model) -> None:
    served = toy.make_view(1, toy.base_state())
    frozen = {n: p.clone() for n, p in toy.reference.tree.named_parameters()}
    prompts = prompts_of(toy, 2)

    def speak(view) -> torch.Tensor:
        with toy.lease.slice(), torch.no_grad():
            return forward_pass.forward(toy, view, prompts, [[5, 6], [7]]).logprobs

    before = speak(toy.reference), speak(served)
    state = toy.policy_state()
    trainer = make_trainer(toy)
    owned = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert owned == {id(p) for p in toy.policy_parameters()}
    rollouts, _ = collect(trainer)
    trainer.update(rollouts, seed=0)
    changed = toy.policy_state()
    moved = {k for k in state if not torch.equal(state[k], changed[k])}
    assert moved <= set(toy._trained) and len(moved) >= len(toy._trained) // 2
    assert torch.equal(before[0], speak(toy.reference)) and torch.equal(before[1], speak(served))
    for name, param in toy.reference.tree.named_parameters():
        assert torch.equal(param, frozen[name]) and param.grad is None


def test_gradients_do_not_depend_on_how_rows_are_split(toy: Model) -> None:
    """Unequal lengths, one micro-batch against one row each: the same minibatch gradient."""
    trainer = make_trainer(toy)
    rollouts, _ = collect(trainer)
    tokens = float(rollouts.mask.sum())

    def grads(parts: list[list[int]]) -> torch.Tensor:
        trainer.optimizer.zero_grad(set_to_none=True)
        for rows in parts:
            with toy.lease.slice(), torch.enable_grad():
                loss, _, _ = trainer._losses(rows, rollouts)
                (loss / tokens).backward()
        out = flat_gradient(toy)
        for p in toy.policy_parameters():
            p.grad = None
        return out

    rows = list(range(len(rollouts.responses)))
    assert torch.allclose(grads([rows]), grads([[i] for i in rows]), atol=1e-5)


def test_advantages_are_whitened_over_the_whole_batch(toy: Model) -> None:
    trainer = make_trainer(toy)
    rollouts, _ = collect(trainer)
    mean = masked_mean(rollouts.advantages, rollouts.mask)
    std = masked_mean((rollouts.advantages - mean) ** 2, rollouts.mask).sqrt()
    assert float(mean) == pytest.approx(0, abs=1e-5)
    assert float(std) == pytest.approx(1, abs=1e-4)
    toy.microbatch_rows = 1
    try:
        again, _ = collect(make_trainer(toy))
    finally:
        toy.microbatch_rows = 8
    assert torch.allclose(rollouts.advantages, again.advantages, atol=1e-4)


def test_an_unfinished_response_is_penalised_whatever_the_prompt_holds(toy: Model) -> None:
    """End tokens in the prompt (every earlier turn has one) do not count as an end."""
    trainer = make_trainer(toy, max_new_tokens=2)
    rollouts, stats = collect(trainer)
    plain = some_score(None, [type("R", (), {"ids": r}) for r in rollouts.responses], None)
    for score, expected, response in zip(rollouts.scores, plain, rollouts.responses, strict=True):
        ended = response[-1] in toy.end_ids
        assert float(score) == pytest.approx(expected - (0.0 if ended else 1.0), abs=1e-5)
    assert all(any(i in toy.end_ids for i in p) for p in rollouts.prompts)
    assert stats["unfinished"] > 0


def test_being_cut_off_costs_as_much_as_the_base_would_end(toy: Model) -> None:
    """Where the base itself runs on, punishing it would only teach brevity."""
    prompts, penalties = prompts_of(toy), []
    for base_ends in (0.0, 0.25, 1.0):
        config = PPOConfig(**{**CONFIG.__dict__, "max_new_tokens": 2})
        trainer = PPOTrainer(
            toy, config, target=1.0, score_std=1.0, floor=-50.0, base_ends=base_ends
        )
        rollouts, _ = trainer.collect(prompts, range(8), lambda n, r, p: np.zeros(len(r)), 1)
        cut = [r[-1] not in toy.end_ids for r in rollouts.responses]
        penalties.append(float(rollouts.scores[torch.tensor(cut)].mean()))
    assert penalties == pytest.approx([0.0, -0.25, -1.0])


def test_the_value_head_is_linear_zero_and_detached(toy: Model) -> None:
    head = ValueHead(8)
    hidden = torch.randn(2, 3, 8, requires_grad=True)
    values = head(hidden)
    assert not values.any()
    (values - 1).square().sum().backward()
    assert hidden.grad is None and head.linear.weight.grad is not None


def test_a_value_is_of_the_state_before_its_token(toy: Model) -> None:
    """Changing the last token must not change its own value."""
    trainer = make_trainer(toy)
    assert isinstance(trainer.estimator, Critic)
    torch.nn.init.normal_(trainer.estimator.value_head.linear.weight)
    prompt = prompts_of(toy, 1)
    parts = [[0]]
    *_, one = trainer._policy_pass(prompt, [[5, 6, 7]], parts, {}, 3, lambda: None)
    *_, two = trainer._policy_pass(prompt, [[5, 6, 8]], parts, {}, 3, lambda: None)
    assert torch.equal(one, two)


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_numbers_that_are_not_finite_never_reach_a_weight(toy: Model, broken: str) -> None:
    trainer = make_trainer(toy)
    rollouts, _ = collect(trainer)
    before = toy.policy_state()
    if broken == "loss":
        rollouts = rollouts._replace(advantages=rollouts.advantages * math.nan)
        with pytest.raises(FloatingPointError):
            trainer.update(rollouts, seed=0)
    else:
        for p in toy.policy_parameters():
            p.grad = torch.full_like(p, math.inf)
        with pytest.raises(FloatingPointError):
            trainer._apply()
    after = toy.policy_state()
    assert all(torch.equal(before[k], after[k]) for k in before)
    for p in toy.policy_parameters():
        p.grad = None


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rewarded_tokens_become_frequent_and_punished_ones_rare(toy: Model, sign: float) -> None:
    """The whole loop learns the right way round."""
    trainer = make_trainer(toy, learning_rate=1e-2, rollouts=32, ppo_epochs=2, max_new_tokens=6)
    trainer.kl_coef = trainer.initial_kl_coef = 0.01
    prompts, numbers = prompts_of(toy, 32), list(range(32))

    def even(ids: list[int]) -> float:
        return float(np.mean([t % 2 == 0 for t in ids]))

    def score(numbers, responses, pooled) -> np.ndarray:
        return np.array([3 * sign * even(r.ids) for r in responses])

    def share(seed: int) -> float:
        rollouts, _ = trainer.collect(prompts, numbers, score, seed)
        return float(np.mean([even(r) for r in rollouts.responses]))

    before = np.mean([share(100), share(101)])
    for i in range(16):
        rollouts, _ = trainer.collect(prompts, numbers, score, i)
        trainer.update(rollouts, seed=i)
    after = np.mean([share(100), share(101)])
    assert sign * (after - before) > 0.1


# ---------------------------------------------------------------------- what people wrote


def shown(toy: Model) -> Demonstration:
    prompt = toy.encode([{"role": "user", "content": "hello"}])
    response = toy.encode_reply("the sea is deep")
    return Demonstration(prompt, response, [1.0] * len(response))


def logprob_of(toy: Model, one: Demonstration) -> float:
    with toy.lease.slice(), torch.no_grad():
        out = forward_pass.forward(toy, toy.policy, [list(one.prompt)], [list(one.response)])
    return float(out.logprobs.sum())


@pytest.mark.parametrize("target, moves", [(1.0, True), (-1.0, False)])
def test_a_correction_is_imitated_while_the_kl_budget_lasts(
    toy: Model, target: float, moves: bool
) -> None:
    one, after = shown(toy), []
    for demonstrations in ([one], []):
        toy.set_policy(toy.base_state())
        trainer = make_trainer(toy, sft_coef=1.0, ppo_epochs=2)
        trainer.target, trainer.demonstrations = target, demonstrations
        rollouts, _ = collect(trainer)
        stats = trainer.update(rollouts, seed=0)
        assert ("sft_loss" in stats) is (moves and bool(demonstrations))
        after.append(logprob_of(toy, one))
    assert (after[0] > after[1] + 1e-4) is moves


def test_what_the_base_would_never_say_is_not_imitated(toy: Model) -> None:
    one = shown(toy)
    with toy.lease.slice(), torch.no_grad():
        token_logprobs = forward_pass.forward(
            toy, toy.reference, [one.prompt], [one.response]
        ).logprobs[0]
    floor = float(token_logprobs.median())
    [kept] = mask_unlikely(toy, [one], floor)
    assert kept.weights == [1.0 if p >= floor else 0.0 for p in token_logprobs.tolist()]
    assert 0.0 in kept.weights and 1.0 in kept.weights and kept.response == one.response
    assert mask_unlikely(toy, [one], 0.0) == []  # nothing of it is left to imitate


def test_imitation_weighs_each_token_by_whose_it_is() -> None:
    logprobs = torch.tensor([[-1.0, -3.0, 0.0]])
    one = torch.ones(1)
    even = imitation_loss(logprobs, torch.tensor([[1.0, 1.0, 0.0]]), one)
    own = imitation_loss(logprobs, torch.tensor([[0.2, 1.0, 0.0]]), one)
    assert float(even) == pytest.approx(4.0) and float(own) == pytest.approx(3.2)
    assert float(imitation_loss(logprobs, torch.zeros(1, 3), one)) == 0


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_a_mended_typo_is_imitated_little_even_where_nothing_else_was_corrected(
    toy: Model, rows: int
) -> None:
    """The pull of a correction goes with its worth, and not with how the work is cut."""
    toy.microbatch_rows = rows
    one, pulls = shown(toy), []
    for worth in (1.0, 0.1):
        trainer = make_trainer(toy, sft_coef=1.0)
        trainer._zero_grad()
        other = Demonstration(one.prompt, [5, 6, 7], [1.0, 0.2, 1.0], worth)
        trainer._imitate([one._replace(worth=worth), other])
        pulls.append(flat_gradient(toy))
    assert float(pulls[0].norm()) > 0
    torch.testing.assert_close(pulls[1], 0.1 * pulls[0], rtol=1e-3, atol=1e-6)


def test_memory_that_is_short_for_corrections_ends_no_round(toy: Model, monkeypatch) -> None:
    """Rows that do not fit together are shown one by one, to the same effect."""
    toy.microbatch_rows = 4
    four = [shown(toy)] * 4
    whole = make_trainer(toy)._imitate(four)
    forward = forward_pass.forward

    def one_at_a_time(model, view, prompts, responses):
        if len(prompts) > 1:
            raise torch.OutOfMemoryError
        return forward(model, view, prompts, responses)

    monkeypatch.setattr(forward_pass, "forward", one_at_a_time)
    assert make_trainer(toy)._imitate(four) == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("count", [3, 17, 40])
def test_every_prompt_has_its_turn_before_any_comes_again(count: int) -> None:
    config = PPOConfig(rollouts=32, group=4)
    batches = prompt_batches(count, config, np.random.default_rng(0))
    drawn = []
    for _ in range(30):
        batch = next(batches)
        assert len(batch) == 32
        assert all(len(set(batch[i : i + 4])) == 1 for i in range(0, 32, 4))
        drawn += batch[::4]
    rounds = len(drawn) // count
    for start in range(0, rounds * count, count):
        assert sorted(drawn[start : start + count]) == list(range(count))
    if count > 3:
        assert drawn[:count] != drawn[count : 2 * count]
