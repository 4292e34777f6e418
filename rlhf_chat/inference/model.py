"""A loaded language model: one frozen base, and module trees that share its tensors.

`reference` is the base, `policy` is the base + the adapter in training, `live` is the base + the
adapter that answers in chat, merged on a CPU. lora_modules.py builds them; no adapter is ever
switched on or off.
Serving another version builds a new live tree. A reply in progress keeps the tree it started with,
so every reply comes from exactly one version. All compute runs under the lease (lease.py).
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch

from rlhf_chat.errors import ModelError
from rlhf_chat.inference import (
    fused_decoder,
    fused_rmsnorm,
    loading,
    lora_modules,
    memory,
    precision,
    training_linear,
)
from rlhf_chat.inference.decode_batch import PrefixCache
from rlhf_chat.inference.generate import Response, Sampling, default_sampling, generate
from rlhf_chat.inference.graph_capture import StepCapture
from rlhf_chat.inference.lease import Lease, MemoryRequested
from rlhf_chat.inference.loading import inspect_tokenizer, special_ids
from rlhf_chat.inference.memory import in_parts
from rlhf_chat.inference.memory_estimate import Workload

log = logging.getLogger(__name__)

MIN_TEMPERATURE = 0.1


@dataclass(frozen=True)
class AdapterConfig:
    """Rank and alpha of the LoRA adapter, and the seed of its initial weights."""

    r: int = 8
    lora_alpha: int = 16
    seed: int = 0


class ModelView(NamedTuple):
    """A module tree and the adapter version in it (0: the base, -1: the policy in training)."""

    tree: Any  # a transformers or PEFT model, or a FusedDecoder
    version: int


class Model:
    """A loaded model with its trees. Create it with `Model.load`."""

    def __init__(
        self,
        base: Any,
        tokenizer: Any,
        *,
        name: str,
        base_hash: str,
        quantization: str,
        adapter: AdapterConfig,
    ) -> None:
        self.name, self.base_hash = name, base_hash
        self.quantization, self.adapter = quantization, adapter
        self.lease, self._one_in_slices = Lease(), threading.Lock()
        self.microbatch_rows = 8  # at most, in training; set by calibration.calibrate
        self.rows_per_batch = 64  # of rollouts
        workload = Workload()
        # Batches are limited to rows * tokens_per_row tokens, so longer rows come in smaller ones.
        self.tokens_per_row = workload.prompt + workload.response
        self.checkpointing = False
        self.step_seconds = 0.0  # one decode step of calibration.DECODE_ROWS replies; 0: unknown
        self.sampled_token_seconds = 0.0  # of one reply in a batch of rollouts; 0: unknown
        self.train_token_seconds = 0.0  # forward + backward per token; 0: unknown
        self._prefix_cache: list[PrefixCache] = []  # of the last streamed reply, at most one
        self.config = base.config.get_text_config()
        self.device = next(base.parameters()).device
        self.step_capture = StepCapture(on_gpu=self.device.type == "cuda")
        self._tokenizer = tokenizer
        self._per_thread = threading.local()
        base.requires_grad_(False)
        base.eval()
        if self.device.type == "cuda":
            fused_rmsnorm.fuse(base)
        self.reference = ModelView(lora_modules.clone_shared(base), 0)
        # The same for passes in slices, which pause half-way and must not be met by another there.
        self.reference_in_slices = ModelView(lora_modules.clone_shared(base), 0)
        self.policy = ModelView(
            lora_modules.with_adapter(base, r=adapter.r, lora_alpha=adapter.lora_alpha), -1
        )
        self._can_merge = lora_modules.can_merge(self.policy.tree)
        self.can_fuse = (
            self._can_merge
            and not precision.is_small(self.config)
            and fused_decoder.is_known(self.config)
        )
        if self.can_fuse:
            training_linear.use_in(self.policy.tree)
        # Products of the base that fused trees share, for as long as one of them has them.
        self._shared: WeakValueDictionary[str, fused_decoder.PackedLinear] = WeakValueDictionary()
        self.live = self.reference
        self.live = self.base_view()
        self._policy_params = lora_modules.adapter_params(self.policy.tree)
        self._trained = self._trained_params()
        self.untrained_layers = self._count_untrained_layers()
        self.chat_template = inspect_tokenizer(tokenizer, name)
        self.pad_id, self.end_ids = special_ids(tokenizer, base, self.chat_template.stop_ids)
        self.sampling = default_sampling(base.generation_config, is_demo=self.is_demo)
        self.tokens_at_once = workload.context  # of parallel drafts together, as KV memory allows
        longest = int(getattr(self.config, "max_position_embeddings", 1024))
        self.context_tokens = min(longest, workload.context)
        self.feature_key = _digest(base_hash, quantization, tokenizer.chat_template, "features-1")

    # ------------------------------------------------------------------ loading

    @classmethod
    def load(
        cls,
        name: str = "demo",
        *,
        quantization: str = "nf4",
        adapter: AdapterConfig | None = None,
        device: str | None = None,
        report: loading.Report = loading.no_report,
    ) -> Model:
        """Loads a model; `name`, `quantization`, `device` and `report` as in loading.load. Raises
        ModelError."""
        base, tokenizer, base_hash = loading.load(name, quantization, device, report)
        return cls(
            base,
            tokenizer,
            name=name,
            base_hash=base_hash,
            quantization=quantization,
            adapter=adapter or AdapterConfig(),
        )

    @property
    def is_demo(self) -> bool:
        """Whether this is the bundled model."""
        return self.name == "demo"

    @property
    def computes_lower_layers_once(self) -> bool:
        """Whether passes over the same rows share what no training changes."""
        return self.untrained_layers > 0

    @property
    def same_without_grad(self) -> bool:
        """Whether the policy's log-probs are the same bits in either grad mode. bitsandbytes has
        other kernels without a gradient."""
        return self._can_merge

    @property
    def temperature(self) -> float:
        """The temperature of log-probs, KL and PPO ratios: that of replies, but at least
        MIN_TEMPERATURE, because greedy decoding (0) has no finite log-probs."""
        return max(self.sampling.temperature, MIN_TEMPERATURE)

    # ------------------------------------------------------------------ text <-> ids

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of this thread. Each thread has a copy: encoding typed text changes the
        tokenizer's state."""
        if not hasattr(self._per_thread, "tokenizer"):
            self._per_thread.tokenizer = copy.deepcopy(self._tokenizer)
        return self._per_thread.tokenizer

    def encode(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Chat messages -> prompt ids, up to where the assistant's reply begins. Text in messages
        never becomes a control token."""
        return self.chat_template.encode(self.tokenizer, messages)

    def encode_reply(self, text: str) -> list[int]:
        """A reply's text -> response ids, as if the model had sampled it: with the stop token of
        the chat template at the end, else an eos token."""
        end = min(self.chat_template.stop_ids, default=self.tokenizer.eos_token_id)
        ids = self.chat_template.encode_text(self.tokenizer, text)
        return [*ids, end if end in self.end_ids else min(self.end_ids)]

    def decode(self, ids: Sequence[int], *, partial: bool = False) -> str:
        """Response ids -> the text shown to the user, without the thinking part. `partial`: the
        reply goes on, so an end that the next token may change is held back."""
        return self.chat_template.decode_reply(self.tokenizer, ids, partial=partial)

    def reads_as(self, ids: Sequence[int], text: str) -> bool:
        """Whether `decode(ids)` equals `text`, white space aside."""
        return self.decode(ids).split() == text.split()

    # ------------------------------------------------------------------ sampling

    def stream(
        self, view: ModelView, prompts: Sequence[Sequence[int]], sampling: Sampling, *, seed: int
    ) -> Generator[list[Response]]:
        """Streams one reply per prompt: yields the responses so far after each token, with
        priority over training.

        If memory runs out, training is asked to free some and the replies are generated again from
        the start, with the same seed and so the same tokens; nothing is yielded twice. Raises
        ModelError if memory runs out again.
        """
        shown = 0
        with self.lease.replying():
            for last_try in (False, True):
                try:
                    for responses in self._decode(
                        view, prompts, sampling, seed, self.lease.turn, self._prefix_cache
                    ):
                        length = sum(len(r.ids) for r in responses)
                        if length > shown or all(r.finished for r in responses):
                            shown = max(shown, length)  # the end may have cut off a stop text
                            yield responses
                    self.release_freed()
                    return
                except torch.OutOfMemoryError:
                    pass  # free memory outside the handler: the exception keeps tensors alive
                self._prefix_cache.clear()
                if not last_try:
                    self.lease.request_memory()
                memory.release_unused(self.device)
        raise ModelError("model.out_of_memory")

    def sample(
        self,
        view: ModelView,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seed: int,
        check: Callable[[], None] = lambda: None,
    ) -> list[Response]:
        """Samples one whole response per prompt (rollouts), yielding to chat between slices.

        `check` is called between slices and may raise to abort.
        """

        def work(rows: list[int]) -> list[Response]:
            batch = [prompts[i] for i in rows]
            return self._sample_batch(view, batch, sampling, seed + rows[0], check)

        def reduce_batch(rows: int) -> bool:
            memory.release_unused(self.device)
            self.rows_per_batch = max(rows // 2, 1)
            return False

        lengths = [len(prompt) + sampling.max_new_tokens for prompt in prompts]
        parts = memory.parts_within(lengths, self.rows_per_batch, self.tokens_per_row)
        responses = [r for _, part in in_parts(parts, work, reduce_batch) for r in part]
        self.release_freed()
        return responses

    def _sample_batch(
        self,
        view: ModelView,
        prompts: list[Sequence[int]],
        sampling: Sampling,
        seed: int,
        check: Callable[[], None],
    ) -> list[Response]:
        """One batch, started again with the same seed whenever chat needs its memory."""
        while True:
            latest: list[Response] = []
            try:
                with self.lease.preemptible():
                    for latest in self._decode(  # noqa: B007 (kept after)
                        view, prompts, sampling, seed, self.lease.preemptible_slice
                    ):
                        check()
                return latest
            except MemoryRequested:
                pass
            memory.release_unused(self.device)
            self.lease.memory_released()
            check()  # blocks while training is paused; no memory is held here

    def _decode(
        self,
        view: ModelView,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seed: int,
        turn: Callable[[], AbstractContextManager[None]],
        prefix_cache: list[PrefixCache] | None = None,
    ) -> Iterator[list[Response]]:
        return generate(
            view.tree,
            prompts,
            sampling,
            end_ids=self.end_ids,
            pad=self.pad_id,
            seed=seed,
            turn=turn,
            step_capture=self.step_capture,
            prefix_cache=prefix_cache,
            stop=lambda ids: self.chat_template.stop_length(self.tokenizer, ids),
        )

    # ------------------------------------------------------------------ memory

    def set_limits(self, rollouts: int, context: int, at_once: int) -> None:
        """Sets the limits that the doctor derived from free memory: rows per rollout batch, tokens
        of a conversation, tokens of parallel drafts together."""
        self.rows_per_batch, self.tokens_at_once = rollouts, at_once
        self.context_tokens = min(self.context_tokens, context)

    def max_parallel_drafts(self, wanted: int, prompt: Sequence[int], new_tokens: int) -> int:
        """How many of `wanted` drafts fit into memory at once; each holds the prompt as well."""
        return max(1, min(wanted, self.tokens_at_once // (len(prompt) + new_tokens)))

    def tokens_within(self, seconds: float) -> int:
        """How many tokens per reply a batch of replies can decode in this time, by the measured
        `step_seconds`; `context_tokens` if that is unknown."""
        if not self.step_seconds:
            return self.context_tokens
        return int(seconds / self.step_seconds)

    @contextmanager
    def slice_of_base(self) -> Iterator[None]:
        """A training slice for a pass through `reference_in_slices`. One thread at a time: the pass
        may pause half-way and let the slice go, and another one would meet its hooks there."""
        with self._one_in_slices, self.lease.slice():
            yield

    def release_freed(self) -> None:
        """To be called after a large batch: gives its memory back to the system. Nothing on a GPU,
        whose allocator uses its blocks again."""
        if self.device.type == "cpu":
            memory.release_freed(self.device)

    def reduce_batch(self, rows: int) -> bool:
        """After `rows` training rows ran out of memory: halves micro-batches from now on; for a
        single row, turns on checkpointing. False if that was on already."""
        memory.release_unused(self.device)
        if rows > 1:
            self.microbatch_rows = min(self.microbatch_rows, max(rows // 2, 1))
            return True
        was_on, self.checkpointing = self.checkpointing, True
        return not was_on

    def parts(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], rows: int
    ) -> list[list[int]]:
        """Row numbers in micro-batches of at most so many rows."""
        lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
        return memory.parts_within(lengths, rows, self.tokens_per_row)

    # ------------------------------------------------------------------ adapters

    def policy_parameters(self) -> list[torch.nn.Parameter]:
        """The parameters to optimise: LoRA weights of the policy. An explicit list, because PEFT
        resets `requires_grad`."""
        return list(self._trained.values())

    def _trained_params(self) -> dict[str, torch.nn.Parameter]:
        """All of the bundled model's, which is tuned so; else `lora_modules.train_upper_mlp`. The
        others keep what an adapter brings."""
        if self.is_demo:
            return dict(self._policy_params)
        return lora_modules.train_upper_mlp(self._policy_params, self.config.num_hidden_layers)

    def _count_untrained_layers(self) -> int:
        """The lowest ones, which no training changes: passes over the same rows compute them once.
        0 on a card, whose memory is short, and where a layer may give more than one tensor."""
        reuse = self.device.type == "cpu" and fused_decoder.is_known(self.config)
        some = len(self._trained) < len(self._policy_params)
        return lora_modules.first_trained(self.config.num_hidden_layers) if reuse and some else 0

    def lower_layers_are_shared(self) -> bool:
        """Whether the policy's are the base's. Adapters of earlier releases also changed them."""
        return not any(
            bool(param.any())
            for name, param in self._policy_params.items()
            if "lora_B" in name and lora_modules.layer_number(name) < self.untrained_layers
        )

    def policy_state(self) -> dict[str, torch.Tensor]:
        """The policy's adapter: detached copies on the CPU, by the keys of PEFT's files."""
        return {k: p.detach().cpu().clone() for k, p in self._policy_params.items()}

    def set_policy(self, state: Mapping[str, torch.Tensor]) -> None:
        """Copies an adapter into the policy. Raises ModelError if names or shapes differ."""
        _copy_into(self._policy_params, state)

    def make_view(self, version: int, state: Mapping[str, torch.Tensor] | None) -> ModelView:
        """A view for sampling from base + adapter `state`, or from the base if that is None. Raises
        ModelError if names or shapes differ."""
        if state is not None:
            _check_fits(self._policy_params, state)
        if self.can_fuse:
            with self.lease.turn():
                fused = lora_modules.fused(
                    self.reference.tree, self.policy.tree, state, self._shared
                )
            return ModelView(fused, version)
        if state is None:
            return self.reference
        with self.lease.turn():  # not during a forward pass, which may wrap layers
            tree = lora_modules.clone_shared(self.reference.tree)
        return ModelView(
            lora_modules.inference_tree(tree, self.policy.tree, state, merge=self._can_merge),
            version,
        )

    def base_view(self) -> ModelView:
        """The base in the form that samples fastest; the live view if that is the base already."""
        if not self.can_fuse:
            return self.reference
        if self.live.version == 0 and self.live is not self.reference:
            return self.live
        return self.make_view(0, None)

    def inference_policy(self) -> ModelView:
        """A copy of the current policy, in the form that samples fastest."""
        return self.make_view(-1, self.policy_state())

    def view_if_live(self, version: int) -> ModelView | None:
        """The view of `version` if it is in memory already: the live one, or the base."""
        loaded = (self.live,) if self.can_fuse else (self.live, self.reference)
        return next((view for view in loaded if view.version == version), None)

    def serve(self, view: ModelView) -> None:
        """Makes `view` live from the next reply on. Atomic: a single assignment."""
        self.live = view

    def base_state(self) -> dict[str, torch.Tensor]:
        """The adapter of version 0, which changes nothing: B = 0, A uniform by `adapter.seed`."""
        generator = torch.Generator().manual_seed(self.adapter.seed)
        state = {}
        for name, param in self._policy_params.items():
            if "lora_B" in name:
                state[name] = torch.zeros_like(param, device="cpu")
            else:
                bound = (1.0 / param.shape[1]) ** 0.5
                uniform = torch.rand(param.shape, generator=generator, dtype=torch.float32)
                state[name] = (uniform * 2 - 1) * bound
        return state

    def adapter_config(self) -> dict[str, Any]:
        """The content of PEFT's adapter_config.json for `policy_state`."""
        config = self.policy.tree.peft_config["default"].to_dict()
        config["base_model_name_or_path"] = self.name
        config["inference_mode"] = True
        return {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}


def _digest(*parts: str | None) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _check_fits(params: Mapping[str, torch.nn.Parameter], state: lora_modules.State) -> None:
    """Raises ModelError if names or shapes differ."""
    if set(params) != set(state):
        raise ModelError("model.adapter_other_model")
    for name, param in params.items():
        if param.shape != state[name].shape:
            raise ModelError("model.adapter_shape", tensor=name)


def _copy_into(params: Mapping[str, torch.nn.Parameter], state: lora_modules.State) -> None:
    _check_fits(params, state)
    with torch.no_grad():
        for name, param in params.items():
            param.copy_(state[name])


__all__ = [
    "AdapterConfig",
    "Model",
    "ModelError",
    "ModelView",
    "Response",
    "Sampling",
]
