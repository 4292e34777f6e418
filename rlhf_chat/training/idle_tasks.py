"""What the worker does between rounds: keeps the reward model ready, writes the base's replies that
a round may need, checks the database, backs it up and finishes erasing from it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from rlhf_chat.db import Store
from rlhf_chat.errors import StoreError
from rlhf_chat.feedback.snapshot import load_snapshot
from rlhf_chat.reward.scorer import RewardModelCache
from rlhf_chat.training.training_round import training_prompts

log = logging.getLogger(__name__)

ERASE_INTERVAL = 60.0  # seconds between tries to erase what something is in the way of
WRITTEN_AHEAD = 256  # prompts: a round draws fewer, and an import may bring thousands
CHECK_INTERVAL = 24 * 3600.0  # seconds from the end of one check of all rows to the next
CHECK_SECONDS = 0.2  # of a check in one step, so that what is due need not wait for its end
BACKUP_INTERVAL = 3600.0  # seconds between looks whether the day's backup exists


class IdleTasks:
    def __init__(self, store: Store, scorer: RewardModelCache, warm_up_unasked: bool) -> None:
        """`warm_up_unasked`: prepare the reward model before there is any feedback."""
        self.store, self.scorer = store, scorer
        self._warm_up_unasked = warm_up_unasked
        self._next_backup = self._next_try = self._next_check = 0.0  # on the monotonic clock
        self._written_at = -1  # revision of the feedback all of whose prompts the base replied to

    def prepare_reward_model(self, check: Callable[[], None]) -> None:
        """Samples and measures what scoring needs, so that replies can be scored before the first
        round, or without one. Lets what `check` raises pass."""
        self.scorer.extractor.follow_settings()
        if self.scorer.ready and not self.scorer.stale:
            return
        self._written_at = -1
        if self._warm_up_unasked or self.scorer.requested or self.store.feedback.count():
            self.scorer.warm_up(check)
            self.scorer.refresh(check)

    def write_ahead(self, check: Callable[[], None]) -> None:
        """Has the base reply to the prompts that a round may draw, so that no round spends its time
        on that: to all, or to the suggested ones and the last of a person's. Not with the bundled
        model, which is fast. Lets what `check` raises pass."""
        base_stats, extractor = self.scorer.base_stats, self.scorer.extractor
        revision = self.store.feedback.revision
        if not (base_stats and base_stats.prompts.further and self.scorer.ready):
            return
        if self._written_at == revision or not self.store.feedback.count():
            return
        snapshot, tokens = load_snapshot(extractor), base_stats.max_new_tokens
        prompts = training_prompts(snapshot, base_stats.prompts, extractor.model, tokens)
        retained = base_stats.prompts.retained
        extractor.references(prompts[-WRITTEN_AHEAD:] + retained, tokens, check)
        self._written_at = revision

    def finish_erasing(self) -> None:
        if self.store.unerased and time.monotonic() >= self._next_try:
            self._next_try = time.monotonic() + ERASE_INTERVAL
            self.store.finish_erasing()

    def check_database(self) -> None:
        """Goes on with the check that begins at start and then once a day."""
        if time.monotonic() < self._next_check:
            return
        try:
            ended = self.store.integrity.check(CHECK_SECONDS)
        except StoreError as error:
            log.warning("the database could not be checked: %s", error)
            ended = True
        if ended:
            self._next_check = time.monotonic() + CHECK_INTERVAL

    def back_up(self) -> None:
        """After a check, which finds the copy that must be kept."""
        if not self._next_check or time.monotonic() < self._next_backup:
            return
        self._next_backup = time.monotonic() + BACKUP_INTERVAL
        try:
            self.store.back_up()
        except StoreError as error:
            log.warning("no backup was made: %s", error)
