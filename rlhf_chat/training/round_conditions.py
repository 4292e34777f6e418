"""When ratings may start a round: at any time, or only while nobody chats, at night, on mains
power, or while no other program uses the graphics card. A round that a person asks for waits for
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from rlhf_chat.inference.model import Model

IDLE, NIGHT, MAINS, CARD = "idle", "night", "mains", "card"
CONDITIONS = (IDLE, NIGHT, MAINS, CARD)

IDLE_SECONDS = 600.0  # without a reply
NIGHT_BEGINS, NIGHT_ENDS = 22, 7  # hours of the local clock
OTHERS_BYTES = 2 << 30  # of the card's memory; a desktop holds up to about 1 GiB


def possible(model: Model) -> list[str]:
    """Those of `CONDITIONS` that mean something on this machine: no mains power without a battery,
    and no graphics card where the model is on the processor."""
    here = {MAINS: _battery() is not None, CARD: model.device.type == "cuda"}
    return [name for name in CONDITIONS if here.get(name, True)]


@dataclass(frozen=True)
class Surroundings:
    idle_seconds: float  # since the last reply ended; 0 during one
    hour: int  # 0..23, local
    on_mains: bool  # also where that is not known
    others_bytes: int  # of the graphics card's memory that other programs hold


def surroundings(model: Model) -> Surroundings:
    """As they are now."""
    battery = _battery()
    return Surroundings(
        idle_seconds=model.lease.idle_seconds,
        hour=time.localtime().tm_hour,
        on_mains=battery is None or battery.power_plugged is not False,
        others_bytes=_held_by_others(model.device),
    )


def unmet(conditions: Collection[str], now: Surroundings) -> list[str]:
    """Those of `conditions` that do not hold, in the order of CONDITIONS."""
    night = now.hour >= NIGHT_BEGINS or now.hour < NIGHT_ENDS
    met = {
        IDLE: now.idle_seconds >= IDLE_SECONDS,
        NIGHT: night,
        MAINS: now.on_mains,
        CARD: now.others_bytes <= OTHERS_BYTES,
    }
    return [name for name in CONDITIONS if name in conditions and not met[name]]


def _battery() -> Any:
    return psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None


def _held_by_others(device: torch.device) -> int:
    """Bytes; what this process holds outside PyTorch's allocator counts as others'."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return max(total - free - torch.cuda.memory_reserved(device), 0)
