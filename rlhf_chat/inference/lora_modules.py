"""Module trees (nn.Module) that share one set of frozen tensors: the base, with or without LoRA.

`clone_shared` makes another tree that shares every frozen tensor and owns only its LoRA weights, so
that no adapter is ever switched on or off: PEFT's switches act on the whole model and silently give
wrong results when two threads use them. Trees for sampling are built without PEFT. Where the base
is kept dequantised (a small model on a CPU) the adapter is merged into the weights, which is as
fast as the base; elsewhere each linear layer adds its two LoRA products.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch.utils.checkpoint import checkpoint

from rlhf_chat.inference import fused_decoder, nf4

PACKED_ROWS = 16  # batch size that oneDNN lays packed weights out for
ATTENTION = re.compile(r"\.[a-z_]*(?:attn|attention)[a-z_]*\.", re.I)  # a module of that name
State = Mapping[str, torch.Tensor]  # LoRA tensors by the keys of PEFT's files


def clone_shared(tree: torch.nn.Module) -> torch.nn.Module:
    """A copy of the module tree that shares all tensors but the LoRA weights."""
    shared: list[torch.Tensor] = [p for name, p in tree.named_parameters() if "lora_" not in name]
    shared += list(tree.buffers())
    merged = [m for m in tree.modules() if isinstance(m, MergedLinear)]
    shared += [m.packed for m in merged if m.packed is not None]
    return copy.deepcopy(tree, memo={id(t): t for t in shared})


def with_adapter(base: torch.nn.Module, *, r: int, lora_alpha: int) -> torch.nn.Module:
    """Adds LoRA of rank `r` to every linear layer of the base; returns the PEFT model.

    Dropout is 0, so that the PPO ratio is exactly 1 before the first step. LoRA weights are float32
    but multiply in the dtype of their input: PEFT's float32 copy of the input of every layer would
    be a quarter of all activation memory.
    """
    lora = LoraConfig(
        r=r,
        lora_alpha=lora_alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    tree = get_peft_model(base, lora).eval()
    for _, layer in _lora_layers(tree):
        layer.cast_input_dtype_enabled = False
        for part in (layer.lora_A["default"], layer.lora_B["default"]):
            part.__class__ = InputDtypeLinear  # in place: PEFT holds references to the module
    return tree


class InputDtypeLinear(torch.nn.Linear):
    """A linear layer that multiplies in its input's dtype. The weight and its gradient keep the
    weight's dtype."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(input, self.weight.to(input.dtype))


