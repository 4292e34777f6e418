"""Another start of the app with another model, asked for on the screen.

Versions, caches and half of a graphics card's memory belong to one base model, so another one is
not swapped in: the app ends in order, and its process is replaced by a new start (cli.py). That has
the same port and token, so that an open page finds it and stays let in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

TOKEN, FALLBACK = "RLHF_CHAT_TOKEN", "RLHF_CHAT_FALLBACK"
POSSIBLE = os.name == "posix"  # elsewhere exec makes a second process beside the terminal's


class Restart:
    """What the running app was asked to start with; noted on one thread, read on another."""

    def __init__(self) -> None:
        self.model = ""  # "": nothing was asked for

    def ask(self, model: str) -> None:
        self.model = model


@dataclass(frozen=True)
class NextStart:
    """How this program starts anew: with the same arguments, but for the model."""

    model: str  # "": the one that a start without --model takes
    token: str  # of the open page
    fallback: str | None = None  # the model to go back to where this one cannot be started

    def replace_process(self) -> None:
        """Does not return. Everything must be closed: no handler of `atexit` runs."""
        os.environ[TOKEN] = self.token
        if self.fallback is not None:
            os.environ[FALLBACK] = self.fallback
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *with_model(sys.orig_argv[1:], self.model)])


def with_model(arguments: Sequence[str], model: str) -> list[str]:
    """The last --model of a command line counts; those before it go, so that it does not grow."""
    kept, skip = [], False
    for argument in arguments:
        if skip or argument.startswith("--model="):
            skip = False
        elif argument == "--model":
            skip = True
        else:
            kept.append(argument)
    return [*kept, f"--model={model}"] if model else kept


def taken_over() -> tuple[str, str | None]:
    """(token, fallback) of what the app that was here before left; ("", None) if there was none."""
    return os.environ.pop(TOKEN, ""), os.environ.pop(FALLBACK, None)
