"""LoRA written out for training equals PEFT's layer: outputs, and gradients of x, A and B."""

import pytest
import torch

from rlhf_chat.inference.training_linear import LoRAProduct

Parts = tuple[torch.Tensor, ...]


def parts(dtype: torch.dtype, seed: int = 0) -> Parts:
    g = torch.Generator().manual_seed(seed)
    x, w = torch.randn(3, 5, 16, generator=g), torch.randn(24, 16, generator=g)
    a, b = torch.randn(4, 16, generator=g), torch.randn(24, 4, generator=g)
    return (
        x.to(dtype).requires_grad_(),
        w.to(dtype),
        torch.randn(24, generator=g).to(dtype),
        a.requires_grad_(),
        b.requires_grad_(),
    )


def plain(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, *ab: torch.Tensor) -> Parts:
    """Output and gradients by autograd, in float64."""
    x, w, a, b = (t.detach().double().requires_grad_() for t in (x, w, *ab))
    y = torch.nn.functional.linear(x, w, None if bias is None else bias.double())
    y = y + 2.0 * ((x @ a.T) @ b.T)
    return y.detach(), *torch.autograd.grad((y * weighting(y)).sum(), [x, a, b])


def weighting(y: torch.Tensor) -> torch.Tensor:
    return torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_outputs_and_gradients_are_those_of_the_formula(
    dtype: torch.dtype, error: float, with_bias: bool
) -> None:
    x, w, bias, a, b = parts(dtype)
    given = bias if with_bias else None
    y = LoRAProduct.apply(x, w, given, a, b, 2.0)
    found = y.detach(), *torch.autograd.grad((y * weighting(y)).sum(), [x, a, b])
    for ours, exact in zip(found, plain(x, w, given, a, b), strict=True):
        assert float((ours.double() - exact).norm() / exact.norm()) < error


def test_outputs_have_the_dtype_of_x_and_gradients_that_of_their_parameter() -> None:
    x, w, _, a, b = parts(torch.bfloat16)
    y = LoRAProduct.apply(x, w, None, a, b, 2.0)
    grads = torch.autograd.grad(y.float().sum(), [x, a, b])
    assert y.dtype == torch.bfloat16 and y.shape == (3, 5, 24)
    assert [g.dtype for g in grads] == [torch.bfloat16, torch.float32, torch.float32]


def test_an_input_that_needs_no_gradient_gets_none() -> None:
    x, w, _, a, b = parts(torch.float32)
    y = LoRAProduct.apply(x.detach(), w, None, a, b, 2.0)
    assert all(bool(g.abs().sum() > 0) for g in torch.autograd.grad(y.sum(), [a, b]))