def adapter_params(tree: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The LoRA parameters of a tree by the keys of PEFT's files."""
    return {
        name.replace(".default.", "."): param
        for name, param in tree.named_parameters()
        if "lora_" in name
    }


def first_trained(layers: int) -> int:
    """The lowest of so many decoder layers in which a real model's adapter is trained: of those
    above it the gradients tell as much of a taste as of the upper half, disturb answers to
    questions a little less, and take a fifth less backward pass (docs/LOG.md)."""
    return 3 * layers // 5


def train_upper_mlp(
    params: Mapping[str, torch.nn.Parameter], layers: int
) -> dict[str, torch.nn.Parameter]:
    """Leaves a gradient to those of the LoRA parameters that learn the most from few replies, and
    returns them: outside of attention, from `first_trained` of `layers` decoder layers on. On
    replies to prompts they were not fitted to, their gradients tell more of a taste than those of
    all layers do, and no backward pass has to go through the lower ones (docs/LOG.md). All
    parameters, where an architecture has none of these.
    """
    first = first_trained(layers)
    chosen = {
        name: param
        for name, param in params.items()
        if layer_number(name) >= first and not ATTENTION.search(name)
    } or dict(params)
    for name, param in params.items():
        param.requires_grad_(name in chosen)
    return chosen


def layer_number(name: str) -> int:
    """Of the decoder layer that a parameter of this name is in; -1: of none."""
    number = re.search(r"\.(\d+)\.", name)
    return int(number[1]) if number else -1


def adapted_linears(adapted: torch.nn.Module) -> list[Any]:
    """The base linear layers that have LoRA: those stored in NF4."""
    return [layer.get_base_layer() for _, layer in _lora_layers(adapted)]


def can_merge(adapted: torch.nn.Module) -> bool:
    """Whether memory allows merged copies of the weights: on a CPU, if every adapted layer is
    unquantised or dequantised, and those unquantised are small."""
    bases = adapted_linears(adapted)
    dequantized = all(type(b) in (torch.nn.Linear, nf4.DequantizedLinear4bit) for b in bases)
    small = sum(4 * b.weight.numel() for b in bases if type(b) is torch.nn.Linear)
    return (
        dequantized and small <= nf4.MAX_DEQUANTIZED_BYTES and bases[0].weight.device.type == "cpu"
    )


def inference_tree(
    tree: torch.nn.Module, adapted: torch.nn.Module, state: State, *, merge: bool
) -> torch.nn.Module:
    """Changes `tree`, a clone of the base, into base + adapter: each linear layer computes
    W x + scaling B A x or, with `merge`, (W + scaling B A) x. `adapted` is the PEFT model.

    Equal to the PEFT model but for rounding, so use it for sampling, never for log-probs.
    """
    for name, layer in _lora_layers(adapted):
        a, b = state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"]
        b = b * layer.scaling["default"]
        parent, _, child = name.removeprefix("base_model.model.").rpartition(".")
        make = _merged if merge else InferenceLoRA
        setattr(tree.get_submodule(parent), child, make(layer.get_base_layer(), a, b))
    return _with_packed_head(tree) if merge else tree


def fused(
    base: torch.nn.Module,
    adapted: torch.nn.Module,
    state: State | None,
    shared: MutableMapping[str, fused_decoder.PackedLinear],
) -> fused_decoder.FusedDecoder | None:
    """A FusedDecoder with the weights of base + `state` (None: the base alone), the fastest form on
    a CPU; None for unsupported architectures. `shared`: products of the base that other trees hold
    already, by the names of their layers; those that the adapter leaves as they are get in here."""
    factors = {}
    for name, layer in _lora_layers(adapted) if state else []:
        a, b = state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"]  # type: ignore[index]
        if bool(b.any()):
            factors[name.removeprefix("base_model.model.")] = a, b * layer.scaling["default"]
    names = {id(module): name for name, module in base.named_modules()}

    def merged(linear: Any) -> torch.Tensor:
        weight = nf4.dequantized(linear)
        if (found := factors.get(names[id(linear)])) is None:
            return weight
        a, b = found
        result: torch.Tensor = (weight + b.float() @ a.float()).to(weight.dtype)
        return result

    def packed(linears: Sequence[Any]) -> fused_decoder.PackedLinear:
        layers = [names[id(linear)] for linear in linears]
        if any(name in factors for name in layers):
            return fused_decoder.joined(linears, merged)
        key = " ".join(layers)
        if (product := shared.get(key)) is None:
            product = shared[key] = fused_decoder.joined(linears, merged)
        return product

    return fused_decoder.build(base, packed)


def _merged(source: Any, a: torch.Tensor, b: torch.Tensor) -> MergedLinear:
    weight = nf4.dequantized(source)
    merged = (weight + b.float() @ a.float()).to(weight.dtype)
    return MergedLinear(torch.nn.Parameter(merged, requires_grad=False), source.bias)


def _with_packed_head(tree: Any) -> Any:
    head = tree.get_output_embeddings()
    if type(head) is torch.nn.Linear:
        tree.set_output_embeddings(MergedLinear(head.weight, head.bias))
    return tree


class InferenceLoRA(torch.nn.Module):
    """A linear layer plus LoRA in the layer's compute dtype. Inference only: it writes in place."""

    def __init__(self, source: Any, a: torch.Tensor, b: torch.Tensor) -> None:
        """`a` (r, in); `b` (out, r), already multiplied by the LoRA scaling."""
        super().__init__()
        self.source = source
        target = {"device": source.weight.device, "dtype": nf4.compute_dtype(source)}
        self.lora_a = torch.nn.Parameter(a.T.to(**target).contiguous(), requires_grad=False)
        self.lora_b = torch.nn.Parameter(b.T.to(**target).contiguous(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.source(x)
        output.view(-1, output.shape[-1]).addmm_(x.flatten(0, -2) @ self.lora_a, self.lora_b)
        return output


class MergedLinear(torch.nn.Linear):
    """A linear layer for sampling on a CPU. It keeps a second copy of a float32 weight in oneDNN's
    packed layout, which takes half the time for more than one row."""

    packed: torch.Tensor | None  # oneDNN's opaque layout

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
        result: torch.Tensor = _packed_linear()(x, self.packed, self.bias)
        return result


@cache
def _packed_linear() -> Any:
    """x (..., in), packed weight, bias -> (..., out). Compiled as TorchScript because
    torch.jit.trace (graph_capture.py) cannot record the operator's empty list argument."""
    return torch.jit.CompilationUnit("""
        def linear(x, packed, bias : Optional[Tensor]):
            none = torch.jit.annotate(List[Optional[number]], [])
            return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", none, "")
        """).linear


def _lora_layers(adapted: torch.nn.Module) -> list[tuple[str, Any]]:
    return [(name, m) for name, m in adapted.named_modules() if isinstance(m, LoraLayer)]


def decoder_of(tree: Any) -> Any:
    """The transformer without the LM head, LoRA included: input_ids -> last_hidden_state."""
    model = tree.get_base_model() if hasattr(tree, "get_base_model") else tree
    return model.base_model


def layers_of(tree: Any, count: int) -> torch.nn.ModuleList:
    """The list of the `count` decoder layers. Raises StopIteration if there is none."""
    return next(
        m
        for m in decoder_of(tree).modules()
        if isinstance(m, torch.nn.ModuleList) and len(m) == count
    )


@contextmanager
def capture_hidden(tree: Any, layers: int) -> Iterator[list[torch.Tensor]]:
    """Yields a list to which each forward appends the output of layer 2/3 * `layers`: (B, T, H),
    detached."""
    captured: list[torch.Tensor] = []

    def hook(_module: Any, _args: Any, output: Any) -> None:
        captured.append((output[0] if isinstance(output, tuple) else output).detach())

    handle = layers_of(tree, layers)[(2 * layers) // 3].register_forward_hook(hook)
    try:
        yield captured
    finally:
        handle.remove()


@contextmanager
def lower_layers(
    tree: Any, layers: int, count: int, states: torch.Tensor | None
) -> Iterator[list[torch.Tensor]]:
    """For one forward pass of a tree with `layers` decoder layers: yields a list to which it
    appends what the lowest `count` of them give, (B, T, H), detached. With `states`, which an
    earlier pass over the same rows gave there, these layers are not computed again."""
    if not count:
        yield []
        return
    stack = list(layers_of(tree, layers))[:count]
    given: list[torch.Tensor] = []
    if states is not None:
        for layer in stack:
            layer.forward = lambda *_args, **_more: states

    def hook(_module: Any, _args: Any, output: torch.Tensor) -> None:
        given.append(output.detach())

    handle = stack[-1].register_forward_hook(hook)
    try:
        yield given
    finally:
        handle.remove()
        if states is not None:
            for layer in stack:
                del layer.forward  # uncovers the method of the class


@contextmanager
def paused_between_layers(
    tree: Any, layers: int, pause: Callable[[], None] | None
) -> Iterator[None]:
    """Calls `pause` before each decoder layer of one forward pass and, where there is one, of its
    backward pass."""

    if pause is None:
        yield
        return

    def hook(_module: Any, args: Any) -> None:
        pause()
        if args and args[0].requires_grad:
            args[0].register_hook(lambda _grad: pause())

    handles = [layer.register_forward_pre_hook(hook) for layer in layers_of(tree, layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def plain_attention(tree: Any, enabled: bool) -> Iterator[None]:
    """Attention as two products and a softmax. On a CPU the backward of the fused kernel takes a
    fifth of a training step for short rows, this one next to nothing (docs/LOG.md)."""
    config = decoder_of(tree).config
    before = config._attn_implementation
    config._attn_implementation = "eager" if enabled else before
    try:
        yield
    finally:
        config._attn_implementation = before


@contextmanager
def checkpointed(tree: Any, layers: int, enabled: bool) -> Iterator[None]:
    """Gradient checkpointing: saves only the input of each layer and recomputes it in backward.

    Wraps the layers of one forward only: a clone of a wrapped layer would run this tree's weights.
    """
    stack = list(layers_of(tree, layers)) if enabled and torch.is_grad_enabled() else []
    for layer in stack:
        layer.forward = _recomputed(layer.forward)
    try:
        yield
    finally:
        for layer in stack:
            del layer.forward  # uncovers the method of the class


def _recomputed(forward: Any) -> Any:
    def checkpointed_forward(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return checkpointed_forward
