"""The versions: which one is live, and loading each with its files verified.

A new one becomes live in three steps: files, then the row, then the model switches to it, so that a
crash at any point leaves the old one serving. A lock covers the last two, so the version that is
live in the database is the one that is served.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import torch

from rlhf_chat.db import AdapterVersion, Store
from rlhf_chat.errors import AdapterError, AppError, ModelError, NotFound, Notice, Refused
from rlhf_chat.inference.model import Model, ModelView
from rlhf_chat.versions.adapter_store import AdapterStore

log = logging.getLogger(__name__)


class VersionRegistry:
    def __init__(self, store: Store, model: Model, adapter_store: AdapterStore) -> None:
        self.store, self.model, self.adapter_store = store, model, adapter_store
        self._switching = (
            threading.Lock()
        )  # held from the change of the row until the model has switched
        self._unpromoted = 0  # its files are written, its row is not

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
        self.collect_garbage()
        with self._switching:
            return self._serve_live()

    def _serve_live(self) -> Notice | None:
        version, problem = self._live_of_this_base()
        while version:
            try:
                self.model.serve(self.view(version))
                return problem
            except (AdapterError, ModelError) as error:
                parent = self.get(version).parent or 0
                problem = _instead(error, parent)
                log.warning("version %d is unusable, falling back to %d", version, parent)
                if not self.store.read_only:
                    self.store.adapter_versions.set_live(parent, error.notice.to_json())
                version = parent
        self.model.serve(self.model.base_view())
        return problem

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
        try:
            manifest = self.adapter_store.manifest(version, self.get(version).manifest_hash)
        except AdapterError:
            return ""
        return str(manifest.get("base_hash") or "")

    def restore_live(self, version: int, base: str, reason: str) -> None:
        """Makes it the live version of `base` in the database only; the model does not switch."""
        if self.store.adapter_versions.live(base) != version:
            self.store.adapter_versions.set_live(version, reason, base)

    def make_live(self, version: int, reason: str = "chosen by hand") -> Notice:
        """Serves any version from the next reply on."""
        view = self.view(version)
        with self._switching:
            self.store.adapter_versions.set_live(version, reason)
            self.model.serve(view)
        return Notice("versions.live", {"version": version})

    def roll_back(self) -> Notice:
        """Makes the parent of the live version live."""
        live = self.store.adapter_versions.live()
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
                model.serve(view)

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
