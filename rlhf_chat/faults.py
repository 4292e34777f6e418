"""Named places where a test can make something go wrong. In the app each of them does nothing.

A place is `point("publish.before_rename")`: before or after a step whose failure must not lose what
was acknowledged. tests/faults.py has a case for each and fails where one has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Act = Callable[[], None]  # raises, waits or ends the process

_acts: dict[str, Act] = {}


def point(name: str) -> None:
    """Does what a test has armed here; nothing otherwise."""
    if _acts and (act := _acts.get(name)):
        act()


@contextmanager
def armed(name: str, act: Act) -> Iterator[None]:
    """In this block, `act` is done at the point of that name, in whatever thread passes it."""
    _acts[name] = act
    try:
        yield
    finally:
        _acts.pop(name, None)
