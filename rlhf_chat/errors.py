"""Messages for the person: codes with parameters, whose words are in `rlhf_chat.locale`.

Domain code raises an `AppError` or returns a `Notice`; the ui renders either in the language of the
page, and `str()` gives the English text for terminals and logs.
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlhf_chat import locale


@dataclass(frozen=True)
class Notice:
    """A message that is returned: its key in the locale files, and what fills the placeholders."""

    code: str
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return locale.render(self.code, self.params)

    def to_json(self) -> str:
        """As it is stored, to be shown in any language later."""
        return json.dumps(as_plain(self), ensure_ascii=False)


class Refused(Notice):
    """Says why something was not done, where another notice says that it was."""


def as_plain(value: Any) -> Any:
    """A notice, an error, or what they hold, as values that JSON can keep; numbers that are not
    finite become None."""
    if isinstance(value, Notice | AppError):
        return {"code": value.code, "params": as_plain(value.params)}
    if isinstance(value, Mapping):
        return {str(key): as_plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def from_stored(text: str) -> Notice | str:
    """What `Notice.to_json` stored; any other text, as earlier versions wrote it, as it is."""
    try:
        stored = json.loads(text)
        return Notice(str(stored["code"]), dict(stored["params"]))
    except (ValueError, TypeError, KeyError):
        return text


class AppError(Exception):
    """Something the person should know. `str()` is the English text."""

    def __init__(self, code: str, **params: Any) -> None:
        super().__init__(code)
        self.code, self.params = code, params

    def __str__(self) -> str:
        return locale.render(self.code, self.params)

    @property
    def notice(self) -> Notice:
        return Notice(self.code, self.params)


class StoreError(AppError):
    """Something the database refuses or cannot do."""


class ReadOnly(StoreError):
    """The file or its folder cannot be written to."""


class DatabaseTooNew(StoreError):
    """A newer version of the app wrote the file."""


class DatabaseDamaged(StoreError):
    """The file is no readable feedback database."""


class Busy(StoreError):
    """Another program or connection holds the file."""


class DiskFull(StoreError):
    """There is no space left."""


class NotFound(StoreError):
    """What was asked for is not in the database."""


class ModelError(AppError):
    """The model cannot be used."""


class AdapterError(AppError):
    """A version cannot be used."""


class AdapterUnavailable(AdapterError):
    """A version cannot be read now; nothing shows that it is damaged."""


class ExportError(AppError):
    """A version cannot be exported."""


class NumericError(AppError, FloatingPointError):
    """A loss, a gradient or what the base computed is not finite."""


class PortError(AppError):
    """The app cannot listen on the port."""


def disk_is_full(error: BaseException) -> bool:
    """Also where a library passes the system's error on as text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "(os error 28)" in str(error)


def memory_is_short(error: BaseException) -> bool:
    """Of the machine or of a graphics card, without loading torch."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def failure(error: BaseException) -> Notice | None:
    """What to say of an error that is not ours, where its cause has a sentence of its own."""
    if memory_is_short(error):
        return Notice("common.out_of_memory")
    return Notice("common.disk_full") if disk_is_full(error) else None
