"""Ratings start a round only where and when the person wants it."""

from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from rlhf_chat.inference.lease import Lease
from rlhf_chat.training import round_conditions
from rlhf_chat.training.round_conditions import (
    CONDITIONS,
    Surroundings,
    possible,
    surroundings,
    unmet,
)

QUIET = Surroundings(idle_seconds=3600.0, hour=3, on_mains=True, others_bytes=0)
AGAINST = {
    "idle": replace(QUIET, idle_seconds=599.0),
    "night": replace(QUIET, hour=12),
    "mains": replace(QUIET, on_mains=False),
    "card": replace(QUIET, others_bytes=3 << 30),
}


def test_each_condition_waits_for_its_own_and_for_nothing_else() -> None:
    assert set(AGAINST) == set(CONDITIONS)
    for name, now in AGAINST.items():
        for size in range(len(CONDITIONS) + 1):
            for asked in combinations(CONDITIONS, size):
                assert unmet(asked, now) == ([name] if name in asked else [])


@pytest.mark.parametrize("hour, night", [(21, False), (22, True), (0, True), (6, True), (7, False)])
def test_the_night_passes_midnight(hour: int, night: bool) -> None:
    assert (unmet(["night"], replace(QUIET, hour=hour)) == []) == night


def test_a_machine_without_a_battery_is_on_mains(toy, monkeypatch) -> None:
    for battery, mains in ((None, True), (True, True), (False, False)):
        told = None if battery is None else SimpleNamespace(power_plugged=battery)
        monkeypatch.setattr(psutil, "sensors_battery", lambda told=told: told, raising=False)
        assert surroundings(toy).on_mains is mains
    monkeypatch.delattr(psutil, "sensors_battery", raising=False)
    assert surroundings(toy).on_mains


def test_only_what_this_machine_has_is_offered(toy, monkeypatch) -> None:
    for battery, offered in ((None, []), (SimpleNamespace(power_plugged=True), ["mains"])):
        monkeypatch.setattr(psutil, "sensors_battery", lambda told=battery: told, raising=False)
        assert possible(toy) == ["idle", "night", *offered]
        card: Any = SimpleNamespace(device=torch.device("cuda"))
        assert possible(card) == ["idle", "night", *offered, "card"]


def test_nobody_is_idle_during_a_reply() -> None:
    now = [100.0]
    lease = Lease(clock=lambda: now[0])
    now[0] += 50
    assert lease.idle_seconds == 50
    with lease.replying():
        now[0] += 50
        assert lease.idle_seconds == 0
    now[0] += 7
    assert lease.idle_seconds == 7


def test_what_other_programs_hold_is_what_this_one_does_not(monkeypatch) -> None:
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "mem_get_info", lambda device: (5 << 30, 12 << 30))
    monkeypatch.setattr(cuda, "memory_reserved", lambda device: 4 << 30)
    assert round_conditions._held_by_others(torch.device("cuda")) == 3 << 30
    assert round_conditions._held_by_others(torch.device("cpu")) == 0
