"""Memory runs short in every place where it can, and nothing is lost but time: the same log-probs,
gradients, rollouts and replies come out. Injected errors; left out: real video memory."""

from __future__ import annotations

import platform
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import torch

from rlhf_chat.chat.chat import Chat
from rlhf_chat.db import Store
from rlhf_chat.errors import Notice
from rlhf_chat.inference import forward_pass, lm_head, lora_modules, memory
from rlhf_chat.inference.calibration import calibrate, gradient, rows_in_time
from rlhf_chat.inference.decode_batch import DecodeBatch
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.lease import Lease, MemoryRequested
from rlhf_chat.inference.lm_head import selected_logprobs
from rlhf_chat.inference.model import Model, ModelError
from rlhf_chat.inference.self_test import self_test
from rlhf_chat.training.ppo import PPOConfig
from rlhf_chat.training.ppo_trainer import PPOTrainer
from tests.unit.test_model import ask, batch, logprobs, random_state

OOM = torch.OutOfMemoryError
CONFIG = PPOConfig(rollouts=8, ppo_epochs=1, minibatches=1, max_new_tokens=8, target_approxkl=1e9)


def score(numbers, responses, pooled):
    return [float(len(set(r.ids))) for r in responses]


# ---------------------------------------------------------------------- rows and their length


@pytest.mark.parametrize("order", [None, [6, 5, 4, 3, 2, 1, 0]])
def test_parts_hold_every_row_once_and_no_more_than_planned(order: list[int] | None) -> None:
    lengths = [5, 1, 90, 2, 18, 3, 7]
    parts = memory.parts_within(lengths, 3, 10, order)
    assert [i for part in parts for i in part] == (order or list(range(7)))
    for part in parts:
        whole = max(lengths[i] for i in part) * len(part)
        assert len(part) == 1 or (len(part) <= 3 and whole <= 30)
    assert memory.parts_within([4] * 7, 3, 10) == [[0, 1, 2], [3, 4, 5], [6]]
    assert memory.parts_within([], 3, 10) == []


