"""The trainer's promises: one round at a time, honoured buttons, and nothing that goes wrong in a
round reaches the person. Left out: what a round computes (test_ppo.py, test_reward_model.py, ...).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rlhf_chat.chat.chat import AppError, Chat
from rlhf_chat.chat.compare import Compare
from rlhf_chat.chat.raters import Raters
from rlhf_chat.db import NotFound, Store, StoreError
from rlhf_chat.db.adapter_versions import AdapterVersionRepository
from rlhf_chat.db.rounds import RoundRepository
from rlhf_chat.errors import Busy, Refused, from_stored
from rlhf_chat.feedback.snapshot import load_snapshot, take_snapshot
from rlhf_chat.inference import forward_pass, generate
from rlhf_chat.inference.decode_batch import DecodeBatch
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.memory_estimate import Workload
from rlhf_chat.inference.model import Model
from rlhf_chat.reward import features, reward_model, scorer
from rlhf_chat.training import evaluation, idle_tasks, ppo, ppo_trainer, round_conditions
from rlhf_chat.training import training_round as round_
from rlhf_chat.training.context import RoundConfig
from rlhf_chat.training.gate import PASSED, Verdict
from rlhf_chat.training.ppo import PPOConfig
from rlhf_chat.training.round_plan import config_for
from rlhf_chat.training.round_runner import RoundMonitor, RoundRunner
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.versions.adapter_store import AdapterError, AdapterStore
from tests.families import make_family
from tests.tiny_models import tiny_round_config

NEVER = 10**6  # so many ratings never come: rounds start only when asked


def words(stored: str) -> str:
    """A stored reason as it is shown."""
    return str(from_stored(stored))


class Interrupt(BaseException):
    """Like KeyboardInterrupt: not an Exception, so a careless handler lets it pass."""


ERRORS = (RuntimeError, FloatingPointError, torch.OutOfMemoryError, Interrupt)


class Recipe:
    """Stands in for round.run: holds until told, then promotes an adapter that speaks otherwise."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        self.running = self.most = self.rounds = 0
        self.checking = False

    def __call__(self, snapshot, parent, extractor, config, seed, report, check, budget):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            report("rollouts", 0.3, 0, {"score": 0.25, "kl": 1.5})
            report("ppo", 0.4, 0, {"loss": 0.5})
            self.entered.set()
            while not self.go.is_set():
                self.checking = True
                check()
                self.checking = False
                time.sleep(0.002)
            check()
        finally:
            self.running -= 1
        self.rounds += 1
        verdict = Verdict(PASSED, "Served: a test says so.", {}, ())
        state = nudged(extractor.model, self.rounds)
        return round_.Outcome(verdict, state, 1.5, None, None)


def nudged(model: Model, seed: int) -> dict[str, torch.Tensor]:
    """An adapter that clearly changes what the model says."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(value.shape, generator=generator) * 0.3
        for name, value in model.base_state().items()
    }


def rate(chat: Chat, count: int, rater: str = "me") -> None:
    """Votes by a plain rule: the longer of two drafts is better."""
    done, compare = 0, Compare(chat)
    while done < count:
        simulated = rater.startswith("simulated:")
        *_, pair = compare.write(f"tell me about the sea {done}", simulated=simulated)
        if pair.set_id and pair.votable:
            left, right = map(len, pair.texts)
            compare.vote(pair.set_id, "a" if left > right else "b", rater=rater)
            done += 1


def spoken(model: Model) -> tuple[int, list[int], torch.Tensor]:
    """What is served, to the bit: version, greedy tokens and the log-probs of a fixed reply."""
    prompt = model.encode([{"role": "user", "content": "hello how are you"}])
    *_, (reply,) = model.stream(model.live, [prompt], Sampling(0.0, max_new_tokens=8), seed=0)
    with model.lease.turn(), torch.no_grad():
        logprobs = forward_pass.forward(model, model.live, [prompt], [[40, 41, 42, 43]]).logprobs
    return model.live.version, reply.ids, logprobs


def same(one: tuple, other: tuple) -> bool:
    return one[:2] == other[:2] and torch.equal(one[2], other[2])


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "this did not happen in time"
        time.sleep(0.01)


def let_it_look(worker: TrainingWorker) -> None:
    """Wakes the worker's thread and waits until it has looked once for something to do."""
    looked, step = threading.Event(), worker.step

    def counted() -> str:
        try:
            return step()
        finally:
            looked.set()

    worker.step = counted  # type: ignore[method-assign]
    worker.wake()
    assert looked.wait(60)
    worker.step = step  # type: ignore[method-assign]


def say(chat: Chat, text: str = "hello"):
    """A whole reply; returns its last chunk."""
    *_, partial = chat.reply(chat.conversations.new(), text)
    assert partial.done and partial.message_id
    return partial


@pytest.fixture
def chat(store: Store, toy: Model) -> Chat:
    chat = Chat(store, toy, Sampling(max_new_tokens=5))
    chat._rng = random.Random(0)  # no reply of the toy happens to end at once
    return chat


@pytest.fixture
def make(store: Store, toy: Model, tmp_path: Path) -> Iterator[Callable[..., TrainingWorker]]:
    made: list[TrainingWorker] = []

    def one(**changes) -> TrainingWorker:
        options: dict[str, Any] = {
            "needed": NEVER,
            "seed": 1,
            "config": tiny_round_config(),
        } | changes
        made.append(TrainingWorker(store, toy, AdapterStore(tmp_path / "adapters"), **options))
        return made[-1]

    yield one
    for worker in made:
        worker.close()


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recipe]:
    stand_in = Recipe()
    monkeypatch.setattr(round_, "run", stand_in)
    yield stand_in
    stand_in.go.set()


def ended(store: Store, number: int = 1) -> Callable[[], bool]:
    return lambda: sum(r.ended_at is not None for r in store.rounds.newest()) >= number


# ---------------------------------------------------------------------- when a round starts


def test_a_round_starts_by_itself_after_enough_ratings(store, chat, make, recipe):
    recipe.go.set()
    worker = make(needed=3)
    worker.start()
    rate(chat, 2)
    let_it_look(worker)
    assert store.rounds.newest() == []
    assert worker.status().waiting == 2
    rate(chat, 1)
    worker.wake()
    wait_for(ended(store))
    newest = worker.history.rounds(1)[0]
    assert (newest.trigger, newest.status, newest.version) == ("ratings", "promoted", 1)
    wait_for(lambda: worker.status().waiting == 0)


@pytest.mark.parametrize("paused", [False, True])
def test_a_round_does_not_wait_for_the_end_of_the_work_between_rounds(
    chat, make, recipe, monkeypatch, paused
):
    """With a real model that work takes minutes; meanwhile there was "Ready to train" to read."""
    worker = make(needed=3)
    begun, left = threading.Event(), []

    def minutes_of_work(check) -> None:
        begun.set()
        until = time.monotonic() + 3
        try:
            while time.monotonic() < until:
                check()
                time.sleep(0.01)
        except BaseException:
            left.append("early")
            raise

    monkeypatch.setattr(worker.idle_tasks, "prepare_reward_model", minutes_of_work)
    if paused:
        worker.pause()
    worker.start()
    assert begun.wait(30)
    rate(chat, 3)
    worker.wake()
    if paused:
        assert not recipe.entered.wait(1) and not left
    else:
        assert recipe.entered.wait(2) and left == ["early"]
    recipe.go.set()
    worker.close()


