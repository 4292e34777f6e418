"""A simulated rater who votes live, to show how learning works.

It has a hidden utility, either a file of tastes/ or a few sliders, and votes on two answers at a
time through the same calls as the screens, with noise like that of a real person. Its votes have
the rater name "simulated:...", train versions of their own from the base, and are removed with one
call.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rlhf_chat.chat.compare import Candidates, Compare
from rlhf_chat.db import SIMULATED as SIMULATED
from rlhf_chat.errors import AppError, Notice, Refused
from rlhf_chat.reward import text_features
from rlhf_chat.training.worker import TrainingWorker

log = logging.getLogger(__name__)

Utility = Callable[[str, str], float]

TASTES = Path(__file__).parent / "tastes"
CUSTOM = "custom"  # the rater whose taste is set by sliders
AGREEMENT = math.log(0.8 / 0.2)  # log-odds: a typical pair is voted right four times in five
KEPT = 400  # points of the curve
UNWATCHED = 120.0  # seconds without an open page; a browser lets hidden ones ask once a minute

# slider -> (text feature, weight of one step); a step is one standard deviation of base replies
SLIDERS: dict[str, tuple[tuple[str, float], ...]] = {
    "shorter": (("length", -2.0),),
    "warmer": (("warm words", 1.5), ("exclamation marks", 1.0)),
    "lists": (("lists", 1.2),),
    "emoji": (("emoji", 2.0),),
    "asks_back": (("ends by asking back", 1.5),),
}


@dataclass
class Seen:
    """The last vote of the simulated rater, and how its utility has moved."""

    rater: str = ""
    running: bool = False
    resting: bool = False  # a round is under way, so it waits
    votes: int = 0
    prompt: str = ""
    left: str = ""
    right: str = ""
    outcome: str = ""
    liking: list[tuple[int, float]] = field(default_factory=list)  # of replies, by vote
    problem: Notice | None = None


def people() -> list[str]:
    """Names of the simulated raters: the files of tastes/, and `CUSTOM`."""
    there = sorted(f.stem for f in TASTES.glob("*.py") if not f.stem.startswith("_"))
    return [*there, CUSTOM]


def taste(name: str, sliders: Mapping[str, float]) -> Utility:
    """The hidden utility of a simulated rater. Raises AppError for an unknown name."""
    if name == CUSTOM:
        return mixed(sliders)
    if name not in people():
        raise AppError("simulation.unknown_rater", name=name)
    spec = importlib.util.spec_from_file_location(f"person_{name}", TASTES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    utility: Utility = module.utility
    return utility


def mixed(sliders: Mapping[str, float]) -> Utility:
    """A utility from sliders, -2 to 2 each."""
    weights = [
        (text_features.NAMES.index(measure), weight * float(sliders.get(slider, 0)))
        for slider, parts in SLIDERS.items()
        for measure, weight in parts
    ]

    def utility(prompt: str, reply: str) -> float:
        measured = text_features.measure(prompt, reply)
        return float(sum(weight * measured[at] for at, weight in weights))

    return utility


class Simulation:
    """One simulated rater at a time, in a thread of its own."""

    def __init__(self, compare: Compare, worker: TrainingWorker, seed: int | None = None) -> None:
        self.compare, self.worker = compare, worker
        self.seen = Seen()
        self._rng = random.Random(seed)
        self._pause = 2.0  # seconds between votes
        self._watched_at = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._sizes: deque[float] = deque(maxlen=60)  # recent differences, to set the noise by
        self._lock = threading.Lock()

    def start(self, name: str, sliders: Mapping[str, float], votes_per_minute: float) -> Notice:
        """Starts from the base, after the data of an earlier simulation is removed."""
        with self._lock:
            if self.seen.running:
                return Refused("simulation.already_running")
            utility = taste(name, sliders)
            rater = SIMULATED + ("mix" if name == CUSTOM else name)
            self.worker.simulation.begin(rater)
            self.seen = Seen(rater=rater, running=True)
            self._sizes.clear()
            self.watched()
            self.set_speed(votes_per_minute)
            self._stop.clear()
            self._thread = threading.Thread(
                target=self._live, args=[utility], name="simulated rater", daemon=True
            )
            self._thread.start()
        return Notice("simulation.started")

    def set_speed(self, votes_per_minute: float) -> None:
        self._pause = 60 / min(600.0, max(1.0, float(votes_per_minute)))

    def watched(self) -> None:
        """A page is open. Without one for `UNWATCHED` seconds the simulation stops."""
        self._watched_at = time.monotonic()

    def stop(self) -> Notice:
        """Ends voting; votes and versions stay."""
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=60)
        self.seen.running = False
        return Notice("simulation.stopped")

    def remove(self) -> Notice:
        """Deletes all simulation data and makes the version live that was so before."""
        with self._lock:
            if not self.seen.running and not self.worker.simulation.rater():
                return Refused("simulation.nothing_to_remove")
            self.stop()
            self.worker.simulation.end()
            self.seen = Seen()
        return Notice("simulation.removed")

    # ------------------------------------------------------------------ voting

    def _live(self, utility: Utility) -> None:
        try:
            while not self._stop.is_set():
                began = time.monotonic()
                if began - self._watched_at > UNWATCHED:
                    self.seen.problem = Notice("simulation.unwatched")
                    break
                self.seen.resting = self.worker.status().round_id is not None
                if self.seen.resting:
                    self._stop.wait(0.5)
                    continue
                self._vote(utility)
                self._stop.wait(max(0.0, self._pause - (time.monotonic() - began)))
        except Exception as error:
            log.exception("the simulated rater failed")
            self.seen.problem = Notice("simulation.failed", {"error": type(error).__name__})
        finally:
            self.seen.running = self.seen.resting = False

    def _vote(self, utility: Utility) -> None:
        prompt = self.compare.suggest_prompt()
        pair: Candidates | None = None
        for pair in self.compare.write(prompt, stop=self._stop, simulated=True):
            self.seen.prompt, self.seen.outcome = prompt, ""
            self.seen.left, self.seen.right = pair.texts
        if pair is None or not pair.votable or pair.set_id is None:
            return
        liked = [utility(prompt, text) for text in pair.texts]
        outcome = self._choice(liked[0] - liked[1])
        result = self.compare.vote(pair.set_id, outcome, rater=self.seen.rater)
        self.worker.wake()
        self.seen.outcome, self.seen.votes = outcome, self.seen.votes + 1
        live = max(result.versions)
        mine = [value for value, by in zip(liked, result.versions, strict=True) if by == live]
        curve = [*self.seen.liking, (self.seen.votes, sum(mine) / len(mine))]
        self.seen.liking = curve[-KEPT:]

    def _choice(self, difference: float) -> str:
        """The better one, as often as people agree with themselves: Bradley-Terry noise."""
        if difference == 0:
            return "tie"
        self._sizes.append(abs(difference))
        typical = sum(self._sizes) / len(self._sizes)
        chance = 0.5 * (1 + math.tanh(0.5 * AGREEMENT * difference / typical))
        return "a" if self._rng.random() < chance else "b"
