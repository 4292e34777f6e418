"""Background worker: one thread and one `step()`, which runs at most one training round at a time.

A round starts after enough new ratings or on request. Pause, stop and close are honoured between
any two slices of compute; a round that fails is closed with its reason and chat goes on.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rlhf_chat.db import Store
from rlhf_chat.errors import Busy, Notice, Refused
from rlhf_chat.feedback.snapshot import load_snapshot
from rlhf_chat.inference.model import Model
from rlhf_chat.reward.features import FeatureExtractor
from rlhf_chat.reward.scorer import RewardModelCache
from rlhf_chat.training import round_conditions, training_round
from rlhf_chat.training.background import BackgroundThread
from rlhf_chat.training.context import RoundConfig
from rlhf_chat.training.event_log import OpenLog, careful
from rlhf_chat.training.exclusion import Exclusion
from rlhf_chat.training.history import TrainingHistory
from rlhf_chat.training.idle_tasks import IdleTasks
from rlhf_chat.training.round_control import RoundControl, Stopped
from rlhf_chat.training.round_plan import MINUTES, RoundSize, config_for
from rlhf_chat.training.round_runner import Exclude, RoundMonitor, RoundRunner, RoundState
from rlhf_chat.training.schedule import RoundRequest, RoundSchedule
from rlhf_chat.training.simulation_session import SimulationSession, restore_after_restart
from rlhf_chat.training.status import Status
from rlhf_chat.versions import provenance
from rlhf_chat.versions.adapter_store import AdapterStore
from rlhf_chat.versions.leaderboard import Leaderboard
from rlhf_chat.versions.provenance import Lapsed
from rlhf_chat.versions.registry import VersionRegistry
from rlhf_chat.versions.simulation_setting import returns_to

NEEDED = 12  # new ratings until a round starts by itself
STEP_FAILED = Notice("round.unexpected_error")
LOOK_INTERVAL = 0.5  # seconds between looks, in the middle of idle work, whether a round is due


class TrainingWorker:
    def __init__(
        self,
        store: Store,
        model: Model,
        adapter_store: AdapterStore,
        config: RoundConfig | None = None,
        *,
        needed: int = NEEDED,
        round_minutes: float = MINUTES,
        seed: int | None = None,
        open_log: OpenLog | None = None,
    ) -> None:
        """`open_log`: makes a log of each round for other programs (event_log.py)."""
        self.store, self.model, self._open_log = store, model, open_log
        self.round_minutes = round_minutes
        self.config = config or config_for(model, round_minutes)  # of the next round
        self.versions = VersionRegistry(store, model, adapter_store)
        self.leaderboard = Leaderboard(store)
        self.history = TrainingHistory(store)
        self.extractor = FeatureExtractor(store, model)
        self.scorer = RewardModelCache(
            self.extractor, self.config.scorer, self.config.reward, self.config.ppo.max_new_tokens
        )
        self._runner = RoundRunner(self.versions, self.extractor, self.history, seed)
        self.idle_tasks = IdleTasks(store, self.scorer, warm_up_unasked=model.is_demo)
        self.schedule = RoundSchedule(self.history, needed)
        self.simulation = SimulationSession(self.versions, self.halted, self.schedule.listen_to)
        self._thread = BackgroundThread("trainer", self._one_step, self._step_failed)
        self._start_lock = threading.RLock()  # held by whatever must not see a round begin
        self._control = RoundControl(model.lease)
        self._monitor: RoundMonitor | None = None  # of the running round
        self._parent = 0  # of the running round
        self._learns = True
        self._error: Notice | None = None
        self._next_look = 0.0  # on the monotonic clock

    # ------------------------------------------------------------------ start and end

    def start(self, *, learn: bool = True) -> None:
        """Recovers, serves the live version and starts the thread. Without `learn` no round is ever
        run; the reward model is kept ready all the same."""
        self._learns = learn
        self.recover()
        self._thread.start()

    def recover(self) -> None:
        """Closes what a crash left open and serves the live version or its last good ancestor."""
        if not self.store.read_only:
            self.store.rounds.abort_open(Notice("round.app_ended").to_json())
        self.schedule.recover()
        restore_after_restart(self.store, self.versions)
        self._error = self.versions.serve_live() or self._error

    def close(self) -> None:
        """Ends the thread within about one slice; a running round is closed as stopped."""
        self._control.closing.set()
        self._control.stop.set()
        self._thread.close()

    def _one_step(self) -> None:
        """A step that succeeds shows that what made an earlier one fail is over."""
        self.step()
        if self._error == STEP_FAILED:
            self._error = None

    def _step_failed(self) -> None:
        self._error = self._error or STEP_FAILED

    # ------------------------------------------------------------------ one step

    def step(self) -> str:
        """Runs a round if one is due, else the idle tasks. Returns the round's status or ""."""
        if self.versions.look_again():
            self._error = None
        self.idle_tasks.check_database()
        if self.store.read_only:
            return ""
        if self._learns:
            self.leaderboard.update_tiers()
        state = self._open_if_due()
        if state:
            return self._run(state)
        with contextlib.suppress(Stopped):
            self.idle_tasks.prepare_reward_model(self._check_idle)
            if self._learns:
                self.idle_tasks.write_ahead(self._check_idle)
        self.idle_tasks.finish_erasing()
        self.idle_tasks.back_up()
        return ""

    def _open_if_due(self) -> RoundState | None:
        with self._start_lock:
            request = self.schedule.due(self._automatic)
            if request is None:
                return None
            try:
                state = self._open(request.trigger, request.exclude)
            except Busy:  # for a moment: what was asked for is not forgotten
                raise
            except BaseException:
                self.schedule.begun(request)
                raise
            self.schedule.begun(request)  # not before the round can be seen to run
            return state

    @property
    def _automatic(self) -> bool:
        """Whether ratings alone may start a round now."""
        return self._learns and not self._control.paused and not self._awaits()

    def run_round(
        self, trigger: str, *, exclude: Exclude | None = None, seed: int | None = None
    ) -> str:
        """Opens a round and runs it in the calling thread; returns its status (RoundRunner)."""
        with self._start_lock:
            state = self._open(trigger, exclude, seed)
        return self._run(state)

    def _open(
        self, trigger: str, exclude: Exclude | None = None, seed: int | None = None
    ) -> RoundState:
        """Called with the start lock held."""
        self.extractor.follow_settings()
        self.scorer.resize(self.config.scorer, self.config.ppo.max_new_tokens)
        config = training_round.begun_now(self.extractor, self.config)
        config = replace(config, sampling=self.model.sampling)
        state = self._runner.open(trigger, self.schedule.rater, config, exclude, seed)
        self._control.stop.clear()
        self.schedule.opened()
        self._error = None
        opened = self._open_log
        log = opened and careful(opened, state.round_id, state.config.as_dict())
        self._parent, self._monitor = state.parent, RoundMonitor(self.store, state.round_id, log)
        return state

    def _run(self, state: RoundState) -> str:
        assert self._monitor
        try:
            end = self._runner.run(state, self._monitor, self._control.check, self._control.clock)
            self._error = self._monitor.error
            self.schedule.ended(end.status, state.snapshot.watermark)
        finally:
            self._monitor.close()
            self._monitor = None
        if end.fatal:
            raise end.fatal
        return end.status

    def _check_idle(self) -> None:
        """Idle work takes minutes with a real model; a round does not wait for its end, and goes on
        with what was done of it."""
        if self._control.closing.is_set() or self.schedule.request:
            raise Stopped
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_INTERVAL
            if self._automatic and self.schedule.enough:
                raise Stopped

    @contextlib.contextmanager
    def halted(self) -> Iterator[None]:
        """Ends the running round and keeps any other from starting inside the block. Raises
        StoreError when the round does not end in time."""
        with self._start_lock:
            self.schedule.request = None
            self._control.end_round(lambda: self._monitor is not None)
            yield

    # ------------------------------------------------------------------ controls

    def wake(self) -> None:
        """Feedback was given: the thread checks whether a round is due. Returns at once."""
        self._thread.wake()

    def train_now(self) -> Notice:
        return self._ask(RoundRequest("asked")) or Notice("training.round_starts")

    def retrain_without(
        self, ids: Sequence[str] = (), *, rater: str = "", conversation: str = ""
    ) -> Notice:
        """Trains a version from the base without some feedback (exclusion.py)."""
        exclude = Exclusion(frozenset(ids), rater, conversation)
        items = load_snapshot(self.extractor, self.schedule.rater).items
        if refusal := exclude.refusal(items):
            return refusal
        left = sum(not exclude(item) for item in items)
        request = RoundRequest("retrain_without", exclude)
        return self._ask(request) or Notice("training.retraining", {"count": left})

    def retrain(self) -> Notice:
        """Trains a version from the base with the feedback that counts now."""
        count = len(load_snapshot(self.extractor, self.schedule.rater).items)
        if not count:
            return Refused("training.nothing_left")
        request = RoundRequest("retrain_without", Exclusion(frozenset()))
        return self._ask(request) or Notice("training.retraining", {"count": count})

    def lapsed(self) -> Lapsed | None:
        """What the live version learned from and that does not count any more."""
        return provenance.lapsed(self.store)

    def _ask(self, request: RoundRequest) -> Refused | None:
        """Requests a round; returns why there will be none."""
        if self._monitor or self.schedule.request:
            return Refused("training.already_running")
        if not self._on:
            return Refused("training.off")
        if not self.store.feedback.count_since(0, self.schedule.rater):
            return Refused("training.no_ratings")
        if self.store.read_only:
            return Refused("training.read_only")
        with self._start_lock:
            self._control.paused, self.schedule.request = False, request
        self._thread.wake()
        return None

    @property
    def _on(self) -> bool:
        return self._thread.running and self._learns

    def pause(self) -> None:
        self._control.paused = True

    def resume(self) -> None:
        self._control.paused = False
        self._thread.wake()

    def stop_round(self) -> None:
        """Ends the running round; its candidate is dropped and the live version stays."""
        self._control.stop.set()

    def set_needed(self, ratings: int) -> None:
        self.schedule.set_needed(ratings)

    @property
    def conditions(self) -> list[str]:
        """Under which ratings may start a round: some of round_conditions.CONDITIONS."""
        stored = self.store.settings.get("round_conditions", [])
        return [name for name in round_conditions.CONDITIONS if name in stored]

    @property
    def possible_conditions(self) -> list[str]:
        """Those that mean something on this machine."""
        return round_conditions.possible(self.model)

    def set_conditions(self, names: Sequence[str]) -> None:
        """From now on; kept with the data. Raises ValueError for an unknown name."""
        if unknown := set(names) - set(round_conditions.CONDITIONS):
            raise ValueError(f"unknown conditions: {', '.join(sorted(unknown))}")
        self.store.settings.set("round_conditions", list(names))
        self._thread.wake()

    @property
    def sizes_rounds(self) -> bool:
        """Whether `set_round_minutes` changes anything: not with the bundled model."""
        return not self.model.is_demo

    def set_round_minutes(self, minutes: float) -> None:
        """About how long a round may take, from the next one on."""
        self.round_minutes = minutes
        if self.sizes_rounds:
            self.config = config_for(self.model, minutes)

    def round_size(self) -> RoundSize:
        """Of the next round."""
        return RoundSize.of(self.config)

    def delete(self, version: int) -> Notice:
        """Deletes a version unless a round or the end of a simulation needs it (registry.py)."""
        if self._monitor and self._parent == version:
            return Refused("training.version_in_use", {"version": version})
        if version == returns_to(self.store):
            return Refused("simulation.version_comes_back", {"version": version})
        return self.versions.delete(version)

    # ------------------------------------------------------------------ what it is doing

    def status(self) -> Status:
        monitor, live, schedule = self._monitor, self.model.live.version, self.schedule
        tiers = {v.version: v.tier for v in self.versions.all()}
        return Status(
            waiting=schedule.waiting(),
            needed=schedule.needed,
            next_round=self.history.last_number() + 1,
            live_version=live,
            live_tier=tiers[live],
            newest_version=max(tiers),
            off=self._off(),
            paused=self._control.paused,
            asked=schedule.request is not None,
            held=schedule.held,
            awaits=self._awaits(),
            error=self._error or (monitor.error if monitor else None),
            simulated=bool(schedule.rater),
            own=self.history.waiting(""),
            round_id=monitor.round_id if monitor else None,
            phase=monitor.phase if monitor else "",
            progress=monitor.fraction if monitor else 0.0,
            seconds_left=monitor.seconds_left if monitor else None,
            gives_way=monitor is not None and self.model.lease.chat_is_waiting,
        )

    def _awaits(self) -> str:
        """What ratings have to wait for before they start a round; "" if for nothing."""
        if self.schedule.rater or not self.conditions:  # a simulation waits for nothing
            return ""
        unmet = round_conditions.unmet(self.conditions, round_conditions.surroundings(self.model))
        return unmet[0] if unmet else ""

    def _off(self) -> Notice | None:
        if self.store.read_only:
            return Notice("training.read_only")
        return None if self._on else Notice("training.off")
