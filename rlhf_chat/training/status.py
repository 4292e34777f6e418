"""What the training worker is doing, as the screens read it."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_chat.errors import Notice


@dataclass(frozen=True)
class Status:
    phase: str  # idle, crashed, paused, off, or a phase of the round
    gives_way: bool  # the round waits for chat
    round_id: int | None
    progress: float  # 0..1 of the running round
    seconds_left: float | None  # of the running round; None before anything was measured
    waiting: int  # new ratings since the last round
    needed: int
    paused: bool
    live_version: int
    live_tier: str
    error: Notice | None