def test_between_rounds_the_base_replies_to_all_that_a_round_may_draw(
    store, chat, make, monkeypatch
):
    worker = make(needed=9)
    config, key = worker.config, worker.extractor._reference_key
    worker.scorer.resize(config.scorer, config.ppo.max_new_tokens)
    rate(chat, 2)
    snapshot = load_snapshot(worker.extractor)
    assert worker.step() == "" and worker.scorer.ready
    base_stats = worker.scorer.base_stats
    drawn = round_.training_prompts(
        snapshot, base_stats.prompts, worker.model, base_stats.max_new_tokens
    )
    assert snapshot.prompts and base_stats.prompts.further
    assert {p.key for p in drawn} >= {p.key for p in snapshot.prompts + base_stats.prompts.further}
    keys = [p.key for p in drawn]
    written = store.features.reference_responses(key(config.ppo.max_new_tokens), keys)
    assert set(written) == set(keys)

    def not_again(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(idle_tasks, "load_snapshot", not_again)
    assert worker.step() == ""


def test_after_a_large_import_the_base_replies_to_a_bounded_number_ahead(
    store, chat, make, monkeypatch
):
    monkeypatch.setattr(idle_tasks, "WRITTEN_AHEAD", 5)
    worker = make(needed=9)
    rate(chat, 3)
    asked = []
    worker.step()
    monkeypatch.setattr(worker.extractor, "references", lambda prompts, *_: asked.extend(prompts))
    rate(chat, 1)
    assert worker.step() == ""
    suggested = worker.scorer.base_stats.prompts
    practised = [prompt for prompt in asked if prompt not in suggested.retained]
    assert len(practised) == 5 and set(suggested.further) <= set(practised)
    assert set(suggested.retained) <= set(asked)


def test_ratings_wait_for_the_conditions_that_are_set_and_a_request_does_not(
    store, toy, chat, make, recipe, monkeypatch
):
    recipe.go.set()
    worker = make(needed=1)
    now = SimpleNamespace(idle_seconds=0.0, hour=12, on_mains=False, others_bytes=0)
    monkeypatch.setattr(round_conditions, "surroundings", lambda model: now)
    with pytest.raises(ValueError, match="noon"):
        worker.set_conditions(["noon"])
    worker.set_conditions(["mains", "night"])
    assert worker.conditions == ["night", "mains"] == make().conditions  # kept with the data
    rate(chat, 1)
    for hour, awaits in ((12, "night"), (23, "mains")):
        now.hour = hour
        assert worker.step() == "" and worker.status().awaits == awaits
    now.on_mains = True
    assert worker.step() == "promoted"
    now.on_mains = False
    assert worker.run_round("asked") == "promoted"


@pytest.mark.parametrize("needed", [0, -3])
def test_no_round_starts_by_itself_without_a_new_rating(store, chat, make, recipe, needed):
    recipe.go.set()
    worker = make(needed=needed)
    rate(chat, 1)
    assert (worker.step(), worker.step()) == ("promoted", "")
    assert worker.status().needed == 1


def test_nothing_to_learn_from_is_said_and_starts_nothing(store, make, recipe):
    worker = make()
    worker.start()
    assert "Rate a few replies" in str(worker.train_now())
    let_it_look(worker)
    assert store.rounds.newest() == []


def test_a_step_that_failed_is_forgotten_once_one_succeeds(make, monkeypatch):
    """Another program held the database for a moment."""
    worker = make()
    with monkeypatch.context() as held:
        held.setattr(worker.idle_tasks, "check_database", lambda: 1 / 0)
        worker.start()
        wait_for(lambda: worker.status().state == "failed")
    wait_for(lambda: worker.status().state != "failed")


def test_what_was_asked_for_while_the_database_was_held_is_still_asked_for(
    store, chat, make, recipe, monkeypatch
):
    recipe.go.set()
    rate(chat, 1)
    worker, real = make(), store.rounds.open
    held = [True, True]

    def open_round(**about: Any) -> int:
        if held:
            held.pop()
            raise Busy("db.busy")
        return real(**about)

    monkeypatch.setattr(store.rounds, "open", open_round)
    worker.start()
    worker.train_now()
    wait_for(ended(store, 1))


def test_a_proof_that_could_not_be_stored_is_stored_the_next_time(make, store, toy, monkeypatch):
    worker = make()
    shelved(worker, toy, 1)
    for _ in range(9):
        stored_vote(store, 1, 0, "a")
    with monkeypatch.context() as held:
        held.setattr(store.adapter_versions, "set_tier", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            worker.leaderboard.update_tiers()
    worker.leaderboard.update_tiers()
    assert worker.versions.get(1).tier == "proved"


def test_without_its_thread_learning_is_off_and_says_so(chat, make, recipe):
    worker = make(needed=1)
    worker.recover()
    rate(chat, 1)
    assert "off" in str(worker.train_now())
    assert worker.status().state == "off"


@pytest.mark.parametrize("learn", [False, True])
def test_the_taste_is_known_while_learning_is_off_or_paused(store, toy, chat, make, recipe, learn):
    """So that "why" and the best of several drafts work without a single round, and before any
    answer: wanting to see them is reason enough to read ahead."""
    worker = make(needed=1)
    chat.scorer = worker.scorer
    if learn:
        worker.pause()
    worker.start(learn=learn)
    if learn:
        rate(chat, 1)
    else:
        reply = say(chat)
        with pytest.raises(AppError, match="moment"):
            chat.explain(reply.message_id)
    wait_for(lambda: worker.scorer.ready)
    assert chat.explain(say(chat).message_id)
    rate(chat, 2)
    let_it_look(worker)
    assert store.rounds.newest() == [] and recipe.rounds == 0
    status = worker.status()
    assert (status.state, status.paused) == (("paused", True) if learn else ("off", False))


def test_what_somebody_would_have_to_wait_for_is_read_while_there_is_nothing_to_do(chat, make):
    worker = make(needed=99)
    worker.scorer.warm_up()
    chat.ratings.rate(say(chat, "tell me about it").message_id, 1)
    before = worker.scorer.get()
    assert worker.scorer.stale and not before.head.weights.any()
    worker.step()
    assert not worker.scorer.stale and worker.scorer.get().head.weights.any()


def test_started_without_learning_nothing_that_is_clicked_begins_a_round(store, chat, make, recipe):
    rate(chat, 2)
    store.feedback.add_rating(say(chat).message_id, 1, rater="visitor")
    worker = make(needed=1)
    worker.start(learn=False)
    off = Refused("training.off")
    assert worker.train_now() == worker.retrain_without(rater="visitor") == off
    worker.pause()
    worker.resume()
    worker.set_needed(1)
    assert worker.step() == ""
    let_it_look(worker)
    assert store.rounds.newest() == [] and worker.status().state == "off"


def test_never_two_rounds_at_once(store, chat, make, recipe):
    rate(chat, 1)
    worker = make(needed=1)
    worker.start()
    wait_for(recipe.entered.is_set)
    for _ in range(5):
        assert "already" in str(worker.train_now())
        rate(chat, 1)
        worker.wake()
    assert len(store.rounds.newest()) == 1
    recipe.go.set()
    wait_for(ended(store, 2))  # the ratings that came meanwhile
    assert recipe.most == 1


def test_other_minutes_take_effect_with_the_next_round(store, toy, chat, make, recipe, monkeypatch):
    monkeypatch.setattr(toy, "sampled_token_seconds", 0.005)
    monkeypatch.setattr(toy, "train_token_seconds", 0.002)
    worker = make(needed=1, config=None, round_minutes=10)
    rate(chat, 1)
    worker.start()
    wait_for(recipe.entered.is_set)
    before = worker.round_size()
    worker.set_round_minutes(60)
    assert worker.round_size() != before
    rate(chat, 1)
    recipe.go.set()
    worker.wake()
    wait_for(ended(store, 2))
    second, first = (r.config["ppo"] for r in worker.history.rounds(2))
    assert (first["updates"], first["max_new_tokens"]) == (before.updates, before.tokens)
    size = worker.round_size()
    assert (second["updates"], second["max_new_tokens"]) == (size.updates, size.tokens)


def test_the_bundled_model_has_rounds_of_one_size(toy, make, monkeypatch):
    monkeypatch.setattr(toy, "name", "demo")
    worker = make(config=None)
    before = worker.config
    worker.set_round_minutes(60)
    assert worker.config is before and not worker.sizes_rounds


# ---------------------------------------------------------------------- pause, stop, close


def test_pause_holds_before_and_in_the_middle_and_resume_goes_on(store, chat, make, recipe):
    worker = make(needed=1)
    worker.start()
    worker.pause()
    rate(chat, 1)
    let_it_look(worker)
    assert store.rounds.newest() == [] and worker.status().state == "paused"
    worker.resume()
    wait_for(recipe.entered.is_set)
    worker.pause()
    wait_for(lambda: recipe.checking)
    recipe.go.set()
    time.sleep(0.05)  # long enough for a round that does not wait to go on
    status = worker.status()
    assert (status.state, status.paused) == ("paused", True) and recipe.rounds == 0
    worker.resume()
    wait_for(ended(store))
    assert store.rounds.newest()[0].status == "promoted"


def test_a_paused_round_gives_its_memory_to_chat_and_ends_with_the_same_words(
    store, chat, toy, make, monkeypatch
):
    """Paused in the middle of rollouts, whose keys and values leave no room for a reply."""
    prompts = [toy.encode([{"role": "user", "content": "tell me about the sea"}])] * 4
    limit, drafted, checks = Sampling(max_new_tokens=30), [], []
    whole = [r.ids for r in toy.sample(toy.policy, prompts, limit, seed=7)]

    def run(snapshot, parent, extractor, config, seed, report, check, budget) -> round_.Outcome:
        def checked() -> None:
            checks.append(1)
            if len(checks) == 3:
                worker.pause()
            check()

        drafted.extend(toy.sample(toy.policy, prompts, limit, seed=7, check=checked))
        return round_.Outcome(
            Verdict("discarded", "A test says so.", {}, ()), None, 0.0, None, None
        )

    real = DecodeBatch.step

    def step(self, tokens):
        if toy.lease.chat_is_waiting and toy.lease._holders:
            raise torch.OutOfMemoryError("injected")
        return real(self, tokens)

    monkeypatch.setattr(round_, "run", run)
    monkeypatch.setattr(DecodeBatch, "step", step)
    rate(chat, 1)
    worker = make()
    worker.start()
    worker.train_now()
    wait_for(lambda: len(checks) >= 3)
    assert say(chat).text
    wait_for(lambda: not toy.lease._holders)
    assert not toy.lease._holders and not drafted  # it holds nothing while it waits
    worker.resume()
    wait_for(ended(store))
    assert [r.ids for r in drafted] == whole
    assert store.rounds.newest()[0].status == "discarded"


@pytest.mark.parametrize("paused", [False, True])
def test_stop_ends_the_round_and_the_live_version_stays(store, chat, toy, make, recipe, paused):
    rate(chat, 2)
    worker = make(needed=1)
    before = spoken(toy)
    worker.start()
    wait_for(recipe.entered.is_set)
    if paused:
        worker.pause()
    worker.stop_round()
    wait_for(ended(store), 5)
    assert store.rounds.newest()[0].status == "stopped" and "Stopped" in words(
        store.rounds.newest()[0].reason
    )
    assert same(before, spoken(toy)) and store.adapter_versions.live() == 0
    worker.resume()
    let_it_look(worker)
    assert len(store.rounds.newest()) == 1, "a stopped round must not start again by itself"
    recipe.go.set()
    rate(chat, 1)
    worker.wake()
    wait_for(ended(store, 2))
    assert store.rounds.newest()[0].status == "promoted"


@pytest.mark.parametrize("paused", [False, True])
def test_close_ends_the_thread_within_seconds(store, chat, make, recipe, paused):
    rate(chat, 1)
    worker = make()
    worker.start()
    worker.train_now()
    wait_for(recipe.entered.is_set)
    if paused:
        worker.pause()
    worker.close()  # gives up after 30 s, and the thread would still be there
    assert store.rounds.newest()[0].status == "stopped"
    assert not any(t.name == "trainer" and t.is_alive() for t in threading.enumerate())
    worker.close()  # twice is fine


# ---------------------------------------------------------------------- what goes wrong

PHASES: dict[str, tuple[object, str]] = {
    "features": (features.FeatureExtractor, "references"),
    "reward head": (reward_model, "fit"),
    "rollouts": (ppo_trainer.PPOTrainer, "collect"),
    "ppo": (ppo_trainer.PPOTrainer, "update"),
    "gate": (evaluation, "probe"),
    "publishing": (AdapterStore, "publish"),
    "promoting": (AdapterVersionRepository, "promote"),
}


@pytest.mark.parametrize("phase", PHASES)
def test_an_error_in_any_phase_closes_the_round_and_chat_goes_on(
    phase, store, chat, toy, make, monkeypatch
):
    """Every kind of error in one phase; in the others the two that need care of their own."""
    kinds = ERRORS if phase == "ppo" else ERRORS[-2:]
    rate(chat, 6)
    worker = make()
    worker.start()
    before, errors = spoken(toy), iter(kinds)
    reached, go = threading.Event(), threading.Event()

    def break_down(*_args, **_kwargs):
        reached.set()
        go.wait(60)
        raise next(errors)("injected")

    served = Verdict(PASSED, "Served: a test says so.", {}, ())
    # so that publishing is reached
    monkeypatch.setattr("rlhf_chat.training.gate.judge", lambda *_: served)
    monkeypatch.setattr(*PHASES[phase], break_down)
    for number, kind in enumerate(kinds, 1):
        reached.clear()
        go.clear()
        assert "starts now" in str(worker.train_now())
        wait_for(reached.is_set)
        assert say(chat).adapter_version == 0  # in the middle of it
        go.set()
        wait_for(ended(store, number))
        newest = store.rounds.newest()[0]
        assert newest.status == "failed", kind
        assert words(newest.reason).endswith("Chat goes on.") and "\n" not in newest.reason
        assert str(worker.status().error) == words(newest.reason)
        assert same(before, spoken(toy)) and store.adapter_versions.live() == 0
        assert say(chat).adapter_version == 0
        wait_for(lambda: worker.status().round_id is None)
    monkeypatch.undo()
    monkeypatch.setattr("rlhf_chat.training.gate.judge", lambda *_: served)
    worker.train_now()
    wait_for(ended(store, len(kinds) + 1))
    wait_for(lambda: worker.status().round_id is None)  # served, too
    newest = store.rounds.newest()[0]
    assert newest.status == "promoted", words(
        newest.reason
    )  # nothing of the failures is in the way
    assert say(chat).adapter_version == newest.version


def test_a_failed_round_waits_for_new_ratings(store, chat, make, monkeypatch):
    tried = []

    def fail(*_args):
        tried.append(1)
        raise RuntimeError("injected")

    monkeypatch.setattr(round_, "run", fail)
    worker = make(needed=2)
    rate(chat, 2)
    assert [worker.step() for _ in range(4)] == ["failed", "", "", ""]
    rate(chat, 1)
    assert [worker.step(), worker.step()] == ["failed", ""]
    assert len(tried) == 2


def test_a_full_disk_while_closing_does_not_kill_the_thread(store, chat, make, monkeypatch):
    def fail(*_args, **_kwargs):
        raise StoreError("The disk is full, so nothing was saved; free some space.")

    rate(chat, 2)
    worker = make()
    worker.start()
    with monkeypatch.context() as broken:
        broken.setattr(round_, "run", fail)
        broken.setattr(RoundRepository, "close", fail)
        worker.train_now()
        wait_for(lambda: "is full" in str(worker.status().error))
    recipe = Recipe()
    recipe.go.set()
    monkeypatch.setattr(round_, "run", recipe)
    wait_for(lambda: worker.status().round_id is None)
    worker.train_now()
    wait_for(lambda: store.adapter_versions.live() == 1)


def poison(monkeypatch, what: str) -> None:
    """NaN wherever this quantity is computed in a round."""

    def replaced(owner, name, spoil):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, **more: spoil(real, *args, **more))

    def loss(real, new_logprobs, *rest):
        total, stats = real(new_logprobs, *rest)
        if what == "loss":
            return total * torch.nan, stats
        new_logprobs.register_hook(lambda grad: grad * torch.nan)
        return total, stats

    def policy_pass(real, *args):
        mask, logprobs, values = real(*args)
        logprobs[0, -1] = torch.nan
        return mask, logprobs, values

    def reference_pass(real, *args, **more):
        found = real(*args, **more)
        found.logprobs[0][-1] = torch.nan
        return found

    def states(real, *args, **more):
        found = real(*args, **more)
        found.pooled[0, 0] = torch.nan
        return found

    def one(real, *args):
        found = real(*args)
        found[0] = float("nan")
        return found

    places = {
        "loss": (ppo, "policy_loss", loss),
        "gradient": (ppo, "policy_loss", loss),
        "reward": (ppo, "compute_rewards", one),
        "score": (scorer.RewardModel, "score", one),
        "log-prob": (ppo_trainer.PPOTrainer, "_policy_pass", policy_pass),
        "reference log-prob": (forward_pass, "reference_pass", reference_pass),
        "feature": (forward_pass, "reference_pass", states),
    }
    replaced(*places[what])


@pytest.mark.parametrize(
    "what", ["loss", "gradient", "reward", "score", "log-prob", "reference log-prob", "feature"]
)
def test_a_nan_never_reaches_a_weight(what, store, chat, toy, make, monkeypatch):
    """Nor a version or a reply: the round ends with a sentence, and chat goes on."""
    rate(chat, 6)
    worker, stepped, before = make(), [], spoken(toy)
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self, *a, **k: stepped.append(1) or step(self, *a, **k)
    )
    with monkeypatch.context() as broken:
        poison(broken, what)
        assert worker.run_round("asked") == "failed"
    reason = words(store.rounds.newest()[0].reason)
    assert "not a finite number" in reason and reason.endswith(".")
    assert str(worker.status().error) == reason
    assert not stepped
    assert all(bool(torch.isfinite(p).all()) for p in toy.policy_parameters())
    assert same(spoken(toy), before) and len(store.adapter_versions.all()) == 1
    *_, reply = chat.reply(chat.conversations.new(), "still there?")
    assert reply.message_id
    assert worker.run_round("asked") != "failed"  # nothing of it stays


