"""The night shift: one thread, one `step()`, which runs a round when there is a reason to.

It starts by itself after enough new ratings or when asked, never twice at once; pause, stop and
close are honoured between any two slices of compute. Whatever goes wrong inside a round, the round
is closed with a sentence, its candidate is forgotten, and chat has not noticed.
A candidate that passes the gate becomes the live version (versions.py). Left out: the recipe of a
round (training_round.py), what votes say of versions (leaderboard.py), the screens (ui/ reads
`status()` and rows).
"""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from rlhf_chat.db import SIMULATED, Round, Store
from rlhf_chat.errors import AppError, Notice, NumericError, Refused, StoreError
from rlhf_chat.feedback.snapshot import FeedbackItem, Snapshot, load_snapshot
from rlhf_chat.inference.model import Model
from rlhf_chat.reward import feature_weights
from rlhf_chat.reward.feature_weights import FeatureWeight
from rlhf_chat.reward.features import FeatureExtractor
from rlhf_chat.reward.reward_model import RewardHead
from rlhf_chat.reward.scorer import RewardModelCache
from rlhf_chat.training import training_round as round_
from rlhf_chat.training.context import RoundConfig
from rlhf_chat.versions.adapter_store import AdapterStore
from rlhf_chat.versions.leaderboard import Leaderboard
from rlhf_chat.versions.registry import VersionRegistry

log = logging.getLogger(__name__)

HOUR = 3600.0  # seconds
NEEDED = 12  # new ratings until a round starts by itself


class Stopped(Exception):
    """Raised inside a round by its check when it should end now."""


@dataclass(frozen=True)
class RoundRequest:
    """A round that somebody asked for."""

    without: Callable[[FeedbackItem], bool] | None = None  # answers a rebuild leaves out


@dataclass(frozen=True)
class RoundState:
    """An open round: all that is settled before its first slice, whatever is clicked meanwhile."""

    round_id: int
    rater: str  # the simulated person it listens to; "" for people
    parent: int
    live: int  # the version that answered when it began
    seed: int
    snapshot: Snapshot
    config: RoundConfig


@dataclass(frozen=True)
class Status:
    phase: str  # idle, crashed, paused, off, or a phase of the round
    gives_way: bool  # the round waits for chat
    round_id: int | None
    progress: float  # 0..1 of the running round
    seconds_left: float | None
    waiting: int  # new ratings since the last round
    needed: int
    paused: bool
    live_version: int
    live_tier: str
    error: Notice | None