def test_long_rows_are_read_and_written_fewer_at_a_time(
    toy: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, responses = batch(toy)
    sizes: list[int] = []
    forward = forward_pass.forward

    def watch(model, view, some, *rest, **more):
        sizes.append(len(some))
        return forward(model, view, some, *rest, **more)

    monkeypatch.setattr(forward_pass, "forward", watch)
    together = forward_pass.reference_pass(toy, prompts, responses).logprobs
    assert sizes == [len(prompts)]
    monkeypatch.setattr(toy, "tokens_per_row", 1)
    apart = forward_pass.reference_pass(toy, prompts, responses).logprobs
    assert sizes[1:] == [1] * len(prompts)
    assert all(torch.allclose(x, y, atol=1e-4) for x, y in zip(together, apart, strict=True))


# ---------------------------------------------------------------------- log-probs in chunks


@pytest.mark.parametrize("size", [1, 3, 7, 64])
def test_log_probs_in_chunks_are_those_in_one(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their gradients, for states and weights; and never more logits than a chunk."""
    torch.manual_seed(0)
    weight = torch.randn(50, 16, requires_grad=True)
    hidden, targets = torch.randn(20, 16, requires_grad=True), torch.randint(50, (20,))
    most: list[int] = []

    class Embeddings(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            most.append(len(x))
            return x @ weight.T

    head = lm_head.Head(Embeddings(), divisor=1.0, factor=1.0, cap=None)
    whole = (head(hidden) / 0.7).log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
    expected = torch.autograd.grad(whole.square().sum(), [hidden, weight])
    most.clear()
    monkeypatch.setattr(lm_head, "CHUNK_BYTES", size * 50 * 4)
    ours = selected_logprobs(head, hidden, targets, 0.7, 50)
    found = torch.autograd.grad(ours.square().sum(), [hidden, weight])
    assert torch.allclose(ours, whole, atol=1e-5) and max(most) <= size
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("size", [1, 7, 64])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_log_probs_of_a_frozen_head_on_a_cpu_have_their_gradient_with_them(
    dtype: torch.dtype, error: float, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(16, 50, bias=False, dtype=dtype).requires_grad_(False)
    head = lm_head.Head(linear, divisor=1.0, factor=1.0, cap=None)
    hidden = torch.randn(20, 16, dtype=dtype, requires_grad=True)
    targets = torch.randint(50, (20,))
    exact = hidden.detach().double().requires_grad_()
    whole = (exact @ linear.weight.double().T / 0.7).log_softmax(-1)
    whole = whole.gather(-1, targets[:, None]).squeeze(-1)
    (expected,) = torch.autograd.grad(whole.square().sum(), [exact])
    monkeypatch.setattr(lm_head, "CPU_CHUNK", size)
    monkeypatch.setattr(lm_head, "checkpoint", None)  # not needed here
    ours = selected_logprobs(head, hidden, targets, 0.7, 50)
    (found,) = torch.autograd.grad(ours.square().sum(), [hidden])
    assert ours.dtype == torch.float32 and found.dtype == dtype
    assert float((ours - whole).norm() / whole.norm()) < error
    assert float((found - expected).norm() / expected.norm()) < error
    with torch.no_grad():
        assert torch.equal(selected_logprobs(head, hidden, targets, 0.7, 50), ours)


@pytest.mark.parametrize("changed", ["divisor", "factor", "cap", "bias", "trained"])
def test_another_head_is_not_taken_for_a_plain_one(changed: str) -> None:
    linear = torch.nn.Linear(16, 50, bias=changed == "bias").requires_grad_(changed == "trained")
    numbers = {"divisor": 1.0, "factor": 1.0, "cap": 0.0}
    numbers |= {changed: 2.0} if changed in numbers else {}
    assert lm_head.Head(linear, **numbers).weight_on_cpu() is None


def test_a_model_in_chunks_learns_the_same(toy: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, responses = batch(toy)
    toy.set_policy(random_state(toy))
    whole = logprobs(toy, toy.policy, prompts, responses), gradient(toy, prompts, responses)
    monkeypatch.setattr(lm_head, "CPU_CHUNK", 5)
    parts = logprobs(toy, toy.policy, prompts, responses), gradient(toy, prompts, responses)
    assert torch.allclose(whole[0], parts[0], atol=1e-5)
    assert (whole[1] - parts[1]).norm() < 1e-5 * whole[1].norm()


def test_a_head_we_do_not_know_is_found_out(toy: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.config, "logits_scaling", 3.0, raising=False)
    with pytest.raises(ModelError, match="unknown here"):
        self_test(toy)


# ---------------------------------------------------------------------- checkpointing


@pytest.mark.parametrize("kind", ["toy", "toy_nf4"])
def test_checkpointing_changes_no_gradient(kind: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    prompts, responses = batch(model)
    model.set_policy(random_state(model))
    plain = gradient(model, prompts, responses)
    calls = []
    attention: Any = lora_modules.layers_of(model.policy.tree, 3)[2].self_attn
    handle = attention.register_forward_hook(lambda *_: calls.append(1))
    model.checkpointing = True
    try:
        again = gradient(model, prompts, responses)
        with model.lease.slice(), torch.no_grad():
            forward_pass.forward(model, model.policy, prompts, responses)
    finally:
        model.checkpointing = False
        handle.remove()
    assert torch.equal(plain, again)
    assert len(calls) == 3  # twice with a gradient, once without
    assert all("forward" not in vars(m) for m in model.policy.tree.modules())


# ---------------------------------------------------------------------- halving


@pytest.mark.parametrize("fits", [1, 2, 3, 5, 8])
def test_every_row_is_done_once_whatever_fits(fits: int) -> None:
    told: list[int] = []

    def work(rows: list[int]) -> int:
        if len(rows) > fits:
            raise OOM("injected")
        return sum(rows)

    parts = [list(range(8)), list(range(8, 13))]
    done = list(memory.in_parts(parts, work, lambda rows: told.append(rows) or True))
    assert [i for rows, _ in done for i in rows] == list(range(13))
    assert all(len(rows) <= fits and result == sum(rows) for rows, result in done)
    assert (not told) == (fits == 8)


def test_a_single_row_that_never_fits_is_an_error_in_the_end() -> None:
    tries: list[int] = []

    def work(rows: list[int]) -> None:
        raise OOM("injected")

    def reduce_batch(rows: int) -> bool:
        tries.append(rows)
        return len(tries) < 3

    with pytest.raises(OOM):
        list(memory.in_parts([[0]], work, reduce_batch))
    assert tries == [1, 1, 1]


@pytest.fixture
def ppo_trainer(toy: Model) -> Iterator[PPOTrainer]:
    toy.set_policy(random_state(toy))
    toy.microbatch_rows, toy.checkpointing = 8, False
    yield PPOTrainer(toy, CONFIG, target=1.0, score_std=1.0, floor=-9.0)
    toy.microbatch_rows, toy.rows_per_batch, toy.checkpointing = 8, 64, False


def short_of_memory(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """From now on a forward of more than `most` rows runs out of memory. Returns sizes tried."""
    real, tried = forward_pass.forward, []

    def forward(model, view, prompts, responses, **more):
        tried.append(len(prompts))
        if len(prompts) > most:
            raise OOM("injected")
        return real(model, view, prompts, responses, **more)

    monkeypatch.setattr(forward_pass, "forward", forward)
    return tried


def test_a_round_short_of_memory_halves_and_learns_the_same(
    toy: Model, ppo_trainer: PPOTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every pass of an update: reference, old log-probs, gradient."""
    prompts = [ask(toy, "tell me " + "the sea " * (i % 3)) for i in range(8)]
    start = toy.policy_state()
    rollouts, _ = ppo_trainer.collect(prompts, range(8), score, 3)
    ppo_trainer.update(rollouts, 3)
    plain = toy.policy_state()

    toy.set_policy(start)
    again = PPOTrainer(toy, CONFIG, target=1.0, score_std=1.0, floor=-9.0)
    tried = short_of_memory(monkeypatch, 2)
    short, _ = again.collect(prompts, range(8), score, 3)
    again.update(short, 3)
    assert max(tried) == 8 and toy.microbatch_rows == 2
    assert max(len(rows) for rows in short.microbatches) == 2
    assert torch.allclose(short.logprobs, rollouts.logprobs, atol=1e-5)
    moved = toy.policy_state()
    assert all(torch.allclose(plain[k], moved[k], atol=2e-4) for k in plain)
    assert len(forward_pass.policy_pass(toy, prompts, short.responses, short.microbatches, {})) == 8


def test_memory_that_ends_on_the_way_back_adds_no_half_gradient(
    toy: Model, ppo_trainer: PPOTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [ask(toy, "tell me " + "the sea " * (i % 3)) for i in range(8)]
    rollouts, _ = ppo_trainer.collect(prompts, range(8), score, 3)
    norms, real, calls = [], torch.autograd.grad, []
    monkeypatch.setattr(ppo_trainer.optimizer, "step", lambda: None)
    norms.append(ppo_trainer.update(rollouts, 3)["grad_norm"])

    def grad(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            real(*args, **kwargs)  # all the work is done, and then it does not fit
            raise OOM("injected")
        return real(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", grad)
    norms.append(ppo_trainer.update(rollouts, 3)["grad_norm"])
    assert len(calls) == 3 and norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_one_row_too_many_turns_checkpointing_on(toy: Model, ppo_trainer: PPOTrainer) -> None:
    assert toy.reduce_batch(4) and toy.microbatch_rows == 2 and not toy.checkpointing
    assert toy.reduce_batch(1) and toy.checkpointing
    assert not toy.reduce_batch(1)


def test_rollouts_short_of_memory_are_sampled_in_smaller_batches(
    toy: Model, ppo_trainer: PPOTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = toy._decode

    def decode(view, prompts, *args):
        if len(prompts) > 2:
            raise OOM("injected")
        return real(view, prompts, *args)

    monkeypatch.setattr(toy, "_decode", decode)
    limit = Sampling(temperature=0.0, max_new_tokens=5)
    prompts = [ask(toy, "sea " * i) for i in range(1, 6)]
    short = toy.sample(toy.reference, prompts, limit, seed=0)
    assert toy.rows_per_batch == 1 or toy.rows_per_batch == 2
    monkeypatch.undo()
    assert [r.ids for r in short] == [
        r.ids for r in toy.sample(toy.reference, prompts, limit, seed=0)
    ]


# ---------------------------------------------------------------------- what fits, by measurement


@pytest.mark.parametrize(
    "room, expected",
    [(1000, (8, False)), (25, (2, False)), (19, (4, True)), (11, (2, True)), (5, (1, True))],
)
def test_rows_are_fitted_to_the_room(room: int, expected: tuple[int, bool]) -> None:
    """A row takes 10 (3 with checkpointing) on top of 5."""

    def taken(rows: int, checkpointing: bool) -> int:
        bytes_taken = 5 + rows * (3 if checkpointing else 10)
        if bytes_taken > room + 20:
            raise OOM("injected")
        return bytes_taken

    assert memory.rows_that_fit(taken, room, 8) == expected


def test_measured_rows_are_a_power_of_two_and_leave_the_model_as_it_was(toy: Model) -> None:
    before = toy.policy_state()
    calibrate(toy)
    assert toy.microbatch_rows in (1, 2, 4, 8, 16, 32) and not toy.checkpointing
    assert all(torch.equal(v, before[k]) for k, v in toy.policy_state().items())
    assert all(p.grad is None for p in toy.policy_parameters())
    toy.microbatch_rows = 8
    assert memory.free(toy.device) > 0


@pytest.mark.parametrize(
    ("launches", "a_row", "expected"),
    [(0.0, 0.01, 8), (0.0, 0.03, 4), (0.0, 1.0, 4), (0.45, 0.005, 32), (0.2, 0.02, 4)],
)
def test_a_slice_has_the_rows_that_are_nearly_free(
    launches: float, a_row: float, expected: int
) -> None:
    """On a GPU: short where rows cost time; where launching does, a longer slice than the least is
    avoided only by more rows in it."""
    tried: list[int] = []

    class Steps:
        def seconds(self, rows: int) -> float:
            tried.append(rows)
            return launches + a_row * rows

    assert rows_in_time(Steps(), 32) == expected
    assert a_row < 1 or max(tried) == 2  # what must be slow is not tried


def test_on_a_cpu_no_memory_is_held_back_that_is_meant_for_a_card(
    toy: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or less than 1 GiB of free memory at the start would mean one row at a time ever after."""
    monkeypatch.setattr(memory, "free", lambda device: 900 << 20)
    calibrate(toy)
    try:
        assert toy.microbatch_rows >= 4 and not toy.checkpointing
    finally:
        toy.microbatch_rows, toy.checkpointing = 8, False


# ---------------------------------------------------------------------- chat first


def fails_once(monkeypatch: pytest.MonkeyPatch, at: int) -> list[int]:
    real, calls = DecodeBatch.step, []

    def step(self, tokens):
        calls.append(1)
        if len(calls) == at:
            raise OOM("injected")
        return real(self, tokens)

    monkeypatch.setattr(DecodeBatch, "step", step)
    return calls


def test_a_reply_that_ran_out_of_memory_is_said_again_word_for_word(
    toy: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt, limit = ask(toy), Sampling(max_new_tokens=9)
    whole = [list(r.ids) for (r,) in toy.stream(toy.reference, [prompt], limit, seed=4)]
    tried = fails_once(monkeypatch, 4)
    again = [list(r.ids) for (r,) in toy.stream(toy.reference, [prompt], limit, seed=4)]
    assert again == whole and len(tried) > len(whole)  # every step shown once, none twice

    def never(self, tokens):
        raise OOM("injected")

    monkeypatch.setattr(DecodeBatch, "step", never)
    with pytest.raises(ModelError, match="not enough memory"):
        list(toy.stream(toy.reference, [prompt], limit, seed=4))
    assert not toy.lease.chat_is_waiting


def test_chat_short_of_memory_makes_rollouts_start_anew_to_the_same_words(
    toy: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, limit = [ask(toy)] * 6, Sampling(max_new_tokens=40)
    whole = toy.sample(toy.policy, prompts, limit, seed=7)
    made, started = [], threading.Event()
    real = toy.lease.memory_released
    monkeypatch.setattr(toy.lease, "memory_released", lambda: (made.append(1), real()))
    drafted: list = []

    def run_ppo() -> None:
        def check() -> None:
            started.set()

        drafted.extend(toy.sample(toy.policy, prompts, limit, seed=7, check=check))

    slices, real_slice = [], toy.lease.preemptible_slice

    def one_at_a_time():
        slices.append(1)
        return real_slice()

    monkeypatch.setattr(toy.lease, "preemptible_slice", one_at_a_time)
    monkeypatch.setattr("rlhf_chat.inference.generate.SLICE_SECONDS", 0.0)
    with toy.lease.replying():  # a reply in progress: the rollouts wait at a slice
        thread = threading.Thread(target=run_ppo)
        thread.start()
        while not slices:
            pass
        toy.lease.request_memory(5.0)
        assert made
    thread.join()
    assert [r.ids for r in drafted] == [r.ids for r in whole]


def test_room_is_asked_of_nobody_when_nobody_holds_any() -> None:
    lease = Lease()
    lease.request_memory(timeout=60)  # returns at once
    with lease.slice(preemptible=True):
        pass
    with lease.replying(), pytest.raises(MemoryRequested):
        lease._memory_requested = True
        with lease.slice(preemptible=True):
            raise AssertionError("a reply waits: no slice may start")


def test_a_long_conversation_says_what_is_no_longer_read(
    toy: Model, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy, "context_tokens", 200)
    chat = Chat(store, toy, Sampling(max_new_tokens=4))
    conversation = chat.conversations.new()
    notes: list[Notice | None] = []
    for _ in range(7):
        *_, last = chat.reply(conversation, "tell me about the sea " * 8)
        notes.append(last.note)
    assert notes[0] is None and notes[-1] is not None
    assert notes[-1].code == "chat.trimmed" and notes[-1].params["count"] > 1
    assert len(chat.conversations.history(conversation)) == 14  # all of it is still shown


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to")
def test_what_was_freed_between_what_is_kept_goes_back_to_the_system() -> None:
    process, size = psutil.Process(), 16_384  # float32 in a block: too small for a mapping each
    blocks = [torch.ones(size) for _ in range(4000)]
    held = blocks[::100]
    with_all = process.memory_info().rss
    del blocks
    memory.release_freed(torch.device("cpu"))
    freed = 4 * size * (4000 - len(held))
    assert with_all - process.memory_info().rss > 0.8 * freed
    assert all(bool((block == 1).all()) for block in held)
