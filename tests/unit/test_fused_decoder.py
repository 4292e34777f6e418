"""The fused forward pass gives the model's own logits, for every architecture that it knows."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from rlhf_chat.inference import fused_decoder, kv_cache, lora_modules, precision
from rlhf_chat.inference.decode_batch import left_pad
from rlhf_chat.inference.fused_decoder import PackedLinear
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.model import Model
from tests.unit.test_model import random_state

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 99,
}
CONFIGS = [LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config]
ROWS = [[5, 6, 7, 8, 9], [11, 12, 13], [1]]


def tree_of(kind: type, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    torch.manual_seed(0)
    config = kind(**SHAPE, **({"sliding_window": None} if kind is MistralConfig else {}))
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    for parameter in model.parameters():  # norms that are all 1 would hide one left out
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def steps(tree: torch.nn.Module, count: int = 4) -> torch.Tensor:
    """Logits (count + 1, B, V): of the prompts' next tokens, then of a token at a time."""
    ids, mask, positions = left_pad(ROWS, 0, torch.device("cpu"))
    length = ids.shape[1]
    with torch.inference_mode():
        logits, tensors = kv_cache.prefill(tree, ids, positions, mask, length + count)
        found = [logits]
        seen = torch.zeros(len(ROWS), 1, 1, length + count, dtype=torch.bool)
        seen[:, 0, 0, :length] = mask.bool()
        position = positions[:, -1:]
        for step in range(count):
            position = position + 1
            seen[..., length + step] = True
            reach = length + step + 1
            token = torch.full((len(ROWS), 1), 20 + step)
            found.append(
                kv_cache.decode_step(
                    tree,
                    token,
                    position,
                    seen[..., :reach],
                    torch.tensor([reach - 1]),
                    *[t[:, :, :reach] for t in tensors],
                )
            )
    return torch.stack([x.float() for x in found])


@pytest.mark.parametrize("kind", CONFIGS)
def test_it_gives_the_models_own_logits(kind: type) -> None:
    tree = tree_of(kind)
    fused = fused_decoder.build(tree, fused_decoder.joined)
    assert fused is not None
    assert torch.allclose(steps(fused), steps(tree), atol=1e-4)


def test_in_bfloat16_it_is_as_close_to_float32_as_the_model_is() -> None:
    exact = steps(tree_of(LlamaConfig))
    tree = tree_of(LlamaConfig, torch.bfloat16)
    fused = fused_decoder.build(tree, fused_decoder.joined)
    assert fused is not None
    error, own = (float((steps(t) - exact).abs().mean()) for t in (fused, tree))
    assert error < 1.5 * own + 1e-3


def test_an_architecture_that_is_not_known_has_no_fused_form(toy: Model) -> None:
    config = toy.reference.tree.config
    assert fused_decoder.is_known(config)
    for name, value in (
        ("model_type", "gemma2"),
        ("hidden_act", "gelu"),
        ("sliding_window", 128),
        ("layer_types", ["sliding_attention", "full_attention"]),
    ):
        other = type(config)(**SHAPE)
        setattr(other, name, value)
        assert not fused_decoder.is_known(other), name


def test_with_an_adapter_it_samples_what_the_adapted_tree_samples(toy_nf4: Model) -> None:
    state = random_state(toy_nf4, 3, 0.5)
    merged = toy_nf4.make_view(1, state)
    fused = merged._replace(
        tree=lora_modules.fused(toy_nf4.reference.tree, toy_nf4.policy.tree, state, {})
    )
    prompts = [toy_nf4.encode([{"role": "user", "content": "hello"}])] * 3
    greedy = Sampling(temperature=0.0, max_new_tokens=12)
    expected = toy_nf4.sample(merged, prompts, greedy, seed=0)
    assert [r.ids for r in toy_nf4.sample(fused, prompts, greedy, seed=0)] == [
        r.ids for r in expected
    ]
    assert expected[0].ids != toy_nf4.sample(toy_nf4.reference, prompts, greedy, seed=0)[0].ids


def test_a_large_model_is_served_fused_and_the_base_is_built_when_it_is_asked_for(
    toy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "SMALL", 0)
    monkeypatch.setattr(precision, "likes_bfloat16", lambda: True)
    model = Model.load(str(toy_folder))
    assert model.reference.tree.dtype == torch.bfloat16
    assert isinstance(model.live.tree, fused_decoder.FusedDecoder) and model.live.version == 0
    assert model.base_view() is model.live
    view = model.make_view(1, random_state(model))
    model.serve(view)
    assert model.view_if_live(1) is view and model.view_if_live(0) is None
    again = model.base_view()
    assert isinstance(again.tree, fused_decoder.FusedDecoder) and again.version == 0


def test_versions_share_what_none_of_them_changed(
    toy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that trained the MLP of the last layer takes no more memory than that."""
    monkeypatch.setattr(precision, "SMALL", 0)
    model = Model.load(str(toy_folder))
    last = f".layers.{model.config.num_hidden_layers - 1}.mlp."
    changed = {
        name: value if last in name else torch.zeros_like(value)
        for name, value in random_state(model).items()
    }
    base, version = model.live, model.make_view(1, changed)
    own = {id(m) for m in version.tree.modules() if isinstance(m, fused_decoder.PackedLinear)}
    own -= {id(m) for m in base.tree.modules()}
    expected = {id(version.tree.layers[-1].gate_up), id(version.tree.layers[-1].down)}
    assert own == expected
    model.serve(version)
    freed = weakref.ref(base.tree.layers[-1].down)
    kept = id(base.tree.layers[0].qkv), id(base.tree.head)
    del base
    gc.collect()
    assert freed() is None  # nobody has it any more
    again = model.base_view()
    assert (id(again.tree.layers[0].qkv), id(again.tree.head)) == kept
    prompt = [model.encode([{"role": "user", "content": "hello"}])]
    greedy = Sampling(temperature=0.0, max_new_tokens=8)
    expected_ids = model.sample(model.reference, prompt, greedy, seed=0)[0].ids
    assert model.sample(again, prompt, greedy, seed=0)[0].ids == expected_ids


def test_packed_weights_multiply_as_plain_ones_do() -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(24, 16), torch.randn(24), torch.randn(2, 3, 16)
    packed = PackedLinear(weight, bias)
    expected = torch.nn.functional.linear(x, weight, bias)
    with torch.inference_mode():
        assert torch.allclose(packed(x), expected, atol=1e-5)
        assert torch.allclose(packed.add_to(expected, x), 2 * expected, atol=1e-4)


def test_few_rows_are_multiplied_in_int8_with_a_hundredth_of_error() -> None:
    """Only in bfloat16, and only for as many rows as one or two replies are."""
    torch.manual_seed(0)
    weight = (0.05 * torch.randn(96, 64)).to(torch.bfloat16)
    linear = fused_decoder.PackedLinear(weight, None)
    x = torch.randn(1, fused_decoder.FEW_ROWS, 64).to(torch.bfloat16)
    exact = x.float() @ weight.float().T
    few = linear(x)
    assert linear.int8 is not None and few.shape == exact.shape
    assert float((few.float() - exact).norm() / exact.norm()) < 0.02
    added = linear.add_to(torch.ones_like(few), x)
    assert torch.allclose(added.float(), few.float() + 1, atol=0.02)
    many = fused_decoder.PackedLinear(weight, None)
    many(torch.cat([x, x]))
    assert many.int8 is None
    plain = fused_decoder.PackedLinear(weight.float(), None)
    plain(x.float())
    assert plain.int8 is None
