"""A step of decoding, recorded once as a list of kernels and replayed.

Most of a step of one row is Python between the kernels. On a CPU a step is recorded by a trace that
takes the weights as arguments, so one recording serves every tree of the same shape, at any length;
on a graphics card by a CUDA graph, which holds for the very tensors it was made with. A kind of
recording is used only after it said the same as the model itself. Left out: what a step is
(kv_cache.py), whose rows it is for (decode_batch.py).
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

Inputs = tuple[torch.Tensor, ...]  # what `ask` takes after the tree
CapturedStep = Callable[..., torch.Tensor]
Result = TypeVar("Result")


class StepCapture:
    """What is known about recordings of a model's steps. Calls are made under the lease."""

    def __init__(self, on_card: bool = False) -> None:
        self.on_card = on_card
        self._traces: dict[Any, CapturedStep | None] = {}  # by kind of tree; None: there is none
        self._graphs: dict[Any, bool] = {}  # whether graphs of this kind say the same

    def capture(self, tree: Any, inputs: Inputs) -> CapturedStep | None:
        """A replay of this tree's step: on a CPU for any number of rows and positions, on a card
        for these very tensors. None if there is no right one."""
        weights = _weights(tree)
        kind = (type(tree), tuple((n, tuple(w.shape)) for n, w in weights.items()))
        if self.on_card:
            return self._graph(kind, tree, inputs)
        return self._trace(kind, tree, inputs, list(weights.values()))

    def _trace(
        self, kind: Any, tree: Any, inputs: Inputs, weights: list[torch.Tensor]
    ) -> CapturedStep | None:
        kind = (kind, len(inputs[0]) == 1)  # one row is computed in another way

        def with_weights(trace: CapturedStep) -> CapturedStep:
            def replay(*given: torch.Tensor) -> torch.Tensor:
                with torch.jit.optimized_execution(False):  # no guessing at shapes, which grow
                    return trace(*given, *weights)

            return replay

        if kind not in self._traces:
            trace = _tried(lambda: _traced(tree, inputs))
            # a trace can fix a size by mistake, so it is tried on other sizes, too
            tries = (inputs, _others(inputs))
            right = trace and all(_right(with_weights(trace), tree, given) for given in tries)
            self._traces[kind] = trace if right else None
        known = self._traces[kind]
        return with_weights(known) if known else None

    def _graph(self, kind: Any, tree: Any, inputs: Inputs) -> CapturedStep | None:
        kind = (kind, len(inputs[0]))
        if not self._graphs.get(kind, True):
            return None
        new = kind not in self._graphs
        graph = _tried(lambda: _graphed(tree, inputs, warm_up=new))
        if new:
            self._graphs[kind] = graph is not None and _right(graph, tree, inputs)
        return graph if self._graphs[kind] else None


def _tried(capture: Callable[[], Result]) -> Result | None:
    try:
        return capture()
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a tracer or a driver may raise: there is another way
        log.info("this model's step cannot be recorded", exc_info=True)
        return None


def _right(captured: CapturedStep, tree: Any, inputs: Inputs) -> bool:
    """Whether the recording says what the model says."""
    own = decode_step(tree, *inputs)
    output = _tried(lambda: captured(*inputs))
    tolerance = 1e-3 if own.dtype == torch.float32 else 0.1
    right = output is not None and torch.allclose(output.float(), own.float(), tolerance, tolerance)
    if not right:
        log.info("a recorded step differs from the model's own; not used")
    return right


def _others(inputs: Inputs) -> Inputs:
    """Made-up inputs with one row and three positions more."""
    ids, positions, mask, slot, *tensors = inputs
    rows, length = len(ids) + 1, mask.shape[-1] + 3
    room = [t.new_zeros(rows, t.shape[1], length, t.shape[3]).normal_() for t in tensors]
    wider = mask.new_ones(rows, 1, 1, length)
    return (ids[:1].expand(rows, 1), positions[:1].expand(rows, 1) + 3, wider, slot + 3, *room)


def _weights(tree: Any) -> dict[str, torch.Tensor]:
    """Everything in which two trees of the same shape differ: parameters and packed copies."""
    weights = dict(tree.named_parameters())
    for name, module in tree.named_modules():
        if isinstance(module, lora_modules.MergedLinear) and module.packed is not None:
            weights[f"{name}.packed"] = module.packed
    return weights


def _traced(tree: Any, inputs: Inputs) -> CapturedStep:
    tree, count = lora_modules.clone_shared(tree), len(inputs)  # its weights become arguments
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
        warnings.simplefilter("ignore")  # sizes that a trace would fix are checked with others
        return torch.jit.trace(step, (*inputs, *weights), check_trace=False)


def _graphed(tree: Any, inputs: Inputs, *, warm_up: bool) -> CapturedStep:
    """The inputs are static: what is given later is copied into them."""
    here, aside = torch.cuda.current_stream(), _aside(inputs[0].device)
    graph = torch.cuda.CUDAGraph()
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        if warm_up:
            decode_step(
                tree, *inputs
            )  # kernels are loaded and choose their workspace outside the graph
        # other threads may go on with whatever needs no lease
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            logits = decode_step(tree, *inputs)
        finally:
            graph.capture_end()
    here.wait_stream(aside)

    def replay(*given: torch.Tensor) -> torch.Tensor:
        for ours, new in zip(inputs, given, strict=True):
            if ours.data_ptr() != new.data_ptr():
                ours.copy_(new)
        graph.replay()
        return logits.clone()  # the next replay writes over it

    return replay


_streams: dict[torch.device, torch.cuda.Stream] = {}


def _aside(device: torch.device) -> torch.cuda.Stream:
    """One stream for all recordings: a new one would mean a new workspace each time."""
    if device not in _streams:
        _streams[device] = torch.cuda.Stream(device)
    return _streams[device]
