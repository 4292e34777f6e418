"""What versions learned from, and what follows when some of it does not count any more.

A round stores the imports and raters of its snapshot together with those of its parent version, so
that a version knows its whole past even after its ancestors were deleted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rlhf_chat.db import Store
from rlhf_chat.errors import Notice

Sources = dict[str, list[str]]  # "imports": ids, "raters": names


@dataclass(frozen=True)
class Lapsed:
    """The live version learned from an import that was undone or a rater who was excluded."""

    version: int
    back_to: int  # its nearest ancestor that did not
    raters: tuple[str, ...]  # none where it was an import

    @property
    def notice(self) -> Notice:
        params = {"version": self.version, "back": self.back_to}
        if self.raters:
            return Notice("versions.lapsed_rater", {**params, "names": ", ".join(self.raters)})
        return Notice("versions.lapsed_import", params)


def learned_from(
    store: Store, imports: Iterable[str], raters: Iterable[str], parent: int
) -> Sources:
    """What a version knows that is trained from `parent` on feedback of these."""
    before = _sources(store).get(parent, {})
    return {
        "imports": sorted({*imports, *before.get("imports", [])}),
        "raters": sorted({*raters, *before.get("raters", [])}),
    }


def lapsed(store: Store) -> Lapsed | None:
    """None while everything that the live version learned from counts."""
    live = store.adapter_versions.live()
    if not live:
        return None
    sources = _sources(store)
    gone = _gone(store, sources.get(live, {}))
    if not any(gone):
        return None
    parents = {v.version: v.parent or 0 for v in store.adapter_versions.all()}
    back = parents.get(live, 0)
    while back and any(_gone(store, sources.get(back, {}))):
        back = parents.get(back, 0)
    imports, raters = gone
    return Lapsed(live, back, () if imports else raters)


def _gone(store: Store, sources: Sources) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The imports and raters among these that do not count now."""
    imports = {*sources.get("imports", [])} - store.imports.counting()
    raters = {*sources.get("raters", [])} & store.feedback.quarantined()
    return tuple(sorted(imports)), tuple(sorted(raters))


def _sources(store: Store) -> dict[int, Sources]:
    """version -> what it learned from. The base learned from nothing."""
    return {version: found for version, found in store.rounds.learned_from().items() if found}
