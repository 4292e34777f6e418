"""Who writes replies: the protocol that chat, drafts, rollouts, references and reports ask.

The model in this process (model.py) is one generator. Another one, in a llama.cpp, vLLM or Ray
process, would read the adapter version off the view and answer with token ids; log-probs and
features are always computed here, from the ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Generator as Stream
from typing import Protocol

from rlhf_chat.inference.generate import Response, Sampling
from rlhf_chat.inference.model import ModelView


class Generator(Protocol):
    """Prompts (token ids), sampling and a seed in; token ids and whether each reply ended out."""

    def stream(
        self, view: ModelView, prompts: Sequence[Sequence[int]], sampling: Sampling, *, seed: int
    ) -> Stream[list[Response]]:
        """For people: yields the responses so far, ahead of training. The same seed and view give
        the same replies. Closing the iterator stops writing."""

    def sample(
        self,
        view: ModelView,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seed: int,
        check: Callable[[], None] = lambda: None,
    ) -> list[Response]:
        """For training: whole responses, giving way to `stream`. `check` is called between slices
        and may raise to end it."""
