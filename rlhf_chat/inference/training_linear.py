"""A linear layer with LoRA in training on a CPU: forward and backward in few operations.

PEFT's layer adds the low-rank part with separate products, scalings, sums and casts of the whole
output, each a pass over memory, and autograd repeats them backwards. Here both directions are
written out, with the scaling inside the small factor and every sum inside a product. Same formula,
same parameters, same place in PEFT's tree; equal but for rounding (docs/LOG.md).

    y = x W' + (x A') (s B)'
    dx = dy W + (dy s B) A, dA = (dy s B)' x, dB = s dy' (x A')
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import LoraLayer

from rlhf_chat.inference.nf4 import DequantizedLinear4bit


class LoRAProduct(torch.autograd.Function):
    """x (..., in), W (out, in) frozen, bias (out,) frozen or None, A (r, in), B (out, r), scaling
    -> (..., out) in the dtype of x. Gradients of x, A and B, the latter two in their own dtype."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        small_a, small_b = a.to(x.dtype), (b * scaling).to(x.dtype)
        inner = rows @ small_a.T  # (N, r)
        y = rows @ weight.T if bias is None else torch.addmm(bias, rows, weight.T)
        y.addmm_(inner, small_b.T)
        ctx.save_for_backward(rows, weight, small_a, small_b, inner)
        ctx.scaling, ctx.dtype = scaling, a.dtype
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight, a, b, inner = ctx.saved_tensors
        dy = grads[0].reshape(-1, grads[0].shape[-1])
        d_inner = dy @ b  # (N, r)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = (dy @ weight).addmm_(d_inner, a).view(*grads[0].shape[:-1], -1)
        da = (d_inner.T @ rows).to(ctx.dtype)
        db = (dy.T @ inner).to(ctx.dtype) * ctx.scaling
        return dx, None, None, da, db, None


class TrainingLinear:
    """Mixed into the class of a PEFT layer in place, so that PEFT's references stay right."""

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        base = self.get_base_layer()
        result: torch.Tensor = LoRAProduct.apply(  # type: ignore[no-untyped-call]
            x,
            base.dequantized,
            base.bias,
            self.lora_A["default"].weight,
            self.lora_B["default"].weight,
            self.scaling["default"],
        )
        return result


def use_in(tree: torch.nn.Module) -> None:
    """Changes the layers of a PEFT tree in place where the base's weights are kept dequantised."""
    for module in tree.modules():
        if isinstance(module, LoraLayer) and isinstance(
            module.get_base_layer(), DequantizedLinear4bit
        ):
            kind = type(module)
            module.__class__ = type(f"Training{kind.__name__}", (TrainingLinear, kind), {})
