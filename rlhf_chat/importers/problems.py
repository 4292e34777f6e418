"""Why something in a file is no rating, and how a file is to be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlhf_chat.db import ImportedFeedback
from rlhf_chat.errors import AppError
from rlhf_chat.feedback.kinds import InvalidAnswer

Entry = dict[str, Any]


class UnreadableError(AppError):
    """Why one entry, or a whole file, holds no rating."""


class StreamError(AppError):
    """Why a file cannot be read any further."""


Outcome = ImportedFeedback | UnreadableError  # of one rating

# What reading a field raises when it is missing or of another type.
SHAPE_ERRORS = (
    TypeError,
    ValueError,
    KeyError,
    AttributeError,
    IndexError,
    OverflowError,
    RecursionError,
)


@dataclass(frozen=True)
class Options:
    """What a file does not say itself."""

    aspect: str = ""  # which of several scores is meant; "": the one about the whole reply
    scale: int = 0  # the best score, where the format names none: 5, 10, 100; 0: not known


def attempt(make: Callable[[], ImportedFeedback]) -> Outcome:
    """What `make` returns, or why it could not: one rating of an entry keeps no other one out."""
    try:
        return make()
    except UnreadableError as error:
        return error
    except InvalidAnswer as error:
        return UnreadableError(error.code, **error.params)
    except SHAPE_ERRORS:
        return UnreadableError("imports.wrong_shape")


def asked_aspect(options: Options, known: tuple[str, ...]) -> str:
    """The aspect that is asked of a format that has these; the first one by default."""
    if options.aspect and options.aspect not in known:
        raise UnreadableError("imports.no_aspect", aspect=options.aspect, known=", ".join(known))
    return options.aspect or known[0]
