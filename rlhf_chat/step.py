"""One step of decoding: a token for every row, into room made beforehand.

Most of a small model's step is Python between the kernels. So the step is recorded once, as a list
of kernels, and replayed: on a CPU by a trace that takes the weights as arguments (one recording
serves every tree of the same shape), on a graphics card by a CUDA graph. A recording is used only
after it said the same as the model itself, and only for models whose layers all attend to
everything before them; all others are asked the ordinary way. Left out: sampling (decode.py).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, cast

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from rlhf_chat import trees

log = logging.getLogger(__name__)

GRAPH_ROWS = 4  # a recording on a card is for replies that somebody reads
Recording = Callable[..., torch.Tensor]


class Room(Cache):
    """Keys and values of every layer, written in place at `slot`, read as far as they go."""

    def __init__(self, tensors: Sequence[torch.Tensor], slot: torch.Tensor) -> None:
        super().__init__(layers=[])
        self.tensors, self.slot = tensors, slot  # keys, values, keys, values ...: (B, G, T, D)

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self.tensors[2 * layer_idx], self.tensors[2 * layer_idx + 1]
        keys.index_copy_(2, self.slot, key_states)
        values.index_copy_(2, self.slot, value_states)
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0  # positions and mask are given


def can_record(tree: Any) -> bool:
    """Whether every layer of this model keeps plain keys and values of all that came before."""
    cache = DynamicCache(config=tree.config)
    plain = all(type(layer) is DynamicLayer for layer in cache.layers)
    return bool(cache.layers) and plain and tree.config._attn_implementation == "sdpa"


def ask(
    tree: Any,
    ids: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor,
    slot: torch.Tensor,
    *tensors: torch.Tensor,
) -> torch.Tensor:
    """ids, positions (B, 1), mask (B, 1, 1, T), room for T -> logits (B, V). The model itself."""
    return tree(
        input_ids=ids,
        position_ids=positions,
        attention_mask=mask,
        past_key_values=Room(tensors, slot),
        use_cache=True,
    ).logits[:, -1]


class Recorder:
    """Recordings by kind of tree. One object per model; calls are made under the lease."""

    def __init__(self) -> None:
        self._known: dict[Any, Recording | None] = {}

    def traced(self, tree: Any, inputs: tuple[torch.Tensor, ...]) -> Recording | None:
        """A replay of this tree's step on a CPU, for any number of rows and positions."""
        weights = _weights(tree)
        shapes = tuple((n, tuple(w.shape)) for n, w in weights.items())
        kind = (type(tree), shapes, len(inputs[0]) == 1)  # one row is computed in another way
        if kind not in self._known:
            self._known[kind] = _checked(_traced, tree, inputs)
        recording = self._known[kind]
        if recording is None:
            return None
        values = list(weights.values())

        def replay(*given: torch.Tensor) -> torch.Tensor:
            with torch.jit.optimized_execution(False):  # no guessing at shapes, which grow
                return recording(*given, *values)

        return replay


def graphed(tree: Any, inputs: tuple[torch.Tensor, ...]) -> Recording | None:
    """A replay of this tree's step on a graphics card, for these very tensors."""
    return _checked(_graph, tree, inputs)


