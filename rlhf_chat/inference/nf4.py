"""4-bit storage of the base: NF4 with double quantisation (bitsandbytes; QLoRA, Dettmers 2023).

On a GPU the kernels of bitsandbytes read the 4-bit weights directly. On a CPU every call
dequantises the whole weight, which dominates the time of a small model. A base that fits is
therefore dequantised once and the values are kept beside the 4-bit weights; log-probs and gradients
are bitwise those of bitsandbytes.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from bitsandbytes import matmul_4bit
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from bitsandbytes.nn import Linear4bit, Params4bit
from transformers import BitsAndBytesConfig

MAX_DEQUANTIZED_BYTES = 1 << 30  # a base up to this size is kept dequantised on a CPU


def config(dtype: torch.dtype) -> BitsAndBytesConfig:
    """For `from_pretrained`; `dtype` is the compute dtype."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


class DequantizedLinear4bit(Linear4bit):
    """A Linear4bit that also keeps its weight dequantised: (out, in), in the compute dtype."""

    dequantized: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.nn.functional.linear(x.to(self.dequantized.dtype), self.dequantized, self.bias)
        return out.to(x.dtype)


def quantize_linears(model: Any, dtype: torch.dtype) -> None:
    """Replaces the linear layers of a loaded model by NF4 ones in place, except the output
    embeddings, as transformers does while loading with `config(dtype)`."""
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
    """Makes a 4-bit base correct to train on a CPU, and fast if it is small. No effect on a GPU.

    On CPUs with AVX512-BF16, bitsandbytes repacks 4-bit weights at the first inference, and the
    repacked product has no backward: LoRA gradients below it vanish without an error. That is
    switched off. Up to MAX_DEQUANTIZED_BYTES the weights are also kept dequantised.
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
    """The weight of a linear layer, (out, in), dequantised if it is stored in NF4."""
    if isinstance(linear, DequantizedLinear4bit):
        return linear.dequantized
    if isinstance(linear, Linear4bit):
        weight = cast(Params4bit, linear.weight)
        return dequantize_4bit(weight.data, weight.quant_state).to(linear.compute_dtype)
    return linear.weight.data


def compute_dtype(linear: torch.nn.Linear) -> torch.dtype:
    """The dtype in which a linear layer computes."""
    return linear.compute_dtype if isinstance(linear, Linear4bit) else linear.weight.dtype


def matmul_error(device: torch.device) -> float:
    """Relative error of a 4-bit product on this device against the product of the dequantised
    weights. The larger of with and without a gradient, which use different kernels. Raises what
    bitsandbytes raises on an unsupported device."""
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
