"""What training is doing and how its last round ended, as plain values for programs."""

from __future__ import annotations

from typing import Any

from rlhf_chat.errors import from_stored
from rlhf_chat.training.history import TrainingHistory
from rlhf_chat.training.status import Status


def progress(status: Status) -> dict[str, Any]:
    return {
        "state": status.state,
        "phase": status.phase,
        "round": status.round_id,
        "progress": round(status.progress, 3),
        "seconds_left": status.seconds_left,
        "waiting": status.waiting,
        "needed": status.needed,
        "missing": status.missing,
        "live": status.live_version,
        "error": str(status.error) if status.error else None,
        "told": str(status.sentence),
    }


def last_round(history: TrainingHistory) -> dict[str, Any] | None:
    """The newest round that has ended."""
    ended = [one for one in history.rounds() if one.status != "running"]
    if not ended:
        return None
    newest = max(ended, key=lambda one: one.id)
    return {
        "round": newest.id,
        "status": newest.status,
        "version": newest.version,
        "reason": str(from_stored(newest.reason)),
    }
