"""How handlers are run: settings of events, and threads for those that must answer at once.

Gradio runs ordinary handlers and streaming replies on the same threads. With 50 replies under way
an ordinary rating handler took 9.5 s to be called, an async one with its own threads 0.5 s. So
every short handler here is `async` and does its blocking call through `quick`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

_THREADS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="web-quick")

# Event settings. QUICK: no queue (so no place in line and no bookkeeping), no spinner, not listed
# in the API.
QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# EACH: the same for events that say themselves what was meant: a thumb up or down, a reason, a row
# of a list. Gradio drops an event while the one before is answered ("once"), so of two quick thumbs
# the page showed the second and the first was stored. Not for buttons, where a double click is one.
EACH: dict[str, Any] = {**QUICK, "trigger_mode": "multiple"}
# REPLIES: streams need the queue. The limit stays below launch(max_threads=...), and well above
# the number of tabs a person opens: who waits for the model is told so by the reply itself, not
# left in a silent queue.
REPLIES: dict[str, Any] = {
    "concurrency_id": "replies",
    "concurrency_limit": 40,
    "show_progress": "hidden",
    "api_visibility": "private",
}

# As the `js` of an event whose last input is a hidden box: the browser, not the server, makes the
# id of a click, so that a click sent twice is stored once.
WITH_EVENT_ID = "(...inputs) => [...inputs.slice(0, -1), crypto.randomUUID()]"


def with_event_id(place: int) -> str:
    """The same where the hidden box is not the last input but has others after it."""
    return f"(...inputs) => {{ inputs[{place}] = crypto.randomUUID(); return inputs; }}"


def with_send_id(place: int) -> str:
    """For Send the id is kept for a second while nothing else has changed, so that a double click
    is one message."""
    return f"(...inputs) => {{ inputs[{place}] = window.rlhfSendId(inputs); return inputs; }}"


# At most one update of the page in this many seconds while a reply streams: with 100 messages on
# the page, drawing every token let the browser show 23 tokens/s of 100 offered, this lets it show
# 73.
FRAME_SECONDS = 0.08


async def quick(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run a short blocking call on the window's own threads, in the context of the request (which
    names the language), and await it."""
    run = partial(contextvars.copy_context().run, call, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, run)


def close(stream: Iterator[Any] | None) -> None:
    """End a stream of replies now, so that it stores what it has."""
    ending = getattr(stream, "close", None)
    if ending:
        ending()
