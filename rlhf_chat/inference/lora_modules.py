"""Module trees over one set of frozen tensors: the base, and the base with an adapter, many times.

A twin is a second module tree that shares every frozen tensor and owns only its LoRA weights, so
nothing is ever switched on or off: PEFT's adapter switches are process-global and give wrong
answers silently when two threads use them. A tree that only has to speak is made without PEFT:
where weights are kept decoded anyway (a small base on a CPU) the adapter is folded into them, which
makes it as fast as the base, elsewhere it is two small products beside each layer's own.
Left out: which tree is live, and all compute (model.py).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch.utils.checkpoint import checkpoint

from rlhf_chat.inference import fused_decoder, nf4

PACKED_ROWS = 16  # rows at once that packed weights are laid out for
State = Mapping[str, torch.Tensor]  # PEFT's own keys -> LoRA tensors


def clone_shared(tree: torch.nn.Module) -> torch.nn.Module:
    """A second module tree over the same frozen tensors; only LoRA weights are copied."""
    shared: list[torch.Tensor] = [p for name, p in tree.named_parameters() if "lora_" not in name]
    shared += list(tree.buffers())
    spoken = [m for m in tree.modules() if isinstance(m, MergedLinear)]
    shared += [m.packed for m in spoken if m.packed is not None]
    return copy.deepcopy(tree, memo={id(t): t for t in shared})


def with_adapter(base: torch.nn.Module, *, r: int, lora_alpha: int) -> torch.nn.Module:
    """The base with fresh LoRA layers on every linear layer. Dropout is 0: the PPO ratio must be
    exactly 1 before the first step. Their weights are float32, their products as precise as what
    they are given: a float32 copy of every layer's input would be a quarter of all activations."""
    lora = LoraConfig(
        r=r,
        lora_alpha=lora_alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    tree = get_peft_model(base, lora).eval()  # type: ignore[arg-type]
    for _, layer in _lora_layers(tree):
        layer.cast_input_dtype_enabled = False
        for part in (layer.lora_A["default"], layer.lora_B["default"]):
            part.__class__ = InputDtypeLinear  # its name, its weight and PEFT's hold on it stay
    return tree


class InputDtypeLinear(torch.nn.Linear):
    """Multiplies in the precision of what it is given, whatever that of its weight: the gradient
    of the weight has the weight's."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(input, self.weight.to(input.dtype))


def adapter_params(tree: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The LoRA weights of a tree by the keys PEFT saves them under."""
    return {
        name.replace(".default.", "."): param
        for name, param in tree.named_parameters()
        if "lora_" in name
    }


def adapted_linears(adapted: torch.nn.Module) -> list[Any]:
    """The linear layers below the adapter: what four bits store."""
    return [layer.get_base_layer() for _, layer in _lora_layers(adapted)]


def can_merge(adapted: torch.nn.Module) -> bool:
    """Whether folded trees are affordable: on a CPU, plain linear layers, decoded anyway."""
    bases = adapted_linears(adapted)
    dequantized = all(type(b) in (torch.nn.Linear, nf4.DequantizedLinear4bit) for b in bases)
    small = sum(4 * b.weight.numel() for b in bases if type(b) is torch.nn.Linear)
    return (
        dequantized and small <= nf4.MAX_DEQUANTIZED_BYTES and bases[0].weight.device.type == "cpu"
    )


def inference_tree(
    tree: torch.nn.Module, adapted: torch.nn.Module, state: State, *, merge: bool
) -> torch.nn.Module:
    """A twin of the base, changed in place to speak like base + adapter: in each linear layer
    W x + scaling B A x or, folded, (W + scaling B A) x.

    Equal to the adapted tree but for rounding, so it is for sampling, never for log-probs.
    """
    for name, layer in _lora_layers(adapted):
        a, b = state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"]
        b = b * layer.scaling["default"]
        parent, _, child = name.removeprefix("base_model.model.").rpartition(".")
        make = _merged if merge else InferenceLoRA
        setattr(tree.get_submodule(parent), child, make(layer.get_base_layer(), a, b))
    return _with_packed_head(tree) if merge else tree


def fused(
    base: torch.nn.Module, adapted: torch.nn.Module, state: State | None
) -> fused_decoder.FusedDecoder | None:
    """The base, with the adapter of `state` merged into its weights, in the form that samples
    fastest on a CPU; None for architectures that have none. Shares only embeddings and norms with
    the base."""
    factors = {}
    for name, layer in _lora_layers(adapted) if state else []:
        a, b = state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"]  # type: ignore[index]
        factors[name.removeprefix("base_model.model.")] = a, b * layer.scaling["default"]
    names = {id(module): name for name, module in base.named_modules()}

    def merged(linear: Any) -> torch.Tensor:
        weight = nf4.dequantized(linear)
        if (found := factors.get(names[id(linear)])) is None:
            return weight
        a, b = found
        return (weight + b.float() @ a.float()).to(weight.dtype)

    return fused_decoder.build(base, merged)


def _merged(source: Any, a: torch.Tensor, b: torch.Tensor) -> MergedLinear:
    weight = nf4.dequantized(source)
    changed = (weight + b.float() @ a.float()).to(weight.dtype)
    return MergedLinear(torch.nn.Parameter(changed, requires_grad=False), source.bias)


def _with_packed_head(tree: Any) -> Any:
    head = tree.get_output_embeddings()
    if type(head) is torch.nn.Linear:
        tree.set_output_embeddings(MergedLinear(head.weight, head.bias))
    return tree


class InferenceLoRA(torch.nn.Module):
    """A linear layer and its adapter in the layer's own precision, without a way back."""

    def __init__(self, source: Any, a: torch.Tensor, b: torch.Tensor) -> None:
        """`a` (r, in), `b` (out, r) with the scaling in it."""
        super().__init__()
        self.source = source
        place = {"device": source.weight.device, "dtype": nf4.compute_dtype(source)}
        self.lora_a = torch.nn.Parameter(a.T.to(**place).contiguous(), requires_grad=False)
        self.lora_b = torch.nn.Parameter(b.T.to(**place).contiguous(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = self.source(x)
        output.view(-1, output.shape[-1]).addmm_(x.flatten(0, -2) @ self.lora_a, self.lora_b)
        return output


class MergedLinear(torch.nn.Linear):
    """A linear layer that only speaks: for several rows it keeps its weight a second time, packed
    as the CPU's kernels like it, which halves the time."""

    packed: torch.Tensor | None

    def __init__(self, weight: Any, bias: torch.nn.Parameter | None) -> None:
        super().__init__(1, 1, bias=False)
        self.out_features, self.in_features = weight.shape
        self.weight = weight
        self.register_parameter("bias", bias)
        fits = weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()
        reorder = torch.ops.mkldnn._reorder_linear_weight if fits else None
        self.packed = reorder(weight.detach(), PACKED_ROWS) if reorder else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.shape[0] if x.dim() > 1 else 1
        if self.packed is None or rows == 1 or torch.is_grad_enabled():
            return torch.nn.functional.linear(x, self.weight, self.bias)
        return _packed_linear()(x, self.packed, self.bias)


@cache
def _packed_linear() -> Any:
    """x (..., in), packed weight, bias -> (..., out). As a script, because a trace
    (graph_capture.py) cannot take the operator's empty list by itself."""
    return torch.jit.CompilationUnit("""
        def linear(x, packed, bias : Optional[Tensor]):
            none = torch.jit.annotate(List[Optional[number]], [])
            return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", none, "")
        """).linear


def _lora_layers(adapted: torch.nn.Module) -> list[tuple[str, Any]]:
    return [(name, m) for name, m in adapted.named_modules() if isinstance(m, LoraLayer)]


def decoder_of(tree: Any) -> Any:
    """The part below the output head, adapters included: ids in, last hidden state out."""
    model = tree.get_base_model() if hasattr(tree, "get_base_model") else tree
    return model.base_model


def layers_of(tree: Any, count: int) -> torch.nn.ModuleList:
    return next(
        m
        for m in decoder_of(tree).modules()
        if isinstance(m, torch.nn.ModuleList) and len(m) == count
    )


@contextmanager
def capture_hidden(tree: Any, layers: int) -> Iterator[list[torch.Tensor]]:
    """The hidden states two thirds up the stack, once a forward has run."""
    seen: list[torch.Tensor] = []

    def hook(_module: Any, _args: Any, output: Any) -> None:
        seen.append((output[0] if isinstance(output, tuple) else output).detach())

    handle = layers_of(tree, layers)[(2 * layers) // 3].register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def checkpointed(tree: Any, layers: int, wanted: bool) -> Iterator[None]:
    """Forgets the activations inside each layer and computes them again on the way back.

    For one forward only: a twin made while layers are wrapped would run the wrong weights.
    """
    stack = list(layers_of(tree, layers)) if wanted and torch.is_grad_enabled() else []
    for layer in stack:
        layer.forward = _twice(layer.forward)
    try:
        yield
    finally:
        for layer in stack:
            del layer.forward  # the class's own is back


def _twice(forward: Any) -> Any:
    def forward_twice(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return forward_twice
