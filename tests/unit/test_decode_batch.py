"""A recorded step says what the model says, in any size of batch, and is not used when it does not.
Left out: speed (bench/decode.py), CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlhf_chat.inference import graph_capture
from rlhf_chat.inference.decode_batch import CACHE_BLOCK, DecodeBatch
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.graph_capture import StepCapture
from rlhf_chat.inference.kv_cache import can_capture, decode_step
from rlhf_chat.inference.model import Model
from tests.families import FAMILIES
from tests.unit.test_model import ask as prompt_of
from tests.unit.test_model import random_state

RECORDED = {"llama", "llama untied", "qwen2", "qwen3", "granite", "olmo2", "smollm3", "phi4"}
RECORDED |= {"gpt2"}


def some_inputs(tree, rows: int, length: int) -> tuple[torch.Tensor, ...]:
    config = tree.config
    groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    generator = torch.Generator().manual_seed(rows)
    ids = torch.randint(5, 100, (rows, 1), generator=generator)
    mask = torch.ones(rows, 1, 1, length, dtype=torch.bool)
    mask[0, :, :, : length // 2] = False
    room = [
        torch.randn(rows, groups, length, size, generator=generator)
        for _ in range(2 * config.num_hidden_layers)
    ]
    return (ids, torch.full((rows, 1), length - 1), mask, torch.tensor([length - 1]), *room)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_recording_of_one_tree_is_right_for_others_and_other_sizes(
    family: str, family_folder: Callable[[str], Path]
) -> None:
    model = Model.load(str(family_folder(family)), quantization="none")
    trees = [model.make_view(i, random_state(model, seed=i)).tree for i in (1, 2)]
    assert can_capture(trees[0]) == (family in RECORDED)
    if family not in RECORDED:
        return
    recorder = StepCapture()
    with torch.inference_mode():
        assert recorder.capture(trees[0], some_inputs(trees[0], 3, 20)) is not None
        for tree in trees:
            recording = recorder.capture(tree, some_inputs(tree, 3, 20))
            assert recording
            for rows, length in ((1, 7), (5, 33), (3, 20)):
                inputs = some_inputs(tree, rows, length)
                own = decode_step(tree, *inputs)
                assert torch.allclose(recording(*inputs), own, atol=1e-5)
    assert len(recorder._traces) == 1


def test_a_step_in_room_made_before_is_the_step_of_a_growing_cache(toy: Model) -> None:
    prompts = [prompt_of(toy, "tell me " + "the sea " * i) for i in (0, 3, 1)]
    tokens_said = torch.randint(5, 100, (6, 3), generator=torch.Generator().manual_seed(1))
    rows = DecodeBatch(toy.reference.tree, toy.pad_id, 8, StepCapture())
    with torch.inference_mode():
        found = [rows.begin(prompts)] + [rows.step(tokens) for tokens in tokens_said]
        for i, logits in enumerate(found):
            for row, prompt in enumerate(prompts):
                whole = torch.tensor([prompt + tokens_said[:i, row].tolist()])
                own = toy.reference.tree(input_ids=whole).logits[0, -1]
                assert torch.allclose(logits[row], own, atol=1e-4)


def test_a_prompt_that_many_rows_share_is_read_once(
    toy: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = toy.reference.tree.forward

    def forward(*args, **kwargs):
        sizes.append(len(kwargs["input_ids"]))
        return real(*args, **kwargs)

    one, two = prompt_of(toy, "hello"), prompt_of(toy, "tell me about the sea")
    asked = [one, two, one, one, two, one]
    alone = [toy.sample(toy.reference, [p], Sampling(0.0, max_new_tokens=9), seed=0) for p in asked]
    monkeypatch.setattr(toy.reference.tree, "forward", forward)
    together = toy.sample(toy.reference, asked, Sampling(0.0, max_new_tokens=9), seed=0)
    assert sizes[0] == 2
    assert [r.ids for r in together] == [a[0].ids for a in alone]


@pytest.mark.parametrize("fault", ["wrong", "fixed size", "impossible"])
def test_a_recording_that_is_not_right_is_not_used(
    fault: str, toy: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(tree, inputs):
        if fault == "impossible":
            raise RuntimeError("cannot be traced")

        def replay(*given):
            logits = decode_step(tree, *given[: len(inputs)])
            wrong = fault == "wrong" or len(given[0]) != len(inputs[0])
            return logits + 1.0 if wrong else logits

        return replay

    prompts = [prompt_of(toy, "hello"), prompt_of(toy, "tell me about the sea")]
    limit = Sampling(temperature=0.0, max_new_tokens=9)
    right = [r.ids for r in toy.sample(toy.reference, prompts, limit, seed=0)]
    monkeypatch.setattr(graph_capture, "_traced", record)
    monkeypatch.setattr(toy, "step_capture", StepCapture())
    assert [r.ids for r in toy.sample(toy.reference, prompts, limit, seed=0)] == right
    assert list(toy.step_capture._traces.values()) == [None]


def test_recording_that_runs_out_of_memory_is_no_fault_of_the_model(
    toy: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(tree, inputs):
        raise torch.OutOfMemoryError("injected")

    monkeypatch.setattr(graph_capture, "_traced", record)
    recorder = StepCapture()
    with pytest.raises(torch.OutOfMemoryError), torch.inference_mode():
        recorder.capture(toy.reference.tree, some_inputs(toy.reference.tree, 2, 9))
    assert not recorder._traces


def test_the_next_turn_reads_only_what_is_new_and_says_the_same(
    toy: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = [{"role": "user", "content": "tell me about the sea and how deep it is"}]
    limit = Sampling(temperature=0.0, max_new_tokens=8)

    def say(prompt: list[int]) -> list[int]:
        *_, (response,) = toy.stream(toy.reference, [prompt], limit, seed=0)
        return list(response.ids)

    toy._prefix_cache.clear()
    first = toy.encode(talk)
    tokens_said = say(first)
    second = first + tokens_said + prompt_of(toy, "and you?")
    read: list[int] = []
    real = toy.reference.tree.forward

    def forward(*args, **kwargs):
        read.append(kwargs["input_ids"].shape[1])
        return real(*args, **kwargs)

    monkeypatch.setattr(toy.reference.tree, "forward", forward)
    again = say(second)
    assert (
        read[0] == len(second) - len(first) - len(tokens_said) + 1
    )  # its last token was never read
    toy._prefix_cache.clear()
    assert say(second) == again
    assert read[0] < max(read) == len(second)
    other = prompt_of(toy, "hello")  # nothing in common but the opening
    with_reads = say(other)
    toy._prefix_cache.clear()
    assert say(other) == with_reads


def test_no_prompts_bring_no_replies(toy: Model) -> None:
    assert list(toy.stream(toy.reference, [], Sampling(max_new_tokens=3), seed=0)) == []


def test_another_version_reads_everything_itself(toy: Model) -> None:
    prompt, limit = prompt_of(toy, "tell me about the sea"), Sampling(0.0, max_new_tokens=6)
    views = [toy.make_view(i, random_state(toy, seed=i, size=0.5)) for i in (1, 2)]
    toy._prefix_cache.clear()
    alone = [toy.sample(view, [prompt], limit, seed=0)[0].ids for view in views]
    turns = []
    for view in views:
        *_, (response,) = toy.stream(view, [prompt], limit, seed=0)
        turns.append(response.ids)
    assert turns == alone and toy._prefix_cache[0].common_prefix(views[0].tree, prompt) == 0


class StillGraphs:
    """What a CUDA graph is, without a card: a step over the very tensors it was made with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[int] = []  # of each graph made
        self.replays = 0
        monkeypatch.setattr(graph_capture, "_graphed", self.made)

    def made(self, tree, inputs, *, warm_up: bool):
        self.rows.append(len(inputs[0]))

        def replay(*given: torch.Tensor) -> torch.Tensor:
            self.replays += 1
            for ours, new in zip(inputs, given, strict=True):
                assert ours.shape == new.shape
                if ours.data_ptr() != new.data_ptr():
                    ours.copy_(new)
            return decode_step(tree, *inputs)

        return replay


