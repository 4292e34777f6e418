"""Token by token: one decoding loop for streamed replies, drafts side by side and rollouts.

`decode` takes a batch of prompts and yields after each step, so the caller decides when to stop,
when to show text and when to let somebody else compute. Rows that have ended leave the batch, so a
long reply does not make the short ones cost. Sampling is plain: logits / temperature, then
optionally top-k and top-p. No repetition penalty and no minimum length: whatever reshapes the
distribution here would have to be repeated in every log-prob (and is the classic cause of a
negative KL). Left out: text, and which module tree is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from rlhf_chat.inference.decode_batch import DecodeBatch, PrefixCache
from rlhf_chat.inference.graph_capture import StepCapture
from rlhf_chat.inference.lease import SLICE_SECONDS

NUCLEUS = 256  # top-p looks at this many tokens first; the nucleus is nearly always smaller


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. temperature 0 is greedy; top_k 0 and top_p 1 are off."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 128

    def as_dict(self) -> dict[str, float]:
        return asdict(self)

    def limited(self, max_new_tokens: int) -> Sampling:
        """The same draw, with another limit of length."""
        return replace(self, max_new_tokens=max_new_tokens)

    @property
    def key(self) -> str:
        """Names the distribution that tokens are drawn from; the limit of length is no part."""
        return f"t{self.temperature:g}-p{self.top_p:g}-k{self.top_k}"


def default_sampling(generation_config: Any, *, is_demo: bool = False) -> Sampling:
    """What the model's authors recommend in generation_config.json, else temperature .7 and top-p
    .9, at which small models stay coherent. A repetition penalty is left out: log-probs would have
    to repeat it. The bundled model was trained to be sampled as it is."""
    if is_demo:
        return Sampling()
    given = generation_config.to_diff_dict()
    if "temperature" not in given:
        return Sampling(temperature=0.7, top_p=0.9)
    return Sampling(
        temperature=float(given["temperature"]),
        top_p=float(given.get("top_p") or 1.0),
        top_k=int(given.get("top_k") or 0),
    )


@dataclass
class Response:
    """One sampled response: token ids up to and including the end token, if it was sampled; of a
    model without such a token, up to the text that begins the next turn."""

    ids: list[int]
    finished: bool  # an end was sampled (never forced)


def next_token(
    logits: torch.Tensor, sampling: Sampling, generator: torch.Generator
) -> torch.Tensor:
    """Draws one token per row from logits (B, V); returns (B,) int64."""
    if sampling.temperature <= 0:
        return logits.argmax(-1)
    logits = logits.float() / sampling.temperature
    if sampling.top_p >= 1 and sampling.top_k <= 0:
        return _draw(logits.softmax(-1), generator)
    probs, ids = _likeliest(logits, sampling.top_k, NUCLEUS)
    if sampling.top_k <= 0 and bool((probs.sum(-1) < sampling.top_p).any()):
        probs, ids = _likeliest(logits, 0, logits.shape[-1])  # a flat distribution: all words
    before = probs.cumsum(-1) - probs
    probs = probs.masked_fill(before >= sampling.top_p, 0.0)  # keeps the token that crosses top_p
    return ids.gather(-1, _draw(probs, generator)[:, None]).squeeze(-1)


def _likeliest(logits: torch.Tensor, top_k: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and ids (B, K) of the likeliest tokens, in order: the `top_k`, normalised among
    themselves, or `count` of all. Sorting the whole vocabulary takes longer than a model's step."""
    values, ids = logits.topk(min(top_k or count, logits.shape[-1]))
    if top_k > 0:
        return values.softmax(-1), ids
    return (values - logits.logsumexp(-1, keepdim=True)).exp(), ids


def _draw(probs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One column per row (B,) in proportion to probs (B, K), which need not sum to 1: by inverting
    the cumulative distribution, with one random number a row instead of one a word."""
    below = probs.cumsum(-1)
    total = below[:, -1:]
    u = torch.rand(len(below), 1, generator=generator, device=probs.device) * total
    u = torch.minimum(u, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(below, u, right=True).squeeze(-1)


def generate(
    tree: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    end_ids: frozenset[int],
    pad: int,
    seed: int,
    turn: Callable[[], AbstractContextManager[None]],
    recorder: StepCapture,
    reads: list[PrefixCache] | None = None,
    stop: Callable[[list[int]], int | None] = lambda ids: None,
    slice_seconds: float = SLICE_SECONDS,
) -> Iterator[list[Response]]:
    """Samples one response per prompt; yields the list of responses so far at least once a slice.

    The lease (`turn`) is held for at most about `slice_seconds` and never across a yield. The same
    Response objects are yielded each time and grow. Closing the generator early is safe.
    `reads` holds what the last reply left behind; it is used, and replaced by what this one leaves.
    `stop` is asked after every token how many ids are the reply, if it is over without an end
    token.
    """
    batch = DecodeBatch(tree, pad, sampling.max_new_tokens, recorder)
    generator = torch.Generator(batch.device).manual_seed(seed)
    responses = [Response([], False) for _ in prompts]
    rows = list(range(len(prompts)))  # which response each row of the batch is
    tokens: torch.Tensor | None = None
    memory = reads if reads is not None and len(prompts) == 1 else []
    try:
        while rows:
            with turn(), torch.inference_mode():
                started = time.monotonic()
                while rows and time.monotonic() - started < slice_seconds:
                    if tokens is None:
                        logits = batch.begin(prompts, memory.pop() if memory else None)
                    else:
                        logits = batch.step(tokens)
                    tokens = next_token(logits, sampling, generator)
                    going = _append(
                        responses, rows, tokens.tolist(), end_ids, sampling.max_new_tokens, stop
                    )
                    if not going:
                        rows = []
                    elif len(going) < len(rows) and batch.worth_shrinking(len(going)):
                        rows = [rows[i] for i in going]
                        keep = torch.tensor(going, dtype=torch.long, device=batch.device)
                        batch.keep(keep)
                        tokens = tokens[keep]
                    if len(prompts) <= 4:
                        break  # somebody is watching: show every token
            yield responses
    except GeneratorExit:  # stopped by the reader; what was read is as good as any
        rows = []
        raise
    finally:
        if prompts and not rows:  # else a step has failed half way
            memory[:] = batch.leave(prompts[0], responses[0].ids)


def _append(
    responses: list[Response],
    rows: list[int],
    tokens: list[int],
    end_ids: frozenset[int],
    limit: int,
    stop: Callable[[list[int]], int | None],
) -> list[int]:
    """Adds one token to each row's response that goes on; returns the indices of those that still
    do."""
    going = []
    for i, (row, token) in enumerate(zip(rows, tokens, strict=True)):
        response = responses[row]
        if response.finished or len(response.ids) >= limit:
            continue  # ended before, but still in the batch
        response.ids.append(token)
        response.finished = token in end_ids
        if not response.finished and (length := stop(response.ids)) is not None:
            response.finished = True
            del response.ids[length:]
        if not response.finished and len(response.ids) < limit:
            going.append(i)
    return going
