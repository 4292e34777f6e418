"""What turns a fitted reward and a parent adapter into a candidate, and the choices there are.

A round (training_round.py) knows nothing else about how the policy is trained: measuring the
candidate and the gate are the same for every algorithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rlhf_chat.feedback.replies import Prompt
from rlhf_chat.training import ppo_loop
from rlhf_chat.training.context import RoundContext


class Algorithm(Protocol):
    """Trains the policy of `context.extractor.model`, in place.

    It holds the parent's adapter when called and the candidate's when it returns. An algorithm
    keeps within `context.target` (KL to the base, nats per response), calls `context.report` for
    each batch and `context.check` between lease slices, and lets what `check` raises pass. Raises
    NumericError rather than let a number that is not finite reach a weight.
    """

    def __call__(self, context: RoundContext, prompts: Sequence[Prompt]) -> None:
        """`prompts` are those that may be trained on; the gate's are never among them."""


ALGORITHMS: dict[str, Algorithm] = {"ppo": ppo_loop.run_ppo, "rloo": ppo_loop.run_rloo}


def by_name(name: str) -> Algorithm:
    """Raises ValueError for a name that is none of `ALGORITHMS`."""
    if name not in ALGORITHMS:
        raise ValueError(f"there is no algorithm {name!r}; choose one of {sorted(ALGORITHMS)}")
    return ALGORITHMS[name]
