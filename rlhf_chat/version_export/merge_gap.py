"""How far an exported model is from the one that the app serves: the base in four bits with the
adapter beside it.

Three figures: greedy replies token by token, KL per token along the served replies, and the loss on
a page of text. The exported model is read back from its files and computed in float32, so that what
is measured are its weights; the program that runs it adds rounding of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from rlhf_chat.inference import lora_modules
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.model import Model
from rlhf_chat.version_export.source import Source

TOKENS = 32  # of each greedy reply
PAGE_TOKENS = 512  # of the page, at most
PROMPTS = (
    "Why is the sky blue?",
    "How do I cook rice?",
    "Write two sentences about autumn.",
    "What is a good name for a grey cat?",
    "Explain what a database is to a beginner.",
    "I slept badly. What can I do today?",
    "List three uses of a paper clip.",
    "What is the difference between a lake and a river?",
    "How does a bicycle stay upright?",
    "Give me a short birthday wish for a colleague.",
    "What happens when water boils?",
    "How can I remember names better?",
)
PAGE = (
    "The ferry leaves the harbour at a quarter past six, before the bakery opens and before the "
    "fishermen have finished their coffee. On board there are rarely more than a dozen people: a "
    "nurse on her way home from the night shift, two students with their bicycles, an old man who "
    "carries the same brown parcel every Tuesday. Nobody knows what is in it, and nobody has "
    "asked. The crossing takes forty minutes when the wind is kind and an hour when it is not.\n\n"
    "From the water the town looks smaller than it is. The church tower stands a little to the "
    "left of where one would expect it, because the street below was moved after the flood of "
    "1953. Behind it the hills begin, green in April and the colour of straw by the end of "
    "August. In the middle of the bay there is a rock that the maps call an island. Seals lie on "
    "it at low tide, and when the ferry passes they lift their heads, look, "
    "and lower them again.\n\n"
    "The captain has made this journey about eleven thousand times. She says that the work is not "
    "the steering but the waiting: for the fog to lift, for the last car, for the one passenger "
    "who runs along the quay with a bag in each hand. In winter the deck is covered with salt and "
    "ice, and every rope has to be knocked free with a hammer. In summer people ask her whether "
    "she ever gets bored. She thinks about it each time, as if the question were new, and then "
    "she says no. There is always something that was not there the day before, she says, a log, a "
    "boat, a change in the light, and if there is nothing at all, then that is what was not there "
    "the day before."
)

Turn = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Gap:
    prompts: int
    tokens: int  # of the served replies, at most TOKENS each
    same_next: float  # share of them that the exported model writes next, after the ones before
    same_tokens: float  # share of their places at which the exported model wrote the same token
    same_replies: int  # of the prompts, where all of them are the same
    kl: float  # nats per token, served || exported, along the served replies
    loss_served: float  # nats per token on the page
    loss_exported: float
    served_dtype: str  # in which the served model was computed
    dtype: str  # in which the exported one was

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Served:
    """What the app serves: its replies and the logits along them, computed once."""

    def __init__(self, model: Model, source: Source, turn: Turn) -> None:
        self._model = model
        with turn():
            tree = lora_modules.clone_shared(model.reference.tree)
            self._tree = lora_modules.inference_tree(
                tree, model.policy.tree, source.state, merge=False
            )
        self.dtype = dtype_of(model.reference.tree)
        self.page = _page(model)
        self.prompts = [model.encode([{"role": "user", "content": one}]) for one in PROMPTS]
        greedy = Sampling(temperature=0.0, max_new_tokens=TOKENS)
        view = model.make_view(source.number, source.state)
        drawn = model.sample(view, self.prompts, greedy, seed=0)
        self.replies = [one.ids for one in drawn]
        self.logprobs = [
            self._along(*row, turn) for row in zip(self.prompts, self.replies, strict=True)
        ]
        self.loss = self._loss(turn)

    def _along(self, prompt: list[int], reply: list[int], turn: Turn) -> torch.Tensor:
        with turn(), torch.inference_mode():
            return logprobs(self._tree, prompt, reply)

    def _loss(self, turn: Turn) -> float:
        with turn(), torch.inference_mode():
            return loss(self._tree, self.page)


def measure(
    served: Served,
    exported: Any,
    end_ids: frozenset[int],
    turn: Turn,
    check: Callable[[float], None],
) -> Gap:
    """`exported`: a causal LM of transformers on the CPU. `check` is told the share done."""
    same = whole = following = 0
    divergences: list[torch.Tensor] = []
    rows = zip(served.prompts, served.replies, served.logprobs, strict=True)
    for done, (prompt, reply, expected) in enumerate(rows):
        check(done / len(served.prompts))
        with turn(), torch.inference_mode():
            found = logprobs(exported, prompt, reply)
            divergences.append((expected.exp() * (expected - found)).sum(-1))
            following += int((found.argmax(-1) == torch.tensor(reply)).sum())
        written = greedy(exported, prompt, len(reply), end_ids, turn)
        equal = sum(a == b for a, b in zip(reply, written, strict=False))
        same += equal
        whole += equal == len(reply)
    with turn(), torch.inference_mode():
        loss_exported = loss(exported, served.page)
    count = sum(map(len, served.replies))
    return Gap(
        prompts=len(served.prompts),
        tokens=count,
        same_next=following / count,
        same_tokens=same / count,
        same_replies=whole,
        kl=float(torch.cat(divergences).mean()),
        loss_served=served.loss,
        loss_exported=loss_exported,
        served_dtype=served.dtype,
        dtype=dtype_of(exported),
    )


def logprobs(tree: Any, prompt: Sequence[int], reply: Sequence[int]) -> torch.Tensor:
    """(len(reply), V) float32 on the CPU: of the distribution before each token of the reply."""
    device = next(tree.parameters()).device
    ids = torch.tensor([[*prompt, *reply]], device=device)
    logits = tree(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    result: torch.Tensor = logits.float().log_softmax(-1).cpu()
    return result


def loss(tree: Any, page: Sequence[int]) -> float:
    found = logprobs(tree, page[:1], page[1:])
    return -float(found.gather(-1, torch.tensor(page[1:])[:, None]).mean())


def dtype_of(tree: Any) -> str:
    """In which a model computes: that of its embeddings."""
    return str(tree.get_input_embeddings().weight.dtype).removeprefix("torch.")


def greedy(
    tree: Any,
    prompt: Sequence[int],
    length: int,
    end_ids: frozenset[int],
    turn: Turn,
) -> list[int]:
    """At most `length` tokens, each the likeliest one."""
    written: list[int] = []
    ids, cache = torch.tensor([list(prompt)]), None
    while len(written) < length and not (written and written[-1] in end_ids):
        with turn(), torch.inference_mode():
            out = tree(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        written.append(int(out.logits[0, -1].argmax()))
        ids = torch.tensor([written[-1:]])
    return written


def _page(model: Model) -> list[int]:
    ids = model.tokenizer.encode(PAGE, add_special_tokens=False)
    return list(ids[:PAGE_TOKENS])


@contextmanager
def no_turn() -> Iterator[None]:
    """Where nothing else computes."""
    yield