class TrainingWorker:
    def __init__(
        self,
        store: Store,
        model: Model,
        adapter_store: AdapterStore,
        config: RoundConfig | None = None,
        *,
        needed: int = NEEDED,
        seed: int | None = None,
    ) -> None:
        self.store = store
        self.model = model
        self.versions = VersionRegistry(store, model, adapter_store)
        self.config = config or RoundConfig.of(model)
        self.extractor = FeatureExtractor(store, model)
        self.scorer = RewardModelCache(
            self.extractor, self.config.scorer, self.config.reward, self.config.ppo.max_new_tokens
        )
        self.leaderboard = Leaderboard(store)
        self.set_needed(needed)
        self._seeds = random.Random(seed)
        self._door = threading.RLock()  # held by what must not see a round begin
        self._wake = threading.Event()
        self._asked: RoundRequest | None = None
        self._stop_round = threading.Event()
        self._closing = threading.Event()
        self._paused = False
        self._learns = True
        self._thread: threading.Thread | None = None
        self._phase, self._progress = "idle", 0.0
        self._error: Notice | None = None
        self._round_id: int | None = None
        self._parent = 0  # of the running round
        self._started = 0.0
        self._head: RewardHead | None = None
        self._rater = ""  # the simulated person it listens to; "" for people
        self._next_copy = 0.0  # of the database, on the monotonic clock
        self._gave_up_at = -1  # watermark of a failed or stopped round: wait for new ratings
        self._crashed_at = -1  # the same of a round in which the app ended, twice

    # ------------------------------------------------------------------ life

    def start(self, *, learn: bool = True) -> None:
        """Closes what a crash left open, serves the live version or its last good ancestor, and
        starts the thread; without `learn` it only reads ahead and never runs a round."""
        self._learns = learn
        self.recover()
        self._thread = threading.Thread(target=self._loop, name="trainer", daemon=True)
        self._thread.start()

    def recover(self) -> None:
        """Brings database, shelf and model in line: what is served is whole and verified."""
        if not self.store.read_only:
            self.store.rounds.abort_open(Notice("round.app_ended").to_json())
        self._crashed_at = self._ended_twice_at()
        if (left := self.store.settings.get("simulation")) and not self.store.read_only:
            self._come_back(left)  # after a restart a person's own version answers again
        self._error = self.versions.serve_live() or self._error

    def _ended_twice_at(self) -> int:
        """What the two newest rounds had read up to if the app ended in both; else -1. To try such
        a round again at every start could end the app at every start, for want of memory."""
        aborted = [r.watermark for r in self.store.rounds.newest(2) if r.status == "aborted"]
        return aborted[0] if len(aborted) == 2 and len(set(aborted)) == 1 else -1

    def close(self) -> None:
        """Ends the thread within about one slice; a running round is closed as stopped."""
        self._closing.set()
        self._stop_round.set()
        self._wake.set()
        if self._thread:
            self._thread.join(timeout=30)
            self._thread = None

    def _loop(self) -> None:
        while not self._closing.is_set():
            try:
                self.step()
            except BaseException:  # the thread outlives anything a step can raise
                log.exception("the trainer's step failed")
                self._error = self._error or Notice("round.unexpected_error")
            self._wake.wait(timeout=1.0)
            self._wake.clear()

    # ------------------------------------------------------------------ one step

    def step(self) -> str:
        """Runs a round if there is a reason to; returns its status, or "" when there is none."""
        if self.store.read_only:
            return ""
        if self._learns:
            self.leaderboard.update_tiers()
        begun = self._begin_if_due()
        if begun is None:
            self._read_ahead()
            self._keep_a_copy()
            return ""
        return self._carry_out(begun)

    def _begin_if_due(self) -> RoundState | None:
        with self._door:
            asked, self._asked = self._asked, None
            if asked:
                return self._begin("retrain_without" if asked.without else "asked", asked.without)
            if (
                self._paused
                or not self._learns
                or self.waiting() < self._needed
                or self.store.feedback.count() in (self._gave_up_at, self._crashed_at)
            ):
                return None
            return self._begin("ratings")

    def _read_ahead(self) -> None:
        """While there is nothing to do: what the taste needs to judge drafts before any round, or
        without one, so also while learning is off or paused."""
        if self.scorer.ready and not self.scorer.behind:
            return
        if not (self.model.is_demo or self.scorer.missed or self.store.feedback.count()):
            return

        def check() -> None:
            if self._closing.is_set() or self._asked:
                raise Stopped

        with contextlib.suppress(Stopped):
            self.scorer.warm_up(check)
            self.scorer.refresh(check)

    def _keep_a_copy(self) -> None:
        """Looks once an hour whether the day's backup is there."""
        if time.monotonic() < self._next_copy:
            return
        self._next_copy = time.monotonic() + HOUR
        try:
            self.store.back_up()
        except StoreError as error:
            log.warning("no backup was made: %s", error)

    def run_round(
        self,
        trigger: str,
        *,
        without: Callable[[FeedbackItem], bool] | None = None,
        seed: int | None = None,
    ) -> str:
        """Opens a round, runs the recipe, closes it with what came of it. Returns the status.

        `without`: learn again, from the base, as if these answers had never been given.
        """
        with self._door:
            begun = self._begin(trigger, without, seed)
        return self._carry_out(begun)

    def _begin(
        self,
        trigger: str,
        without: Callable[[FeedbackItem], bool] | None = None,
        seed: int | None = None,
    ) -> RoundState:
        """Opens a round. Called behind the door."""
        rater, live = self._rater, self.store.adapter_versions.live()
        snapshot = load_snapshot(self.extractor, rater)
        self._parent = parent = 0 if without else live
        if without:
            snapshot = snapshot.without(without)
        seed = self._seeds.getrandbits(31) if seed is None else seed
        look = 1 if without else 1 + self.store.rounds.interim_tests(snapshot.hash, rater)
        config = replace(self.config, gate=self.config.gate.at_interim_test(look))
        round_id = self.store.rounds.open(
            trigger=trigger,
            rater=rater,
            parent_version=parent,
            seed=seed,
            watermark=snapshot.watermark,
            config=config.as_dict(),
            snapshot_hash=snapshot.hash,
        )
        self._stop_round.clear()
        self._crashed_at = -1
        self._round_id, self._started, self._error = round_id, time.monotonic(), None
        return RoundState(round_id, rater, parent, live, seed, snapshot, config)

    def _carry_out(self, begun: RoundState) -> str:
        try:
            status = self._run(begun)
        except Stopped:
            status, self._gave_up_at = "stopped", begun.snapshot.watermark
            reason = Notice("round.stopped", {"live": self.store.adapter_versions.live()}).to_json()
            self.store.rounds.close(begun.round_id, status=status, reason=reason)
        except BaseException as error:
            status = "failed"
            self._fail(begun, error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._round_id, self._progress = None, 0.0
            self._phase = "idle"
            self._free_memory()
        return status

    def _run(self, begun: RoundState) -> str:
        outcome = round_.run(
            begun.snapshot,
            self.versions.state(begun.parent),
            self.extractor,
            begun.config,
            begun.seed,
            lambda *told: self._report(begun.round_id, *told),
            self._check,
        )
        self._head = outcome.head
        if not begun.rater:
            feature_weights.remember(self.store, self._head)
        if outcome.verdict.promoted and outcome.state is not None:
            self._promote(begun, outcome)
            return "promoted"
        self.store.rounds.close(
            begun.round_id,
            status="discarded",
            reason=Notice(outcome.verdict.code, outcome.verdict.params).to_json(),
            verdict=outcome.verdict.as_dict() | {"card": outcome.card},
        )
        return "discarded"

    def _promote(self, begun: RoundState, outcome: round_.Outcome) -> None:
        self._set_phase("publishing", 0.99)
        assert outcome.state is not None
        verdict = outcome.verdict.as_dict()
        self.versions.publish(
            outcome.state,
            round_id=begun.round_id,
            parent=begun.parent,
            instead_of=begun.live,
            tier=outcome.verdict.tier,
            kl=outcome.kl,
            reason=Notice(outcome.verdict.code, outcome.verdict.params).to_json(),
            verdict=verdict | {"card": outcome.card},
            about={
                "seed": begun.seed,
                "snapshot": begun.snapshot.hash,
                "rated_by": begun.rater or "people",
                "verdict": verdict,
            },
        )

    def _fail(self, begun: RoundState, error: BaseException) -> None:
        log.exception("round %d failed", begun.round_id)
        live = self.model.live.version
        if isinstance(error, torch.OutOfMemoryError):
            reason = Notice("round.out_of_memory", {"live": live})
        elif isinstance(error, AppError):
            code = (
                "round.discarded" if isinstance(error, NumericError) else "round.could_not_finish"
            )
            reason = Notice(code, {"problem": error.notice, "live": live})
        else:
            reason = Notice("round.failed", {"error": type(error).__name__, "live": live})
        self._gave_up_at = begun.snapshot.watermark
        self._error = reason
        try:
            self.store.rounds.close(begun.round_id, status="failed", reason=reason.to_json())
            # A version that reached the shelf but not the database would block its own number.
            self.versions.collect_garbage()
        except StoreError:
            log.exception("round %d could not be closed", begun.round_id)

    def _free_memory(self) -> None:
        for param in self.model.policy_parameters():
            param.grad = None
        gc.collect()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _report(
        self, round_id: int, phase: str, done: float, step: int, numbers: Mapping[str, float]
    ) -> None:
        self._set_phase(phase, done)
        if numbers:
            self.store.rounds.add_metrics(round_id, step, dict(numbers))

    def _set_phase(self, phase: str, done: float) -> None:
        self._phase, self._progress = phase, done

    def _check(self) -> None:
        """Called by the round between slices: ends it, or holds it while paused."""
        while self._paused and not (self._stop_round.is_set() or self._closing.is_set()):
            self.model.lease.release_if_requested()
            time.sleep(0.05)
        if self._stop_round.is_set() or self._closing.is_set():
            raise Stopped

    # ------------------------------------------------------------------ what a person can do

    def wake(self) -> None:
        """Something was rated; the thread looks whether it is enough. Returns at once."""
        self._wake.set()

    def train_now(self) -> Notice:
        return self._ask(RoundRequest()) or Notice("training.round_starts")

    def _ask(self, asked: RoundRequest) -> Refused | None:
        """Asks for a round; returns why there will be none."""
        if self._round_id is not None or self._asked:
            return Refused("training.already_running")
        if not self._on:
            return Refused("training.off")
        if not self.store.feedback.count_since(0, self._rater):
            return Refused("training.no_ratings")
        if self.store.read_only:
            return Refused("training.read_only")
        with self._door:
            self._paused, self._asked = False, asked
        self._wake.set()
        return None

    @property
    def _on(self) -> bool:
        return self._thread is not None and self._learns

    def retrain_without(
        self, ids: Sequence[str] = (), *, rater: str = "", conversation: str = ""
    ) -> Notice:
        """Learns once more, from the base, as if some answers had never been given: by their ids,
        all of a rater's, all of a conversation's. The result goes through the gate like any other.
        """
        chosen = set(ids)

        def excluded(one: FeedbackItem) -> bool:
            return one.id in chosen or one.rater == rater or one.conversation == conversation

        items = load_snapshot(self.extractor, self._rater).items
        if not any(excluded(one) for one in items):
            return Refused("training.nothing_excluded")
        if all(excluded(one) for one in items):
            return Refused("training.nothing_left")
        left = sum(not excluded(one) for one in items)
        return self._ask(RoundRequest(excluded)) or Notice("training.retraining", {"count": left})

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._wake.set()

    def stop_round(self) -> None:
        """Ends the running round; its candidate is dropped and the live version stays."""
        self._stop_round.set()

    def set_needed(self, ratings: int) -> None:
        self._needed = max(1, int(ratings))

    def waiting(self) -> int:
        """Ratings since the last round, of people or of the simulated person listened to."""
        return self._waiting(self._rater)

    def people_waiting(self) -> int:
        """Ratings of people since their last round, whoever is listened to now."""
        return self._waiting("")

    def _waiting(self, rater: str) -> int:
        return self.store.feedback.count_since(self.store.rounds.last_watermark(rater), rater)

    def listen_to(self, rater: str) -> None:
        """From the next round on, learn from this simulated person; "" is from people again."""
        if rater and not rater.startswith(SIMULATED):
            raise ValueError(f"{rater} is not a simulated person")
        self._rater = rater
        self._head, self._gave_up_at = None, -1

    # ------------------------------------------------------------------ a simulated person

    def watching(self) -> str:
        """The simulated person whose traces are in the archive; "" when there are none."""
        left = self.store.settings.get("simulation")
        return str(left["rater"]) if left else ""

    def begin_simulation(self, rater: str) -> None:
        """Learn from this simulated person, beginning at the base; what was live is remembered."""
        if self.store.read_only:
            raise StoreError("simulation.read_only")
        with self._door:
            if self.watching():
                self.end_simulation()
            self._end_round()
            before, base = self.store.adapter_versions.live(), self.model.base_hash
            self.store.settings.set("simulation", {"rater": rater, "before": before, "base": base})
            self.listen_to(rater)
            self.versions.make_live(0)

    def end_simulation(self) -> None:
        """Back to what was live, and every trace of the simulated person is gone."""
        with self._door:
            left = self.store.settings.get("simulation")
            if not left:
                return
            self._end_round()
            self._come_back(left)
            self.versions.serve_live()
            self.listen_to("")
            self.store.feedback.erase_rater(left["rater"])
            self.versions.collect_garbage()
            self.store.settings.set("simulation", None)

    def _come_back(self, left: Mapping[str, Any]) -> None:
        known = {v.version for v in self.versions.all()}
        before = left["before"] if left["before"] in known else 0
        base = left.get("base") or self.versions.base_of(before)
        self.versions.restore_live(before, base, "the simulated person has left")

    def _end_round(self) -> None:
        """Stops the running round and waits for it, one slice as a rule. Called behind the door.
        Raises StoreError when it does not end within a minute."""
        self._asked = None
        until = time.monotonic() + 60
        while self._round_id is not None:
            if time.monotonic() > until:
                raise StoreError("training.round_not_ending")
            self._stop_round.set()
            time.sleep(0.02)

    def status(self) -> Status:
        phase = "paused" if self._paused else self._phase
        if not self._on and self._round_id is None:
            phase = "off"
        live = self.model.live.version
        left = None
        if self._round_id is not None and self._progress > 0.12:
            spent = time.monotonic() - self._started
            left = spent * (1 - self._progress) / self._progress
        if phase == "idle" and self._crashed_at == self.store.feedback.count():
            phase = "crashed"
        return Status(
            phase=phase,
            gives_way=self._round_id is not None and self.model.lease.chat_is_waiting,
            round_id=self._round_id,
            progress=self._progress,
            seconds_left=left,
            waiting=self.waiting(),
            needed=self._needed,
            paused=self._paused,
            live_version=live,
            live_tier=self.versions.get(live).tier,
            error=self._error,
        )

    def rounds(self, limit: int = 20) -> list[Round]:
        return self.store.rounds.newest(limit)

    def metrics(self, round_id: int) -> dict[str, list[tuple[int, float]]]:
        """Every number of a round: name -> [(step, value)]; values that are not finite left out."""
        found: dict[str, list[tuple[int, float]]] = {}
        for step, name, value in self.store.rounds.metrics(round_id):
            if value is not None:
                found.setdefault(name, []).append((step, value))
        return found

    def feature_weights(self) -> list[FeatureWeight]:
        """What the last round found a person to like; sure ones first."""
        if self._head:
            return feature_weights.from_head(self._head)
        return [] if self._rater else feature_weights.remembered(self.store)

    def delete(self, version: int) -> Notice:
        """Removes a version that nothing depends on (registry.py)."""
        if self._round_id is not None and self._parent == version:
            return Refused("training.version_in_use", {"version": version})
        if (left := self.store.settings.get("simulation")) and left["before"] == version:
            return Refused("simulation.version_comes_back", {"version": version})
        return self.versions.delete(version)
