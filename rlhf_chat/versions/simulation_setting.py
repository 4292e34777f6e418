"""What a running simulation keeps in the database, so that people's version answers people."""

from __future__ import annotations

from rlhf_chat.db import Store

SETTING = "simulation"  # its key: {"rater": ..., "before": version, "base": hash}


def returns_to(store: Store) -> int | None:
    """The version that is made live again when the simulation ends; None without one."""
    left = store.settings.get(SETTING)
    return int(left["before"]) if left else None


def answers_people(store: Store, base_hash: str) -> int | None:
    """The version of this base that answers people beside its simulation; None without one: under
    another base a simulation goes on later, and nothing of it is live."""
    left = store.settings.get(SETTING)
    return int(left["before"]) if left and left.get("base") == base_hash else None
