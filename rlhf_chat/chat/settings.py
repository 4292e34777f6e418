"""Settings of conversations: system prompt, sampling, and which version answers.

Each conversation has its own; new ones begin with the default that the user has set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rlhf_chat.chat.message_text import MAX_CHARACTERS
from rlhf_chat.db import Store
from rlhf_chat.db.settings import CHAT_DEFAULTS
from rlhf_chat.errors import AppError
from rlhf_chat.inference.generate import Sampling

BEST_OF = (1, 2, 4, 8)  # drafts of a reply; the one with the highest score is shown


@dataclass(frozen=True)
class ConversationSettings:
    """How a conversation is answered: system prompt, sampling, and by which version
    (None: the live one)."""

    system_prompt: str
    sampling: Sampling
    version: int | None = None

    @classmethod
    def of(
        cls,
        system_prompt: str,
        temperature: float,
        top_p: float,
        top_k: int,
        max_new_tokens: int,
        version: int | None,
    ) -> ConversationSettings:
        return cls(system_prompt, Sampling(temperature, top_p, top_k, max_new_tokens), version)


class SettingsService:
    """Reads and stores the settings of conversations and the default for new ones."""

    def __init__(
        self,
        store: Store,
        sampling: Sampling,
        context_tokens: int,
        check_version: Callable[[int], object],
    ) -> None:
        """`sampling` is the default; `check_version` raises AppError for a
        version that cannot be used."""
        self.store, self.sampling = store, sampling
        self._context_tokens, self._check_version = context_tokens, check_version

    @property
    def _plain(self) -> ConversationSettings:
        return ConversationSettings("", self.sampling)

    @property
    def best_of(self) -> int:
        """Drafts of each reply; the one with the highest score is shown."""
        return int(self.store.settings.get("best_of", 1))

    def set_best_of(self, drafts: int) -> None:
        if drafts not in BEST_OF:
            raise AppError("settings.best_of_value", choices=", ".join(map(str, BEST_OF)))
        self.store.settings.set("best_of", drafts)

    @property
    def longest_reply(self) -> int:
        """The most tokens a reply may be given: half of what the model can read."""
        return max(16, min(4096, self._context_tokens // 2))

    def get(self, conversation_id: str = "") -> ConversationSettings:
        """How this conversation is answered; with no id, how new ones will be."""
        if not conversation_id:
            return self.default()
        found = self.store.conversations.get(conversation_id)
        sampling = self._fitting(found.sampling) if found.sampling else self.sampling
        return ConversationSettings(found.system_prompt, sampling, found.adapter_version)

    def set(
        self,
        conversation_id: str,
        settings: ConversationSettings,
        longest_prompt: int = MAX_CHARACTERS,
    ) -> None:
        """From the next reply on; with no id, for conversations not yet begun."""
        settings = self.checked(settings, longest_prompt)
        if conversation_id:
            self._store_for(conversation_id, settings)
        else:
            value = {
                "system_prompt": settings.system_prompt,
                "sampling": settings.sampling.as_dict(),
            }
            self.store.settings.set(CHAT_DEFAULTS, value)

    def default(self) -> ConversationSettings:
        stored = self.store.settings.get(CHAT_DEFAULTS)
        if not stored:
            return self._plain
        return ConversationSettings(stored["system_prompt"], self._fitting(stored["sampling"]))

    def _fitting(self, stored: dict[str, Any]) -> Sampling:
        """As it was set, perhaps under a model that can read more than this one."""
        drawn = Sampling(**stored)
        return replace(drawn, max_new_tokens=min(drawn.max_new_tokens, self.longest_reply))

    def _store_for(self, conversation_id: str, settings: ConversationSettings) -> None:
        self.store.conversations.set_settings(
            conversation_id, settings.system_prompt, settings.sampling.as_dict(), settings.version
        )

    def checked(
        self, settings: ConversationSettings, longest_prompt: int = MAX_CHARACTERS
    ) -> ConversationSettings:
        """As they are stored. Raises AppError for values that cannot be used."""
        drawn = settings.sampling
        if len(settings.system_prompt) > longest_prompt:
            raise AppError("settings.instructions_too_long", limit=longest_prompt)
        if not (0 <= drawn.temperature <= 2 and 0 < drawn.top_p <= 1 and drawn.top_k >= 0):
            raise AppError("settings.sampling_range")
        if not 1 <= drawn.max_new_tokens <= self.longest_reply:
            raise AppError("settings.reply_range", limit=self.longest_reply)
        if settings.version is not None:
            self._check_version(settings.version)  # refuses a version that cannot be loaded
        return replace(settings, system_prompt=settings.system_prompt.strip())

    def store_default(self, conversation_id: str) -> None:
        """Gives a new conversation the default settings."""
        if self.default() != self._plain:
            self._store_for(conversation_id, self.default())