@dataclass
class Read:
    """What a reply left behind: keys and values of every token read or said, for the next turn."""

    tree: Any
    ids: list[int]
    tensors: list[torch.Tensor]  # (1, G, T, D) each

    def shared(self, tree: Any, prompt: Sequence[int]) -> int:
        """How many tokens at its beginning this prompt has in common; one is always read anew."""
        if tree is not self.tree:
            return 0
        pairs = zip(self.ids, prompt[:-1], strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


class Rows:
    """The rows of a batch, from their prompts on: logits for each next token, in the fastest way
    that this model and this machine allow."""

    def __init__(self, tree: Any, pad: int, limit: int, recorder: Recorder) -> None:
        self.tree, self._pad, self._limit, self._recorder = tree, pad, limit, recorder
        self.device = next(tree.parameters()).device
        self._recordable = can_record(tree)
        self._recording: Recording | None = None
        self._tried = False
        self._kept = True  # no row has left

    def begin(self, prompts: Sequence[Sequence[int]], read: Read | None = None) -> torch.Tensor:
        """Reads the prompts, each distinct one once, and of a single one only what was not `read`
        in the turn before; logits (B, V) of the first tokens."""
        distinct = list(dict.fromkeys(map(tuple, prompts)))
        ids, mask, positions = left_pad(distinct, self._pad, self.device)
        self._cache = DynamicCache(config=self.tree.config)
        known = 0
        if read and self._recordable and len(distinct) == 1:
            known = read.shared(self.tree, distinct[0])
            for i in range(0, len(read.tensors) if known else 0, 2):
                keys, values = (t[:, :, :known] for t in read.tensors[i : i + 2])
                self._cache.update(keys, values, i // 2)
            read.tensors.clear()  # copied; a long conversation is not held twice
        logits = self.tree(
            input_ids=ids[:, known:],
            attention_mask=mask,
            position_ids=positions[:, known:],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        number = {prompt: i for i, prompt in enumerate(distinct)}
        chosen = torch.tensor([number[tuple(p)] for p in prompts], device=self.device)
        self._positions = positions[chosen, -1:]
        self._length = mask.shape[1]
        if self._recordable:
            self._make_room(mask[chosen], chosen)
        else:
            self._mask = mask[chosen]
            if len(distinct) < len(prompts):
                self._cache.reorder_cache(cast(torch.LongTensor, chosen))
        return logits[chosen]

    def _make_room(self, mask: torch.Tensor, chosen: torch.Tensor) -> None:
        """Moves what was read into tensors that have room for what is to come."""
        length, room = self._length, self._length + self._limit
        self._mask = torch.ones(len(chosen), 1, 1, room, dtype=torch.bool, device=self.device)
        self._mask[:, 0, 0, :length] = mask.bool()
        self._tensors = []
        layers: list[Any] = self._cache.layers
        for layer in layers:
            for read in (layer.keys, layer.values):
                made = read.new_zeros(len(chosen), read.shape[1], room, read.shape[3])
                made[:, :, :length] = read[chosen]
                self._tensors.append(made)
            layer.keys = layer.values = None
        del self._cache

    def read(self, prompt: Sequence[int], said: Sequence[int]) -> Read | None:
        """What the next turn may use of a reply in a batch of its own."""
        if not self._recordable or len(self._positions) != 1:
            return None
        ids = [*prompt, *said][: self._length]  # the last token was said, but never read
        return Read(self.tree, ids, [t[:, :, : self._length] for t in self._tensors])

    def keep(self, rows: torch.Tensor) -> None:
        """Only these rows go on."""
        self._positions, self._mask, self._kept = self._positions[rows], self._mask[rows], False
        if self._recordable:
            self._tensors = [t[rows] for t in self._tensors]
        else:
            self._cache.reorder_cache(cast(torch.LongTensor, rows))

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (B,) that were said -> logits (B, V) of the next."""
        self._positions = self._positions + 1
        self._length += 1
        ids = tokens[:, None]
        if not self._recordable:
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(ids), 1)], -1)
            return self.tree(
                input_ids=ids,
                attention_mask=self._mask,
                position_ids=self._positions,
                past_key_values=self._cache,
                use_cache=True,
            ).logits[:, -1]
        slot = torch.tensor([self._length - 1], device=self.device)
        if self.device.type == "cuda":
            return self._step_on_card(ids, slot)
        inputs = (ids, self._positions, self._mask[..., : self._length], slot)
        inputs += tuple(t[:, :, : self._length] for t in self._tensors)
        if not self._tried:
            self._tried, self._recording = True, self._recorder.traced(self.tree, inputs)
        return self._recording(*inputs) if self._recording else ask(self.tree, *inputs)

    def _step_on_card(self, ids: torch.Tensor, slot: torch.Tensor) -> torch.Tensor:
        """A graph needs fixed sizes, so it reads all the room, and only until a row leaves."""
        fixed = self._kept and len(ids) <= GRAPH_ROWS
        reach = self._mask.shape[-1] if fixed else self._length
        mask = self._mask[..., :reach]
        if fixed:
            mask = mask & (torch.arange(reach, device=self.device) < self._length)
        inputs = (ids, self._positions, mask, slot, *(t[:, :, :reach] for t in self._tensors))
        if fixed and not self._tried:
            self._tried, self._recording = True, graphed(self.tree, inputs)
        recording = self._recording if fixed else None
        return recording(*inputs).clone() if recording else ask(self.tree, *inputs)


def left_pad(
    rows: Sequence[Sequence[int]], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of token ids -> input_ids, attention_mask, position_ids, each (B, T), right-aligned."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)


def _checked(
    record: Callable[[Any, tuple[torch.Tensor, ...]], Recording],
    tree: Any,
    inputs: tuple[torch.Tensor, ...],
) -> Recording | None:
    """The recording, if it says what the model says; None if not, or if it cannot be made."""
    try:
        recording = record(tree, inputs)
        if inputs[0].device.type == "cuda":
            right = _close(recording(*inputs), ask(tree, *inputs))
        else:  # a trace can fix a size by mistake, so it is tried on other sizes, too
            weights = list(_weights(tree).values())
            right = all(
                _close(recording(*given, *weights), ask(tree, *given))
                for given in (inputs, _others(inputs))
            )
        if right:
            return recording
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a tracer or a driver may raise: there is another way
        log.info("this model's step cannot be recorded", exc_info=True)
        return None
    log.info("a recorded step differs from the model's own; not used")
    return None


def _others(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
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
        if isinstance(module, trees.SpokenLinear) and module.packed is not None:
            weights[f"{name}.packed"] = module.packed
    return weights


def _close(said: torch.Tensor, own: torch.Tensor) -> bool:
    tolerance = 1e-3 if own.dtype == torch.float32 else 0.1
    return torch.allclose(said.float(), own.float(), atol=tolerance, rtol=tolerance)


def _traced(tree: Any, inputs: tuple[torch.Tensor, ...]) -> Recording:
    tree, count = trees.twin(tree), len(inputs)  # its weights become arguments
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
        return ask(tree, *given[:count])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes that a trace would fix are checked with others
        return torch.jit.trace(step, (*inputs, *weights), check_trace=False)


def _graph(tree: Any, inputs: tuple[torch.Tensor, ...]) -> Recording:
    """The inputs are static: what is given later is copied into them."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        ask(tree, *inputs)  # kernels choose their workspace outside the graph
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = ask(tree, *inputs)

    def replay(*given: torch.Tensor) -> torch.Tensor:
        for ours, new in zip(inputs, given, strict=True):
            if ours.data_ptr() != new.data_ptr():
                ours.copy_(new)
        graph.replay()
        return logits

    return replay