def test_stop_is_honoured_while_replies_are_sampled(store, chat, toy, make, monkeypatch):
    """Rollouts of a big model take minutes: the button may not wait for the last token."""
    config = tiny_round_config()
    long = replace(config, ppo=replace(config.ppo, max_new_tokens=60))
    rate(chat, 6)
    worker = make(config=long)
    steps, real = [], generate.next_token

    def slow(*args):
        steps.append(1)
        time.sleep(0.16)  # every token takes as long as a slice, as with a big model
        return real(*args)

    monkeypatch.setattr(generate, "next_token", slow)
    worker.start()
    worker.train_now()
    wait_for(lambda: len(steps) >= 2)
    worker.stop_round()
    before = len(steps)
    wait_for(ended(store))
    assert len(steps) - before <= 3, "the round went on sampling after it was stopped"


# ---------------------------------------------------------------------- promotion and back


def test_a_promoted_round_stamps_the_next_reply(store, chat, toy, make, recipe):
    recipe.go.set()
    rate(chat, 1)
    worker = make()
    before = spoken(toy)
    assert worker.run_round("asked") == "promoted"
    reply = say(chat)
    assert reply.adapter_version == 1
    assert store.messages.get(reply.message_id).adapter_version == 1
    assert not same(before, spoken(toy))
    newest = store.rounds.newest()[0]
    assert (newest.version, newest.parent_version) == (1, 0)
    assert words(newest.reason) == "Served: a test says so."
    live = worker.versions.all()[-1]
    assert (live.version, live.parent, live.tier, live.round_id) == (1, 0, PASSED, newest.id)
    assert (worker.status().live_version, worker.status().live_tier) == (1, PASSED)


