"""Four bits: how the base is stored (NF4, double quantisation), and two facts about CPUs.

On a graphics card the kernels of bitsandbytes read four bits directly. On a CPU every call decodes
the whole weight again, which is most of the time of a small model; so a base that fits is decoded
once and the very same values are kept beside the four bits. Log-probs and gradients are bitwise
those of bitsandbytes. Left out: LoRA and everything else about the model (model.py).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from bitsandbytes import matmul_4bit
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from bitsandbytes.nn import Linear4bit, Params4bit
from transformers import BitsAndBytesConfig

MAX_DEQUANTIZED_BYTES = 1 << 30  # a base whose decoded weights fit this is kept decoded on a CPU


def config(dtype: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


class DequantizedLinear4bit(Linear4bit):
    """A Linear4bit that remembers what its four bits stand for: `decoded` (out, in) float32."""

    dequantized: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.nn.functional.linear(x.to(self.dequantized.dtype), self.dequantized, self.bias)
        return out.to(x.dtype)


def quantize_linears(model: Any, dtype: torch.dtype) -> None:
    """Puts NF4 layers in the place of a loaded model's linear layers, but for its output
    embeddings: what `config` makes transformers do while it loads."""
    output = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if type(module) is not torch.nn.Linear or module is output:
            continue
        layer = Linear4bit(
            module.in_features,
            module.out_features,
            bias=module.bias is not None,
            compute_dtype=dtype,
            compress_statistics=True,
            quant_type="nf4",
        )
        layer.weight = Params4bit(
            module.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True
        )
        layer.bias = module.bias
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.to(module.weight.device))


def prepare_for_cpu(base: torch.nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Makes a 4-bit base safe to train on this machine's CPU, and fast if it is small.

    Safe: bitsandbytes repacks 4-bit weights on AVX512-BF16 CPUs at the first inference, and the
    repacked product has no autograd: LoRA gradients below it vanish without an error.
    """
    linears = [m for m in base.modules() if isinstance(m, Linear4bit)]
    for module in linears:
        module.support_avx512bf16_for_cpu = False
        module.compute_dtype = dtype if module.weight.device.type == "cpu" else module.compute_dtype
    on_cpu = all(m.weight.device.type == "cpu" for m in linears)
    size = sum(dtype.itemsize * m.in_features * m.out_features for m in linears)
    if on_cpu and size <= MAX_DEQUANTIZED_BYTES:
        for module in linears:
            module.register_buffer("dequantized", dequantized(module), persistent=False)
            module.__class__ = DequantizedLinear4bit


def dequantized(linear: torch.nn.Linear) -> torch.Tensor:
    """The values a linear layer stands for, (out, in), whatever it is stored as."""
    if isinstance(linear, DequantizedLinear4bit):
        return linear.dequantized
    if isinstance(linear, Linear4bit):
        weight = cast(Params4bit, linear.weight)
        return dequantize_4bit(weight.data, weight.quant_state).to(linear.compute_dtype)
    return linear.weight.data


def compute_dtype(linear: torch.nn.Linear) -> torch.dtype:
    """In which precision a linear layer computes, whatever it is stored as."""
    return linear.compute_dtype if isinstance(linear, Linear4bit) else linear.weight.dtype


def matmul_error(device: torch.device) -> float:
    """How far a 4-bit product on this device is from the product of the decoded weights, relative,
    with and without a gradient: kernels differ. Raises what bitsandbytes raises where it cannot."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    weight = torch.randn(256, 512, device=device, dtype=dtype)
    packed, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    x = torch.randn(3, 512, device=device, dtype=dtype, requires_grad=True)
    expected = x.detach().float() @ dequantize_4bit(packed, state).float().T
    with torch.no_grad():
        products = [matmul_4bit(x, packed.t(), state)]
    products.append(matmul_4bit(x, packed.t(), state))
    worst = max(float((p.detach().float() - expected).norm()) for p in products)
    return worst / float(expected.norm())
