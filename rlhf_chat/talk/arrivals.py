"""Answers given elsewhere, made readable for the model that runs here and taken in.

A reply is kept as the token ids with which this model would have said it. Left out: how other
tools write (elsewhere.py), what an answer is worth (evidence.py).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from rlhf_chat.engine.model import Model
from rlhf_chat.refusal import ChatError, sentences
from rlhf_chat.store import Arrival, Origin, Store
from rlhf_chat.talk import elsewhere
from rlhf_chat.talk.raters import checked_name
from rlhf_chat.talk.turns import TooLongError, fitted, said

MOST = 2000  # answers at a time: each reply is read once by the model, in the next round
TOO_LONG = "It is too long for this model."
FOREIGN = "It has signs this model does not know."


@dataclass(frozen=True)
class Look:
    """What a file holds that can be learned from."""

    arrivals: tuple[Arrival, ...]
    unread: tuple[tuple[int, str], ...]  # (number in the file, why)
    left: int  # answers beyond what is taken at a time

    @property
    def kinds(self) -> dict[str, int]:
        """How many of each kind, the most common first."""
        return dict(Counter(one.kind for one in self.arrivals).most_common())


class Arrivals:
    def __init__(self, store: Store, model: Model) -> None:
        self.store, self.model = store, model

    def look(self, text: str) -> Look:
        """Reads a file and changes nothing. Raises ChatError where nothing in it is a rating."""
        found = elsewhere.read(text)
        unread, usable = list(found.unread), []
        for number, one in found.arrivals[:MOST]:
            made = self._encoded(one)
            if isinstance(made, Arrival):
                usable.append(made)
            else:
                unread.append((number, made))
        unread.sort()
        if not usable:
            why = unread[0][1] if unread else "It is empty."
            raise ChatError(f"There are no ratings in this file that can be used. {why}")
        return Look(tuple(usable), tuple(unread), max(0, len(found.arrivals) - MOST))

    def bring(self, text: str, rater: str = "me") -> tuple[str, int, int]:
        """Takes in what the file holds, all or nothing. Returns what `send_back` takes, how many
        answers are new, and how many were here already. Returns after COMMIT."""
        arrivals = sorted(self.look(text).arrivals, key=lambda one: one.created_at)
        with sentences():
            origin, new = self.store.bring(arrivals, rater)
        return origin, new, len(arrivals) - new

    def newest(self, limit: int) -> list[Origin]:
        """The files taken in last, as far as something of them is still here."""
        with sentences():
            return self.store.origins(limit)

    def send_back(self, origin: str) -> int:
        """Deletes what one arrival brought, words and all; how many conversations that were."""
        with sentences():
            return self.store.send_back(origin)

    def _encoded(self, one: Arrival) -> Arrival | str:
        """With token ids; or why that cannot be. Of a conversation that is too long the oldest
        turns give way, as they do in chat."""
        replies = tuple(tuple(self.model.encode_reply(reply)) for reply in one.replies)
        if not all(map(self.model.reads_as, replies, one.replies)):
            return FOREIGN
        room = self.model.context_tokens - max(map(len, replies))
        turns = [said(role, words) for role, words in one.turns]
        try:
            prompt, left_out = fitted(self.model, one.system, turns, room)
        except TooLongError:
            return TOO_LONG
        by = checked_name(one.rater) if one.rater else ""
        made = replace(one, turns=one.turns[left_out:], rater=by)
        return replace(made, prompt_ids=tuple(prompt), response_ids=replies)
