"""The versions: which one is live, and loading each with its files verified.

A new one becomes live in three steps: files, then the row, then the model switches to it, so that a
crash at any point leaves the old one serving. A lock covers the last two, so the version that is
live in the database is the one that is served. Only while that one cannot be read is another
served: in memory, until `look_again` finds it. Proof of damage alone changes what is stored.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import torch

from rlhf_chat import faults
from rlhf_chat.db import AdapterVersion, Store
from rlhf_chat.errors import (
    AdapterError,
    AdapterUnavailable,
    AppError,
    ModelError,
    NotFound,
    Notice,
    Refused,
)
from rlhf_chat.inference.model import Model, ModelView
from rlhf_chat.versions import simulation_setting
from rlhf_chat.versions.adapter_store import AdapterStore
from rlhf_chat.versions.patience import Patience

PATIENCE = 10.0  # seconds that reading a version may take before another is served meanwhile
RETRY_SECONDS = 5.0  # between two looks whether a version can be read again
log = logging.getLogger(__name__)


class VersionRegistry:
    def __init__(self, store: Store, model: Model, adapter_store: AdapterStore) -> None:
        self.store, self.model, self.adapter_store = store, model, adapter_store
        self._switching = (
            threading.Lock()
        )  # held from the change of the row until the model has switched
        self._unpromoted = 0  # its files are written, its row is not
        self._patience = Patience()
        self._missing = False  # the live version cannot be read now, and another one is served
        self._next_look = 0.0  # on the monotonic clock

    # ------------------------------------------------------------------ reading

    def all(self) -> list[AdapterVersion]:
        return self.store.adapter_versions.all()

    def get(self, version: int) -> AdapterVersion:
        """Raises NotFound."""
        for known in self.all():
            if known.version == version:
                return known
        raise NotFound("versions.unknown", version=version)

    def state(self, version: int) -> dict[str, torch.Tensor]:
        """Its weights from disk, verified; 0 is the base. Raises AdapterError, NotFound."""
        if not version:
            return self.model.base_state()
        state = self.adapter_store.load(version, self.get(version).manifest_hash)
        if self.adapter_store.manifest(version).get("base_hash") != self.model.base_hash:
            raise AdapterError("versions.other_base", version=version)
        return state

    def view(self, version: int) -> ModelView:
        """A version ready to generate. Raises AdapterError, ModelError, NotFound."""
        view_if_live = self.model.view_if_live(version)
        return view_if_live or self.model.make_view(version, self.state(version))

    # ------------------------------------------------------------------ which one is live

    def serve_live(self) -> Notice | None:
        """Serves the live version or, if that is unusable, its nearest usable ancestor; returns
        what was wrong, if anything. Also collects garbage."""
        with contextlib.suppress(TimeoutError):
            self._patience.call("garbage", self.collect_garbage, PATIENCE)
        with self._switching:
            return self._serve_live()

    def look_again(self) -> bool:
        """Whether the live version, which could not be read, is served again. Looks at most every
        RETRY_SECONDS."""
        if not self._missing or time.monotonic() < self._next_look:
            return False
        with self._switching:
            self._serve_live()
        return not self._missing

    def _serve_live(self) -> Notice | None:
        version, problem = self._live_of_this_base()
        self._missing, cause = False, None
        while version:
            try:
                view = self.model.view_if_live(version)
                self.model.serve(view or self.model.make_view(version, self._read(version)))
                break
            except (AdapterError, ModelError) as error:
                parent = self.get(version).parent or 0
                cause = cause if self._missing else error
                log.warning("version %d is unusable, falling back to %d", version, parent)
                self._missing = self._missing or isinstance(error, AdapterUnavailable)
                if not (self._missing or self.store.read_only):
                    self.store.adapter_versions.set_live(parent, error.notice.to_json())
                version = parent
        if not version:
            self.model.serve(self.model.base_view())
        self._next_look = time.monotonic() + RETRY_SECONDS
        return _instead(cause, version) if cause else problem

    def _read(self, version: int) -> dict[str, torch.Tensor]:
        """As `state`, but not for long."""
        try:
            name = f"version {version}"
            return self._patience.call(name, lambda: self.state(version), PATIENCE)
        except TimeoutError as error:
            raise AdapterUnavailable("versions.slow", version=version) from error

    def _live_of_this_base(self) -> tuple[int, Notice | None]:
        """Each base has a live version of its own, kept while another base is in use. With a notice
        where this base replaces the one that was used last."""
        live, here = self.store.adapter_versions.live(), self.model.base_hash
        named = self.store.adapter_versions.base_in_use()
        used = self.base_of(live) or named or here
        if used == named == here:
            return live, None
        if self.store.read_only:
            found = live if used == here else self.store.adapter_versions.live(here)
        else:
            found = self.store.adapter_versions.change_base(used, here)
        if used == here or not live:
            return found, None
        return found, _instead(AdapterError("versions.other_base", version=live), found)

    def base_of(self, version: int) -> str:
        """The hash of the base it was made for; "" where that is not known for sure."""
        if not version:
            return ""
        expected = self.get(version).manifest_hash
        try:
            manifest = self._patience.call(
                f"manifest {version}",
                lambda: self.adapter_store.manifest(version, expected),
                PATIENCE,
            )
        except (AdapterError, TimeoutError):
            return ""
        return str(manifest.get("base_hash") or "")

    def restore_live(self, version: int, base: str, reason: str) -> None:
        """Makes it the live version of `base` in the database only; the model does not switch."""
        if self.store.adapter_versions.live(base) != version:
            self.store.adapter_versions.set_live(version, reason, base)

    def make_live(self, version: int) -> Notice:
        """Answers people with any version from the next reply on, also beside a simulation, which
        goes on with its own."""
        view = self.view(version)
        with self._switching:
            if simulation_setting.answers_people(self.store, self.model.base_hash) is None:
                self._switch_to(view, "chosen by hand")
            elif self.get(version).round_id in self.store.rounds.simulated():
                return Refused("simulation.version_is_its_own", {"version": version})
            else:
                simulation_setting.return_to(self.store, version)
        return Notice("versions.live", {"version": version})

    def begin_at_base(self) -> None:
        """What a simulation learns from is the base."""
        with self._switching:
            self._switch_to(self.model.base_view(), "a simulation began")

    def _switch_to(self, view: ModelView, reason: str) -> None:
        self.store.adapter_versions.set_live(view.version, reason)
        self.model.serve(view)
        self._missing = False

    def roll_back(self) -> Notice:
        """Makes the parent of the version that answers people live."""
        beside = simulation_setting.answers_people(self.store, self.model.base_hash)
        live = self.store.adapter_versions.live() if beside is None else beside
        if not live:
            return Refused("versions.nothing_to_roll_back")
        return self.make_live(self.get(live).parent or 0)

    def publish(
        self,
        state: Mapping[str, torch.Tensor],
        *,
        round_id: int,
        parent: int,
        instead_of: int,
        tier: str,
        kl: float,
        reason: str,
        verdict: dict[str, Any],
        about: Mapping[str, Any],
    ) -> None:
        """Makes a candidate the next version, live from the next reply on, unless another version
        than `instead_of` was made live meanwhile. `verdict` is stored in its row, `about` in its
        manifest, beside the hash and the quantisation of the base."""
        version, model = self.store.adapter_versions.next_number(), self.model
        manifest = {
            "parent": parent,
            "base_hash": model.base_hash,
            "quantization": model.quantization,
            "round": round_id,
            "kl": kl,
            **about,
        }
        folder, digest = self.adapter_store.publish(
            version, state, model.adapter_config(), manifest
        )
        self._unpromoted = version
        view = model.make_view(version, self.adapter_store.load(version, digest))
        faults.point("publish.before_row")
        with self._switching:
            serves = self.store.adapter_versions.promote(
                version=version,
                parent=parent,
                instead_of=instead_of,
                round_id=round_id,
                tier=tier,
                folder=folder.name,
                manifest_hash=digest,
                kl=kl,
                reason=reason,
                verdict=verdict,
            )
            self._unpromoted = 0
            if serves:
                self._missing = True  # until it is served: else the worker tries again
                faults.point("publish.before_switch")
                model.serve(view)
                self._missing = False

    # ------------------------------------------------------------------ naming and deleting

    def describe(self, version: int, name: str, remark: str) -> Notice:
        """Stores the person's own name and notes."""
        self.store.adapter_versions.describe(
            version, " ".join(name.split())[:60], remark.strip()[:2000]
        )
        return Notice("versions.described", {"version": version})

    def delete(self, version: int) -> Notice:
        """Removes a version that is not live, row first: a crash in between leaves a folder that
        the next start removes."""
        self.store.adapter_versions.delete(version)
        self.adapter_store.remove(version)
        return Notice("versions.deleted", {"version": version})

    def collect_garbage(self) -> None:
        """Handles folders without a row: those of deleted and never promoted versions are removed,
        others, which another database may know, wait in lost/ until that database is in use."""
        known = {v.version: v.manifest_hash for v in self.all() if v.version}
        # Read second: a version that is deleted in between is then in both, not in neither.
        gone = self.store.adapter_versions.deleted() | {self._unpromoted}
        self.adapter_store.collect_garbage(set(known), gone)
        for version, manifest_hash in known.items():
            self.adapter_store.restore(version, manifest_hash)


def _instead(problem: AppError, version: int) -> Notice:
    return Notice("versions.serving_instead", {"problem": problem.notice, "version": version})
