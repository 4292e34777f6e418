"""Who writes replies: the protocol that chat, drafts, rollouts, references and reports ask.

The model in this process (model.py) is one generator. Another one, in a llama.cpp, vLLM or Ray
process, would be told which adapter version to use and answer with token ids; log-probs and
features are always computed here, from the ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from rlhf_chat.inference.generate import Response, Sampling


class AdapterView(Protocol):
    """The base with one adapter, ready to write."""

    @property
    def version(self) -> int:
        """The adapter version; 0 is the base, -1 the candidate in training."""


class Generator(Protocol):
    """Prompts (token ids), sampling and a seed in; token ids and whether each reply ended out."""

    def stream(
        self, view: AdapterView, prompts: Sequence[Sequence[int]], sampling: Sampling, *, seed: int
    ) -> Iterator[list[Response]]:
        """For people: yields the responses so far, ahead of training. The same seed and view give
        the same replies. Closing the iterator stops writing."""

    def sample(
        self,
        view: AdapterView,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seed: int,
        check: Callable[[], None] = ...,
    ) -> list[Response]:
        """For training: whole responses, giving way to `stream`. `check` is called between slices
        and may raise to end it."""
