"""What a stream drew last is not drawn a second time as it ends."""

from __future__ import annotations

import asyncio

import gradio as gr
from gradio.state_holder import SessionState

from rlhf_chat.ui.checked_blocks import CheckedBlocks


def ends_with(drawn: list[str]) -> tuple[list[object], list[object]]:
    """What is sent while a handler draws `drawn`, and as it ends."""
    with CheckedBlocks() as blocks:
        box, button = gr.Textbox(), gr.Button()
        button.click(lambda: None, None, box)
    handler = next(iter(blocks.fns.values()))
    sent = [blocks.handle_streaming_diffs(handler, [one], "tab", 1, False)[0] for one in drawn]  # type: ignore[arg-type]
    return sent, blocks.handle_streaming_diffs(handler, [None], "tab", 1, True)  # type: ignore[arg-type]


def test_the_end_of_a_stream_draws_nothing():
    sent, last = ends_with(["one", "one and two"])
    assert sent[0] == "one" and sent[1] != "one"
    assert last == [gr.skip()]


def test_a_handler_that_is_no_stream_is_drawn():
    with CheckedBlocks() as blocks:
        box, button = gr.Textbox(), gr.Button()
        button.click(lambda: None, None, box)
    handler = next(iter(blocks.fns.values()))
    assert blocks.handle_streaming_diffs(handler, ["told"], "tab", None, True) == ["told"]


def test_a_text_box_that_is_not_on_the_page_yet_is_empty():
    with CheckedBlocks() as blocks:
        box, number, button = gr.Textbox(), gr.Number(), gr.Button()
        button.click(lambda: None, [box, number], None)
    handler = next(iter(blocks.fns.values()))
    state = SessionState(blocks)
    assert asyncio.run(blocks.preprocess_data(handler, [None, None], state)) == ["", None]