def test_rolling_back_restores_every_bit(store, chat, toy, make, recipe):
    recipe.go.set()
    worker = make()
    load_snapshot = [spoken(toy)]
    for _ in range(2):
        rate(chat, 1)
        assert worker.run_round("asked") == "promoted"
        load_snapshot.append(spoken(toy))
    assert not same(load_snapshot[1], load_snapshot[2])
    assert "v1 is live" in str(worker.versions.roll_back())
    assert same(spoken(toy), load_snapshot[1]) and store.adapter_versions.live() == 1
    assert "original model is live" in str(worker.versions.roll_back())
    assert same(spoken(toy), load_snapshot[0]) and say(chat).adapter_version == 0
    assert "nothing to roll back" in str(worker.versions.roll_back())
    assert "v2 is live" in str(worker.versions.make_live(2))
    assert same(spoken(toy), load_snapshot[2])
    with pytest.raises(NotFound, match="no version 9"):
        worker.versions.make_live(9)
    assert same(spoken(toy), load_snapshot[2]) and store.adapter_versions.live() == 2


@pytest.mark.parametrize("first", ["make_live", "publish", "serve_live"])
def test_what_is_called_live_is_what_is_served_whoever_switches_at_once(
    make, store, toy, monkeypatch, first
):
    """Somebody makes the base live just when another version is about to be served."""
    worker = make()
    shelved(worker, toy, 1)
    versions, real, switched = worker.versions, toy.serve, threading.Event()

    def other() -> None:
        versions.make_live(0)
        switched.set()

    def serve(view) -> None:
        if view.version and not threads:
            threads.append(threading.Thread(target=other))
            threads[0].start()
            switched.wait(0.5)  # it would be through by now, were nothing in its way
        real(view)

    threads: list[threading.Thread] = []
    monkeypatch.setattr(toy, "serve", serve)
    if first == "publish":
        round_id = store.rounds.open(
            trigger="t", parent_version=1, seed=0, watermark=0, config={}, snapshot_hash=""
        )
        told = {"round_id": round_id, "parent": 1, "instead_of": 1, "tier": PASSED, "kl": 1.0}
        versions.publish(nudged(toy, 2), reason="", verdict={}, about={}, **told)
    else:
        versions.make_live(1) if first == "make_live" else versions.serve_live()
    threads[0].join(30)
    assert store.adapter_versions.live() == toy.live.version == 0


def test_a_reply_is_wholly_of_the_version_it_began_with(store, chat, toy, make, recipe):
    recipe.go.set()
    rate(chat, 1)
    worker = make()
    chat.settings.sampling = Sampling(0.0, max_new_tokens=12)
    alone = say(chat)
    assert worker.run_round("asked") == "promoted"
    after = say(chat)
    assert after.text != alone.text
    worker.versions.make_live(0)
    stream = chat.reply(chat.conversations.new(), "hello")
    seen = [next(stream) for _ in range(4)]
    worker.versions.make_live(1)
    seen += list(stream)
    assert {p.adapter_version for p in seen} == {0}
    assert seen[-1].text == alone.text
    assert store.messages.get(seen[-1].message_id).adapter_version == 0
    assert say(chat).text == after.text


