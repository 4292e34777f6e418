"""Errors as OpenAI's clients read them: a status, and a body with one sentence."""

from __future__ import annotations

import logging
from typing import Any

from starlette.responses import JSONResponse

from rlhf_chat.errors import AppError, DiskFull, ModelError, NotFound, Notice, ReadOnly

log = logging.getLogger(__name__)

STATUS = {NotFound: 404, ModelError: 503, DiskFull: 503, ReadOnly: 503}
TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}
# Of OpenAI, whose clients look for them: the name, and the part of the request that is meant.
CONTEXT = ("context_length_exceeded", "messages")
KNOWN = {
    "api.no_token": ("invalid_api_key", None),
    "chat.message_too_long": CONTEXT,
    "chat.message_far_too_long": CONTEXT,
}


class Refusal(AppError):
    """A request that is refused with this status. `field`: which part of it is wrong."""

    def __init__(self, status: int, code: str, *, field: str = "", **params: Any) -> None:
        super().__init__(code, **params)
        self.status, self.field = status, field


def bad(field: str, code: str, **params: Any) -> Refusal:
    """A part of the request that cannot be used; its name is a parameter of the sentence."""
    return Refusal(400, code, field=field, name=field, **params)


def status_of(error: BaseException) -> int:
    if isinstance(error, Refusal):
        return error.status
    if isinstance(error, AppError):
        return next((s for kind, s in STATUS.items() if isinstance(error, kind)), 400)
    return 500


def body(error: BaseException) -> dict[str, Any]:
    """The error object. What nobody foresaw is in the log, and its words are not sent."""
    status = status_of(error)
    if not isinstance(error, AppError):
        log.error("the API failed", exc_info=error)
    code, field = KNOWN.get(getattr(error, "code", ""), (getattr(error, "code", None), None))
    sentence = str(error if isinstance(error, AppError) else Notice("security.failed"))
    return {
        "error": {
            "message": sentence,
            "type": TYPES.get(status, "invalid_request_error"),
            "param": getattr(error, "field", "") or field,
            "code": code,
        }
    }


def response(error: BaseException) -> JSONResponse:
    status = status_of(error)
    headers = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}}.get(status)
    return JSONResponse(body(error), status, headers)
