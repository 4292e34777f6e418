"""The decoding loop of streamed replies, drafts and rollouts.

`generate` is an iterator over a batch of prompts: between two yields the caller may show text, stop
or let other work use the GPU. Finished rows are dropped from the batch. Sampling is logits /
temperature, then top-k and top-p. There is no repetition penalty and no minimum length: whatever
reshapes the distribution here would have to be repeated in every log-prob (and is the classic cause
of a negative KL).
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
    """Sampling parameters. temperature 0 is greedy; top_k 0 and top_p 1 are off."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 128

    def as_dict(self) -> dict[str, float]:
        return asdict(self)

    def limited(self, max_new_tokens: int) -> Sampling:
        """A copy with another max_new_tokens."""
        return replace(self, max_new_tokens=max_new_tokens)

    @property
    def key(self) -> str:
        """Identifies the sampling distribution; max_new_tokens is not part of it."""
        return f"t{self.temperature:g}-p{self.top_p:g}-k{self.top_k}"


def default_sampling(generation_config: Any, *, is_demo: bool = False) -> Sampling:
    """temperature, top_p and top_k of generation_config.json; without a temperature there, 0.7 and
    top_p 0.9, at which small models stay coherent. A repetition penalty is ignored (see above). The
    bundled model samples from its unmodified distribution."""
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
        probs, ids = _likeliest(logits, 0, logits.shape[-1])  # flat: take the whole vocabulary
    before = probs.cumsum(-1) - probs
    probs = probs.masked_fill(before >= sampling.top_p, 0.0)  # keeps the token that crosses top_p
    return ids.gather(-1, _draw(probs, generator)[:, None]).squeeze(-1)


def _likeliest(logits: torch.Tensor, top_k: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and ids (B, K) of the likeliest tokens, descending: of `top_k` tokens,
    renormalised, or if that is 0 of `count` tokens, not renormalised. Sorting the whole vocabulary
    would take longer than a decode step."""
    values, ids = logits.topk(min(top_k or count, logits.shape[-1]))
    if top_k > 0:
        return values.softmax(-1), ids
    return (values - logits.logsumexp(-1, keepdim=True)).exp(), ids


def _draw(probs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Column indices (B,) int64 drawn in proportion to probs (B, K), which need not sum to 1.
    Inverse transform sampling: one random number per row instead of one per token."""
    below = probs.cumsum(-1)
    total = below[:, -1:]
    u = torch.rand(total.shape, generator=generator, dtype=torch.float32, device=total.device)
    u = torch.minimum(u * total, torch.nextafter(total, torch.zeros_like(total)))
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
    step_capture: StepCapture,
    prefix_cache: list[PrefixCache] | None = None,
    stop: Callable[[list[int]], int | None] = lambda ids: None,
    slice_seconds: float = SLICE_SECONDS,
) -> Iterator[list[Response]]:
    """Samples one response per prompt; yields the list of responses so far at least once a slice.

    `turn()` acquires the lease; it is held for about `slice_seconds` at most and never across a
    yield. The same Response objects are yielded each time and grow. Closing the iterator early is
    safe. `prefix_cache` holds the KV cache of the last reply, or nothing; for a single prompt it is
    used and replaced by the cache of this reply.
    `stop(ids)` is called after every token: the number of ids that form the reply if it is over
    without an end token, else None.
    """
    batch = DecodeBatch(tree, pad, sampling.max_new_tokens, step_capture)
    generator = torch.Generator(batch.device).manual_seed(seed)
    responses = [Response([], False) for _ in prompts]
    rows = list(range(len(prompts)))  # index of the response of each row in the batch
    tokens: torch.Tensor | None = None
    cache = prefix_cache if prefix_cache is not None and len(prompts) == 1 else []
    try:
        while rows:
            with turn(), torch.inference_mode():
                started = time.monotonic()
                while rows and time.monotonic() - started < slice_seconds:
                    if tokens is None:
                        logits = batch.begin(prompts, cache.pop() if cache else None)
                    else:
                        logits = batch.step(tokens)
                    tokens = next_token(logits, sampling, generator)
                    active = _append(
                        responses, rows, tokens.tolist(), end_ids, sampling.max_new_tokens, stop
                    )
                    if not active:
                        rows = []
                    elif len(active) < len(rows) and batch.should_compact(len(active)):
                        rows = [rows[i] for i in active]
                        keep = torch.tensor(active, dtype=torch.long, device=batch.device)
                        batch.keep(keep)
                        tokens = tokens[keep]
                    if len(prompts) <= 4:
                        break  # few rows are streamed to a screen: yield every token
            yield responses
    except GeneratorExit:  # stopped between steps, so the cache is consistent
        rows = []
        raise
    finally:
        if prompts and not rows:  # else a step failed half way and the cache is unusable
            cache[:] = batch.prefix_cache(prompts[0], responses[0].ids)


def _append(
    responses: list[Response],
    rows: list[int],
    tokens: list[int],
    end_ids: frozenset[int],
    limit: int,
    stop: Callable[[list[int]], int | None],
) -> list[int]:
    """Appends one token to each unfinished response; returns the row indices still unfinished."""
    active = []
    for i, (row, token) in enumerate(zip(rows, tokens, strict=True)):
        response = responses[row]
        if response.finished or len(response.ids) >= limit:
            continue  # finished, but its row is still in the batch
        response.ids.append(token)
        response.finished = token in end_ids
        if not response.finished and (length := stop(response.ids)) is not None:
            response.finished = True
            del response.ids[length:]
        if not response.finished and len(response.ids) < limit:
            active.append(i)
    return active
