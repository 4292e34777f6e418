"""Forward passes over prompts and responses: log-probs and hidden states of a micro-batch, or of
many in the slices that training shares with chat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch

from rlhf_chat.inference import lm_head, lora_modules
from rlhf_chat.inference.decode_batch import left_pad
from rlhf_chat.inference.memory import in_parts
from rlhf_chat.inference.model import Model, ModelView

SHORT_ROW = 512  # tokens, up to which attention may hold all its weights in memory


class TreePass(NamedTuple):
    """One forward pass over prompt + response, without the output layer; right-aligned."""

    final: torch.Tensor  # (B, R + 1, H) last hidden state, from before each response's first token
    mask: torch.Tensor  # (B, R) bool, True on response tokens
    targets: torch.Tensor  # (B, R) int64 the response tokens
    middle: torch.Tensor  # (B, R, H) hidden state at each token after 2/3 of the layers
    lower: torch.Tensor | None  # see `ForwardOutput`


class ForwardOutput(NamedTuple):
    """One forward pass over prompt + response. All tensors are float32 and right-aligned: the last
    column is the last token of each response. Only `logprobs` has a gradient."""

    logprobs: torch.Tensor  # (B, R) of each response token, 0 on padding
    mask: torch.Tensor  # (B, R) 1 on response tokens
    hidden: torch.Tensor  # (B, R, H) last hidden state before each token: the one that predicts it
    states: torch.Tensor  # (B, R, H) last hidden state at each token
    middle: torch.Tensor  # (B, R, H) hidden state at each token after 2/3 of the layers
    # (B, T, H) in the compute dtype, before the first trained layer: what `forward` need not
    # compute again for the same rows. None where it always does.
    lower: torch.Tensor | None


class BaseStates(NamedTuple):
    """What the frozen base makes of a micro-batch with T response tokens."""

    final: torch.Tensor  # (T, H) last hidden state before each of them, in the compute dtype
    lower: torch.Tensor | None  # see `ForwardOutput`


# Rows of a batch -> `ForwardOutput.lower` of it.
LowerStates = dict[tuple[int, ...], torch.Tensor]


class ReferencePass(NamedTuple):
    """The frozen base on N responses; float32 on the CPU but for `lower`."""

    logprobs: list[torch.Tensor]  # (len,) each
    pooled: torch.Tensor  # (N, 4H), see `pool_states`
    lower: LowerStates  # what the policy need not compute again


def pool_states(out: ForwardOutput) -> torch.Tensor:
    """(B, 4H): [middle at the last token, mean of middle, states at the last token, mean of
    states], means over response tokens."""
    weights = out.mask / out.mask.sum(-1, keepdim=True).clamp(min=1)
    parts = []
    for states in (out.middle, out.states):
        parts += [states[:, -1], torch.einsum("brh,br->bh", states, weights)]
    return torch.cat(parts, -1)


def by_row(rows: Sequence[int], out: ForwardOutput) -> dict[int, torch.Tensor]:
    """Log-probs (len,) of the response in each row, float32 on the CPU."""
    return {row: out.logprobs[i, out.mask[i] > 0].cpu() for i, row in enumerate(rows)}


def forward(
    model: Model,
    view: ModelView,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    temperature: float | None = None,
    lower: torch.Tensor | None = None,
) -> ForwardOutput:
    """One micro-batch through one tree, in the caller's grad mode. Raises RuntimeError unless
    the caller holds the lease. `temperature` of the log-probs: default `model.temperature`.
    `lower`: of an earlier pass over the same rows, through this tree or through one whose lower
    layers are the same.
    """
    run = _run(model, view, prompts, responses, lower)
    logprobs = lm_head.selected_logprobs(
        lm_head.lm_head_of(view.tree, model.config),
        run.final[:, :-1][run.mask],
        run.targets[run.mask],
        model.temperature if temperature is None else temperature,
        model.config.vocab_size,
    )
    states = run.final.detach().float()
    return ForwardOutput(
        logprobs=logprobs.new_zeros(run.mask.shape).masked_scatter(run.mask, logprobs),
        mask=run.mask.float(),
        hidden=states[:, :-1],
        states=states[:, 1:],
        middle=run.middle.float(),
        lower=run.lower,
    )


def base_states(
    model: Model, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
) -> BaseStates:
    """What `kl_from_base` compares with: one micro-batch through the frozen base, in a slice of
    the base (`Model.slice_of_base`). Raises RuntimeError unless the caller holds the lease."""
    with torch.no_grad():
        run = _run(model, model.reference_in_slices, prompts, responses, None)
    lower = run.lower if model.lower_layers_are_shared() else None
    return BaseStates(run.final[:, :-1][run.mask], lower)


def kl_from_base(
    model: Model,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    base: BaseStates,
) -> torch.Tensor:
    """KL(base || policy) at each of the T response tokens of a micro-batch, (T,) float32, nats,
    in the caller's grad mode. `base`: of the same rows. Raises RuntimeError unless the caller
    holds the lease."""
    run = _run(model, model.policy, prompts, responses, base.lower)
    return lm_head.kl_from_base(
        lm_head.lm_head_of(model.policy.tree, model.config),
        run.final[:, :-1][run.mask],
        base.final,
        model.temperature,
        model.config.vocab_size,
    )


def _run(
    model: Model,
    view: ModelView,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    lower: torch.Tensor | None,
) -> TreePass:
    """One micro-batch through one tree, but for the output layer.

    Left padding aligns the ends of all responses in the last column, so that only the last
    R + 1 positions are needed, for any architecture.
    """
    model.lease.assert_held()
    rows = [list(p) + list(r) for p, r in zip(prompts, responses, strict=True)]
    ids, attention, positions = left_pad(rows, model.pad_id, model.device)
    width = max(len(r) for r in responses)
    layers = model.config.num_hidden_layers
    pauses = model.device.type == "cpu" and view is not model.reference
    with (
        lora_modules.capture_hidden(view.tree, layers) as middle,
        lora_modules.checkpointed(view.tree, layers, model.checkpointing),
        lora_modules.paused_between_layers(
            view.tree, layers, model.lease.pause if pauses else None
        ),
        lora_modules.lower_layers(view.tree, layers, model.untrained_layers, lower) as below,
        lora_modules.plain_attention(view.tree, model.can_fuse and ids.shape[1] <= SHORT_ROW),
    ):
        final = lora_modules.decoder_of(view.tree)(
            input_ids=ids, attention_mask=attention, position_ids=positions, use_cache=False
        ).last_hidden_state[:, -(width + 1) :]  # (B, R + 1, H)
    lengths = torch.tensor([len(r) for r in responses], device=model.device)
    columns = torch.arange(width, device=model.device)
    mask = columns >= width - lengths[:, None]  # (B, R), not from ids: pad may be an end token
    return TreePass(
        final, mask, ids[:, -width:], middle[0][:, -width:], below[0] if below else None
    )


def forward_rows(
    model: Model,
    view: ModelView,
    rows: Sequence[int],
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    lower: LowerStates | None = None,
) -> ForwardOutput:
    """`forward` of these rows of N prompts and responses. `lower`: what an earlier pass found
    for the same rows, where it is in there."""
    return forward(
        model,
        view,
        [prompts[i] for i in rows],
        [responses[i] for i in rows],
        lower=(lower or {}).get(tuple(rows)),
    )


def reference_pass(
    model: Model,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    microbatch: int = 16,
    turn: Callable[[], AbstractContextManager[None]] | None = None,
    parts: Sequence[list[int]] | None = None,
) -> ReferencePass:
    """The frozen base on N responses.

    `turn` acquires the lease for one micro-batch; default: a training slice. `parts`: these
    batches of rows instead of `microbatch` each, which the policy will read as well.
    """
    view = model.reference if turn else model.reference_in_slices
    keep = parts is not None and model.lower_layers_are_shared()

    def work(rows: list[int]) -> ForwardOutput:
        with (turn or model.slice_of_base)(), torch.no_grad():
            return forward_rows(model, view, rows, prompts, responses)

    logprobs: dict[int, torch.Tensor] = {}
    pooled: dict[int, torch.Tensor] = {}
    lower: LowerStates = {}
    for rows, out in in_parts(
        parts or model.parts(prompts, responses, microbatch), work, model.reduce_batch
    ):
        logprobs |= by_row(rows, out)
        pooled |= zip(rows, pool_states(out).cpu(), strict=True)
        if keep and out.lower is not None:
            lower[tuple(rows)] = out.lower
    numbers = range(len(prompts))
    return ReferencePass(
        [logprobs[i] for i in numbers], torch.stack([pooled[i] for i in numbers]), lower
    )


def policy_pass(
    model: Model,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    parts: Sequence[list[int]],
    lower: LowerStates,
    check: Callable[[], None] = lambda: None,
) -> list[torch.Tensor]:
    """The policy on N responses, for measuring: log-probs, one (len,) tensor each, float32 on
    the CPU. `lower`: of the `reference_pass` over the same `parts`. `check` is called before
    each and may raise."""

    def work(rows: list[int]) -> ForwardOutput:
        check()
        with model.lease.slice(), torch.no_grad():
            return forward_rows(model, model.policy, rows, prompts, responses, lower)

    logprobs: dict[int, torch.Tensor] = {}
    for rows, out in in_parts(parts, work, model.reduce_batch):
        logprobs |= by_row(rows, out)
    return [logprobs[i] for i in range(len(prompts))]


def prefix_states(model: Model, prompt: Sequence[int], response: Sequence[int]) -> torch.Tensor:
    """Pooled hidden states of the frozen base for every prefix of one response: row i is what
    `reference_pass` gives for its first i + 1 tokens. (R, 4H) float32 on the CPU. One forward
    pass, with the priority of chat."""
    with model.lease.turn(), torch.no_grad():
        out = forward(model, model.reference, [prompt], [response])
    count = torch.arange(1, len(response) + 1, device=out.states.device)[:, None]
    parts = []
    for states in (out.middle[0], out.states[0]):
        parts += [states, states.cumsum(0) / count]
    return torch.cat(parts, -1).cpu()
