"""What training is doing: the one state that every screen, the API and the command line draw from.

Facts go in, a state and its sentence come out. Nothing is read here, no clock and no table, so that
no two places can disagree about the same moment.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_chat.errors import Notice

OFF, PAUSED, TRAINING = "off", "paused", "training"
FAILED, STOPPED, READY, WAITING = "failed", "stopped", "ready", "waiting"
STATES = (OFF, PAUSED, TRAINING, FAILED, STOPPED, READY, WAITING)
PHASES = ("features", "reward head", "rollouts", "ppo", "gate", "publishing")  # of a round

CRASHED = "crashed"  # the app ended twice in the same round


@dataclass(frozen=True)
class Status:
    waiting: int  # ratings since the last round, by whom the next one learns from
    needed: int  # so many of them start a round
    next_round: int  # the number it will have
    live_version: int
    live_tier: str
    newest_version: int = 0  # 0 while there is none but the base
    off: Notice | None = None  # why no round is ever run
    paused: bool = False
    asked: bool = False  # a round was asked for and begins in a moment
    held: str = ""  # how the last round ended if only a new rating or a request starts another
    awaits: str = ""  # the first of round_conditions.CONDITIONS that ratings alone wait for
    error: Notice | None = None
    simulated: bool = False  # learns from a simulated rater, not from people
    own: int = 0  # ratings by people since their last round; `waiting` unless simulated
    # of the running round
    round_id: int | None = None
    phase: str = ""  # one of PHASES
    progress: float = 0.0  # 0..1, share of its time
    seconds_left: float | None = None  # None before anything was measured
    gives_way: bool = False  # it waits for chat

    @property
    def state(self) -> str:
        """One of STATES."""
        if self.error:
            return FAILED
        if self.round_id is not None:
            return PAUSED if self.paused else TRAINING
        if self.off:
            return OFF
        if self.paused:
            return PAUSED
        if self.asked:
            return READY
        if self.held:
            return STOPPED if self.held == STOPPED else FAILED
        return WAITING if self.missing else READY

    @property
    def situation(self) -> str:
        """Another one once what an action said of the state is no longer true."""
        some = min(self.waiting, 1)
        return f"{self.state} {self.round_id} {self.next_round} {self.live_version} {some}"

    @property
    def missing(self) -> int:
        """Ratings until a round starts by itself."""
        return max(self.needed - self.waiting, 0)

    @property
    def share(self) -> float:
        """How far the round is or, without one, the ratings for it: 0..1."""
        if self.round_id is not None:
            return min(max(self.progress, 0.0), 1.0)
        return min(self.waiting / max(self.needed, 1), 1.0)

    @property
    def name(self) -> Notice:
        """The state in two or three words."""
        return Notice(f"state.name_{self.state}")

    @property
    def count(self) -> Notice:
        """What `share` counts, in few words."""
        if self.round_id is not None:
            return Notice("state.percent", {"share": self.share})
        if self.waiting > self.needed:  # "15 of 12" would be read as an error
            return Notice("state.many", {"count": self.waiting})
        return Notice("state.of_needed", {"count": self.waiting, "needed": self.needed})

    @property
    def sentence(self) -> Notice:
        """The state as it is told everywhere."""
        if self.round_id is not None and not self.error:
            return self._of_the_round()
        counted = self._counted()
        match self.state:
            case "failed":
                problem = self.error or Notice(f"state.held_{self.held}")
                return Notice("state.problem", {"problem": problem, "counted": counted})
            case "off":
                return Notice("state.problem", {"problem": self.off, "counted": counted})
            case "paused" | "stopped":
                return Notice(f"state.{self.state}", {"counted": counted})
            case "ready" if self.asked:
                return Notice("state.asked", {"number": self.next_round})
        return counted

    @property
    def sentence_for_people(self) -> Notice:
        """The same for who has just rated. Beside a simulation people's ratings wait."""
        if self.simulated:
            return Notice("state.simulated", {"count": self.own})
        return self.sentence

    def _counted(self) -> Notice:
        """The ratings that there are, and what the next ones start."""
        given = {"count": self.waiting, "needed": self.needed, "number": self.next_round}
        if self.off or self.paused:
            return Notice("state.kept", given)
        if self.missing:
            return Notice("state.counted", {**given, "missing": self.missing})
        if self.awaits and not self.held:
            return Notice(f"state.awaits_{self.awaits}", given)
        return Notice("state.held" if self.held else "state.ready", given)

    def _of_the_round(self) -> Notice:
        phase = Notice(f"phase.{self.phase.replace(' ', '_')}")
        told = {
            "number": self.round_id,
            "next": self.next_round,
            "share": self.share,
            "phase": Notice("phase.gives_way", {"phase": phase}) if self.gives_way else phase,
        }
        if self.paused:
            return Notice("state.paused_round", told)
        if self.seconds_left is None:
            return Notice("state.training", told)
        return Notice("state.training_left", {**told, "left": time_left(self.seconds_left)})


def time_left(seconds: float) -> Notice:
    if seconds < 90:
        return Notice("time.seconds_left", {"count": max(1, round(seconds))})
    return Notice("time.minutes_left", {"count": round(seconds / 60)})
