"""The instrument: one 4-bit base in memory, seen through three module trees.

`reference` is the bare base, `live` is base + the adapter people talk to, `policy` is base + the
adapter in training; lora_modules.py makes them over one set of frozen tensors, and nothing is ever
switched on or off. Serving another version makes a new live tree; a reply in progress keeps the one
it began with, so every reply is the work of exactly one version.
All compute goes through the lease (lease.py). Left out: where the base comes from (loading.py),
what a good response is (reward_model.py), how the policy is changed (ppo_trainer.py), where
adapters are kept (adapter_store.py).
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from rlhf_chat.errors import ModelError
from rlhf_chat.inference import (
    fused_decoder,
    fused_rmsnorm,
    loading,
    lora_modules,
    memory,
    precision,
)
from rlhf_chat.inference.decode_batch import PrefixCache, left_pad
from rlhf_chat.inference.generate import Response, Sampling, default_sampling, generate
from rlhf_chat.inference.graph_capture import StepCapture
from rlhf_chat.inference.lease import Lease, MemoryRequested
from rlhf_chat.inference.lm_head import lm_head_of, selected_logprobs
from rlhf_chat.inference.loading import inspect_tokenizer, special_ids
from rlhf_chat.inference.memory import in_parts
from rlhf_chat.inference.memory_estimate import Workload

log = logging.getLogger(__name__)

LEAST_TEMPERATURE = 0.1


@dataclass(frozen=True)
class AdapterConfig:
    """The LoRA adapter. Dropout is 0: the PPO ratio must be exactly 1 before the first step."""

    r: int = 8
    lora_alpha: int = 16
    seed: int = 0


class ForwardOutput(NamedTuple):
    """One forward over prompt + response, right-aligned: the last column is the last token.
    Only logprobs carry a gradient.

    logprobs (B, R) of each response token; mask (B, R) 1 on response tokens; hidden (B, R, H) the
    state *before* each token (what predicts it); states (B, R, H) the state *at* each token;
    middle (B, R, H) the same two thirds up the stack. All float32.
    """

    logprobs: torch.Tensor
    mask: torch.Tensor
    hidden: torch.Tensor
    states: torch.Tensor
    middle: torch.Tensor


class ModelView(NamedTuple):
    """A module tree and the adapter version it speaks with (-1: still in training)."""

    tree: Any  # a transformers or PEFT module tree
    version: int


class Model:
    """A loaded model with its three trees. Use `Model.load`."""

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
        self.name = name
        self.base_hash = base_hash
        self.quantization = quantization
        self.adapter = adapter
        self.lease = Lease()
        self.rows_per_slice = 8  # as probe.calibrate finds
        self.rows_per_batch = 64  # of rollouts
        load = Workload()
        self.tokens_per_row = load.prompt + load.response  # of longer rows fewer are taken at once
        self.checkpointing = False
        self.step_seconds = 0.0  # of decoding a token of ROWS_AT_ONCE replies; 0: not measured
        self.train_token_seconds = 0.0  # of forward and backward, for each token; 0: not measured
        self._reads: list[PrefixCache] = []  # what the last reply left behind, for the next turn
        self.config = base.config.get_text_config()
        self.device = next(base.parameters()).device
        self._recorder = StepCapture(on_card=self.device.type == "cuda")
        self._tokenizer = tokenizer
        self._per_thread = threading.local()
        base.requires_grad_(False)
        base.eval()
        if self.device.type == "cuda":
            fused_rmsnorm.fuse(base)
        self.reference = ModelView(lora_modules.clone_shared(base), 0)
        self.policy = ModelView(
            lora_modules.with_adapter(base, r=adapter.r, lora_alpha=adapter.lora_alpha), -1
        )
        self._can_merge = lora_modules.can_merge(self.policy.tree)
        self._fuses = (
            self._can_merge
            and not precision.is_small(self.config)
            and fused_decoder.is_known(self.config)
        )
        self.live = self.reference
        self.live = self.base_view()
        self._policy_params = lora_modules.adapter_params(self.policy.tree)
        self.chat_template = inspect_tokenizer(tokenizer, name)
        self.pad_id, self.end_ids = special_ids(tokenizer, base, self.chat_template.stop_ids)
        self.sampling = default_sampling(base.generation_config, is_demo=self.is_demo)
        self.tokens_at_once = load.context  # of several drafts, keys and values of which fit
        longest = int(getattr(self.config, "max_position_embeddings", 1024))
        self.context_tokens = min(longest, load.context)
        self.feature_key = hashlib.sha256(
            json.dumps([base_hash, quantization, tokenizer.chat_template, "features-1"]).encode()
        ).hexdigest()[:16]

    # ------------------------------------------------------------------ loading

    @classmethod
    def load(
        cls,
        name: str = "demo",
        *,
        quantization: str = "nf4",
        adapter: AdapterConfig | None = None,
        device: str | None = None,
    ) -> Model:
        """Loads `demo`, a folder or a hub id. Raises ModelError."""
        base, tokenizer, base_hash = loading.load(name, quantization, device)
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
        return self.name == "demo"

    @property
    def temperature(self) -> float:
        """At which log-probs, KL and ratios are meant: that of replies, which have to be sampled
        to be learned from, so greedy replies count as nearly so."""
        return max(self.sampling.temperature, LEAST_TEMPERATURE)

    # ------------------------------------------------------------------ text <-> ids

    @property
    def tokenizer(self) -> Any:
        """One tokenizer object per thread: they are not thread-safe when sanitising."""
        if not hasattr(self._per_thread, "tokenizer"):
            self._per_thread.tokenizer = copy.deepcopy(self._tokenizer)
        return self._per_thread.tokenizer

    def encode(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Chat messages -> prompt ids, ending where the assistant begins to speak.

        What the person typed can never become a control token.
        """
        return self.chat_template.encode(self.tokenizer, messages)

    def encode_reply(self, text: str) -> list[int]:
        """What the model would have had to sample to say this text and stop as it does: with the
        token of its template, where that has one."""
        end = min(self.chat_template.stop_ids, default=self.tokenizer.eos_token_id)
        ids = self.chat_template.encode_text(self.tokenizer, text)
        return [*ids, end if end in self.end_ids else min(self.end_ids)]

    def decode(self, ids: Sequence[int], *, partial: bool = False) -> str:
        """Response ids -> the reply a person reads, without thoughts. `partial`: the reply goes on,
        so an end that the next token may change is held back."""
        return self.chat_template.decode_reply(self.tokenizer, ids, partial=partial)

    def reads_as(self, ids: Sequence[int], text: str) -> bool:
        """Whether a person reads these words in these response ids, white space aside."""
        return self.decode(ids).split() == text.split()

    # ------------------------------------------------------------------ sampling

    def stream(
        self, view: ModelView, prompts: Sequence[Sequence[int]], sampling: Sampling, *, seed: int
    ) -> Generator[list[Response]]:
        """Replies for people: yields the responses so far, token by token, chat before training.

        When memory runs out, training makes room and the reply is said again from its start, word
        for word, without showing anything twice. Raises ModelError if that was not enough.
        """
        shown = 0
        with self.lease.replying():
            for last_try in (False, True):
                try:
                    for responses in self._decode(
                        view, prompts, sampling, seed, self.lease.turn, self._reads
                    ):
                        length = sum(len(r.ids) for r in responses)
                        if length > shown or all(r.finished for r in responses):
                            shown = max(shown, length)  # the end may have cut off a stop text
                            yield responses
                    return
                except torch.OutOfMemoryError:
                    pass  # the error is let go before cleaning: it holds every tensor
                self._reads.clear()
                if not last_try:
                    self.lease.request_memory()
                memory.give_back(self.device)
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
        """Rollouts for the trainer: whole responses, giving way to chat between slices.

        `check` is called between slices and may raise to end it.
        """

        def work(rows: list[int]) -> list[Response]:
            return self._sampled(view, [prompts[i] for i in rows], sampling, seed + rows[0], check)

        def reduce_batch(rows: int) -> bool:
            memory.give_back(self.device)
            self.rows_per_batch = max(rows // 2, 1)
            return False

        lengths = [len(prompt) + sampling.max_new_tokens for prompt in prompts]
        parts = memory.parts_within(lengths, self.rows_per_batch, self.tokens_per_row)
        return [r for _, part in in_parts(parts, work, reduce_batch) for r in part]

    def _sampled(
        self,
        view: ModelView,
        prompts: list[Sequence[int]],
        sampling: Sampling,
        seed: int,
        check: Callable[[], None],
    ) -> list[Response]:
        """One batch; started anew, to the same words, whenever chat needed its memory."""
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
            memory.give_back(self.device)
            self.lease.memory_released()
            check()  # while paused it waits here, where it holds nothing

    def _decode(
        self,
        view: ModelView,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seed: int,
        turn: Callable[[], AbstractContextManager[None]],
        reads: list[PrefixCache] | None = None,
    ) -> Iterator[list[Response]]:
        return generate(
            view.tree,
            prompts,
            sampling,
            end_ids=self.end_ids,
            pad=self.pad_id,
            seed=seed,
            turn=turn,
            recorder=self._recorder,
            reads=reads,
            stop=lambda ids: self.chat_template.stop_length(self.tokenizer, ids),
        )

    # ------------------------------------------------------------------ log-probs and features

    def forward(
        self,
        view: ModelView,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        temperature: float | None = None,
    ) -> ForwardOutput:
        """Log-probs at `temperature`, else at the one that replies are sampled with.

        One micro-batch through one tree, in the caller's grad mode and under its slice.

        Left padding puts all response ends in the last column, so logits are only computed for the
        last R + 1 positions, whatever the architecture.
        """
        self.lease.assert_held()
        rows = [list(p) + list(r) for p, r in zip(prompts, responses, strict=True)]
        ids, attention, positions = left_pad(rows, self.pad_id, self.device)
        width = max(len(r) for r in responses)
        layers = self.config.num_hidden_layers
        with (
            lora_modules.capture_hidden(view.tree, layers) as middle,
            lora_modules.checkpointed(view.tree, layers, self.checkpointing),
        ):
            final = lora_modules.decoder_of(view.tree)(
                input_ids=ids, attention_mask=attention, position_ids=positions, use_cache=False
            ).last_hidden_state[:, -(width + 1) :]  # (B, R + 1, H)
        lengths = torch.tensor([len(r) for r in responses], device=self.device)
        columns = torch.arange(width, device=self.device)
        spoken = columns >= width - lengths[:, None]  # (B, R), from lengths, never from pad ids
        logprobs = selected_logprobs(
            lm_head_of(view.tree, self.config),
            final[:, :-1][spoken],
            ids[:, -width:][spoken],
            self.temperature if temperature is None else temperature,
            self.config.vocab_size,
        )
        states = final.detach().float()
        return ForwardOutput(
            logprobs=logprobs.new_zeros(spoken.shape).masked_scatter(spoken, logprobs),
            mask=spoken.float(),
            hidden=states[:, :-1],
            states=states[:, 1:],
            middle=middle[0][:, -width:].float(),
        )

    def reference_pass(
        self,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        microbatch: int = 16,
        turn: Callable[[], AbstractContextManager[None]] | None = None,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Frozen base: per-token log-probs (list of (len,)) and pooled states (N, 4H), on the CPU.

        `turn`: whose compute it is; a slice of the trainer's unless said otherwise.

        Pooled: last token and mean over the response, at two depths (ALGORITHM: 2/3 and final).
        """
        logprobs: list[torch.Tensor] = []
        pooled: list[torch.Tensor] = []

        def work(rows: list[int]) -> ForwardOutput:
            with (turn or self.lease.slice)(), torch.no_grad():
                return self.forward(
                    self.reference, [prompts[i] for i in rows], [responses[i] for i in rows]
                )

        lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
        parts = memory.parts_within(lengths, microbatch, self.tokens_per_row)
        for _, out in in_parts(parts, work, self.reduce_batch):
            for row in range(out.mask.shape[0]):
                logprobs.append(out.logprobs[row, out.mask[row] > 0].cpu())
            pooled.append(pool_states(out).cpu())
        return logprobs, torch.cat(pooled)

    # ------------------------------------------------------------------ memory

    def set_limits(self, rollouts: int, context: int, at_once: int) -> None:
        """How many responses to sample at once, how much to read back and how many tokens several
        drafts may have together, as a preflight found."""
        self.rows_per_batch, self.tokens_at_once = rollouts, at_once
        self.context_tokens = min(self.context_tokens, context)

    def max_parallel_drafts(self, wanted: int, prompt: Sequence[int], new_tokens: int) -> int:
        """How many of the wanted drafts can be written at once: each keeps the prompt, too."""
        return max(1, min(wanted, self.tokens_at_once // (len(prompt) + new_tokens)))

    def tokens_within(self, seconds: float) -> int:
        """How long several replies at once can become in this time, as `calibrate` measured; the
        whole context where nothing was measured."""
        if not self.step_seconds:
            return self.context_tokens
        return int(seconds / self.step_seconds)

    def reduce_batch(self, rows: int) -> bool:
        """So many training rows were too many: smaller micro-batches from now on, and for a single
        row checkpointing. False when there is nothing left to try."""
        memory.give_back(self.device)
        if rows > 1:
            self.rows_per_slice = min(self.rows_per_slice, max(rows // 2, 1))
            return True
        tried, self.checkpointing = self.checkpointing, True
        return not tried

    def prefix_states(self, prompt: Sequence[int], response: Sequence[int]) -> torch.Tensor:
        """Pooled states of the frozen base (R, 4H) after each token of one response: what
        `reference_pass` would pool if the response had ended there. One pass, in chat's turn."""
        with self.lease.turn(), torch.no_grad():
            out = self.forward(self.reference, [prompt], [response])
        count = torch.arange(1, len(response) + 1, device=out.states.device)[:, None]
        parts = []
        for states in (out.middle[0], out.states[0]):
            parts += [states, states.cumsum(0) / count]
        return torch.cat(parts, -1).cpu()

    # ------------------------------------------------------------------ adapters

    def policy_parameters(self) -> list[torch.nn.Parameter]:
        """The only parameters an optimiser may own. Explicit: `requires_grad` is not trusted."""
        return list(self._policy_params.values())

    def policy_state(self) -> dict[str, torch.Tensor]:
        """The candidate adapter, detached copies on the CPU, in PEFT's own key format."""
        return {k: p.detach().cpu().clone() for k, p in self._policy_params.items()}

    def set_policy(self, state: Mapping[str, torch.Tensor]) -> None:
        _copy_into(self._policy_params, state)

    def make_view(self, version: int, state: Mapping[str, torch.Tensor] | None) -> ModelView:
        """A tree that samples with an adapter; without one (state None, version 0) the base."""
        if state is not None:
            _check_fits(self._policy_params, state)
        if self._fuses:
            with self.lease.turn():
                fused = lora_modules.fused(self.reference.tree, self.policy.tree, state)
            return ModelView(fused, version)
        if state is None:
            return self.reference
        with self.lease.turn():  # not while the trainer is in the middle of a pass
            tree = lora_modules.clone_shared(self.reference.tree)
        return ModelView(
            lora_modules.inference_tree(tree, self.policy.tree, state, merge=self._can_merge),
            version,
        )

    def base_view(self) -> ModelView:
        """The base in the form that samples fastest. What is live is used if that is the base."""
        if not self._fuses:
            return self.reference
        if self.live.version == 0 and self.live is not self.reference:
            return self.live
        return self.make_view(0, None)

    def inference_policy(self) -> ModelView:
        """The policy as it is now, in the tree that samples fastest."""
        return self.make_view(-1, self.policy_state())

    def view_if_live(self, version: int) -> ModelView | None:
        """What is loaded anyway: the version that is live, and the base."""
        loaded = (self.live,) if self._fuses else (self.live, self.reference)
        return next((view for view in loaded if view.version == version), None)

    def serve(self, view: ModelView) -> None:
        """From the next reply on, people talk to this view. One assignment, nothing to undo."""
        self.live = view

    def base_state(self) -> dict[str, torch.Tensor]:
        """Version 0: an adapter that changes nothing (B = 0), A drawn from the adapter's seed."""
        generator = torch.Generator().manual_seed(self.adapter.seed)
        state = {}
        for name, param in self._policy_params.items():
            if "lora_B" in name:
                state[name] = torch.zeros(param.shape)
            else:
                bound = (1.0 / param.shape[1]) ** 0.5
                state[name] = (torch.rand(param.shape, generator=generator) * 2 - 1) * bound
        return state

    def adapter_config(self) -> dict[str, Any]:
        """PEFT's adapter_config.json for what `policy_state` returns."""
        config = self.policy.tree.peft_config["default"].to_dict()
        config["base_model_name_or_path"] = self.name
        config["inference_mode"] = True
        return {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}


# ---------------------------------------------------------------------- pure parts


def pool_states(out: ForwardOutput) -> torch.Tensor:
    """Pass -> (B, 4H): last token and mean over the response, at two depths."""
    weights = out.mask / out.mask.sum(-1, keepdim=True).clamp(min=1)
    parts = []
    for states in (out.middle, out.states):
        parts += [states[:, -1], torch.einsum("brh,br->bh", states, weights)]
    return torch.cat(parts, -1)


def _check_fits(params: Mapping[str, torch.nn.Parameter], state: lora_modules.State) -> None:
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
    "ForwardOutput",
    "Model",
    "ModelError",
    "ModelView",
    "Response",
    "Sampling",
]