def test_every_number_told_is_in_the_database(store, chat, make, monkeypatch):
    rate(chat, 6)
    worker = make()
    told: dict[tuple[int, str], float] = {}
    report = RoundMonitor.report

    def listen(self, phase, done, step, numbers):
        told.update({(step, name): float(value) for name, value in numbers.items()})
        report(self, phase, done, step, numbers)

    monkeypatch.setattr(RoundMonitor, "report", listen)
    status = worker.run_round("asked")
    newest = store.rounds.newest()[0]
    assert status in ("promoted", "discarded"), newest.reason
    kept = {(step, name): value for step, name, value in store.rounds.metrics(newest.id)}
    assert kept == told
    assert {"head_p_value", "loss", "kl", "probe_kl", "candidate_tokens"} <= {n for _, n in kept}
    shown = worker.history.metrics(newest.id)
    assert {(s, n): v for n, points in shown.items() for s, v in points} == told
    assert newest.verdict and newest.config["bootstrap_heads"] == 2 and newest.snapshot_hash
    assert worker.history.feature_weights()


def test_a_number_that_is_not_finite_is_kept_as_empty(store, chat, make):
    rate(chat, 1)
    worker = make()
    round_id = store.rounds.open(
        trigger="asked", parent_version=0, seed=0, watermark=0, config={}, snapshot_hash=""
    )
    RoundMonitor(store, round_id).report("ppo", 0.5, 3, {"loss": float("nan"), "kl": 2.0})
    assert store.rounds.metrics(round_id) == [(3, "loss", None), (3, "kl", 2.0)]
    assert worker.history.metrics(round_id) == {"kl": [(3, 2.0)]}


# ---------------------------------------------------------------------- after a crash


def test_a_crash_between_file_and_row_leaves_the_old_version(
    store, chat, toy, make, recipe, monkeypatch
):
    recipe.go.set()
    rate(chat, 1)
    worker = make()
    worker.run_round("asked")
    before = spoken(toy)
    with monkeypatch.context() as crash:
        crash.setattr(RoundRunner, "_fail", lambda *_: "")  # a dead process tidies nothing up
        crash.setattr(AdapterVersionRepository, "promote", lambda *_args, **_kwargs: 1 / 0)
        rate(chat, 1)
        worker.run_round("asked")
    left = worker.versions.adapter_store.path(2)
    assert left.is_dir() and store.rounds.newest()[0].status == "running"
    (worker.versions.adapter_store.folder / "staging" / "half").mkdir(parents=True)
    toy.serve(toy.reference)
    make().recover()
    assert same(before, spoken(toy)) and store.adapter_versions.live() == 1
    assert not left.exists() and put_aside(worker) == ["v0002"]  # whose it was nobody knows
    assert not any((worker.versions.adapter_store.folder / "staging").iterdir())
    assert store.rounds.newest()[0].status == "aborted" and "ended" in words(
        store.rounds.newest()[0].reason
    )


def put_aside(worker: TrainingWorker) -> list[str]:
    return sorted(f.name[:5] for f in worker.versions.adapter_store.folder.glob("lost/*"))


def test_versions_outlive_a_database_that_does_not_know_them(
    store, chat, toy, make, recipe, tmp_path
):
    """As after a damaged file was moved away, which is what the app itself proposes."""
    recipe.go.set()
    for _ in range(2):
        rate(chat, 1)
        make().run_round("asked")
    with closing(Store(tmp_path / "another.db")) as empty:
        fresh = TrainingWorker(
            empty, toy, AdapterStore(tmp_path / "adapters"), config=tiny_round_config()
        )
        fresh.recover()
        assert toy.live.version == 0 and put_aside(fresh) == ["v0001", "v0002"]
        shelved(fresh, toy, 1)
        fresh.recover()
        assert toy.live.version == 1 and put_aside(fresh) == ["v0001", "v0002"]


def test_a_version_put_aside_comes_back_with_the_database_that_knows_it(
    store, chat, toy, make, recipe, tmp_path
):
    recipe.go.set()
    worker = make()
    for _ in range(2):
        rate(chat, 1)
        worker.run_round("asked")
    before = spoken(toy)
    with closing(Store(tmp_path / "another.db")) as empty:
        TrainingWorker(
            empty, toy, worker.versions.adapter_store, config=tiny_round_config()
        ).recover()
    assert put_aside(worker) == ["v0001", "v0002"]
    other = worker.versions.adapter_store.folder / "lost" / "v0002-another"
    other.mkdir()
    (other / "manifest.json").write_text("{}")  # the same number of another history
    make().recover()
    assert same(before, spoken(toy)) and store.adapter_versions.live() == 2
    assert put_aside(worker) == ["v0002"] and other.exists()


def test_a_version_of_a_failed_round_is_not_kept(store, chat, toy, make, recipe, monkeypatch):
    recipe.go.set()
    worker = make()
    worker.recover()
    with monkeypatch.context() as fault:
        fault.setattr(AdapterVersionRepository, "promote", lambda *_args, **_kwargs: 1 / 0)
        rate(chat, 1)
        assert worker.run_round("asked") == "failed"
    assert not worker.versions.adapter_store.path(1).exists() and put_aside(worker) == []


def test_a_deletion_that_was_cut_short_is_finished_at_the_next_start(
    store, chat, toy, make, monkeypatch
):
    worker = make()
    shelved(worker, toy, 1)
    by_a_program = store.rounds.open(
        trigger="asked",
        rater="simulated:lists",
        parent_version=0,
        seed=0,
        watermark=0,
        config={},
        snapshot_hash="",
    )
    shelved(worker, toy, 2, round_id=by_a_program)
    store.adapter_versions.set_live(0, "")
    with monkeypatch.context() as crash:
        crash.setattr(AdapterStore, "remove", lambda *_: None)
        worker.delete(1)
    store.feedback.erase_rater("simulated:lists")
    adapter_store = worker.versions.adapter_store
    assert adapter_store.path(1).exists() and adapter_store.path(2).exists()
    make().recover()
    assert (
        not adapter_store.path(1).exists()
        and not adapter_store.path(2).exists()
        and put_aside(worker) == []
    )


def crashed(store: Store, make: Callable[..., TrainingWorker]) -> TrainingWorker:
    """As the next start finds it: a round is open that had read up to the newest answer."""
    store.rounds.open(
        trigger="ratings",
        parent_version=0,
        seed=1,
        watermark=store.feedback.count(),
        config={},
        snapshot_hash="x",
    )
    worker = make(needed=2)
    worker.recover()
    assert store.rounds.newest()[0].status == "aborted"
    return worker


def test_a_round_the_app_ended_in_is_tried_once_more_and_then_waits(store, chat, make, recipe):
    """A round that brings the app down, for want of memory, would else do so at every start."""
    recipe.go.set()
    rate(chat, 2)
    crashed(store, make)
    assert crashed(store, make).step() == ""
    again = make(needed=2)
    again.recover()
    assert again.step() == ""  # another start changes nothing, a rating does
    rate(chat, 1)
    assert crashed(store, make).step() == "promoted"


