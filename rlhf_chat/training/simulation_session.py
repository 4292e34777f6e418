"""A simulated rater takes the place of people: learning follows it from the base, and afterwards
everything it left is removed and the earlier live version comes back.

What it needs to come back is in the database, so that a restart in between loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from rlhf_chat.db import Store
from rlhf_chat.errors import StoreError
from rlhf_chat.versions.registry import VersionRegistry
from rlhf_chat.versions.simulation_setting import SETTING


class SimulationSession:
    def __init__(
        self,
        versions: VersionRegistry,
        halted: Callable[[], AbstractContextManager[None]],
        listen_to: Callable[[str], None],
    ) -> None:
        """`halted` of the training worker, `listen_to` of its schedule."""
        self._store, self._versions = versions.store, versions
        self._halted, self._listen_to = halted, listen_to

    def rater(self) -> str:
        """The simulated rater with anything left in the database; "" when there is none."""
        left = self._store.settings.get(SETTING)
        return str(left["rater"]) if left else ""

    def begin(self, rater: str) -> None:
        """Learns from this rater from now on, beginning at the base. Raises StoreError."""
        if self._store.read_only:
            raise StoreError("simulation.read_only")
        with self._halted():
            if self.rater():
                self.end()
            before, base = self._store.adapter_versions.live(), self._versions.model.base_hash
            self._store.settings.set(SETTING, {"rater": rater, "before": before, "base": base})
            self._listen_to(rater)
            self._versions.begin_at_base()

    def end(self) -> None:
        """Makes the earlier version live again and removes every trace of the rater."""
        with self._halted():
            left = self._store.settings.get(SETTING)
            if not left:
                return
            if not left.get("over"):
                _restore(left, self._versions)
                self._versions.serve_live()
            self._listen_to("")
            self._store.feedback.erase_rater(left["rater"])
            self._versions.collect_garbage()
            self._store.settings.set(SETTING, None)


def restore_after_restart(store: Store, versions: VersionRegistry) -> None:
    """People's own version is live again, though what the rater left is still there. Once: what
    people train from then on stays."""
    left = store.settings.get(SETTING)
    if left and not left.get("over") and not store.read_only:
        _restore(left, versions)
        store.settings.set(SETTING, {**left, "over": True})


def _restore(left: Mapping[str, Any], versions: VersionRegistry) -> None:
    known = {v.version for v in versions.all()}
    before = left["before"] if left["before"] in known else 0
    base = left.get("base") or versions.base_of(before)
    versions.restore_live(before, base, "the simulation ended")
