"""A decode step captured once and replayed: torch.jit.trace on a CPU, a CUDA graph on a GPU.

Most of the time of a one-row step is Python between the kernels. The CPU trace takes the weights as
arguments, so that one trace serves every adapter version at any length. A CUDA graph is bound to
the tensors it was captured with. A captured step is used only after its logits have been compared
with those of the model. The step itself is `kv_cache.decode_step`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from rlhf_chat.inference import lora_modules
from rlhf_chat.inference.kv_cache import decode_step

log = logging.getLogger(__name__)

Inputs = tuple[torch.Tensor, ...]  # arguments of `decode_step` after the tree
CapturedStep = Callable[..., torch.Tensor]
Result = TypeVar("Result")


class StepCapture:
    """Captures steps of one model and remembers which kinds work. Call it under the lease."""

    def __init__(self, on_gpu: bool = False) -> None:
        self.on_gpu = on_gpu
        self._traces: dict[Any, CapturedStep | None] = {}  # by kind of tree; None: does not work
        self._graphs: dict[Any, bool] = {}  # by kind of tree: whether graphs give the right logits

    def capture(self, tree: Any, inputs: Inputs) -> CapturedStep | None:
        """`decode_step` of this tree, captured; None if it cannot be captured correctly.

        On a CPU the result takes any number of rows and positions, on a GPU only inputs of the
        shapes given here, and it is fastest on the same tensors. Raises torch.OutOfMemoryError.
        """
        weights = _weights(tree)
        kind = (type(tree), tuple((n, tuple(w.shape)) for n, w in weights.items()))
        if self.on_gpu:
            return self._graph(kind, tree, inputs)
        return self._trace(kind, tree, inputs, list(weights.values()))

    def _trace(
        self, kind: Any, tree: Any, inputs: Inputs, weights: list[torch.Tensor]
    ) -> CapturedStep | None:
        kind = (kind, len(inputs[0]) == 1)  # MergedLinear takes another path for one row

        def with_weights(trace: CapturedStep) -> CapturedStep:
            def replay(*given: torch.Tensor) -> torch.Tensor:
                with torch.jit.optimized_execution(False):  # no specialising on shapes: they grow
                    return trace(*given, *weights)

            return replay

        if kind not in self._traces:
            trace = _try(lambda: _traced(tree, inputs))
            # a trace can bake in a size as a constant, so it is compared at other sizes as well
            samples = (inputs, _resized(inputs))
            valid = trace and all(_matches(with_weights(trace), tree, given) for given in samples)
            self._traces[kind] = trace if valid else None
        cached = self._traces[kind]
        return with_weights(cached) if cached else None

    def _graph(self, kind: Any, tree: Any, inputs: Inputs) -> CapturedStep | None:
        kind = (kind, len(inputs[0]))
        if not self._graphs.get(kind, True):
            return None
        new = kind not in self._graphs
        graph = _try(lambda: _graphed(tree, inputs, warm_up=new))
        if new:
            self._graphs[kind] = graph is not None and _matches(graph, tree, inputs)
        return graph if self._graphs[kind] else None


def _try(capture: Callable[[], Result]) -> Result | None:
    try:
        return capture()
    except torch.OutOfMemoryError:
        raise
    except Exception:  # tracers and drivers raise anything; decoding works without a capture
        log.info("the decode step of this model cannot be captured", exc_info=True)
        return None


def _matches(captured: CapturedStep, tree: Any, inputs: Inputs) -> bool:
    """Whether a captured step gives the logits of the model, to 1e-3 in float32, else 0.1."""
    expected = decode_step(tree, *inputs)
    output = _try(lambda: captured(*inputs))
    tolerance = 1e-3 if expected.dtype == torch.float32 else 0.1
    matches = output is not None and torch.allclose(
        output.float(), expected.float(), tolerance, tolerance
    )
    if not matches:
        log.info("a captured decode step differs from the model; not used")
    return matches


def _resized(inputs: Inputs) -> Inputs:
    """Random inputs with one more row and three more positions."""
    ids, positions, mask, slot, *tensors = inputs
    rows, length = len(ids) + 1, mask.shape[-1] + 3
    cache = [t.new_zeros(rows, t.shape[1], length, t.shape[3]).normal_() for t in tensors]
    wider = mask.new_ones(rows, 1, 1, length)
    return (ids[:1].expand(rows, 1), positions[:1].expand(rows, 1) + 3, wider, slot + 3, *cache)


def _weights(tree: Any) -> dict[str, torch.Tensor]:
    """The tensors in which two versions of one model may differ: parameters and packed copies."""
    weights = dict(tree.named_parameters())
    for name, module in tree.named_modules():
        if isinstance(module, lora_modules.MergedLinear) and module.packed is not None:
            weights[f"{name}.packed"] = module.packed
    return weights


def _traced(tree: Any, inputs: Inputs) -> CapturedStep:
    """A trace of `decode_step` called with (*inputs, *weights), weights as in `_weights`."""
    tree, count = lora_modules.clone_shared(tree), len(inputs)
    weights = list(_weights(tree).values())
    places = [
        [
            (slots, key)
            for module in tree.modules()
            for slots in (module._parameters, vars(module))
            for key, value in slots.items()
            if value is weight
        ]
        for weight in weights
    ]

    def step(*given: torch.Tensor) -> torch.Tensor:
        for weight, where in zip(given[count:], places, strict=True):
            for slots, key in where:
                slots[key] = weight
        return decode_step(tree, *given[:count])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about sizes baked in as constants: `_trace` checks that
        result: CapturedStep = torch.jit.trace(step, (*inputs, *weights), check_trace=False)
        return result


def _graphed(tree: Any, inputs: Inputs, *, warm_up: bool) -> CapturedStep:
    """A CUDA graph of `decode_step` with `inputs` as static inputs: replaying copies into them."""
    current, side = torch.cuda.current_stream(), _capture_stream(inputs[0].device)
    graph = torch.cuda.CUDAGraph()
    side.wait_stream(current)
    with torch.cuda.stream(side):
        if warm_up:  # kernels must be loaded and their workspaces allocated before the capture
            decode_step(tree, *inputs)
        # thread_local: CUDA calls of other threads that need no lease do not break the capture
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            logits = decode_step(tree, *inputs)
        finally:
            graph.capture_end()
    current.wait_stream(side)

    def replay(*given: torch.Tensor) -> torch.Tensor:
        for static, new in zip(inputs, given, strict=True):
            if static.data_ptr() != new.data_ptr():
                static.copy_(new)
        graph.replay()
        return logits.clone()  # the next replay overwrites it

    return replay


_streams: dict[torch.device, torch.cuda.Stream] = {}


def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """One stream for all captures: every new stream would allocate another cuBLAS workspace."""
    if device not in _streams:
        _streams[device] = torch.cuda.Stream(device)
    return _streams[device]