def test_a_round_that_waits_after_crashes_says_so_and_can_be_asked_for(store, chat, make, recipe):
    recipe.go.set()
    rate(chat, 2)
    crashed(store, make)
    worker = crashed(store, make)
    worker.start()
    let_it_look(worker)
    assert worker.status().held == "crashed" and len(store.rounds.newest()) == 2
    assert not worker.status().error
    assert worker.status().state == "failed"
    worker.pause()
    assert worker.status().state == "paused"
    worker.train_now()
    wait_for(lambda: store.rounds.newest()[0].status == "promoted")
    wait_for(lambda: worker.status().round_id is None)
    assert worker.status().held != "crashed"


@pytest.mark.parametrize("damage", ["flip", "gone", "no manifest", "bad manifest"])
def test_a_damaged_live_version_falls_back_to_its_last_good_ancestor(
    damage, store, chat, toy, make, recipe
):
    recipe.go.set()
    worker = make()
    load_snapshot = []
    for _ in range(3):
        rate(chat, 1)
        worker.run_round("asked")
        load_snapshot.append(spoken(toy))
    for version in (2, 3):
        break_version(worker.versions.adapter_store.path(version), damage)
    toy.serve(toy.reference)
    fresh = make()
    fresh.recover()
    missing = damage in ("gone", "no manifest")  # which proves nothing: it may come back
    live, named = (3, "Version 3") if missing else (1, "Version 2")
    assert same(spoken(toy), load_snapshot[0]) and store.adapter_versions.live() == live
    assert "v1" in str(fresh.status().error) and named in str(fresh.status().error)
    with pytest.raises(AdapterError, match="Version 3"):
        fresh.versions.make_live(3)
    assert store.adapter_versions.live() == live and say(chat).adapter_version == 1


def break_version(folder: Path, damage: str) -> None:
    weights, manifest = folder / "adapter_model.safetensors", folder / "manifest.json"
    if damage == "flip":
        data = bytearray(weights.read_bytes())
        data[-5] ^= 1
        weights.write_bytes(data)
    elif damage == "gone":
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text("[]")


def test_a_version_of_another_base_is_not_served(store, chat, toy, make, recipe, monkeypatch):
    recipe.go.set()
    rate(chat, 1)
    make().run_round("asked")
    toy.serve(toy.reference)
    monkeypatch.setattr(toy, "base_hash", "another base")
    fresh = make()
    fresh.recover()
    assert toy.live.version == 0 and "another base model" in str(fresh.status().error)
    assert store.adapter_versions.live() == 0


def started_with(base: str, make: Callable[..., TrainingWorker], toy: Model) -> TrainingWorker:
    toy.serve(toy.reference)
    toy.base_hash = base
    worker = make()
    worker.recover()
    assert toy.live.version == worker.store.adapter_versions.live()
    return worker


@pytest.fixture
def own_base(recipe, toy, monkeypatch) -> str:
    """The toy's own hash, which it has again after the test; rounds do not wait."""
    recipe.go.set()
    monkeypatch.setattr(toy, "base_hash", toy.base_hash)
    return toy.base_hash


def forget_the_base(store: Store) -> None:
    """As a file of an app that did not note which base the live version belongs to."""
    store.connection.execute_many("DELETE FROM live_versions WHERE in_use = 0", [()])
    store.connection.execute_many("UPDATE live_versions SET base_hash = ''", [()])


@pytest.mark.parametrize("database", ["today's", "an older app's"])
def test_each_base_finds_its_own_live_version_again(database, store, chat, toy, make, own_base):
    worker = started_with(own_base, make, toy)
    for _ in range(2):
        rate(chat, 1)
        worker.run_round("asked")
    before = spoken(toy)
    if database == "an older app's":
        forget_the_base(store)
    worker = started_with("another", make, toy)
    assert toy.live.version == 0 and "v2" not in str(worker.status().error)
    told = str(worker.status().error)
    assert "Version 2" in told and "Version 1" not in told
    rate(chat, 1)
    worker.run_round("asked")
    assert (toy.live.version, worker.versions.get(3).parent) == (3, 0)
    worker = started_with(own_base, make, toy)
    assert same(before, spoken(toy))
    rate(chat, 1)
    worker.run_round("asked")
    assert (toy.live.version, worker.versions.get(4).parent) == (4, 2)
    worker = started_with("another", make, toy)
    assert toy.live.version == 3
    worker.versions.roll_back()
    worker.delete(4)  # what the absent base has live
    assert started_with(own_base, make, toy).status().live_version == 2
    again = started_with("another", make, toy)
    assert again.status().live_version == 0
    assert started_with("another", make, toy).status().error is None  # told once


@pytest.mark.parametrize("database", ["today's", "an older app's"])
def test_a_simulated_person_leaves_the_live_version_of_another_base_alone(
    database, store, chat, toy, make, own_base
):
    worker = started_with(own_base, make, toy)
    rate(chat, 1)
    worker.run_round("asked")
    worker.simulation.begin("simulated:lists")
    rate(chat, 1, "simulated:lists")
    worker.run_round("asked")
    assert toy.live.version == 2
    if database == "an older app's":
        forget_the_base(store)
        store.settings.set("simulation", {"rater": "simulated:lists", "before": 1})
        assert started_with(own_base, make, toy).status().live_version == 1
    worker = started_with("another", make, toy)
    assert toy.live.version == 0
    rate(chat, 1)
    worker.run_round("asked")
    assert started_with("another", make, toy).status().live_version == 3
    worker.simulation.end()
    assert toy.live.version == store.adapter_versions.live() == 3
    assert started_with(own_base, make, toy).status().live_version == 1


def test_a_database_that_cannot_be_written_serves_what_its_base_had_live(
    store, chat, toy, make, own_base, monkeypatch
):
    worker = started_with(own_base, make, toy)
    rate(chat, 1)
    worker.run_round("asked")
    started_with("another", make, toy)
    monkeypatch.setattr(store.connection, "read_only", True)
    toy.serve(toy.reference)
    toy.base_hash = own_base
    make().recover()
    assert toy.live.version == 1 and store.adapter_versions.live() == 0


def test_chat_and_a_real_round_side_by_side(store, chat, make):
    """Replies come whole while a round runs, and the round ends all the same."""
    rate(chat, 6)
    worker = make()
    worker.start()
    worker.train_now()
    wait_for(lambda: worker.status().round_id is not None or bool(store.rounds.newest()))
    replies = 0
    while not ended(store)():
        say(chat)
        replies += 1
    assert replies and store.rounds.newest()[0].status in ("promoted", "discarded")


# ---------------------------------------------------------------------- versions and votes


def stored_vote(store: Store, one: int, other: int, outcome: str, rater: str = "me") -> None:
    conversation = store.conversations.add("compare")
    asked = store.messages.add(conversation, "user", "hello")
    a, b = (
        store.messages.add(
            conversation,
            "assistant",
            f"of {version}",
            parent_id=asked,
            prompt_ids=[1, 2],
            response_ids=[version + 3, 4],
            adapter_version=version,
            make_head=False,
        )
        for version in (one, other)
    )
    store.feedback.add_preference(a, b, outcome, shown_first="a", rater=rater)


def shelved(
    worker: TrainingWorker,
    model: Model,
    version: int,
    tier: str = "provisional",
    round_id: int | None = None,
) -> None:
    folder, manifest_hash = worker.versions.adapter_store.publish(
        version,
        nudged(model, version),
        model.adapter_config(),
        {"base_hash": model.base_hash},
    )
    worker.store.adapter_versions.promote(
        version=version,
        parent=version - 1,
        round_id=round_id,
        tier=tier,
        folder=folder.name,
        manifest_hash=manifest_hash,
        kl=1.0,
        reason="",
        verdict={},
    )


