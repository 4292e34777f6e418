"""What a running simulation keeps in the database, so that people's version answers people."""

from __future__ import annotations

from typing import Any

from rlhf_chat.db import Store

# Its key: {"rater": ..., "before": version, "base": hash}, with "over": True once people's version
# is live again and only what the rater left is still there.
SETTING = "simulation"


def returns_to(store: Store) -> int | None:
    """The version that is made live again when the simulation ends; None without one."""
    left = _going_on(store)
    return int(left["before"]) if left else None


def answers_people(store: Store, base_hash: str) -> int | None:
    """The version of this base that answers people beside its simulation; None without one: under
    another base a simulation goes on later, and nothing of it is live."""
    left = _going_on(store)
    return int(left["before"]) if left and left.get("base") == base_hash else None


def return_to(store: Store, version: int) -> None:
    """Has a version answer people from now on, beside the simulation that is going on, and be made
    live again at its end."""
    store.settings.set(SETTING, {**store.settings.get(SETTING), "before": version})


def _going_on(store: Store) -> dict[str, Any] | None:
    left = store.settings.get(SETTING)
    return left if left and not left.get("over") else None
