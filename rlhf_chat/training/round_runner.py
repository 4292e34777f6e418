"""A round from row to row: opened in the database, run, and closed with its outcome.

What goes wrong inside a round ends that round and nothing else: its row is closed with the reason,
the candidate is dropped, and the live version stays. When a round starts is up to worker.py.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from rlhf_chat import faults
from rlhf_chat.db import Store
from rlhf_chat.errors import (
    AppError,
    Notice,
    NumericError,
    StoreError,
    disk_is_full,
    memory_is_short,
)
from rlhf_chat.feedback.item import FeedbackItem
from rlhf_chat.feedback.kinds.correction import Correction
from rlhf_chat.feedback.snapshot import Snapshot, load_snapshot
from rlhf_chat.inference import memory
from rlhf_chat.reward.features import FeatureExtractor
from rlhf_chat.training import training_round
from rlhf_chat.training.context import Check, RoundConfig
from rlhf_chat.training.event_log import RoundLog
from rlhf_chat.training.gate import GateConfig
from rlhf_chat.training.history import TrainingHistory
from rlhf_chat.training.progress import Progress
from rlhf_chat.training.round_control import Stopped
from rlhf_chat.training.round_cost import Speed
from rlhf_chat.training.time_budget import MIN_UPDATES, TimeBudget
from rlhf_chat.versions import provenance
from rlhf_chat.versions.registry import VersionRegistry

log = logging.getLogger(__name__)

LOCK_PATIENCE = 60.0  # seconds for which a round waits while another program locks the database
Exclude = Callable[[FeedbackItem], bool]
Clock = Callable[[], float]


@dataclass(frozen=True)
class RoundState:
    """An open round: everything that is fixed before its first slice of compute."""

    round_id: int
    rater: str  # the simulated rater whose feedback it uses; "" for people
    parent: int  # adapter version
    live: int  # adapter version that was live when the round was opened
    seed: int
    snapshot: Snapshot
    config: RoundConfig


@dataclass(frozen=True)
class RoundEnd:
    status: str  # promoted, discarded, stopped or failed
    fatal: BaseException | None = None  # what failed it, where that is no Exception


class RoundMonitor:
    """The running round as others see it: phase, progress and time left. Stores its metrics."""

    def __init__(self, store: Store, round_id: int, log: RoundLog | None = None) -> None:
        """`log`: gets the metrics, too."""
        self.store, self.round_id, self.log = store, round_id, log
        self.phase = "features"
        self.progress: Progress | None = None
        self.budget: TimeBudget | None = None
        self.error: Notice | None = None  # why the round failed, from before its row is closed

    def report(self, phase: str, done: float, step: int, numbers: Mapping[str, float]) -> None:
        """See `training.context.Report`."""
        self.phase = phase
        if self.progress:
            most = self.budget.seconds_left if self.budget else None
            self.progress.update(phase, done, time.monotonic(), most)
        if numbers:
            self.store.rounds.add_metrics(self.round_id, step, dict(numbers))
            if self.log:
                self.log.add(step, numbers)

    def close(self) -> None:
        if self.log:
            self.log.close()

    @property
    def fraction(self) -> float:
        return self.progress.fraction if self.progress else 0.0

    @property
    def seconds_left(self) -> float | None:
        return self.progress.seconds_left(time.monotonic()) if self.progress else None


class RoundRunner:
    def __init__(
        self,
        versions: VersionRegistry,
        extractor: FeatureExtractor,
        history: TrainingHistory,
        seed: int | None = None,
    ) -> None:
        self.store, self.model = versions.store, versions.model
        self.versions, self.extractor, self.history = versions, extractor, history
        self._seeds = random.Random(seed)
        self._speeds: dict[str, float] = {}  # of the last round, for the next one's time left

    def open(
        self,
        trigger: str,
        rater: str,
        config: RoundConfig,
        exclude: Exclude | None = None,
        seed: int | None = None,
    ) -> RoundState:
        """Takes the snapshot and adds the row. With `exclude` the round retrains from the base, as
        if the excluded feedback had never been given."""
        live = self.store.adapter_versions.live()
        snapshot = load_snapshot(self.extractor, rater)
        if exclude:
            snapshot = snapshot.without(exclude)
        parent = 0 if exclude else live
        seed = self._seeds.getrandbits(31) if seed is None else seed
        tests = 1 if exclude else 1 + self.store.rounds.interim_tests(snapshot.hash, rater)
        limits = gate_for(snapshot, config.gate).at_interim_test(tests)
        config = replace(config, gate=limits)
        round_id = self.store.rounds.open(
            trigger=trigger,
            rater=rater,
            parent_version=parent,
            seed=seed,
            watermark=snapshot.watermark,
            config=config.as_dict(),
            snapshot_hash=snapshot.hash,
            learned_from=provenance.learned_from(
                self.store, snapshot.imports, snapshot.raters, parent
            ),
        )
        return RoundState(round_id, rater, parent, live, seed, snapshot, config)

    def run(
        self, state: RoundState, monitor: RoundMonitor, check: Check, clock: Clock = time.monotonic
    ) -> RoundEnd:
        """Runs the round and closes its row, whatever happens. `clock`: seconds for its time
        budget."""
        with self.store.patient(LOCK_PATIENCE):
            return self._run_and_close(state, monitor, check, clock)

    def _run_and_close(
        self, state: RoundState, monitor: RoundMonitor, check: Check, clock: Clock
    ) -> RoundEnd:
        try:
            faults.point("learn.opened")
            outcome = self._run(state, monitor, check, TimeBudget(60 * state.config.minutes, clock))
            faults.point("learn.closing")
            if outcome.verdict.promoted and outcome.state is not None:
                self._promote(state, outcome, monitor)
                return RoundEnd("promoted")
            self._discard(state, outcome)
            return RoundEnd("discarded")
        except Stopped:
            reason = Notice("round.stopped", {"live": self.store.adapter_versions.live()})
            self.store.rounds.close(state.round_id, status="stopped", reason=reason.to_json())
            return RoundEnd("stopped")
        except BaseException as error:
            self._fail(state, monitor, error)
            return RoundEnd("failed", None if isinstance(error, Exception) else error)
        finally:
            self._free_memory()

    def _run(
        self, state: RoundState, monitor: RoundMonitor, check: Check, budget: TimeBudget
    ) -> training_round.Outcome:
        monitor.budget = budget
        plan = training_round.plan(state.snapshot, self.extractor, state.config)
        least = min(MIN_UPDATES / max(state.config.ppo.updates, 1), 1.0)
        anyway = {"rollouts": least, "ppo": least}
        # A plan from measured speeds is in seconds, and trusted until a phase was timed itself:
        # otherwise the time a round waits for somebody's votes would count as its speed.
        timed = state.config.minutes and Speed.of(self.model)
        speeds = {name: 1.0 for stage in plan for name in stage} if timed else {}
        monitor.progress = Progress(plan, time.monotonic(), speeds | self._speeds, anyway)
        outcome = training_round.run(
            state.snapshot,
            self.versions.state(state.parent),
            self.extractor,
            state.config,
            state.seed,
            monitor.report,
            check,
            budget,
        )
        self._speeds |= monitor.progress.speeds()
        self.history.remember(outcome.head, state.rater)
        return outcome

    def _promote(
        self, state: RoundState, outcome: training_round.Outcome, monitor: RoundMonitor
    ) -> None:
        monitor.report("publishing", 0.0, 0, {})
        assert outcome.state is not None
        verdict = outcome.verdict.as_dict()
        self.versions.publish(
            outcome.state,
            round_id=state.round_id,
            parent=state.parent,
            instead_of=state.live,
            tier=outcome.verdict.tier,
            kl=outcome.kl,
            reason=_reason(outcome),
            verdict=verdict | {"card": outcome.report},
            about={
                "seed": state.seed,
                "snapshot": state.snapshot.hash,
                "rated_by": state.rater or "people",
                "verdict": verdict,
            },
        )

    def _discard(self, state: RoundState, outcome: training_round.Outcome) -> None:
        self.store.rounds.close(
            state.round_id,
            status="discarded",
            reason=_reason(outcome),
            verdict=outcome.verdict.as_dict() | {"card": outcome.report},
        )

    def _fail(self, state: RoundState, monitor: RoundMonitor, error: BaseException) -> None:
        """Closes the row of a failed round."""
        log.exception("round %d failed", state.round_id)
        monitor.error = reason = _failure(error, self.model.live.version)
        try:
            self.store.rounds.close(state.round_id, status="failed", reason=reason.to_json())
            # a version folder that never became a row would block its own number
            self.versions.collect_garbage()
        except StoreError:
            log.exception("round %d could not be closed", state.round_id)

    def _free_memory(self) -> None:
        for param in self.model.policy_parameters():
            param.grad = None
        memory.release_unused(self.model.device)


def gate_for(snapshot: Snapshot, config: GateConfig) -> GateConfig:
    """The limits for what is learned from this snapshot. A file that holds mostly corrections can
    say the same thing many times over, so that its ratings never look like chance: only blind votes
    can prove what came of it."""
    imported = [s for s in snapshot.items if s.origin and s.kind == Correction.code]
    return replace(config, trial_only=2 * len(imported) > len(snapshot.items))


def _reason(outcome: training_round.Outcome) -> str:
    """Why the gate decided so, as it is stored."""
    return Notice(outcome.verdict.code, outcome.verdict.params).to_json()


def _failure(error: BaseException, live: int) -> Notice:
    """`live`: the version that stays live."""
    if memory_is_short(error):
        return Notice("round.out_of_memory", {"live": live})
    if disk_is_full(error):
        problem = Notice("common.disk_full")
        return Notice("round.could_not_finish", {"problem": problem, "live": live})
    if isinstance(error, AppError):
        code = "round.discarded" if isinstance(error, NumericError) else "round.could_not_finish"
        return Notice(code, {"problem": error.notice, "live": live})
    return Notice("round.failed", {"error": type(error).__name__, "live": live})