@pytest.fixture
def graphs(toy: Model, monkeypatch: pytest.MonkeyPatch) -> StillGraphs:
    monkeypatch.setattr(toy, "step_capture", StepCapture(on_gpu=True))
    toy._prefix_cache.clear()
    return StillGraphs(monkeypatch)


def test_on_a_card_rows_that_ended_stay_until_half_of_them_have(
    toy: Model, graphs: StillGraphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [prompt_of(toy, f"tell me about number {i}") for i in range(8)]
    limit = Sampling(temperature=0.0, max_new_tokens=24)
    tokens_said = [r.ids for r in toy.sample(toy.reference, prompts, limit, seed=0)]
    alone = [toy.sample(toy.reference, [p], limit, seed=0)[0].ids for p in prompts]
    assert tokens_said == alone
    assert graphs.rows[0] == 8 and graphs.rows == sorted(graphs.rows, reverse=True)
    ends = {row[len(row) // 2] for row in alone[:5]}  # some rows end sooner
    monkeypatch.setattr(toy, "end_ids", frozenset(ends))
    graphs.rows.clear()
    shorter = [r.ids for r in toy.sample(toy.reference, prompts, limit, seed=0)]
    cut = [next((row[: i + 1] for i, t in enumerate(row) if t in ends), row) for row in alone]
    assert shorter == cut
    assert all(2 * b <= a for a, b in zip(graphs.rows, graphs.rows[1:], strict=False))


def test_on_a_card_the_next_turn_goes_on_with_the_same_graph(
    toy: Model, graphs: StillGraphs
) -> None:
    limit = Sampling(temperature=0.0, max_new_tokens=6)

    def say(prompt: list[int], stop_after: int = 99) -> list[int]:
        stream = toy.stream(toy.reference, [prompt], limit, seed=0)
        for _, (response,) in zip(range(stop_after), stream, strict=False):
            tokens_said = response.ids
        stream.close()
        return list(tokens_said)

    first = prompt_of(toy, "hello")
    second = first + say(first) + prompt_of(toy, "and you?")
    made = len(graphs.rows)
    third = second + say(second, stop_after=3) + prompt_of(toy, "go on")  # stopped by its reader
    say(third)
    assert graphs.replays > 0 and len(graphs.rows) == made  # no new graph
    long = prompt_of(toy, "word " * CACHE_BLOCK)
    say(long)  # does not fit the room
    assert len(graphs.rows) == made + 1
    for prompt in (first, second, third, long):
        toy._prefix_cache.clear()
        again = say(prompt)
        alone = toy.reference.tree.generate(
            torch.tensor([prompt]), max_new_tokens=6, do_sample=False, eos_token_id=None
        )[0, len(prompt) :].tolist()
        assert again == alone[: len(again)]


def test_a_graph_that_says_something_else_is_not_used(
    toy: Model, graphs: StillGraphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt, limit = prompt_of(toy, "hello"), Sampling(temperature=0.0, max_new_tokens=9)
    (right,) = toy.sample(toy.reference, [prompt], limit, seed=0)
    monkeypatch.setattr(
        graph_capture,
        "_graphed",
        lambda tree, inputs, warm_up: lambda *given: decode_step(tree, *inputs) + 1,
    )
    monkeypatch.setattr(toy, "step_capture", StepCapture(on_gpu=True))
    (tokens_said,) = toy.sample(toy.reference, [prompt], limit, seed=0)
    assert tokens_said.ids == right.ids and list(toy.step_capture._graphs.values()) == [False]
