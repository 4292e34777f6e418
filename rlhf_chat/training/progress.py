"""How far a round is and how long it still takes, from the measured durations of its work.

A plan lists the phases of a round with the seconds each is expected to take; only their ratios
matter. Every batch reports the share of its phase that is done. Measured time then corrects the
expectation, of that phase and, less, of all others, so that an estimate exists from the first batch
on. Seconds in, seconds out: no clock is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

PRIOR_SHARE = 0.02  # of the whole plan: how much work must be measured to trust a phase's own speed
LEAST_SHARE = 0.002  # of the whole plan: of less work the time says nothing about a speed

Stage = Mapping[str, float]  # phases that take turns -> expected seconds of each


@dataclass
class _Phase:
    expected: float  # seconds by the plan
    stage: int
    done: float = 0.0  # share, 0..1
    spent: float = 0.0  # seconds measured


class Progress:
    """Progress of one round. Stages follow one another; the phases of a stage may take turns."""

    def __init__(
        self,
        plan: Sequence[Stage],
        now: float,
        speed: Mapping[str, float] | None = None,
        least: Mapping[str, float] | None = None,
    ) -> None:
        """`now`: seconds on any monotonic clock. `speed`: measured seconds per planned second by
        phase, as `speeds` of an earlier round gave it. `least`: shares, 0..1, of phases that are
        done however late the round is; all of those that are not named."""
        self._phases = {
            name: _Phase(max(expected, 1e-6), number)
            for number, stage in enumerate(plan)
            for name, expected in stage.items()
        }
        self._prior = dict(speed or {})
        self._least = dict(least or {})
        self._started = self._last = now
        self._current = ""
        self._fraction = 0.0
        self._most: float | None = None

    def update(self, phase: str, done: float, now: float, most: float | None = None) -> None:
        """`done`: share of this phase's work that is done by now. The time since the last call
        counts for the phase that was named then, at first for this one. Naming a phase of a later
        stage ends the earlier stages, also where they had planned more work. `most`: seconds after
        which the round ends, with less work than was planned if need be."""
        self._most = most
        worked = self._current or phase
        if worked in self._phases:
            self._phases[worked].spent += now - self._last
        self._current, self._last = phase, now
        known = self._phases.get(phase)
        if known:
            known.done = min(max(known.done, done), 1.0)
            for other in self._phases.values():
                if other.stage < known.stage and other.done < 1:
                    other.expected = max(other.expected * other.done, 1e-6)
                    other.done = 1.0
        left = self._left()
        if left is not None:
            elapsed = now - self._started
            self._fraction = max(self._fraction, elapsed / max(elapsed + left, 1e-9))

    @property
    def fraction(self) -> float:
        """Share of the round's time that has passed, 0..1; never falls."""
        return self._fraction

    def seconds_left(self, now: float) -> float | None:
        """None before anything was measured, in this round or an earlier one."""
        left = self._left()
        return None if left is None else max(left - (now - self._last), 0.0)

    def speeds(self) -> dict[str, float]:
        """Measured seconds per planned second of each phase that had work to speak of."""
        least = LEAST_SHARE * sum(p.expected for p in self._phases.values())
        return {
            name: phase.spent / (phase.done * phase.expected)
            for name, phase in self._phases.items()
            if phase.done * phase.expected > least and phase.spent > 0
        }

    def _mean_before(self) -> float:
        """Of the earlier round's speeds, each by how much work of its phase is planned now."""
        known = [(self._phases[n], s) for n, s in self._prior.items() if n in self._phases]
        planned = sum(phase.expected for phase, _ in known)
        return sum(phase.expected * speed for phase, speed in known) / planned if planned else 1.0

    def _left(self) -> float | None:
        """Seconds left as of the last update: of the work, or until the round ends without the rest
        of it, but no less than what is done anyway."""
        phases = self._phases.values()
        worked = sum(p.done * p.expected for p in phases)
        spent = sum(p.spent for p in phases if p.done > 0)
        if not self._prior and not (worked > 0 and spent > 0):
            return None
        weight = PRIOR_SHARE * sum(p.expected for p in phases)
        mean = self._mean_before()
        overall = (spent + weight * mean) / (worked + weight) if self._prior else spent / worked
        left = anyway = 0.0
        for name, phase in self._phases.items():
            before = self._prior.get(name, overall)
            measured = phase.spent if phase.done > 0 else 0.0
            speed = (measured + weight * before) / (phase.done * phase.expected + weight)
            left += (1 - phase.done) * phase.expected * speed
            share = max(self._least.get(name, 1.0) - phase.done, 0.0)
            anyway += share * phase.expected * speed
        return left if self._most is None else max(min(left, self._most), anyway)


class CountedCheck:
    """A check that also reports progress: the n-th call of `expected` ones reports n / expected, at
    most .95, since the number of calls is a guess."""

    def __init__(
        self, check: Callable[[], None], advance: Callable[[float], None], expected: float
    ) -> None:
        self._check, self._advance, self._expected = check, advance, max(expected, 1.0)
        self.calls = 0

    def __call__(self) -> None:
        self._check()
        self.calls += 1
        self._advance(min(self.calls / self._expected, 0.95))


def within(advance: Callable[[float], None], low: float, high: float) -> Callable[[float], None]:
    """`advance` for a part of the work: 0..1 of the part is `low`..`high` of the whole."""
    return lambda share: advance(low + (high - low) * share)
