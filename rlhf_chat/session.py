"""The app without its window, for notebooks and the command line: one object that replies, is
rated, trains and serves versions.

`open_session` gives one on a data folder. The database is opened at once, the model when it is
first needed. While an app is open on the folder the same methods go to its API, since only one
program may write to the database.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, overload

from rlhf_chat.api import running, token
from rlhf_chat.api.client import POLL_SECONDS, ApiClient, OnProgress, OnText, ReplyText
from rlhf_chat.db import Store
from rlhf_chat.errors import AppError, Busy, Refused

if TYPE_CHECKING:
    from rlhf_chat.chat.chat import Chat
    from rlhf_chat.chat.message_feedback import Ratings
    from rlhf_chat.training.worker import TrainingWorker
    from rlhf_chat.versions.adapter_store import AdapterStore

Messages = str | Sequence[Mapping[str, Any]]


class Backend(Protocol):
    """What replies: the model in this process, or the API of an app that runs."""

    def reply(self, body: dict[str, Any], on_text: OnText | None = None) -> ReplyText: ...
    def rate(self, body: dict[str, Any]) -> dict[str, Any]: ...
    def withdraw(self, feedback_id: str) -> None: ...
    def feedback(self) -> list[dict[str, Any]]: ...
    def versions(self) -> list[dict[str, Any]]: ...
    def make_live(self, name: str) -> list[dict[str, Any]]: ...
    def export(self, pairs: bool = False) -> list[dict[str, Any]]: ...
    def train(self, on_progress: OnProgress | None = None) -> dict[str, Any]: ...
    def close(self) -> None: ...


class Session:
    """Close it, or use it as a context manager. Every method raises AppError with one sentence."""

    def __init__(self, backend: Backend, data: Path) -> None:
        self._backend, self._data = backend, data

    def reply(
        self,
        messages: Messages,
        *,
        version: str = "live",
        on_text: OnText | None = None,
        **options: Any,
    ) -> ReplyText:
        """A reply to a prompt, or to a list of messages (`role`, `content`). `on_text` gets the
        pieces as they are written. Options are those of the API: temperature, top_p, seed,
        max_tokens, stop, and store=False to keep nothing."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        turns = [dict(message) for message in messages]
        return self._backend.reply({"messages": turns, "model": version, **options}, on_text)

    def rate(
        self,
        reply: ReplyText | str,
        thumb: str = "",
        *,
        stars: int | None = None,
        correction: str = "",
        note: str = "",
        rater: str = "",
    ) -> str:
        """One of a thumb ("up" or "down"), 1 to 5 stars and a correction, for a reply or its id
        ("last": the newest). Returns the id of the rating, once it is on the disk."""
        body = {"thumb": thumb, "stars": stars, "correction": correction, "note": note}
        body |= {"response_id": _id(reply), "rater": rater}
        return str(self._backend.rate(body)["id"])

    def compare(
        self, better: ReplyText | str, worse: ReplyText | str, *, strength: str = ""
    ) -> str:
        """Which of two replies to the same messages is better, perhaps "slightly" or "much"."""
        body = {"better": _id(better), "worse": _id(worse), "strength": strength}
        return str(self._backend.rate(body)["id"])

    def rank(self, replies: Sequence[ReplyText | str]) -> str:
        """Replies to the same messages, the best first."""
        return str(self._backend.rate({"ranking": [_id(one) for one in replies]})["id"])

    def withdraw(self, rating: str) -> None:
        """Takes back a rating by its id."""
        self._backend.withdraw(rating)

    def feedback(self) -> list[dict[str, Any]]:
        """Every rating that counts now, newest first."""
        return self._backend.feedback()

    def train(self, on_progress: OnProgress | None = None) -> dict[str, Any]:
        """One round now; how it ended. `on_progress` is told the phase and the share done."""
        return self._backend.train(on_progress)

    def versions(self) -> list[dict[str, Any]]:
        """The base and every version made from it."""
        return self._backend.versions()

    def make_live(self, version: int | str) -> list[dict[str, Any]]:
        """Serves a version from the next reply on, by number, "v3", "base" or its name."""
        name = ("base", f"v{version}")[bool(version)] if isinstance(version, int) else version
        return self._backend.make_live(name)

    @overload
    def export(self, *, pairs: bool = False) -> list[dict[str, Any]]: ...

    @overload
    def export(self, version: int | str, *, to: str, **options: Any) -> dict[str, Any]: ...

    def export(
        self, version: int | str = "", *, pairs: bool = False, to: str = "", **options: Any
    ) -> Any:
        """Every rating with its texts, or preference pairs as TRL's trainers read them. With a
        version ("live", a number, its name) and `to` ("peft", "merged" or "gguf"): a folder for
        other programs, see `export_version`."""
        if to:
            return export_version(self._data, version or "live", to=to, **options)
        if version != "":
            raise AppError("export.to_what")
        return self._backend.export(pairs)

    def close(self) -> None:
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _id(reply: ReplyText | str) -> str:
    return reply if isinstance(reply, str) else reply.id


