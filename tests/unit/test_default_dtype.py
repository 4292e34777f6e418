"""torch's default dtype belongs to all threads, and transformers changes it while it builds a model
in another one: nothing here may depend on it, nor change it beside a model at work."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from transformers import LlamaConfig

from rlhf_chat.inference import forward_pass
from rlhf_chat.inference.empty_model import empty_model
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.memory_estimate import Workload, predict
from rlhf_chat.inference.model import Model
from tests.unit.test_ppo import make_trainer, prompts_of
from tests.unit.test_structure import MODULES

MADE_IN_IT = {"empty", "zeros", "ones", "rand", "randn", "full", "linspace", "eye"}
CONFIG = LlamaConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    dtype=torch.bfloat16,
)


@contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def an_update(model: Model) -> list[torch.Tensor]:
    """All that chat and a round compute: a reply, its scores' inputs, an update, a view of it."""
    model.set_policy(model.base_state())
    trainer = make_trainer(model)
    prompts = prompts_of(model)

    def score(numbers, responses, pooled) -> np.ndarray:
        return np.array([float(len(r.ids)) for r in responses]) + pooled.sum(-1).numpy()

    rollouts, _ = trainer.collect(prompts, list(range(len(prompts))), score, 7)
    trainer.update(rollouts, 8)
    state = model.policy_state()
    view = model.make_view(1, state)
    [reply] = model.sample(view, prompts[:1], Sampling(max_new_tokens=6), seed=3)
    found = forward_pass.reference_pass(model, prompts[:1], [reply.ids])
    return [
        *state.values(),
        rollouts.logprobs,
        rollouts.advantages,
        torch.tensor(reply.ids),
        *found.logprobs,
        found.pooled,
        forward_pass.prefix_states(model, prompts[0], reply.ids),
    ]


def test_nothing_computed_depends_on_it(toy: Model):
    expected = an_update(toy)
    with default(torch.bfloat16):
        found = an_update(toy)
    assert [t.dtype for t in found] == [t.dtype for t in expected]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    "build",
    [
        lambda: empty_model(CONFIG, torch.bfloat16),
        lambda: predict(CONFIG, "nf4", Workload(on_cpu=True)),
        lambda: predict(CONFIG, "nf4", Workload()),
    ],
)
def test_building_a_model_beside_another_leaves_it_alone(build: Callable[[], object], monkeypatch):
    asked: list[torch.dtype] = []
    monkeypatch.setattr(torch, "set_default_dtype", asked.append)
    build()
    assert set(asked) <= {torch.float32}


def test_an_empty_model_has_the_dtype_asked_for_and_no_memory():
    made = empty_model(CONFIG, torch.bfloat16)
    assert {p.dtype for p in made.parameters()} == {made.config.dtype} == {torch.bfloat16}
    assert all(p.is_meta for p in made.parameters())


def test_tensors_are_made_with_a_dtype():
    calls = [
        f"{file.name}:{node.lineno}"
        for file in MODULES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {f"torch.{name}" for name in MADE_IN_IT}
        and not any(word.arg == "dtype" for word in node.keywords)
    ]
    assert not calls
