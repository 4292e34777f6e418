"""Log-probabilities of the tokens of a finished reply, and of the likeliest ones beside them.

The reply is decoded again with its tokens given, by the same steps that wrote it, so memory does
not grow with its length. At temperature 1, over the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rlhf_chat.inference.decode_batch import DecodeBatch
from rlhf_chat.inference.model import Model, ModelView


@dataclass(frozen=True)
class TokenLogprob:
    token_id: int
    logprob: float  # nats
    top: tuple[tuple[int, float], ...]  # (token id, logprob) of the likeliest tokens, descending


def token_logprobs(
    model: Model, view: ModelView, prompt: Sequence[int], response: Sequence[int], top: int = 0
) -> list[TokenLogprob]:
    """One for each token of `response`. Takes the lease for each step, as a reply does."""
    batch = DecodeBatch(view.tree, model.pad_id, len(response), model.step_capture)
    found: list[TokenLogprob] = []
    with model.lease.replying():
        for i, token in enumerate(response):
            with model.lease.turn(), torch.inference_mode():
                if i == 0:
                    logits = batch.begin([prompt])
                else:
                    logits = batch.step(torch.tensor([response[i - 1]], device=batch.device))
                logprobs = logits[0].float().log_softmax(-1)
                best = logprobs.topk(min(top, len(logprobs)))
                likeliest = zip(best.indices.tolist(), best.values.tolist(), strict=True)
                found.append(TokenLogprob(token, float(logprobs[token]), tuple(likeliest)))
    return found
