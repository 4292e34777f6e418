"""Import of feedback: files of other tools, encoded for the loaded model and stored.

A reply is kept as the token ids this model would have generated for it. File formats are in
rlhf_chat/importers. The Data screen previews and stores a file at once, up to MOST answers; the
command line stores a file of any length in parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice

from rlhf_chat import importers
from rlhf_chat.chat.context_window import TooLongError, chat_message, truncate
from rlhf_chat.chat.message_text import MAX_CHARACTERS, MAX_REASON
from rlhf_chat.chat.raters import checked_name
from rlhf_chat.db import ImportBatch, ImportedFeedback, Store
from rlhf_chat.db.imports import Known
from rlhf_chat.errors import AppError, Notice
from rlhf_chat.importers import ImportReport, Options, Row, Source
from rlhf_chat.inference.model import Model

PART = 500  # rows of a long file that are stored in one transaction
MOST = 2000  # answers at a time: each reply is read once by the model, in the next round
TOO_LONG = Notice("imports.too_long")
FOREIGN = Notice("imports.unknown_characters")


@dataclass(frozen=True)
class ImportPreview:
    """What a file holds that can be learned from."""

    items: tuple[ImportedFeedback, ...]
    unread: tuple[tuple[int, Notice], ...]  # (number in the file, why)
    left: int  # answers beyond what is taken at a time
    aspects: tuple[str, ...] = ()  # scores of one reply, the default first; () if it has no several

    @property
    def implied(self) -> int:
        """How many nobody stated: versions that were selected, examples."""
        return sum(one.implied for one in self.items)

    @property
    def lacks_scale(self) -> bool:
        """Whether there are scores of which the file does not say what the best one is."""
        return any(why.code == "imports.no_scale" for _, why in self.unread)

    @property
    def kinds(self) -> dict[str, int]:
        """How many of each kind, the most common first."""
        return dict(Counter(one.kind for one in self.items).most_common())


class Imports:
    def __init__(self, store: Store, model: Model) -> None:
        self.store, self.model = store, model

    def preview(
        self, source: Source, name: str = "", *, aspect: str = "", scale: int = 0
    ) -> ImportPreview:
        """Reads a file and changes nothing. `aspect`, `scale`: what the file does not say itself.
        Raises AppError where nothing in it is a rating, or would be on a scale."""
        found = importers.read(source, Options(aspect, scale), name=name)
        unread, usable = list(found.unread), []
        for number, one in found.items[:MOST]:
            encoded = self._encoded(one)
            if isinstance(encoded, ImportedFeedback):
                usable.append(encoded)
            else:
                unread.append((number, encoded))
        unread.sort(key=lambda one: one[0])
        made = ImportPreview(
            tuple(usable),
            tuple(unread),
            max(0, len(found.items) - MOST),
            importers.aspects(source, name=name),
        )
        if not usable and not made.lacks_scale:
            why = unread[0][1] if unread else Notice("imports.empty")
            raise AppError("imports.no_ratings", reason=why)
        return made

    def import_all(
        self,
        source: Source,
        rater: str = "me",
        name: str = "",
        *,
        aspect: str = "",
        scale: int = 0,
    ) -> tuple[str, int, int]:
        """Stores what the file holds, all or nothing; none of it counts before `accept`. Returns
        what `accept` and `undo` take, how many answers are new, and how many were here already.
        Returns after COMMIT."""
        found = self.preview(source, name, aspect=aspect, scale=scale)
        imports = sorted(found.items, key=lambda one: one.created_at)
        origin, new = self.store.imports.add(imports, rater)
        return origin, new, len(imports) - new

    def import_rows(
        self,
        rows: Iterable[Row],
        rater: str = "me",
        stop: Callable[[], bool] = lambda: False,
    ) -> ImportReport:
        """Stores rows of a file in parts, each all or nothing. What has been stored stays when
        `stop` says so; the same file again goes on from there."""
        report = ImportReport()
        known: Known = {}
        waiting = iter(rows)
        while part := list(islice(waiting, PART)):
            usable = []
            for row in part:
                report.unread += [(row, why) for why in row.problems]
                for one in row.items:
                    if self.store.imports.has(one, _by(one) or rater):
                        report.read += 1  # before it is encoded, which takes far longer
                        continue
                    made = self._encoded(one)
                    if isinstance(made, ImportedFeedback):
                        usable.append(made)
                    else:
                        report.unread.append((replace(row, items=()), made))
            origin, new = self.store.imports.add(usable, rater, origin=report.origin, known=known)
            report.origin, report.new = origin, report.new + new
            report.read += len(usable)
            if stop():
                break
        return report

    def newest(self, limit: int) -> list[ImportBatch]:
        """The files taken in last, as far as something of them is still here."""
        return self.store.imports.newest(limit)

    def accept(self, origin: str) -> Notice:
        """From the next round on, its answers are learned from."""
        self.store.imports.accept(origin)
        return Notice("imports.accepted")

    def undo(self, origin: str) -> int:
        """Deletes what one import added; how many conversations that were."""
        return self.store.imports.undo(origin)

    def _encoded(self, one: ImportedFeedback) -> ImportedFeedback | Notice:
        """With token ids; or why that cannot be. Of a conversation that is too long the oldest
        turns give way, as they do in chat."""
        replies = tuple(tuple(self.model.encode_reply(reply)) for reply in one.replies)
        if not all(map(self.model.reads_as, replies, one.replies)):
            return FOREIGN
        limit = self.model.context_tokens - max(map(len, replies))
        turns = [chat_message(role, words) for role, words in one.turns]
        try:
            prompt, left_out = truncate(self.model, one.system, turns, limit)
        except TooLongError:
            return TOO_LONG
        made = replace(one, turns=one.turns[left_out:], rater=_by(one))
        made = replace(made, reason=one.reason[:MAX_REASON], comment=one.comment[:MAX_CHARACTERS])
        return replace(made, prompt_ids=tuple(prompt), response_ids=replies)


def _by(one: ImportedFeedback) -> str:
    """The rater that a file names; "" if it names none."""
    return checked_name(one.rater) if one.rater else ""
