"""What people said of replies, as it counts now: answers, and all of them at one moment.

Left out: measuring replies (gauge.py), what an answer says in numbers (evidence.py).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from rlhf_chat.preference.gauge import Gauge, Prompt, Reply
from rlhf_chat.store import NotFound, Store


@dataclass(frozen=True)
class Said:
    """One answer as it counts now, with the replies it is about.

    kind "thumb" (answer +1, -1), "score" (1 to 5), "pair" (an outcome of the store, replies a, b),
    "ranking" (a place for each reply), "edit" (replies: the edited text, the original).
    """

    id: str
    kind: str
    replies: tuple[Reply, ...]
    answer: int | str | tuple[int, ...]
    rater: str
    strength: str = ""
    first: int = 0  # +1 where a was shown first, -1 where b was, 0 where nobody knows
    conversation: str = ""

    @property
    def prompt(self) -> Prompt:
        return self.replies[0].prompt


@dataclass(frozen=True)
class Snapshot:
    """The feedback a round works on, fixed at its start."""

    watermark: int
    said: tuple[Said, ...]
    raters: tuple[str, ...]
    lapse: Mapping[str, float]  # of each rater's comparisons
    hash: str

    @property
    def prompts(self) -> list[Prompt]:
        """Every distinct prompt a reply to which was judged."""
        return list({one.prompt.key: one.prompt for one in self.said}.values())

    def without(self, doubted: Callable[[Said], bool]) -> Snapshot:
        """The same as if some of it had never been said."""
        kept = tuple(one for one in self.said if not doubted(one))
        raters = tuple(r for r in self.raters if any(one.rater == r for one in kept))
        return replace(self, said=kept, raters=raters, hash=_hash(kept))


def heard(gauge: Gauge, rater: str = "") -> Snapshot:
    """What counts now and can be learned from by this model (`Gauge.can_measure`)."""
    return take_snapshot(gauge.store, rater, gauge.can_measure)


def take_snapshot(
    store: Store, rater: str = "", usable: Callable[[Reply], bool] = lambda reply: True
) -> Snapshot:
    """Reads every answer that counts now: of people, except raters who are set aside
    (quarantined), or of one simulated rater. Replies without token ids or not `usable` are left
    out, and so is the thumb of somebody who gave the same reply stars: stars say the same once
    more, only finer."""
    watermark = store.feedback_count()
    replies: dict[str, Reply | None] = {}

    def found(*message_ids: str) -> tuple[Reply, ...] | None:
        for message_id in message_ids:
            if message_id not in replies:
                reply = reply_of(store, message_id)
                replies[message_id] = reply if reply and usable(reply) else None
        some = [replies[m] for m in message_ids]
        return tuple(r for r in some if r) if all(some) else None

    said: list[Said] = []
    elsewhere = store.brought()  # nobody knows which reply was shown first there

    def add(about: str, one: Said) -> None:
        with suppress(NotFound):  # deleted this moment
            said.append(replace(one, conversation=store.message(about).conversation_id))

    for p in store.preferences(rater):
        if pair := found(p.message_a, p.message_b):
            first = 0 if p.message_a in elsewhere else 1 if p.shown_first == "a" else -1
            add(p.message_a, Said(p.id, "pair", pair, p.outcome, p.rater, p.strength, first))
    scores = store.scores(rater)
    starred = {(score.message_id, score.rater) for score in scores}
    for thumb in store.ratings(rater):
        if (thumb.message_id, thumb.rater) in starred:
            continue
        if one := found(thumb.message_id):
            add(thumb.message_id, Said(thumb.id, "thumb", one, thumb.value, thumb.rater))
    for score in scores:
        if one := found(score.message_id):
            add(score.message_id, Said(score.id, "score", one, score.stars, score.rater))
    for ranking in store.rankings(rater):
        if many := found(*ranking.places):
            places = tuple(ranking.places.values())
            add(ranking.asked_id, Said(ranking.id, "ranking", many, places, ranking.rater))
    for edit in store.edits(rater):
        if pair := found(edit.edited_id, edit.message_id):
            add(edit.message_id, Said(edit.id, "edit", pair, 1, edit.rater))
    aside = set(store.setting("quarantined", []))
    kept = tuple(one for one in said if one.rater not in aside)
    raters = tuple(sorted({one.rater for one in kept}))
    return Snapshot(watermark, kept, raters, lapses(store, rater), _hash(kept))


def _hash(said: Sequence[Said]) -> str:
    told = sorted((s.id, s.kind, str(s.answer), s.strength, s.rater) for s in said)
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def reply_of(store: Store, message_id: str) -> Reply | None:
    """A stored reply with its exact token ids; None for a message that has none or is gone."""
    try:
        message = store.message(message_id)
        if not message.prompt_ids or not message.response_ids or message.parent_id is None:
            return None
        asked = store.message(message.parent_id).content
    except NotFound:
        return None
    prompt = Prompt(tuple(message.prompt_ids), asked)
    return Reply(prompt, tuple(message.response_ids), message.content)


def lapses(store: Store, rater: str = "") -> dict[str, float]:
    """How often each rater's choice is a slip, from pairs that were asked again, sides swapped.

    Beta(2, 18) with every second contradiction as a slip: the other half is put down to close
    calls, which the noise of the likelihood accounts for. Before 30 of them the prior mean stands.
    """
    first = {(p.message_a, p.message_b, p.rater): p.outcome for p in store.preferences(rater)}
    again, slips = Counter[str](), Counter[str]()
    for p in store.asked_again(rater):
        before = first.get((p.message_a, p.message_b, p.rater))
        if before in ("a", "b") and p.outcome in ("a", "b"):
            again[p.rater] += 1
            slips[p.rater] += before != p.outcome
    return {
        rater: (2 + slips[rater] / 2) / (20 + count)
        for rater, count in again.items()
        if count >= 30
    }


def in_words(one: Said) -> str:
    """An answer as a person would tell it."""
    texts = [f"“{shortened(r.text)}”" for r in one.replies]
    if one.kind == "pair":
        if one.answer in ("a", "b"):
            better, worse = texts if one.answer == "a" else texts[::-1]
            much = {"slightly": " slightly", "much": " much"}.get(one.strength, "")
            return f"{better} was{much} better than {worse}"
        verdict = {"tie": "were equal", "both_bad": "were both bad", "both_good": "were both good"}
        return f"{texts[0]} and {texts[1]} {verdict.get(str(one.answer), str(one.answer))}"
    if one.kind == "thumb":
        return f"thumb {'up' if one.answer == 1 else 'down'} for {texts[0]}"
    if one.kind == "score":
        return f"{one.answer} stars for {texts[0]}"
    if one.kind == "edit":
        return f"{texts[1]} was corrected to {texts[0]}"
    order = sorted(zip(one.answer, texts, strict=True)) if isinstance(one.answer, tuple) else []
    return "ranked: " + ", then ".join(text for _, text in order)


def shortened(text: str, length: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
