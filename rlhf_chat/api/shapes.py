"""The JSON of answers: chat completions and completions of a prompt, whole or in chunks."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlhf_chat.api.versions import model_id
from rlhf_chat.chat.completions import Completion, Draft
from rlhf_chat.inference.model import Model
from rlhf_chat.inference.token_logprobs import TokenLogprob

Json = dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """The answers to one request as far as they are written, one `Completion` for each prompt."""

    completions: tuple[Completion, ...]
    ended: bool = False
    logprobs: Mapping[str, Sequence[TokenLogprob]] = field(default_factory=dict)  # by reply id

    @property
    def drafts(self) -> list[Draft]:
        return [draft for completion in self.completions for draft in completion.drafts]

    @property
    def usage(self) -> Json:
        """Tokens: a prompt counts once however many replies it has, as OpenAI counts it."""
        prompt = sum(len(one.plan.prompt_ids) for one in self.completions)
        written = sum(len(draft.response_ids) for draft in self.drafts)
        total = prompt + written
        return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": total}


class Shape(ABC):
    """What both kinds of answers have in common; `logprobs` is None where nobody asked for them."""

    prefix = object_name = chunk_name = ""

    def __init__(self, model: Model, wants_logprobs: bool, prompts: Sequence[str] = ()) -> None:
        self._model, self._wants, self._prompts = model, wants_logprobs, prompts
        self._created = int(time.time())

    def response_id(self, draft: Draft) -> str:
        return f"{self.prefix}{draft.reply_id}"

    def whole(self, progress: Progress) -> Json:
        choices = [self._choice(i, d, progress) for i, d in enumerate(progress.drafts)]
        return {
            **self._head(progress, self.object_name),
            "choices": choices,
            "usage": progress.usage,
        }

    def chunk(self, progress: Progress, choices: list[Json], usage: Json | None = None) -> Json:
        made = {**self._head(progress, self.chunk_name), "choices": choices}
        return made if usage is None else {**made, "usage": usage}

    @abstractmethod
    def begin(self, number: int, draft: Draft) -> Json:
        """The first chunk of a reply."""

    @abstractmethod
    def delta(self, number: int, draft: Draft, text: str) -> Json: ...

    @abstractmethod
    def end(self, number: int, draft: Draft, progress: Progress) -> Json:
        """The last chunk of a reply: why it ended, and its logprobs."""

    @abstractmethod
    def _choice(self, number: int, draft: Draft, progress: Progress) -> Json: ...

    def _head(self, progress: Progress, name: str) -> Json:
        version = progress.completions[0].plan.view.version
        return {
            "id": self.response_id(progress.drafts[0]),
            "object": name,
            "created": self._created,
            "model": model_id(version),
            "system_fingerprint": model_id(version),
        }

    def _token(self, token_id: int) -> str:
        return str(self._model.tokenizer.decode([token_id]))

    def _tokens(self, draft: Draft, progress: Progress) -> list[TokenLogprob]:
        """Without the token that ends the reply, which is no text."""
        found = progress.logprobs.get(draft.reply_id, ())
        return [one for one in found if one.token_id not in self._model.end_ids]


class ChatShape(Shape):
    prefix = "chatcmpl-"
    object_name, chunk_name = "chat.completion", "chat.completion.chunk"

    def begin(self, number: int, draft: Draft) -> Json:
        return self._piece(number, draft, {"role": "assistant", "content": ""})

    def delta(self, number: int, draft: Draft, text: str) -> Json:
        return self._piece(number, draft, {"content": text})

    def end(self, number: int, draft: Draft, progress: Progress) -> Json:
        ended = {"finish_reason": _finish(draft), "logprobs": self._logprobs(draft, progress)}
        return self._piece(number, draft, {}) | ended

    def _piece(self, number: int, draft: Draft, delta: Json) -> Json:
        empty = {"finish_reason": None, "logprobs": None}
        return {"index": number, "delta": delta, "response_id": self.response_id(draft), **empty}

    def _choice(self, number: int, draft: Draft, progress: Progress) -> Json:
        return {
            "index": number,
            "message": {"role": "assistant", "content": draft.text, "refusal": None},
            "finish_reason": _finish(draft),
            "logprobs": self._logprobs(draft, progress),
            "response_id": self.response_id(draft),
        }

    def _logprobs(self, draft: Draft, progress: Progress) -> Json | None:
        if not self._wants:
            return None
        content = [
            {
                **self._named(one.token_id, one.logprob),
                "top_logprobs": [self._named(*likely) for likely in one.top],
            }
            for one in self._tokens(draft, progress)
        ]
        return {"content": content, "refusal": None}

    def _named(self, token_id: int, logprob: float) -> Json:
        token = self._token(token_id)
        return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


class PromptShape(Shape):
    prefix = "cmpl-"
    object_name = chunk_name = "text_completion"

    def begin(self, number: int, draft: Draft) -> Json:
        return self._piece(number, draft, self._before(number))

    def delta(self, number: int, draft: Draft, text: str) -> Json:
        return self._piece(number, draft, text)

    def end(self, number: int, draft: Draft, progress: Progress) -> Json:
        ended = {"finish_reason": _finish(draft), "logprobs": self._logprobs(draft, progress)}
        return self._piece(number, draft, "") | ended

    def _piece(self, number: int, draft: Draft, text: str) -> Json:
        empty = {"finish_reason": None, "logprobs": None}
        return {"index": number, "text": text, "response_id": self.response_id(draft), **empty}

    def _choice(self, number: int, draft: Draft, progress: Progress) -> Json:
        text = self._before(number) + draft.text
        return self.end(number, draft, progress) | {"text": text}

    def _before(self, number: int) -> str:
        """The prompt of a reply where it is to be repeated."""
        return self._prompts[number] if self._prompts else ""

    def _logprobs(self, draft: Draft, progress: Progress) -> Json | None:
        if not self._wants:
            return None
        found = self._tokens(draft, progress)
        tokens = [self._token(one.token_id) for one in found]
        starts = [sum(map(len, tokens[:i])) for i in range(len(tokens))]
        top = [{self._token(id): value for id, value in one.top} for one in found]
        values = [one.logprob for one in found]
        return {
            "tokens": tokens,
            "token_logprobs": values,
            "top_logprobs": top,
            "text_offset": starts,
        }


def _finish(draft: Draft) -> str:
    return "length" if draft.finish_reason == "length" else "stop"
