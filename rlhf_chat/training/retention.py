"""What training must leave as it is: the base's replies to instructions and short questions, and
how it reads plain text.

The reward is fitted to a person's prompts and says nothing of others, and the KL penalty holds the
policy near the base on the prompts it practises only. So each optimiser step also adds the KL
divergence from the base on these, as InstructGPT mixes in pretraining data against what it calls
the alignment tax (Ouyang et al. 2022, PPO-ptx). The whole distribution is compared, not the sampled
tokens: of an unchanged policy the gradient is then 0 rather than noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from rlhf_chat.errors import NumericError
from rlhf_chat.inference import forward_pass
from rlhf_chat.inference.forward_pass import BaseStates
from rlhf_chat.inference.memory import in_parts
from rlhf_chat.inference.model import Model
from rlhf_chat.reward.features import Reference

REPLIES = 2  # of the base to each prompt


class Retention:
    """Rows in micro-batches, with what the base makes of them once it was asked."""

    def __init__(
        self, model: Model, references: Sequence[Reference], texts: Sequence[str], rows: int
    ) -> None:
        """`references`: the base's replies to prompts that are not practised; `texts`: plain ones;
        `rows`: of both in one optimiser step."""
        self.model, self.rows = model, rows
        replies = [reply for found in references for reply in found.replies[:REPLIES]]
        plain = [model.tokenizer.encode(text, add_special_tokens=False) for text in texts]
        self.prompts = [list(reply.prompt.ids) for reply in replies] + [ids[:1] for ids in plain]
        self.responses = [list(reply.ids) for reply in replies] + [ids[1:] for ids in plain]
        self._parts = self._micro_batches()
        self._known: dict[tuple[int, ...], BaseStates] = {}

    def _micro_batches(self) -> list[list[int]]:
        """Rows of like length together."""
        order = sorted(range(len(self.prompts)), key=self._length)
        wanted = min(self.model.microbatch_rows, self.rows)
        within = self.model.parts(
            [self.prompts[i] for i in order], [self.responses[i] for i in order], wanted
        )
        return [[order[i] for i in part] for part in within]

    def _length(self, row: int) -> int:
        return len(self.prompts[row]) + len(self.responses[row])

    def add_gradient(
        self, add: Callable[[torch.Tensor], None], coef: float, rng: np.random.Generator
    ) -> float:
        """Hands `coef` times the mean KL per token of some rows, drawn by `rng`, to `add`, part by
        part; returns that mean, nats. Raises NumericError where it is not finite."""
        count = max(self.rows // max(len(self._parts[0]), 1), 1)
        chosen = rng.choice(len(self._parts), size=min(count, len(self._parts)), replace=False)
        parts = [self._parts[i] for i in chosen]
        tokens = sum(len(self.responses[row]) for part in parts for row in part)

        def work(rows: list[int]) -> float:
            with self.model.slice_of_base():
                kl = self._kl(rows) / tokens
                if not torch.isfinite(kl):
                    raise NumericError("round.ppo_loss_not_finite")
                add(coef * kl)
                return float(kl.detach())

        return sum(kl for _, kl in in_parts(parts, work, self.model.reduce_batch))

    def _kl(self, rows: list[int]) -> torch.Tensor:
        """Summed over the tokens of these rows, ()."""
        prompts, responses = [self.prompts[i] for i in rows], [self.responses[i] for i in rows]
        base = self._known.get(tuple(rows))
        if base is None:
            base = forward_pass.base_states(self.model, prompts, responses)
            self._known[tuple(rows)] = base
        with torch.enable_grad():
            return forward_pass.kl_from_base(self.model, prompts, responses, base).sum()