def test_votes_turn_a_provisional_version_into_a_proved_one(make, store, toy):
    worker = make()
    shelved(worker, toy, 1)
    for _ in range(12):
        stored_vote(store, 1, 0, "a", rater="simulated:lists")  # says nothing about the person
    worker.recover()
    assert worker.step() == "" and worker.status().live_tier == "provisional"
    for _ in range(9):
        stored_vote(store, 1, 0, "a")
    worker.step()
    best, base = worker.leaderboard.standings()
    assert best.version.version == 1 and best.proved and best.low > 0.5 and base.expected == 0.5
    assert best.version.tier == "proved" and not worker.leaderboard.advice()


def test_votes_against_what_is_live_propose_the_way_back(make, store, toy):
    worker = make()
    shelved(worker, toy, 1)
    for _ in range(8):
        stored_vote(store, 0, 1, "a")
    told = str(worker.leaderboard.advice())
    assert "lost 8 against the original model" in told and "Roll back to the original model" in told
    worker.versions.roll_back()
    assert worker.leaderboard.advice() is None


def test_what_is_worse_than_its_parent_is_told_by_the_votes_against_that(make, store, toy):
    worker = make()
    shelved(worker, toy, 1)
    shelved(worker, toy, 2)
    stored_vote(store, 2, 0, "a")
    for _ in range(9):
        stored_vote(store, 1, 2, "a")
    assert "won 0 and lost 9 against v1" in str(worker.leaderboard.advice())


def test_a_deleted_version_leaves_no_folder_and_what_is_live_stays(make, store, toy):
    worker = make()
    for version in (1, 2):
        shelved(worker, toy, version)
    for kept, why in ((2, "live"), (0, "original model")):
        with pytest.raises(StoreError, match=f"(?i){why}"):
            worker.delete(kept)
    assert worker.versions.adapter_store.path(2).exists()
    assert "deleted" in str(worker.delete(1)) and not worker.versions.adapter_store.path(1).exists()
    worker.recover()
    assert toy.live.version == 2 and worker.versions.roll_back() and toy.live.version == 0
    with pytest.raises(NotFound, match="no version 1"):
        worker.versions.make_live(1)


def test_a_round_for_a_simulated_person_hears_only_that_person_and_says_so(
    make, store, toy, chat, recipe, monkeypatch
):
    load_snapshot = []
    real = round_.run  # the stand-in

    def listening(snapshot, *rest):
        load_snapshot.append(len(snapshot.items))
        return real(snapshot, *rest)

    monkeypatch.setattr(round_, "run", listening)
    recipe.go.set()
    worker = make()
    rate(chat, 2)
    rate(chat, 3, "simulated:lists")
    assert worker.schedule.waiting() == 2
    worker.schedule.listen_to("simulated:lists")
    assert worker.schedule.waiting() == 3 and worker.history.waiting("") == 2
    worker.run_round("ratings")
    assert (
        load_snapshot == [3] and worker.schedule.waiting() == 0 and worker.history.waiting("") == 2
    )
    assert store.rounds.newest()[0].rater == "simulated:lists"
    assert [s.made_for for s in worker.leaderboard.standings() if s.live] == ["simulated:lists"]
    assert worker.versions.adapter_store.manifest(1)["rated_by"] == "simulated:lists"
    worker.schedule.listen_to("")
    assert worker.schedule.waiting() == 2
    worker.run_round("ratings")
    assert load_snapshot == [3, 2]


def test_a_correction_of_an_older_app_that_no_model_can_hold_breaks_nothing(store, tmp_path):
    """Learned positions end where the context does, so measuring it would raise."""
    model = Model.load(str(make_family("gpt2", tmp_path / "gpt2")), quantization="none")
    worker = TrainingWorker(
        store, model, AdapterStore(tmp_path / "adapters"), needed=NEVER, config=tiny_round_config()
    )
    chat = Chat(store, model, Sampling(max_new_tokens=5), scorer=worker.scorer)
    for text in ("hello", "how are you"):
        chat.ratings.rate(say(chat, text).message_id, 1)
    original = store.messages.get(say(chat, "about the sea").message_id)
    edited = store.messages.add(
        original.conversation_id,
        "assistant",
        "z" * 600,
        parent_id=original.parent_id,
        prompt_ids=original.prompt_ids,
        response_ids=model.encode_reply("z" * 600),
    )
    store.feedback.add_edit(original.id, edited)
    assert worker.run_round("asked") in ("promoted", "discarded")
    worker.scorer.warm_up()
    assert worker.scorer.get() is not None
    with pytest.raises(AppError):
        chat.explain(edited)
    worker.close()


# ---------------------------------------------------------------------- taking back, saying why


def test_rebuilding_without_a_kind_is_the_round_that_never_had_it(chat, store, toy, make):
    """Same seed, same answers left: the same verdict and the same weights, bit for bit."""
    rate(chat, 8)
    plain = make()
    plain.run_round("asked", exclude=lambda one: False, seed=5)
    before = plain.history.rounds(1)[0]
    adapter = toy.policy_state()
    toy.serve(toy.reference)  # what is shown as "before" is what answers at that moment
    for turn in range(4):
        chat.ratings.rate(say(chat, f"hello {turn}").message_id, 1)
    thumbs = make()
    thumbs.run_round("retrain_without", exclude=lambda one: one.kind == "thumb", seed=5)
    after = thumbs.history.rounds(1)[0]
    again = toy.policy_state()
    assert after.snapshot_hash == before.snapshot_hash and after.parent_version == 0
    assert after.verdict == before.verdict and after.reason == before.reason
    assert all(torch.equal(adapter[name], again[name]) for name in adapter)


def test_a_rebuild_leaves_out_what_was_named_and_says_so(chat, store, make):
    rate(chat, 4)
    store.feedback.add_rating(say(chat).message_id, 1, rater="visitor")
    worker = make()
    worker.start()
    worker.pause()
    assert "nothing to retrain" in str(worker.retrain_without(["unknown"]))
    everything = [one.id for one in evidence_of(store)]
    assert "Nothing would be left" in str(worker.retrain_without(everything))
    told = worker.retrain_without(rater="visitor")
    assert "4 remaining ratings" in str(told)
    wait_for(lambda: any(r.ended_at for r in worker.history.rounds(1)))
    done = worker.history.rounds()[0]
    assert (done.trigger, done.parent_version) == ("retrain_without", 0)
    assert done.snapshot_hash == take_snapshot(store).without(lambda s: s.rater == "visitor").hash


def evidence_of(store: Store):
    return take_snapshot(store).items


def test_a_rebuild_asked_for_at_any_moment_is_not_lost(chat, store, make, recipe):
    """Also where enough ratings are found for an ordinary round in that very moment."""
    rate(chat, 2)
    store.feedback.add_rating(say(chat).message_id, 1, rater="visitor")
    worker = make(needed=3)
    waiting: list[str] = []
    worker._thread._thread = threading.Thread()  # as if it ran
    real = worker.schedule.waiting

    def ask_meanwhile() -> int:
        if not waiting:
            waiting.append(worker.retrain_without(rater="visitor"))
        return real()

    worker.schedule.waiting = ask_meanwhile
    recipe.go.set()
    assert worker.step() == worker.step() == "promoted"
    worker._thread._thread = None
    assert "2 remaining ratings" in str(waiting[0])
    assert [done.trigger for done in worker.history.rounds()] == ["retrain_without", "ratings"]


def test_what_is_made_live_by_hand_during_a_round_stays_live(chat, store, toy, make, recipe):
    rate(chat, 2)
    worker = make()
    shelved(worker, toy, 1)
    worker.recover()
    busy = threading.Thread(target=worker.run_round, args=["asked"])
    busy.start()
    assert recipe.entered.wait(10)
    worker.versions.roll_back()
    recipe.go.set()
    busy.join()
    newest = worker.versions.get(2)
    assert (toy.live.version, store.adapter_versions.live(), newest.parent) == (0, 0, 1)
    assert "waits on Versions" in words(newest.note)
    assert worker.history.rounds()[0].reason == newest.note
    worker.versions.make_live(2)
    assert toy.live.version == 2


