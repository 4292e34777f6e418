"""Drafts of one prompt as they are written: by one version at once or by several in turns, chosen
from more than are shown, and drawn anew where two came out alike. Nothing is stored here.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from rlhf_chat.chat.chat import Chat
from rlhf_chat.errors import AppError, Notice
from rlhf_chat.feedback.replies import Prompt, Reply
from rlhf_chat.inference.generate import Response, Sampling
from rlhf_chat.inference.model import ModelView
from rlhf_chat.reward import active_sampling

REDRAWN = 4  # times a draft that came out like another is drawn anew
# That the drafts of a prompt may take to write. Measuring eight of them, to choose between, takes a
# quarter of that again: 8 x .5 ms a token beside 16 ms a step, of a model of 135M on two cores.
DRAFT_SECONDS = 3.5
LEAST_TOKENS = 64  # of a draft, however slow the machine
TOKEN_STEP = 16  # lengths are multiples of it, so that two starts of one machine agree

Streamed = tuple[list[Response], Notice | None]  # drafts so far, and the notice about them


@dataclass(frozen=True)
class AskedDrafts:
    """What is about to be drafted: one prompt for several views, each with its own seed."""

    prompt: Prompt
    views: list[ModelView]
    seeds: list[int]
    sampling: Sampling
    stop: threading.Event
    hurry: threading.Event  # set: somebody waits for these drafts, so none are chosen from more

    @property
    def one_version(self) -> bool:
        return all(view is self.views[0] for view in self.views)


class DraftWriter:
    def __init__(self, chat: Chat) -> None:
        self.chat, self.model = chat, chat.model
        self.active = True  # of several drafts, those are shown whose order is least sure
        self.rng = random.Random()

    def asked(
        self,
        text: str,
        count: int,
        live: int,
        versions: tuple[int, int] | None,
        stop: threading.Event,
        hurry: threading.Event,
    ) -> AskedDrafts:
        drawn: tuple[int, ...] = versions or active_sampling.choose(live, self.rng)
        if count > 2:
            drawn = (live,) * count
        views = [self.chat.view(version) for version in drawn]
        ids = self.model.encode([{"role": "user", "content": text}])
        sampling = self.sampling()
        limit = self.model.context_tokens - sampling.max_new_tokens
        if len(ids) > limit:
            raise AppError("compare.prompt_too_long", tokens=len(ids), limit=limit)
        seeds = [self.rng.getrandbits(31) for _ in drawn]
        asked = AskedDrafts(Prompt(tuple(ids), text), views, seeds, sampling, stop, hurry)
        return replace(asked, seeds=seeds[:1] * len(seeds)) if asked.one_version else asked

    def sampling(self) -> Sampling:
        """As new conversations are answered, but no longer than a reader waits for: several drafts
        are written before the first can be chosen."""
        wanted = self.chat.settings.default().sampling
        most = self.model.tokens_within(DRAFT_SECONDS) // TOKEN_STEP * TOKEN_STEP
        return wanted.limited(min(wanted.max_new_tokens, max(most, LEAST_TOKENS)))

    def written(self, asked: AskedDrafts, *, chosen: bool) -> Iterator[Streamed]:
        """The drafts as they grow, `chosen` from more than are shown where that helps."""
        return self._chosen(asked) if chosen and self._chooses(asked) else self._streamed(asked)

    def _chooses(self, asked: AskedDrafts) -> bool:
        """Whether more drafts are written than are shown, for the reward model to choose from."""
        scorer = self.chat.scorer
        if not (scorer and self.active and asked.one_version):
            return False
        if asked.hurry.is_set() or self._drafts(asked) <= len(asked.views):
            return False  # somebody waits, or there is no memory for more than are shown
        if not scorer.ready and scorer.get() is None:
            return False
        return self.rng.random() >= active_sampling.RANDOM_SHARE

    def _drafts(self, asked: AskedDrafts) -> int:
        """How many to choose from."""
        wanted, tokens = max(active_sampling.DRAFTS, len(asked.views) + 2), asked.sampling
        return self.model.max_parallel_drafts(wanted, asked.prompt.ids, tokens.max_new_tokens)

    def _chosen(self, asked: AskedDrafts) -> Iterator[Streamed]:
        """Writes more drafts than are shown, then picks those with the most uncertain order."""
        shown = len(asked.views)
        blank, drafts = [Response([], False)] * shown, []
        count = self._drafts(asked)
        writing = self._batch(asked, count)
        for drafts in writing:
            if asked.hurry.is_set():
                yield from self._hurried(asked, drafts, writing)
                return
            yield blank, Notice("compare.choosing", {"count": count, "shown": shown})
        distinct = [drafts[i] for i in first_places(drafts) if drafts[i].ids]
        if asked.stop.is_set() or asked.hurry.is_set() or len(distinct) <= shown:
            yield [*distinct, *drafts][:shown], None
            return
        yield self._telling_most(asked, distinct), None

    def _telling_most(self, asked: AskedDrafts, drafts: list[Response]) -> list[Response]:
        """Those whose order the reward model is least certain of. It is fitted to the newest
        feedback here and not before the drafts are written: who comes for them may not wait."""
        cache = self.chat.scorer
        scorer = cache.get() if cache else None
        if cache is None or scorer is None:
            return drafts[: len(asked.views)]
        replies = [Reply(asked.prompt, tuple(r.ids), self.model.decode(r.ids)) for r in drafts]
        x = scorer.capped(cache.features(scorer, replies))
        telling = active_sampling.max_variance(x, scorer.head.covariance, len(asked.views))
        return [drafts[i] for i in telling]

    def _hurried(
        self, asked: AskedDrafts, drafts: list[Response], writing: Iterator[list[Response]]
    ) -> Iterator[Streamed]:
        """The first distinct drafts of a batch from here on, until these are whole. Which end
        first must not decide, or short ones would be preferred."""
        firsts = first_places(drafts)
        others = [i for i in range(len(drafts)) if i not in firsts]
        places = sorted([*firsts, *others][: len(asked.views)])
        for latest in chain([drafts], writing):
            chosen = [latest[i] for i in places]
            yield chosen, None
            if all(d.finished or len(d.ids) >= asked.sampling.max_new_tokens for d in chosen):
                return

    def _streamed(self, asked: AskedDrafts) -> Iterator[Streamed]:
        """All drafts at once: one batch where the version is the same, else in turns."""
        if asked.one_version:
            yield from ((drafts, None) for drafts in self._batch(asked, len(asked.views)))
            return
        latest = [Response([], False)] * len(asked.views)
        going = {i: self._one(asked, i) for i in range(len(latest))}
        try:
            while going:
                for i in list(going):
                    step = next(going[i], None)
                    if step is None:
                        del going[i]
                    else:
                        latest[i] = step[0]
                yield list(latest), None
        finally:
            for stream in going.values():
                stream.close()

    def _batch(self, asked: AskedDrafts, count: int) -> Iterator[list[Response]]:
        rows = [asked.prompt.ids] * count
        for drafts in self.chat.generator.stream(
            asked.views[0], rows, asked.sampling, seed=asked.seeds[0]
        ):
            yield drafts
            if asked.stop.is_set():
                return

    def _one(self, asked: AskedDrafts, i: int) -> Generator[list[Response]]:
        ids, sampling = asked.prompt.ids, asked.sampling
        return self.chat.generator.stream(asked.views[i], [ids], sampling, seed=asked.seeds[i])

    def redrawn(self, asked: AskedDrafts, latest: list[Response]) -> list[int]:
        """Draws drafts that came out like another anew, in place; the places worth showing."""
        for _ in range(REDRAWN):
            equal = [i for i in range(len(latest)) if i not in first_places(latest)]
            for i in equal:
                asked.seeds[i] = self.rng.getrandbits(31)
                for (draft,) in self._one(asked, i):
                    if asked.stop.is_set():
                        return []
                    latest[i] = draft
        return first_places(latest)


def first_places(drafts: Sequence[Response]) -> list[int]:
    """The places of drafts that are like none before them."""
    seen: dict[tuple[int, ...], int] = {}
    for i, draft in enumerate(drafts):
        seen.setdefault(tuple(draft.ids), i)
    return sorted(seen.values())
