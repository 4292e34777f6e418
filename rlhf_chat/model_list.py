"""The presets, and the models that this and other programs hold here: for `rlhf-chat models`, and
for the settings, with what each takes and whether it fits.
"""

from __future__ import annotations

import logging
import shlex
from dataclasses import dataclass, replace
from typing import Any

import torch

from rlhf_chat.inference import loading, local_models, memory, presets, pull
from rlhf_chat.inference.memory_estimate import COMFORTABLE, GIB, predict
from rlhf_chat.json_output import print_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelChoice:
    """A model that could be started. `name` is what --model takes."""

    name: str
    about: str  # its hub id, or the program that keeps it
    here: bool  # else it is downloaded first
    needs: int | None  # bytes of memory to chat and train in 4 bits; None: not known
    fits: bool | None  # None: not known

    @property
    def command(self) -> str:
        return f"rlhf-chat --model {shlex.quote(self.name)}"


def choices() -> list[ModelChoice]:
    """The bundled model, the presets, then what other programs hold. Reads files and predicts
    memory, which takes seconds the first time."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    free = memory.free(device)
    workload = replace(COMFORTABLE, on_cpu=device.type == "cpu")

    def choice(name: str, about: str, here: bool, config: Any) -> ModelChoice:
        needs = _needs(config, workload)
        return ModelChoice(name, about, here, needs, None if needs is None else needs <= free)

    known = [
        choice(p.name, p.hub, pull.is_here(p.name), p.config()) for p in presets.BY_NAME.values()
    ]
    held = [
        choice(m.name, m.holder, True, _config(m.name))
        for m in local_models.found()
        if m.name not in presets.BY_HUB
    ]
    return [choice("demo", "", True, _config("demo")), *known, *held]


def _config(name: str) -> Any:
    """None where it cannot be read: the list is shown all the same."""
    try:
        return loading.configuration(name)
    except Exception as error:
        log.info("no configuration of %s: %s", name, error)
        return None


def _needs(config: Any, workload: Any) -> int | None:
    if config is None:
        return None
    try:
        return predict(config, "nf4", workload).total
    except Exception as error:  # transformers raises many kinds
        log.info("no prediction: %s", error)
        return None


def report(*, as_json: bool) -> int:
    """Prints the lists; returns the exit code."""
    known = [
        {
            "name": preset.name,
            "model": preset.hub,
            "billions": preset.billions,
            "licence": preset.licence,
            "here": pull.is_here(preset.name),
            "needs_bytes": presets.need(preset, "nf4").total,
        }
        for preset in presets.BY_NAME.values()
    ]
    held = [vars(model) for model in local_models.found()]
    if as_json:
        print_json({"presets": known, "local": held})
        return 0
    print("Presets (--model NAME; fetch one with rlhf-chat pull NAME):")
    for row in known:
        place = "here" if row["here"] else ""
        need = f"{row['needs_bytes'] / GIB:.1f} GiB"  # type: ignore[operator]
        print(f"  {row['name']:8} {row['model']:38} {row['billions']:5g}B {need:>9}  {place}")
    print("  demo     the bundled model, always here")
    print("\nOn this machine already (--model NAME):" if held else "\nNo other model was found.")
    for model in local_models.found():
        print(f"  {model.name}  {model.size / GIB:.1f} GiB, {model.holder}")
    return 0
