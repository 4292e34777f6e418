"""`rlhf-chat train`: one round now, its progress on stderr."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from rlhf_chat.commands.flags import (
    Run,
    add_data,
    add_json,
    add_model,
    add_quantization,
)
from rlhf_chat.json_output import print_json

ENDED = ("promoted", "discarded")


def train(parser: argparse.ArgumentParser) -> Run:
    """run one round of training now"""
    add_model(parser)
    add_quantization(parser)
    add_data(parser)
    add_json(parser)

    def run(args: argparse.Namespace) -> int:
        from rlhf_chat.session import open_session

        with open_session(args.data, args.model, args.quantization, make=False) as session:
            ended = session.train(Progress())
        if args.json:
            print_json(ended)
        else:
            print(f"Round {ended['round']}, {ended['status']}: {ended['reason']}")
        return 0 if ended["status"] in ENDED else 1

    return run


class Progress:
    """A line on stderr whenever the phase or its tens of percent change."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, state: dict[str, Any]) -> None:
        if state["round"] is None:
            return
        line = f"{state['phase']} {int(state['progress'] * 10) * 10}%"
        if line != self._last:
            print(line, file=sys.stderr, flush=True)
        self._last = line