def open_session(
    data: Path | str = ".", model: str = "", quantization: str = "nf4", *, make: bool = True
) -> Session:
    """A session on this data folder; `model` as in `rlhf-chat --model`. `make`: the folder may be
    new. Raises AppError if it cannot be opened, or an app is open on it without its API."""
    folder = Path(data).expanduser().resolve()
    if not make and not (folder / "feedback.db").exists():
        raise AppError("command.no_data", path=folder)
    try:
        store = Store(folder / "feedback.db")
    except Busy:
        client = ApiClient(running.url(folder) or "http://127.0.0.1:1", token.read(folder))
        if not running.url(folder) or not client.answers():
            raise AppError("command.app_without_api", path=folder) from None
        return Session(client, folder)
    return Session(Local(store, folder, model, quantization), folder)


def export_version(
    data: Path | str,
    version: int | str = "live",
    *,
    to: str,
    type: str = "f16",
    base: str = "",
    out: Path | str | None = None,
    force: bool = False,
    measure: bool = True,
    model: str = "",
    on_progress: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:
    """Writes a version as a folder for other programs and returns what it holds, with the measured
    gap to what the app serves. It only reads the data folder, so an app may be open on it.
    `type` is of a GGUF file: f16, q8_0, q4_0; `base`: trained, original, or the default of the
    form; `on_progress` is told the phase and its share. Raises AppError."""
    from rlhf_chat.version_export import exporter

    folder = Path(data).expanduser().resolve()
    if not (folder / "feedback.db").exists():
        raise AppError("command.no_data", path=folder)
    target = Path(out) if out else None
    request = exporter.Request(str(version), to, type, base, target, force, measure, model)
    with redirect_stdout(sys.stderr):  # what a library says is no part of what a program reads
        made = exporter.export(folder, request, on_progress or (lambda phase, share: None))
    return made.as_dict()


class Local:
    """The model in this process."""

    def __init__(self, store: Store, data: Path, model: str, quantization: str) -> None:
        self.store, self.data = store, data
        self._wanted = (model, quantization)

    # ------------------------------------------------------------------ without the model

    def rate(self, body: dict[str, Any]) -> dict[str, Any]:
        from rlhf_chat.api.rating_body import entry_of
        from rlhf_chat.chat.rating_entry import give

        entry = entry_of(body)
        ratings = self.chat.ratings if entry.correction else self._ratings
        return give(self.store, ratings, entry)

    def withdraw(self, feedback_id: str) -> None:
        self._ratings.withdraw(feedback_id)

    def feedback(self) -> list[dict[str, Any]]:
        from rlhf_chat.api.rating_body import as_json

        return [as_json(row) for row in self._ratings.all()]

    def export(self, pairs: bool = False) -> list[dict[str, Any]]:
        ratings = self._ratings
        return ratings.preference_pairs() if pairs else ratings.answers()

    def versions(self) -> list[dict[str, Any]]:
        from rlhf_chat.api.versions import as_json, usable

        live = self.store.adapter_versions.live()
        return [as_json(one, live) for one in usable(self.store, self._adapters, self._base)]

    def make_live(self, name: str) -> list[dict[str, Any]]:
        from rlhf_chat.api.versions import number_of

        version = number_of(self.store, self._adapters, self._base, name)
        if version is None:
            return self.versions()
        if "worker" in self.__dict__:
            told = self.worker.versions.make_live(version)
            if isinstance(told, Refused):
                raise AppError(told.code, **told.params)
        else:
            if version:  # its files are checked, as they are when it is loaded
                self._adapters.load(version, self.store.adapter_versions.get(version).manifest_hash)
            self.store.adapter_versions.set_live(version, "chosen by hand")
        return self.versions()

    @cached_property
    def _ratings(self) -> Ratings:
        from rlhf_chat.chat.message_feedback import Ratings

        return Ratings(self.store, lambda text: [], 0)  # which encodes corrections alone

    @cached_property
    def _adapters(self) -> AdapterStore:
        from rlhf_chat.versions.adapter_store import AdapterStore

        return AdapterStore(self.data / "adapters")

    @property
    def _base(self) -> str:
        """The hash of the base model in use; "" if none was loaded yet."""
        return self.store.adapter_versions.base_in_use()

    # ------------------------------------------------------------------ with the model

    @cached_property
    def worker(self) -> TrainingWorker:
        """Loads the model. No thread trains by itself: `train` does."""
        from rlhf_chat.serve import load_model
        from rlhf_chat.training.worker import TrainingWorker

        with redirect_stdout(sys.stderr):  # what it says is no part of what a program reads
            model = load_model(*self._wanted, lambda step: None)
        worker = TrainingWorker(self.store, model, self._adapters)
        worker.recover()
        return worker

    @cached_property
    def chat(self) -> Chat:
        from rlhf_chat.chat.chat import Chat

        worker = self.worker
        return Chat(self.store, worker.model, load_view=worker.versions.view, scorer=worker.scorer)

    def reply(self, body: dict[str, Any], on_text: OnText | None = None) -> ReplyText:
        from rlhf_chat.api.conversations import chat_request
        from rlhf_chat.api.versions import model_id, number_of
        from rlhf_chat.chat.completions import Completions

        chat = self.chat
        version = number_of(self.store, self._adapters, self._base, str(body.get("model", "")))
        request, _ = chat_request(
            {**body, "n": 1}, version, chat.settings.default().sampling, keep_header=""
        )
        sent, latest = 0, None
        for latest in Completions(chat).stream(request, threading.Event()):
            text = latest.drafts[0].text[sent:]
            sent += len(text)
            if on_text and text:
                on_text(text)
        assert latest
        [draft] = latest.drafts
        written = model_id(latest.plan.view.version)
        return ReplyText(f"chatcmpl-{draft.reply_id}", draft.text, written, draft.finish_reason)

    def train(self, on_progress: OnProgress | None = None) -> dict[str, Any]:
        from rlhf_chat.training.report_lines import last_round, progress

        worker = self.worker
        if not self.store.feedback.count_since(0):
            raise AppError("training.no_ratings")
        failed: list[BaseException] = []

        def run() -> None:
            try:
                worker.run_round("asked")
            except BaseException as error:
                failed.append(error)

        round_thread = threading.Thread(target=run)
        round_thread.start()
        try:
            while round_thread.is_alive():
                if on_progress:
                    on_progress(progress(worker.status()))
                round_thread.join(POLL_SECONDS)
        except BaseException:
            worker.stop_round()
            round_thread.join()
            raise
        if failed:
            raise failed[0]
        return last_round(worker.history) or {}

    def close(self) -> None:
        if "worker" in self.__dict__:
            self.worker.close()
        self.store.close()
