"""Norms in one kernel say what the model's own say, and only where they do. Left out: a card, on
which alone they are one kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from rlhf_chat.inference import fused_rmsnorm
from tests.families import FAMILIES

OWN = ("gemma2", "gemma3", "qwen3.5", "gpt2")  # 1 + weight, or no RMS norm at all


def norm_modules(tree: torch.nn.Module) -> list[torch.nn.Module]:
    return [m for m in tree.modules() if type(m).__name__.endswith("RMSNorm")]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_says_the_same(family: str, family_folder: Callable[[str], Path]) -> None:
    base = AutoModelForCausalLM.from_pretrained(family_folder(family))
    for norm in norm_modules(base):
        if isinstance(weight := getattr(norm, "weight", None), torch.Tensor):
            torch.nn.init.normal_(weight, 1.0, 0.2)
    ids = torch.arange(10, 40)[None] % base.config.get_text_config().vocab_size
    with torch.no_grad():
        before = base(ids).logits
        weights = {n: p.data_ptr() for n, p in base.named_parameters()}
        count = fused_rmsnorm.fuse(base)
        assert torch.allclose(base(ids).logits, before, atol=1e-4)
    assert {n: p.data_ptr() for n, p in base.named_parameters()} == weights  # not one is copied
    if family in OWN:
        assert count == 0
    else:
        assert count == len(norm_modules(base)) > 0


def test_the_way_back_is_the_same() -> None:
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(config)
    seen = torch.randn(1, 6, 32, requires_grad=True)

    def slope() -> torch.Tensor:
        return torch.autograd.grad(base(inputs_embeds=seen).logits.square().sum(), seen)[0]

    own = slope()
    assert fused_rmsnorm.fuse(base) == 5
    assert torch.allclose(slope(), own, rtol=1e-4, atol=1e-6)


def test_a_norm_that_means_something_else_stays() -> None:
    class ShiftedRMSNorm(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.variance_epsilon = torch.nn.Parameter(torch.full((8,), 0.1)), 1e-6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
            return x * scale * (1 + self.weight)

    base = torch.nn.Sequential(ShiftedRMSNorm())
    assert fused_rmsnorm.fuse(base) == 0 and type(base[0]) is ShiftedRMSNorm