def test_a_conversation_deleted_during_a_round_leaves_no_word(chat, store, toy, make, monkeypatch):
    """Neither in what the round remembers of prompts nor in its card nor in measurements."""
    rate(chat, 4)
    secret = chat.conversations.new()
    *_, reply = chat.reply(secret, "tell me about purple zebras")
    chat.ratings.correct(reply.message_id, "zebras hum quietly at noon")
    prompt = store.messages.get(reply.message_id).prompt_ids
    run = round_.run

    def deleted_meanwhile(*rest):
        chat.conversations.delete(secret)
        return run(*rest)

    monkeypatch.setattr(round_, "run", deleted_meanwhile)
    worker = make()
    worker.run_round("asked")
    card = (worker.history.rounds()[0].verdict or {})["card"]
    assert card["moved"] and all(len(quoted) == 4 for quoted in card["moved"])
    worker.close()
    store.close()
    left = b"".join(f.read_bytes() for f in store.path.parent.glob("feedback.db*"))
    assert b"zebras" not in left
    assert np.array(prompt, "<i4").tobytes() not in left


def test_a_correction_withdrawn_during_a_round_is_quoted_by_no_round(
    chat, store, toy, make, monkeypatch
):
    rate(chat, 4)
    *_, reply = chat.reply(chat.conversations.new(), "tell me about purple zebras")
    chat.ratings.correct(reply.message_id, "zebras hum quietly at noon")
    run = round_.run

    def withdrawn_meanwhile(*rest):
        [told] = chat.ratings.all("", "correction")
        chat.ratings.change(told, "withdrawn")
        return run(*rest)

    monkeypatch.setattr(round_, "run", withdrawn_meanwhile)
    worker = make()
    worker.run_round("asked")
    worker.close()
    store.close()
    left = b"".join(f.read_bytes() for f in store.path.parent.glob("feedback.db*"))
    assert b"zebras hum" not in left


def test_a_deleted_conversation_is_quoted_by_no_round(chat, store, make):
    rate(chat, 4)
    secret = chat.conversations.new()
    *_, reply = chat.reply(secret, "tell me about purple zebras")
    chat.ratings.correct(reply.message_id, "zebras hum quietly at noon")
    worker = make()
    worker.run_round("asked")

    def quotes() -> str:
        return str((worker.history.rounds()[0].verdict or {})["card"]["moved"])

    assert "zebras" in quotes()
    chat.conversations.delete(secret)
    assert "zebras" not in quotes() and "feedback.better" in quotes()


def test_where_nothing_counts_any_more_nothing_is_liked(chat, store, make):
    worker, told = make(), []
    for turn in range(6):
        told.append(say(chat, f"hello {turn}").message_id)
        chat.ratings.rate(told[-1], 1 if turn % 2 else -1)
    worker.run_round("asked")
    assert worker.history.feature_weights() and store.settings.get("feature_weights")
    for message_id in told:
        chat.ratings.rate(message_id, 0)
    worker.run_round("asked")
    assert worker.history.feature_weights() == [] and store.settings.get("feature_weights") == []


def test_a_conversation_deleted_while_it_is_read_is_left_out(chat, store, monkeypatch):
    kept, gone = say(chat, "hello"), say(chat, "tell me about the sea")
    for reply in (kept, gone):
        chat.ratings.rate(reply.message_id, 1)
    told = store.feedback.ratings()
    store.conversations.delete(store.messages.get(gone.message_id).conversation_id)
    monkeypatch.setattr(store.feedback, "ratings", lambda rater="": told)
    assert [one.id for one in take_snapshot(store).items] == [told[0].id]


def test_a_rater_set_aside_does_not_count_until_let_back(chat, store):
    store.feedback.add_rating(say(chat).message_id, 1, rater="visitor")
    raters = Raters(store)
    raters.set_aside("visitor")
    assert evidence_of(store) == ()
    raters.set_aside("visitor", False)
    assert len(evidence_of(store)) == 1


def test_more_ratings_are_one_more_look_and_the_same_ratings_are_none(chat, store, make):
    worker = make()

    def asked_for() -> float:
        return worker.history.rounds()[0].config["gate"]["passed_p"]

    rate(chat, 4)
    worker.run_round("asked")
    first = asked_for()
    worker.run_round("asked")
    assert asked_for() == first
    rate(chat, 4)
    worker.run_round("ratings")
    assert asked_for() == pytest.approx(first / 2**0.5)
    one = evidence_of(store)[0].id
    worker.run_round("retrain_without", exclude=lambda items: items.id == one)
    assert asked_for() == first


def test_a_parent_that_has_spent_the_whole_budget_still_learns(chat, store, toy, make):
    """It gives back a part of its distance first: a round that changes nothing is no round."""
    rate(chat, 8)
    worker, told = make(), []
    parent = nudged(toy, 1)
    config = tiny_round_config()
    target = config.provisional_kl * ppo.kl_target(8)

    def report(phase, done, step, numbers):
        told.append((phase, dict(numbers)))

    out = round_.run(
        take_snapshot(store), parent, worker.extractor, config, 0, report, lambda: None
    )
    kls = [numbers["kl"] for phase, numbers in told if phase == "ppo" and "loss" in numbers]
    assert kls and kls[0] < target
    toy.set_policy(parent)
    far = toy.policy_state()
    assert out.state is not None and any(not torch.equal(out.state[k], far[k]) for k in far)


def test_a_round_says_which_answers_moved_it_and_shows_before_and_after(chat, store, make):
    rate(chat, 8)
    worker = make()
    worker.run_round("asked")
    card = worker.history.rounds(1)[0].verdict["card"]
    assert 1 <= len(card["moved"]) <= 5 and len(card["examples"]) == 3
    rating, owed, where, *_ = card["moved"][0]
    assert rating["code"] == "feedback.better"
    assert abs(owed) == max(abs(x) for _, x, *_ in card["moved"])
    assert store.conversations.get(where).kind == "compare"
    for prompt, before, after in card["examples"]:
        assert prompt and isinstance(before, str) and isinstance(after, str)
    assert all(name and isinstance(change, float) for name, change, _ in card["changed"])


def test_a_real_model_practises_on_longer_replies_than_the_bundled_one(toy, monkeypatch):
    monkeypatch.setattr(toy, "name", "demo")
    assert config_for(toy) == RoundConfig()
    monkeypatch.setattr(toy, "name", "some/model")
    monkeypatch.setattr(toy, "context_tokens", 4096)
    assert config_for(toy).ppo.max_new_tokens == Workload().response > PPOConfig().max_new_tokens
    monkeypatch.setattr(toy, "context_tokens", 512)
    assert config_for(toy).ppo.max_new_tokens == 128  # room for what was asked


# ---- the day's backup --------------------------------------------------------------------------


def test_a_backup_is_made_while_there_is_nothing_to_do_also_with_learning_off(make, store):
    store.conversations.add()
    worker = make()
    worker._learns = False
    worker.step()
    folder = store.path.parent / "backups"
    assert len(list(folder.iterdir())) == 1
    worker.step()
    assert len(list(folder.iterdir())) == 1


def test_a_backup_that_fails_is_no_trouble_to_learning(make, store, monkeypatch):
    def full() -> bool:
        raise StoreError("The disk is full.")

    monkeypatch.setattr(store, "back_up", full)
    worker = make()
    assert worker.step() == "" and worker.status().error is None
