"""The API from another process of this machine: what the command line and notebooks use while an
app is open on the data folder. Only the standard library, and no proxy."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from rlhf_chat.errors import AppError

POLL_SECONDS = 0.5
CONNECT_SECONDS = 5.0  # for the first answer; replies may take as long as they do

OnText = Callable[[str], None]
OnProgress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class ReplyText:
    """A reply, and the id by which it is rated."""

    id: str
    text: str
    version: str  # that wrote it: "base", "v1", ...
    finish_reason: str


class ApiError(AppError):
    """What the API answered instead, in its own words."""

    def __init__(self, sentence: str) -> None:
        super().__init__("command.refused", sentence=sentence)


class ApiClient:
    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = urlsplit(url), token

    def answers(self) -> bool:
        """Whether the API is there and takes the token."""
        try:
            self._call("GET", "/models", seconds=CONNECT_SECONDS)
            return True
        except (AppError, ValueError):
            return False

    def reply(self, body: dict[str, Any], on_text: OnText | None = None) -> ReplyText:
        """One reply to the body of a chat completion; `on_text` gets its pieces as they come."""
        parts, last = [], {}
        finish = "stop"
        for piece in self._events("/chat/completions", {**body, "stream": True}):
            if "error" in piece:
                raise ApiError(str(piece["error"]["message"]))
            last, [choice] = piece, piece["choices"]
            finish = choice["finish_reason"] or finish
            text = choice["delta"].get("content") or ""
            parts.append(text)
            if on_text and text:
                on_text(text)
        return ReplyText(str(last.get("id")), "".join(parts), str(last.get("model")), finish)

    def rate(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._object("POST", "/feedback", body)

    def withdraw(self, feedback_id: str) -> None:
        self._call("DELETE", f"/feedback/{quote(feedback_id, safe='')}")

    def feedback(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            page = self._object("GET", f"/feedback?{urlencode({'limit': 100, 'after': after})}")
            found += page["data"]
            if not page["has_more"]:
                return found
            after = page["last_id"]

    def versions(self) -> list[dict[str, Any]]:
        return list(self._object("GET", "/versions")["data"])

    def make_live(self, name: str) -> list[dict[str, Any]]:
        return list(self._object("POST", "/versions/live", {"model": name})["data"])

    def export(self, pairs: bool = False) -> list[dict[str, Any]]:
        text = self._call("GET", f"/export?form={'pairs' if pairs else 'answers'}")
        return [json.loads(line) for line in text.splitlines()]

    def train(self, on_progress: OnProgress | None = None) -> dict[str, Any]:
        """Starts a round and waits for its end. Raises AppError where it never began."""
        before = (self._object("GET", "/training")["last_round"] or {}).get("round", 0)
        state = self._object("POST", "/training")
        while True:
            last: dict[str, Any] = state["last_round"] or {}
            if last.get("round", 0) > before:
                return last
            if not (state["asked"] or state["round"]):
                raise AppError("command.round_not_begun")
            if on_progress:
                on_progress(state)
            time.sleep(POLL_SECONDS)
            state = self._object("GET", "/training")

    def close(self) -> None:
        """Nothing is kept open between calls."""

    # ------------------------------------------------------------------ requests

    def _object(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._call(method, path, body))
        return found

    def _call(self, method: str, path: str, body: Any = None, seconds: float | None = None) -> str:
        with self._asked(method, path, body, seconds) as answer:
            return answer.read().decode("utf-8")

    def _events(self, path: str, body: Any) -> Iterator[dict[str, Any]]:
        with self._asked("POST", path, body, None) as answer:
            for line in answer:
                data = line.decode("utf-8").strip().removeprefix("data: ")
                if data and data != "[DONE]":
                    yield json.loads(data)

    @contextmanager
    def _asked(
        self, method: str, path: str, body: Any, seconds: float | None
    ) -> Iterator[http.client.HTTPResponse]:
        """Raises ApiError for an answer that is none, AppError when the app has gone."""
        at = http.client.HTTPConnection(str(self._url.hostname), self._url.port, timeout=seconds)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            sent = None if body is None else json.dumps(body).encode()
            at.request(method, f"{self._url.path}{path}", sent, headers)
            answer = at.getresponse()
            if answer.status != 200:
                raise ApiError(_sentence(answer))
            yield answer
        except (OSError, http.client.HTTPException) as error:
            raise AppError("command.app_gone") from error
        finally:
            at.close()


def _sentence(answer: http.client.HTTPResponse) -> str:
    text = answer.read().decode("utf-8", "replace")
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:200] or str(answer.status)
