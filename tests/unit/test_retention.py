"""Properties of what training must leave as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlhf_chat.errors import NumericError
from rlhf_chat.feedback.replies import Prompt, Reply
from rlhf_chat.inference import forward_pass
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.lm_head import Head, kl_from_base
from rlhf_chat.inference.model import Model
from rlhf_chat.reward import prompt_sets
from rlhf_chat.reward.features import Reference
from rlhf_chat.training.retention import Retention
from tests.unit.test_model import random_state
from tests.unit.test_ppo import flat_gradient, make_trainer, prompts_of

TEXTS = ("The sea is deep and blue today.",)


def references(model: Model, count: int = 3) -> list[Reference]:
    prompts = [
        model.encode([{"role": "user", "content": "name " + "a " * i}]) for i in range(count)
    ]
    found = []
    for i, ids in enumerate(prompts):
        responses = model.sample(model.reference, [ids] * 2, Sampling(max_new_tokens=5 + i), seed=i)
        prompt = Prompt(tuple(ids), "name")
        replies = [Reply(prompt, tuple(r.ids), model.decode(r.ids)) for r in responses]
        found.append(Reference(np.zeros((2, 1)), np.zeros((2, 1)), [], [], replies, 8))
    return found


def retained_kl(model: Model, coef: float = 1.0) -> float:
    """Of all rows, its gradient left in .grad."""
    trainer = make_trainer(model)
    trainer._zero_grad()
    retention = Retention(model, references(model), TEXTS, rows=100)
    return retention.add_gradient(trainer._add_gradient, coef, np.random.default_rng(0))


@pytest.mark.parametrize("plain", [True, False])
def test_the_divergence_is_that_of_the_two_distributions(plain: bool) -> None:
    torch.manual_seed(0)
    embeddings = torch.nn.Linear(8, 300, bias=not plain).requires_grad_(False)
    head = Head(embeddings, 1.0, 1.0, None)
    assert (head.weight_on_cpu() is not None) == plain
    base, hidden = torch.randn(200, 8), torch.randn(200, 8, requires_grad=True)
    kl = kl_from_base(head, hidden, base, 0.7, 300)
    expected = torch.nn.functional.kl_div(
        (embeddings(hidden) / 0.7).log_softmax(-1),
        (embeddings(base) / 0.7).log_softmax(-1),
        log_target=True,
        reduction="none",
    ).sum(-1)
    assert torch.allclose(kl, expected, atol=1e-5)
    weights = torch.rand(200)
    [ours] = torch.autograd.grad((weights * kl).sum(), hidden)
    [theirs] = torch.autograd.grad((weights * expected).sum(), hidden)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_an_unchanged_policy_is_left_alone(toy: Model) -> None:
    toy.set_policy(toy.base_state())
    assert retained_kl(toy) == pytest.approx(0.0, abs=1e-6)
    assert flat_gradient(toy).norm() < 1e-5


def test_steps_along_it_bring_a_changed_policy_back(toy: Model) -> None:
    toy.set_policy(random_state(toy, size=0.3))
    before = retained_kl(toy)
    assert before > 0.01
    for _ in range(30):
        retained_kl(toy)
        with torch.no_grad():
            for param in toy.policy_parameters():
                if param.grad is not None:
                    param.sub_(0.3 * param.grad)
    assert retained_kl(toy) < 0.8 * before


def test_the_coefficient_scales_the_gradient_only(toy: Model) -> None:
    toy.set_policy(random_state(toy))
    once, gradient = retained_kl(toy), flat_gradient(toy)
    assert retained_kl(toy, 3.0) == pytest.approx(once)
    assert torch.allclose(flat_gradient(toy), 3 * gradient, rtol=1e-3, atol=1e-6)


def test_what_the_base_makes_of_them_is_computed_once(toy: Model, monkeypatch) -> None:
    toy.set_policy(random_state(toy))
    trainer, asked = make_trainer(toy), []
    retention = Retention(toy, references(toy), TEXTS, rows=100)
    base_states = forward_pass.base_states
    monkeypatch.setattr(
        forward_pass,
        "base_states",
        lambda model, *rows: asked.append(len(rows[0])) or base_states(model, *rows),
    )
    rng = np.random.default_rng(0)
    kl = [retention.add_gradient(trainer._add_gradient, 1.0, rng) for _ in range(3)]
    assert kl == pytest.approx([kl[0]] * 3) and sum(asked) == 7


def test_an_update_says_how_far_it_went_there(toy: Model) -> None:
    toy.set_policy(toy.base_state())
    trainer = make_trainer(toy)
    trainer.retention = Retention(toy, references(toy), TEXTS, rows=4)

    def score(numbers, responses, pooled) -> np.ndarray:
        return np.arange(len(responses), dtype=float)

    prompts = prompts_of(toy)
    rollouts, _ = trainer.collect(prompts, list(range(len(prompts))), score, 0)
    assert trainer.update(rollouts, 0)["retention_kl"] >= 0


def test_a_number_that_is_none_reaches_no_weight(toy: Model, monkeypatch) -> None:
    monkeypatch.setattr(forward_pass, "kl_from_base", lambda *_: torch.tensor([float("nan")]))
    with pytest.raises(NumericError):
        retained_kl(toy)


def test_retained_prompts_are_neither_practised_nor_asked_at_the_gate() -> None:
    retained = prompt_sets.retained(False, 1000)
    assert len(retained) == len(set(retained)) >= 64
    others = prompt_sets.practice(False, 1000) + prompt_sets.probe(False, 1000)
    assert not set(retained) & set(others)
    assert not prompt_sets.retained(True, 10)
