"""A simulated rater: a hidden utility, and noisy feedback of every kind that follows from it.

Votes are Bradley-Terry noisy, scaled so that one vote agrees with the truth about 80% of the time.
The utilities are in rlhf_chat/simulation/tastes/.
"""

from __future__ import annotations

import importlib.util
import math
import random
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Utility = Callable[[str, str], float]  # of a reply to a prompt

AGREEMENT = 0.80  # how often one vote agrees with the truth
STAR_CUTS = (-2.0, -0.7, 0.7, 2.0)  # noisy margins over the average reply at which stars change
EDIT_STEPS = 3  # changes a person makes to one reply
SENTENCE = re.compile(r"[^.!?\n]+[.!?]*\s*|\n")
EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf\u2b50]")


def load_utility(spec: str) -> Utility:
    """FILE.py:FUNCTION -> the function. Raises SystemExit with one sentence."""
    file, _, name = spec.partition(":")
    path = Path(file)
    if not path.is_file() or not name:
        raise SystemExit(f"--utility wants FILE.py:FUNCTION, and there is no such file: {spec}")
    sys.path.insert(0, str(Path.cwd()))
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    assert module_spec and module_spec.loader
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    if not hasattr(module, name):
        raise SystemExit(f"{file} has no function {name}.")
    return getattr(module, name)


@dataclass
class Person:
    """Votes by a hidden utility with Bradley-Terry noise of a fixed scale."""

    utility: Utility
    scale: float
    middle: float  # utility of an average reply: what a thumb compares with
    rng: random.Random
    flip: float = 0.0  # share of answers turned round on top of the noise
    name: str = "me"

    def vote(self, prompt: str, left: str, right: str) -> str:
        difference = self.scale * (self.utility(prompt, left) - self.utility(prompt, right))
        if difference == 0:
            return "tie"
        return "a" if (self.rng.random() < _sigmoid(difference)) != self._flips() else "b"

    def thumb(self, prompt: str, reply: str) -> int:
        up = self.rng.random() < _sigmoid(self._margin(prompt, reply))
        return 1 if up != self._flips() else -1

    def stars(self, prompt: str, reply: str) -> int:
        noisy = self._margin(prompt, reply) + self._logistic()
        given = 1 + sum(noisy > cut for cut in STAR_CUTS)
        return 6 - given if self._flips() else given

    def places(self, prompt: str, replies: Sequence[str]) -> list[int]:
        """A Plackett-Luce ranking: noisy worths in order."""
        worth = [self._margin(prompt, r) - math.log(-math.log(self.rng.random())) for r in replies]
        order = [sum(other > mine for other in worth) for mine in worth]
        return [len(order) - 1 - p for p in order] if self._flips() else order

    def edited(self, prompt: str, reply: str, others: Sequence[str]) -> str:
        """This rater's correction of a reply: the best small edit, a few times, without noise."""
        text = reply
        for _ in range(EDIT_STEPS):
            tries = [text, *changes(text, others)]
            best = max(tries, key=lambda t: self.utility(prompt, t))
            if self.utility(prompt, best) <= self.utility(prompt, text):
                break
            text = best
        return text

    def _margin(self, prompt: str, reply: str) -> float:
        return self.scale * (self.utility(prompt, reply) - self.middle)

    def _logistic(self) -> float:
        u = min(max(self.rng.random(), 1e-12), 1 - 1e-12)
        return math.log(u / (1 - u))

    def _flips(self) -> bool:
        return self.flip > 0 and self.rng.random() < self.flip


def changes(text: str, others: Sequence[str]) -> list[str]:
    """Small edits: a sentence removed or taken from another draft, emoji or full stops changed."""
    parts = SENTENCE.findall(text)
    found = ["".join(parts[:i] + parts[i + 1 :]).strip() for i in range(len(parts))]
    for other in others:
        for sentence in SENTENCE.findall(other):
            if sentence.strip() and sentence.strip() not in text:
                glue = "\n" if sentence.lstrip().startswith(("-", "*")) else " "
                found += [text.rstrip() + glue + sentence.strip(), sentence.strip() + glue + text]
    bare = EMOJI.sub("", text).rstrip()
    found += [bare, bare + " 😊", text.replace("!", "."), text.replace(".", "!", 1)]
    return [t for t in found if t.strip()]


def noise_scale(differences: Sequence[float]) -> float:
    """The factor k for which sigmoid(k |d|) is AGREEMENT on average over differing pairs."""
    d = np.abs([x for x in differences if x != 0])
    if not len(d):
        return 1.0
    low, high = 1e-4, 1e4
    for _ in range(60):
        middle = math.sqrt(low * high)
        agreement = float(np.mean(0.5 * (1 + np.tanh(0.5 * middle * d))))
        low, high = (middle, high) if agreement < AGREEMENT else (low, middle)
    return low


def _sigmoid(x: float) -> float:
    return 0.5 * (1 + math.tanh(0.5 * x))
