"""Results of each version in blind votes: standings, and a proposal to roll back.

The votes are ordinary ones on Compare that happened to show two versions, and those of duels. The
statistics are in standings.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_chat.db import AdapterVersion, Store
from rlhf_chat.errors import Notice
from rlhf_chat.versions import standings
from rlhf_chat.versions.standings import Record, Vote


@dataclass(frozen=True)
class Standing:
    """A version and its results in blind votes."""

    version: AdapterVersion
    live: bool
    made_for: str  # the simulated rater whose ratings trained it; "" for people
    record: Record  # against the base
    overall: Record  # against any other version
    low: float  # confidence sequence of the win rate over the base: low..high
    high: float
    proved: bool  # by votes
    worse_than: tuple[int, Record] | None  # significantly: the base or its parent, and the votes
    expected: float  # win rate over the base by Bradley-Terry on all votes; for ranking

    @property
    def worse(self) -> bool:
        return self.worse_than is not None


class Leaderboard:
    def __init__(self, store: Store) -> None:
        self.store = store
        self._revision = -1  # of the feedback that `update_tiers` has read

    def standings(self) -> list[Standing]:
        """Every version, ranked by Bradley-Terry on all votes, the best first."""
        versions = self.store.adapter_versions.all()
        numbers = [v.version for v in versions]
        made_for = self._made_for()
        votes = {r: self.store.feedback.votes_between_versions(r) for r in {"", *made_for.values()}}
        ranks = {r: standings.bradley_terry(of_rater, numbers) for r, of_rater in votes.items()}
        live = self.store.adapter_versions.live()
        found = []
        for v in versions:
            rater = made_for.get(v.round_id or 0, "")
            own = votes[rater]
            record = standings.between(own, v.version, 0)
            low, high = standings.interval(record)
            found.append(
                Standing(
                    version=v,
                    live=v.version == live,
                    made_for=rater,
                    record=record,
                    overall=standings.overall(own, v.version),
                    low=low,
                    high=high,
                    proved=bool(v.version) and standings.is_proved(record),
                    worse_than=self._worse_than(own, v),
                    expected=ranks[rater][v.version],
                )
            )
        return sorted(found, key=lambda s: (-s.expected, -s.version.version))

    def duel(self, one: int, other: int) -> tuple[Record, float, float]:
        """People's blind votes of `one` against `other`, with the interval of its win rate."""
        record = standings.between(self.store.feedback.votes_between_versions(), one, other)
        return record, *standings.interval(record)

    def advice(self) -> Notice | None:
        """The proposal to roll back, where the live version is significantly worse."""
        live = next((s for s in self.standings() if s.live), None)
        if live is None or live.worse_than is None:
            return None
        other, record = live.worse_than
        params = {
            "version": live.version.version,
            "won": record.wins,
            "lost": record.losses,
            "other": other,
            "parent": live.version.parent or 0,
        }
        return Notice("versions.roll_back_proposed", params)

    def _worse_than(self, votes: list[Vote], version: AdapterVersion) -> tuple[int, Record] | None:
        """The base or the parent, if the votes say that this version is worse, and its record
        against it."""
        if not version.version:
            return None
        for other in dict.fromkeys((0, version.parent or 0)):
            record = standings.between(votes, version.version, other)
            if standings.is_worse(record):
                return other, record
        return None

    def _made_for(self) -> dict[int, str]:
        """round -> the simulated rater it learned from."""
        return self.store.rounds.simulated()

    def update_tiers(self) -> None:
        """Calls versions proved once the e-value of their votes reaches PROVED_AT."""
        revision = self.store.feedback.revision
        if revision == self._revision:
            return
        for s in self.standings():
            if s.proved and s.version.tier != "proved":
                params = {"won": s.record.wins, "count": s.record.votes}
                why = Notice("versions.proved_by_votes", params).to_json()
                self.store.adapter_versions.set_tier(s.version.version, "proved", why)
        self._revision = revision  # not before all of it is stored
