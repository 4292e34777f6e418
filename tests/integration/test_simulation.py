"""A simulated person: votes like a person, touches nothing of anybody else, and can be removed
whole. Left out: what is learned from it (bench/), the screen (test_ui.py, test_browser.py).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.compare import Compare
from rlhf_chat.db import Store
from rlhf_chat.errors import AppError
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.model import Model
from rlhf_chat.simulation.simulator import CUSTOM, SLIDERS, Simulation, mixed, people, taste
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.versions.adapter_store import AdapterStore
from rlhf_chat.versions.simulation_setting import answers_people
from tests.integration.test_worker import NEVER, rate, recipe, shelved, stored_vote  # noqa: F401

REPLIES = ("Yes.", "- one\n- two\n- three", "I am so happy to help you, friend! 😀 What else?")


@pytest.fixture
def chat(store: Store, toy: Model) -> Chat:
    chat = Chat(store, toy, Sampling(max_new_tokens=5))
    chat._rng = random.Random(0)  # no reply of the toy happens to end at once
    return chat


@pytest.fixture
def worker(store: Store, toy: Model, tmp_path: Path) -> Iterator[TrainingWorker]:
    worker = TrainingWorker(store, toy, AdapterStore(tmp_path / "adapters"), needed=NEVER, seed=1)
    yield worker
    worker.close()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def rows(store: Store) -> dict[str, list]:
    """Everything a person could miss."""
    return {
        "ratings": store.feedback.ratings(),
        "preferences": store.feedback.preferences(),
        "versions": store.adapter_versions.all(),
        "rounds": store.rounds.newest(),
        "live": [store.adapter_versions.live()],
        "pairs": [c.id for c in store.conversations.all("compare")],
    }


def test_everybody_who_can_be_chosen_has_a_taste():
    assert "lists" in people() and people()[-1] == CUSTOM
    for name in people():
        liking = taste(name, {"shorter": 1})
        assert all(isinstance(liking("hello", reply), (int, float)) for reply in REPLIES)
    with pytest.raises(AppError, match="no simulated rater"):
        taste("../../app", {})


@pytest.mark.parametrize(
    ("slider", "best"),
    [("shorter", 0), ("lists", 1), ("warmer", 2), ("emoji", 2), ("asks_back", 2)],
)
def test_a_slider_moves_the_liking_its_own_way(slider, best):
    values = [mixed({slider: 2})("hello", reply) for reply in REPLIES]
    assert values.index(max(values)) == best
    against = [mixed({slider: -2})("hello", reply) for reply in REPLIES]
    assert against == [-v for v in values] and set(SLIDERS) >= {slider}


def test_it_agrees_with_itself_about_four_times_in_five(chat, worker):
    person, rng = Simulation(Compare(chat), worker, seed=1), random.Random(2)
    differences = [rng.gauss(0, 3) for _ in range(3000)]
    right = sum((person._choice(d) == "a") == (d > 0) for d in differences)
    assert 0.7 < right / 3000 < 0.85 and person._choice(0) == "tie"


def test_it_leaves_nothing_behind_and_touches_nothing(chat, worker, store, toy, recipe):  # noqa: F811
    rate(chat, 2)
    shelved(worker, toy, 1)
    worker.recover()
    before = rows(store)
    person = Simulation(Compare(chat), worker, seed=1)
    person.start(CUSTOM, {"shorter": 2}, 600)
    assert toy.live.version == 0  # it begins at the base
    assert "already" in str(person.start(CUSTOM, {}, 10))
    wait_for(lambda: person.seen.votes >= 3)
    person.stop()
    assert store.feedback.count_since(0, "simulated:mix") == person.seen.votes
    assert rows(store)["preferences"] == before["preferences"] and worker.schedule.waiting() >= 3
    recipe.go.set()
    assert worker.run_round("ratings") == "promoted"
    assert {s.version.version: s.made_for for s in worker.leaderboard.standings()}[
        2
    ] == "simulated:mix"
    assert "comes back" in str(worker.delete(1))
    chat._load_view = worker.versions.view
    made = chat.conversations.new()
    list(chat.reply(made, "Hello"))
    assert (
        chat.conversations.history(made)[-1].adapter_version == 1
    )  # people's own, though 2 is live
    chat.conversations.delete(made)
    person.remove()
    assert rows(store) == before and toy.live.version == 1
    assert not worker.versions.adapter_store.path(2).exists() and worker.schedule.waiting() == 2
    assert worker.simulation.rater() == "" and "no simulation data" in str(person.remove())


def test_leaving_while_a_round_begins_leaves_nothing(
    chat,
    worker,
    store,
    toy,
    recipe,  # noqa: F811
    monkeypatch,
):
    worker.simulation.begin("simulated:mix")
    for _ in range(3):
        stored_vote(store, 0, 0, "a", rater="simulated:mix")
    leaving, open_round = threading.Thread(target=worker.simulation.end), store.rounds.open

    def opened(**row):
        leaving.start()
        time.sleep(0.1)
        return open_round(**row)

    monkeypatch.setattr(store.rounds, "open", opened)
    assert worker.run_round("ratings") == "stopped"
    leaving.join()
    assert (
        store.rounds.newest() == []
        and worker.schedule.waiting() == 0
        and worker.simulation.rater() == ""
    )
    assert toy.live.version == 0 and [v.version for v in store.adapter_versions.all()] == [0]


def test_a_round_of_the_persons_own_ends_before_somebody_else_is_heard(
    chat,
    worker,
    store,
    toy,
    recipe,  # noqa: F811
):
    rate(chat, 2)
    busy = threading.Thread(target=worker.run_round, args=["ratings"])
    busy.start()
    assert recipe.entered.wait(10)
    worker.simulation.begin("simulated:mix")
    busy.join()
    assert [done.status for done in store.rounds.newest()] == ["stopped"]
    assert worker.history.rounds()[0].trigger == "ratings" and toy.live.version == 0
    worker.simulation.end()
    assert worker.schedule.waiting() == 2


def test_after_a_restart_the_persons_own_version_answers(chat, worker, store, toy, recipe):  # noqa: F811
    shelved(worker, toy, 1)
    worker.recover()
    worker.simulation.begin("simulated:lists")
    recipe.go.set()
    worker.run_round("ratings")
    assert toy.live.version == 2
    again = TrainingWorker(store, toy, worker.versions.adapter_store, needed=NEVER)
    again.recover()
    assert toy.live.version == 1 and again.simulation.rater() == "simulated:lists"
    again.simulation.end()
    assert [v.version for v in store.adapter_versions.all()] == [0, 1]


def test_what_a_person_makes_live_meanwhile_answers_at_once_and_stays(worker, store, toy, recipe):  # noqa: F811
    def live() -> tuple[int, int | None]:
        return toy.live.version, answers_people(store, toy.base_hash)

    for version in (1, 2):
        shelved(worker, toy, version)
    worker.recover()
    worker.simulation.begin("simulated:lists")
    recipe.go.set()
    worker.run_round("ratings")
    assert live() == (3, 2)
    assert "simulation" in str(worker.versions.make_live(3))  # which goes with it
    assert worker.versions.make_live(0).code == "versions.live"
    assert live() == (3, 0)
    worker.versions.make_live(2)
    worker.versions.roll_back()
    assert live() == (3, 1)
    worker.simulation.end()
    assert toy.live.version == store.adapter_versions.live() == 1


def test_what_people_train_after_a_restart_answers_and_stays(chat, worker, store, toy, recipe):  # noqa: F811
    """What a simulation left in the database holds nothing back."""
    shelved(worker, toy, 1)
    worker.recover()
    worker.simulation.begin("simulated:lists")
    recipe.go.set()
    again = TrainingWorker(store, toy, worker.versions.adapter_store, needed=NEVER)
    again.recover()
    shelved(again, toy, 2)
    again.versions.serve_live()
    assert chat.people_live().version == toy.live.version == 2
    restarted = TrainingWorker(store, toy, worker.versions.adapter_store, needed=NEVER)
    restarted.recover()
    assert toy.live.version == store.adapter_versions.live() == 2
    restarted.simulation.end()
    assert toy.live.version == store.adapter_versions.live() == 2
    assert restarted.simulation.rater() == ""


def test_it_rests_while_a_round_learns(chat, worker, monkeypatch):
    from dataclasses import replace

    busy = replace(worker.status(), round_id=3)
    monkeypatch.setattr(worker, "status", lambda: busy)
    person = Simulation(Compare(chat), worker, seed=1)
    person.start(CUSTOM, {"shorter": 1}, 600)
    wait_for(lambda: person.seen.resting)
    person.stop()
    assert person.seen.votes == 0 and not person.seen.running


def test_a_person_that_breaks_off_says_so(chat, worker, monkeypatch):
    compare = Compare(chat)
    monkeypatch.setattr(compare, "suggest_prompt", lambda: 1 / 0)
    person = Simulation(compare, worker, seed=1)
    person.start(CUSTOM, {}, 600)
    wait_for(lambda: bool(person.seen.problem))
    assert "ZeroDivisionError" in str(person.seen.problem)


def test_it_ends_once_no_page_is_open(chat, worker, monkeypatch):
    monkeypatch.setattr("rlhf_chat.simulation.simulator.UNWATCHED", 0.3)
    person = Simulation(Compare(chat), worker, seed=1)
    person.start(CUSTOM, {"shorter": 1}, 600)
    for _ in range(10):
        person.watched()
        time.sleep(0.05)
        assert person.seen.running
    wait_for(lambda: not person.seen.running)
    assert str(person.seen.problem) == "The simulation stopped because no page was open."
