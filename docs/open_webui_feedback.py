"""
title: Rate in RLHF Chat
description: Two buttons below a reply, which send a thumb to the RLHF Chat that wrote it.
version: 0.1.0
"""

# A function of the kind "action" for Open WebUI. It runs in Open WebUI's own process, so it uses
# only the standard library and pydantic, which Open WebUI brings. Open WebUI does not keep the id
# of the answer it got, so the reply is named by its text: the newest with these words is rated.

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

from pydantic import BaseModel, Field

BUTTONS = {"up": "Good reply", "down": "Bad reply"}
SECONDS = 10


class Action:
    actions = [{"id": thumb, "name": name} for thumb, name in BUTTONS.items()]

    class Valves(BaseModel):
        url: str = Field(
            default="http://127.0.0.1:7860/v1", description="what `rlhf-chat --api` prints"
        )
        token: str = Field(default="", description="what `rlhf-chat token` prints")
        priority: int = 0

    def __init__(self) -> None:
        self.valves = self.Valves()

    async def action(
        self,
        body: dict[str, Any],
        __id__: str | None = None,
        __user__: dict[str, Any] | None = None,
        __event_emitter__: Any = None,
    ) -> None:
        """The button of one message; `body` holds the messages up to it."""
        thumb = (__id__ or "up").rpartition(".")[2]
        told = await asyncio.to_thread(self._send, body, thumb, (__user__ or {}).get("name", ""))
        if __event_emitter__:
            await __event_emitter__({"type": "status", "data": {"description": told, "done": True}})

    def _send(self, body: dict[str, Any], thumb: str, rater: str) -> str:
        """What became of it, in one sentence."""
        replies = [m for m in body.get("messages", []) if m.get("role") == "assistant"]
        if not replies:
            return "There is no reply to rate."
        rating = {"response_text": replies[-1].get("content", ""), "thumb": thumb, "rater": rater}
        request = urllib.request.Request(
            f"{self.valves.url.rstrip('/')}/feedback",
            json.dumps(rating).encode(),
            {"Authorization": f"Bearer {self.valves.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS):
                return "Saved in RLHF Chat."
        except urllib.error.HTTPError as error:
            return str(json.loads(error.read())["error"]["message"])
        except (OSError, ValueError) as error:
            return f"RLHF Chat does not answer: {error}"
