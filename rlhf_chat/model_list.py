"""`rlhf-chat models`: the presets, and the models that this and other programs hold here."""

from __future__ import annotations

import json

from rlhf_chat.inference import local_models, presets, pull
from rlhf_chat.inference.memory_estimate import GIB


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
        print(json.dumps({"presets": known, "local": held}, indent=1))
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
