"""What the worker does between rounds: keeps the reward model ready, backs up the database and
finishes erasing from it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from rlhf_chat.db import Store
from rlhf_chat.errors import StoreError
from rlhf_chat.reward.scorer import RewardModelCache

log = logging.getLogger(__name__)

ERASE_INTERVAL = 60.0  # seconds between tries to erase what something is in the way of
BACKUP_INTERVAL = 3600.0  # seconds between looks whether the day's backup exists


class IdleTasks:
    def __init__(self, store: Store, scorer: RewardModelCache, warm_up_unasked: bool) -> None:
        """`warm_up_unasked`: prepare the reward model before there is any feedback."""
        self.store, self.scorer = store, scorer
        self._warm_up_unasked = warm_up_unasked
        self._next_backup = self._next_try = 0.0  # on the monotonic clock

    def prepare_reward_model(self, check: Callable[[], None]) -> None:
        """Samples and measures what scoring needs, so that replies can be scored before the first
        round, or without one. Lets what `check` raises pass."""
        self.scorer.extractor.follow_settings()
        if self.scorer.ready and not self.scorer.stale:
            return
        if self._warm_up_unasked or self.scorer.requested or self.store.feedback.count():
            self.scorer.warm_up(check)
            self.scorer.refresh(check)

    def finish_erasing(self) -> None:
        if self.store.unerased and time.monotonic() >= self._next_try:
            self._next_try = time.monotonic() + ERASE_INTERVAL
            self.store.finish_erasing()

    def back_up(self) -> None:
        if time.monotonic() < self._next_backup:
            return
        self._next_backup = time.monotonic() + BACKUP_INTERVAL
        try:
            self.store.back_up()
        except StoreError as error:
            log.warning("no backup was made: %s", error)
