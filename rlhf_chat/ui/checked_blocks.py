"""Gradio's Blocks, for requests that no page of ours would make: what a handler is given has the
shape that the page sends, or the request is refused. A handler that fails is one line in the log.
And what a stream drew last is not drawn a second time as it ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

from rlhf_chat.ui.open_routes import describe

log = logging.getLogger(__name__)


class Malformed(gr.Error):
    """A request without the shape that the page sends. Gradio prints no traceback for it."""

    def __init__(self, message: str = "malformed request") -> None:
        super().__init__(message, print_exception=False)


class CheckedBlocks(gr.Blocks):
    before_close: Callable[[], None] | None = None
    state: Callable[[], Any] | None = None  # what the page is drawn from, see changes.py

    def close(self, *args: Any, **more: Any) -> None:
        if self.before_close:
            self.before_close()
        super().close(*args, **more)

    def queue(self, *args: Any, **more: Any) -> Any:
        blocks = super().queue(*args, **more)
        push = self._queue.push

        async def checked_push(body: Any, *args: Any, **more: Any) -> Any:
            if not body.session_hash:  # Gradio would look for another one than it made
                return False, "malformed request", "error"
            return await push(body, *args, **more)

        self._queue.push = checked_push  # type: ignore[method-assign]
        return blocks

    async def process_api(self, block_fn: Any, inputs: Any, *args: Any, **more: Any) -> Any:
        try:
            if block_fn.fn is None or (more.get("event_id") and block_fn.queue is False):
                raise Malformed  # runs in the page alone, or does not wait among replies
            return await super().process_api(block_fn, inputs, *args, **more)
        except gr.Error as error:
            error.print_exception = False  # Gradio's own, for a file that is none of the page's
            raise
        except Exception as error:
            log.error("handler %s: %s", getattr(block_fn, "name", ""), describe(error))
            raise Malformed(type(error).__name__) from error

    async def preprocess_data(
        self, block_fn: Any, inputs: Any, state: Any, explicit_call: bool = False
    ) -> Any:
        blocks = block_fn.inputs
        try:
            if len(inputs) != len(blocks) or not all(map(fits, blocks, inputs)):
                raise Malformed
            inputs = [filled(*pair) for pair in zip(blocks, inputs, strict=True)]
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except Exception as error:
            log.warning("handler %s: its inputs do not fit: %s", block_fn.name, describe(error))
            raise Malformed from error

    def handle_streaming_diffs(
        self,
        block_fn: Any,
        data: list[Any],
        session_hash: str | None,
        run: str | None,
        final: bool,
        simple_format: bool = False,
    ) -> list[Any]:
        """As a stream ends, Gradio sends its last update once more. The page has drawn it by then,
        and may have drawn what the person did since, which it would undo: an empty one is sent."""
        sent = super().handle_streaming_diffs(
            block_fn, data, session_hash, run, final, simple_format
        )
        ended = final and session_hash is not None and run is not None and not simple_format
        return [gr.skip() for _ in sent] if ended else sent


def filled(block: Any, value: Any) -> Any:
    """A text box that is not on the page yet, in a tab nobody has opened or invisible so far, sends
    None; handlers get an empty text."""
    return "" if value is None and isinstance(block, gr.Textbox) else value


def fits(block: Any, value: Any) -> bool:
    """Whether the page could send this as the value of this component."""
    if isinstance(block, gr.Textbox):
        return isinstance(value, str | None)
    if isinstance(block, gr.Number | gr.Slider):
        return isinstance(value, int | float | None)
    if isinstance(block, gr.HTML) and isinstance(block.value, dict):
        return (
            isinstance(value, dict)
            and all(isinstance(value.get(key), type(one)) for key, one in block.value.items())
            and all(_is_turn(turn) for turn in value.get("turns", ()))
        )
    return True


def _is_turn(turn: Any) -> bool:
    """A message of the view, see transcript.py."""
    return isinstance(turn, dict) and {"id", "role"} <= turn.keys()
