"""The window without a browser: what is open to others, what a handler answers, what text may do.
No drawing here.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import gzip
import io
import json
import random
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio_client.utils import apply_diff

from rlhf_chat import model_list
from rlhf_chat.chat import exporters
from rlhf_chat.chat.compare import Candidates, VoteResult
from rlhf_chat.chat.message_feedback import MessageFeedback
from rlhf_chat.errors import AppError, ExportError, Notice, PortError
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.model_list import ModelChoice
from rlhf_chat.simulation.simulator import Simulation
from rlhf_chat.ui import (
    app,
    attachments_panel,
    charts,
    components,
    learning_summary,
    markdown_escape,
    page_scripts,
    security,
    theme,
    transcript,
    vote_panel,
)
from rlhf_chat.ui import data_screen as data_module
from rlhf_chat.ui.chat_screen import ChatScreen
from rlhf_chat.ui.compare_screen import CompareScreen
from rlhf_chat.ui.data_screen import DataScreen
from rlhf_chat.ui.language import message
from rlhf_chat.ui.learning_screen import LearningScreen
from rlhf_chat.ui.measures import figure, measure_title
from rlhf_chat.ui.prefetch import PrefetchJob
from rlhf_chat.ui.raters_panel import RatersPanel
from rlhf_chat.ui.restart import Restart
from rlhf_chat.ui.simulation_panel import SimulationPanel
from rlhf_chat.ui.status_bar import StatusBar
from rlhf_chat.ui.versions_screen import VersionsScreen
from rlhf_chat.version_export.background import BackgroundExport
from rlhf_chat.version_export.exporter import Exported
from rlhf_chat.versions.provenance import Lapsed
from tests.entered import entered
from tests.fake_app import ToyChat, ToyTrainer, parts

PAYLOADS = (
    "${alert(1)}",
    "{{constructor.constructor('alert(1)')()}}",
    "`${alert(1)}`",
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "\\u003cscript\\u003e",
    "'\"><svg onload=alert(1)>",
    "{{{this}}}",
    "</div><b>x",
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---- what is open to others --------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo() -> gr.Blocks:
    return app.build(*parts(ToyChat()))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    url = app.launch(
        *parts(chat := ToyChat()),
        port=free_port(),
        prevent_thread_lock=True,
        data_dir=tmp_path_factory.mktemp("data"),
    )
    yield chat, url
    app.close()


@pytest.fixture
def url(served) -> str:
    return served[1]


@pytest.fixture
def web(url) -> Iterator[httpx.Client]:
    with entered(url) as client:
        yield client


def test_no_endpoint_is_public(demo):
    assert [fn.api_name for fn in demo.fns.values() if fn.api_visibility == "public"] == []


def test_a_click_that_says_what_was_meant_is_never_dropped(demo):
    """Gradio drops an event while the one before is answered: of two quick thumbs the page showed
    the second and the first was stored. Not so where pressing twice must count once: what a file
    brings, and the welcome, which says nothing."""
    once = {"import-preview", "welcome"}
    told = {fn["id"]: fn["trigger_mode"] for fn in demo.get_config_file()["dependencies"]}
    seen = set()
    for number, fn in demo.fns.items():
        for source, event in fn.targets:
            name = str(getattr(demo.blocks.get(source), "elem_id", ""))
            if event in ("like", "select", "edit", "retry", "example_select") and name not in once:
                seen.add(name)
                assert told[number] == "multiple", (name, event)
    lists = {"bot", "view", "conversations", "reasons", "data", "raters", "versions", "tabs"}
    assert seen >= lists
    comment = [n for n, fn in demo.fns.items() if fn.name == "add_comment"]
    assert [told[n] for n in comment] == ["multiple"]


def test_no_tab_holds_a_connection_open(demo):
    assert demo.get_config_file()["connect_heartbeat"] is False


def test_polls_do_not_queue_and_replies_do(demo):
    assert {fn.queue for fn in demo.fns.values() if fn.concurrency_id == "replies"} == {
        None
    } or all(fn.queue is not False for fn in demo.fns.values() if fn.concurrency_id == "replies")
    others = [fn for fn in demo.fns.values() if fn.concurrency_id != "replies"]
    assert others and all(fn.queue is False for fn in others)


def test_short_handlers_are_async_so_that_streams_cannot_starve_them(demo):
    short = [fn for fn in demo.fns.values() if fn.concurrency_id != "replies" and fn.fn is not None]
    assert [fn.name for fn in short if not asyncio.iscoroutinefunction(fn.fn)] == []


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1:80@evil.example",
        "localhost.evil.example",
    ],
)
def test_a_foreign_host_is_refused(web, host):
    assert web.get("", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_our_own_names_are_served(web, host):
    port = web.base_url.port
    assert web.get("", headers={"Host": f"{host}:{port}"}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost"]
)
@pytest.mark.parametrize(
    "path", ["gradio_api/queue/join", "gradio_api/upload", "gradio_api/run/predict"]
)
def test_a_foreign_origin_is_refused(web, origin, path):
    answer = web.post(path, headers={"Origin": origin}, files={"files": b"x"})
    assert answer.status_code == 403
    assert answer.text == "This request came from another site."


def test_another_sites_page_cannot_ask_but_may_link_here(web):
    cross = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert web.get("config", headers=cross).status_code == 403
    assert web.post("gradio_api/queue/join", headers=cross, json={}).status_code == 403
    link = {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    }
    assert web.get("", headers=link).status_code == 200
    assert web.get("", headers={**link, "Sec-Fetch-Dest": "iframe"}).status_code == 403


def test_every_answer_carries_the_headers_also_refusals(web):
    for answer in (
        web.get(""),
        web.get("nothing-here"),
        web.get("", headers={"Host": "evil.example"}),
    ):
        for name, value in security.HEADERS.items():
            assert answer.headers.get_list(name) == [value]


def test_the_policy_lets_nothing_call_out():
    sources = {part.split()[0]: part.split()[1:] for part in security.POLICY.split("; ")}
    assert sources["default-src"] == ["'self'"] and sources["connect-src"] == ["'self'"]
    assert not any("*" in s or "http" in s for values in sources.values() for s in values)


def test_a_body_above_the_limit_is_refused_announced_or_not(web):
    big = b"x" * (security.BODY_LIMIT + 1)
    assert web.post("gradio_api/run/predict", content=big).status_code == 413

    def drip():
        for _ in range(5):
            yield b"x" * (security.BODY_LIMIT // 4)

    assert web.post("gradio_api/run/predict", content=drip()).status_code == 413


def test_what_gradio_leaves_open_is_closed(web):
    for path in ("docs", "redoc", "openapi.json", "monitoring", "gradio_api/runs"):
        assert web.get(path).status_code in (403, 404), path
    for path in ("/etc/passwd", __file__):
        assert web.get(f"gradio_api/file={path}").status_code == 404


def test_a_page_names_no_other_host(web):
    assert theme.CSS.count("http") == 0 and page_scripts.head().count("http") == 0
    assert "fonts.googleapis" not in web.get("").text


def test_a_port_in_use_is_said_plainly(url, tmp_path):
    port = httpx.URL(url).port
    with pytest.raises(PortError, match=str(port)):
        app.launch(*parts(ToyChat()), port=port, data_dir=tmp_path)


def test_other_machines_are_not_served(tmp_path):
    with pytest.raises(app.NotLocal):
        app.launch(
            *parts(ToyChat()),
            host="0.0.0.0",
            port=free_port(),
            data_dir=tmp_path,
        )


def is_view(drawn: object) -> bool:
    return isinstance(drawn, dict) and {"conversation", "turns"} <= drawn.keys()


class Tab:
    """One tab, spoken to as the page's own script does: raw HTTP."""

    def __init__(self, url: str) -> None:
        self.http = entered(url)
        self.session = uuid.uuid4().hex[:10]

    def number(self, name: str) -> int:
        return next(i for i, fn in app._running.fns.items() if fn.name == name)

    def call(self, name: str, data: list, event: dict | None = None) -> dict:
        body = {"fn_index": self.number(name), "session_hash": self.session, "data": data}
        answer = self.http.post("gradio_api/run/predict", json={**body, "event_data": event})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _join(self, text: str) -> dict:
        view = {"conversation": "", "turns": [], "sent": False}
        body = {"fn_index": self.number("send"), "session_hash": self.session}
        body["data"] = [text, view, uuid.uuid4().hex, attachments_panel.NOTHING]
        assert self.http.post("gradio_api/queue/join", json=body).status_code == 200
        return view

    def told_by_send(self, text: str) -> str:
        """All that the page is sent."""
        self._join(text)
        query = {"session_hash": self.session}
        lines: list[str] = []
        with self.http.stream("GET", "gradio_api/queue/data", params=query) as stream:
            for line in stream.iter_lines():
                lines.append(json.dumps(json.loads(line[6:] or "{}"), ensure_ascii=False))
                if '"process_completed"' in line:
                    break
        return "".join(lines)

    def send(self, text: str) -> dict:
        """The view after the whole reply."""
        view, drawn = self._join(text), []
        query = {"session_hash": self.session}
        with self.http.stream("GET", "gradio_api/queue/data", params=query) as lines:
            for line in lines.iter_lines():
                told = json.loads(line[6:]) if line.startswith("data: ") else {}
                if told.get("msg") == "process_completed":
                    return next((d for d in drawn if is_view(d)), view)
                if told.get("msg") == "process_generating":
                    data = told["output"]["data"]
                    drawn = list(map(apply_diff, drawn, data)) if drawn else data
        raise AssertionError("the reply did not end")


def test_twenty_tabs_chat_and_rate_at_once_and_none_hears_another(served):
    chat, url = served

    def one(number: int) -> None:
        tab = Tab(url)
        for turn in range(3):
            prompt = f"echo tab {number} turn {turn}"
            view = tab.send(prompt)
            rated = next(t for t in view["turns"] if t["role"] == "assistant" and t["id"])
            event = {"index": 1, "value": ["x"], "liked": True}
            tab.call("rate", [view, "me", uuid.uuid4().hex], event)
            assert chat.rated[rated["id"]][0] == 1
            turns = [t.content.strip() for t in chat.conversations.history(view["conversation"])]
            assert turns == [prompt, prompt.removeprefix("echo ")]

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(one, range(20)))


# ---- what a handler answers --------------------------------------------------------------------


def test_the_answer_to_a_page_that_loads_clears_no_note():
    """It comes late on a busy machine: "Write something first" was gone before it could be read."""
    tab = Screen()
    assert asyncio.run(tab.screen.load(tab.request))[tab.screen.note] == gr.skip()
    unknown = SimpleNamespace(session_hash="tab", query_params={"c": "gone"})
    assert asyncio.run(tab.screen.load(unknown))[tab.screen.note]["text"]


class Screen:
    """A chat screen and one tab, driven as Gradio drives it."""

    def __init__(self, **kwargs) -> None:
        self.chat = ToyChat(word_seconds=0, **kwargs)
        self.screen = ChatScreen(self.chat, self.chat.worker)
        with gr.Blocks() as demo, gr.Tabs() as tabs, gr.Tab("Chat"):
            self.screen.conversations.lay_out()
            self.screen.lay_out()
            self.screen.wire(demo, tabs, gr.Textbox("me"))
        self.request = SimpleNamespace(session_hash="tab", query_params={})
        self.view = {"conversation": "", "turns": [], "sent": False}
        self.note = self.message = None

    def _take(self, update: dict) -> dict:
        if (
            isinstance(update.get(self.screen.view), dict)
            and "conversation" in update[self.screen.view]
        ):
            self.view = update[self.screen.view]
        note = update.get(self.screen.note)
        self.note = note["text"] if isinstance(note, dict) and "text" in note else self.note
        self.message = update.get(self.screen.message, self.message)
        return update

    def take(self, updates) -> list[dict]:
        return [self._take(update) for update in updates]

    def send(self, text: str, event_id: str = "") -> list[dict]:
        return self.take(self.screen.replying.send(text, self.view, event_id, self.request))

    def edit(self, index: int, value: str, draft: str = "", rater: str = "me") -> list[dict]:
        """`draft`: what stands in the message box meanwhile."""
        before = self.chat.conversations.history(self.view["conversation"])[index].content
        event = SimpleNamespace(
            index=index, value=value, previous_value=markdown_escape.shown(before)
        )
        replying = self.screen.replying
        return self.take(replying.edit(self.view, rater, draft, self.request, event))

    def rate(self, index: int, liked, event_id: str = "") -> dict:
        return self._take(
            asyncio.run(
                self.screen.ratings.rate(
                    self.view, "me", event_id, SimpleNamespace(index=index, liked=liked)
                )
            )
        )


def test_a_reply_is_stored_shown_and_stamped_with_its_version():
    tab = Screen()
    tab.send("hello")
    assert [turn["role"] for turn in tab.view["turns"]] == ["user", "assistant"]
    assert tab.view["turns"][1]["stamp"].startswith("v1")
    assert tab.message == "" and tab.view["conversation"] == tab.chat.conversations.all()[0].id


@pytest.mark.parametrize("text", ["", "   \n", "x" * 100_000])
def test_a_refused_message_gets_one_sentence_and_nothing_is_lost(text):
    tab = Screen()
    updates = tab.send(text)
    assert tab.note and "Traceback" not in tab.note and len(tab.note) < 200
    assert all(
        tab.screen.message not in update for update in updates
    )  # the box keeps what was typed
    assert tab.chat.conversations.all() == [] and tab.view["conversation"] == ""


def test_a_double_click_on_send_is_one_message():
    tab = Screen()
    tab.send("hello", "one-click")
    tab.send("hello", "one-click")
    assert len(tab.chat.conversations.all()) == 1 and len(tab.view["turns"]) == 2


def test_a_second_message_waits_while_a_reply_is_written():
    tab = Screen()
    tab.send("first")
    tab.chat.go.clear()
    running = tab.screen.replying.send("second", tab.view, "", tab.request)
    next(running)
    tab.take(tab.screen.replying.send("third", tab.view, "", tab.request))
    assert "still being written" in tab.note
    tab.chat.go.set()
    tab.take(running)
    assert [
        t.content
        for t in tab.chat.conversations.history(tab.view["conversation"])
        if t.role == "user"
    ] == [
        "first",
        "second",
    ]


def test_stop_keeps_what_was_written():
    tab = Screen()
    tab.chat.word_seconds = 0.02
    running = tab.screen.replying.send("hello", tab.view, "", tab.request)
    tab._take(next(running))
    threading.Timer(0.3, lambda: asyncio.run(tab.screen.replying.stop(tab.view))).start()
    tab.take(running)
    last = tab.chat.conversations.history(tab.view["conversation"])[-1]
    assert last.finish_reason == "cancelled" and last.content and "kept" in tab.note


def test_a_closed_tab_ends_the_reply_and_keeps_it():
    tab = Screen()
    tab.screen.presence.grace, tab.chat.word_seconds = 0.1, 0.05
    running = tab.screen.replying.send("long story", tab.view, "", tab.request)
    tab._take(next(running))
    next(running)
    reply = tab.screen.presence.reply(tab.view["conversation"])
    running.close()
    assert reply.ended.wait(20)
    last = tab.chat.conversations.history(tab.view["conversation"])[-1]
    assert last.finish_reason == "cancelled" and last.content
    assert not tab.screen.presence._under_way


def test_a_reply_goes_on_without_its_tab_and_a_reloaded_page_shows_it_whole():
    tab, again = Screen(), SimpleNamespace(session_hash="reloaded", query_params={})
    tab.chat.word_seconds = 0.01
    running = tab.screen.replying.send("hello", tab.view, "", tab.request)
    tab._take(next(running))
    running.close()
    again.query_params["c"] = tab.view["conversation"]
    loaded = asyncio.run(tab.screen.load(again))
    assert loaded[tab.screen.stop_button]["visible"]
    updates = list(tab.screen.replying.follow(loaded[tab.screen.view], again))
    last = tab.chat.conversations.history(tab.view["conversation"])[-1]
    assert last.finish_reason == "stop" and len(updates) > 3
    assert updates[-1][tab.screen.view]["turns"][-1]["id"] == last.message_id
    assert updates[-1][tab.screen.send_button]["visible"]
    assert not tab.screen.presence._under_way


def test_what_there_is_of_a_reply_is_kept_when_the_app_ends():
    tab = Screen()
    tab.chat.word_seconds = 0.05
    running = tab.screen.replying.send("hello", tab.view, "", tab.request)
    tab._take(next(running))
    next(running)
    tab.screen.presence.stop_all()
    last = tab.chat.conversations.history(tab.view["conversation"])[-1]
    assert last.finish_reason == "cancelled" and last.content
    tab.take(running)


def test_a_cut_reply_offers_to_continue_and_grows_in_its_place():
    tab = Screen()
    updates = tab.send("cut one two three four")
    [offer] = updates[-1][tab.screen.bot]["value"][-1]["options"]
    assert (offer["value"], offer["label"]) == ("continue", "Continue")
    cut = tab.view["turns"][-1]["id"]
    drawn = tab.take(tab.screen.replying.continue_reply(tab.view, tab.request))
    assert drawn[0][tab.screen.bot]["value"][-1]["content"][0]["text"].startswith("one two")
    assert [t.content for t in tab.chat.conversations.history(tab.view["conversation"])] == [
        "cut one two three four",
        "one two three four ",
    ]
    assert tab.view["turns"][-1]["id"] != cut and tab.view["turns"][-1]["siblings"] == 1
    assert not drawn[-1][tab.screen.bot]["value"][-1].get("options")


def test_it_is_told_that_a_continued_reply_leaves_its_rating_behind():
    tab = Screen()
    tab.send("cut one two three four")
    tab.rate(1, True)
    tab.take(tab.screen.replying.continue_reply(tab.view, tab.request))
    assert "keeps its rating" in tab.note


def test_a_whole_reply_offers_nothing_to_continue():
    tab = Screen()
    assert not tab.send("hello")[-1][tab.screen.bot]["value"][-1].get("options")


def test_a_reply_does_not_draw_into_another_conversation():
    tab = Screen()
    tab.chat.go.clear()
    running = tab.screen.replying.send("hello", tab.view, "", tab.request)
    tab._take(next(running))
    first = tab.view["conversation"]
    asyncio.run(tab.screen.start_new(tab.request))
    tab.chat.go.set()
    assert list(running) == []  # nothing more for this tab
    assert (
        tab.chat.conversations.history(first)[-1].finish_reason == "stop"
    )  # but the reply was finished and kept


def test_a_reply_that_breaks_off_says_so():
    tab = Screen()
    tab.send("fail")
    assert "not enough memory" in tab.note


@pytest.mark.parametrize(("liked", "value"), [(True, 1), (False, -1), ("", 0)])
def test_a_thumb_has_three_values(liked, value):
    tab = Screen()
    tab.send("hello")
    tab.rate(1, liked)
    assert [event[1] for event in tab.chat.rating_events] == [value]


def test_a_reason_and_a_comment_add_to_the_thumb():
    tab = Screen()
    tab.send("hello")
    chips = tab.rate(1, False)[tab.screen.ratings.chips]
    assert ["Too long", "Too long"] in chips["choices"]
    update = asyncio.run(
        tab.screen.ratings.add_reason(
            chips, "half as much", "me", SimpleNamespace(reason="Too long")
        )
    )
    tab._take(update)
    assert list(tab.chat.rated.values()) == [
        (-1, "Too long", "half as much")
    ] and tab.note.startswith("Saved")
    asyncio.run(tab.screen.ratings.add_reason(chips, "", "me", SimpleNamespace(reason="<script>")))
    assert list(tab.chat.rated.values()) == [(-1, "Too long", "half as much")]


def test_stars_are_given_and_taken_back_beside_the_thumb():
    tab = Screen()
    tab.send("hello")
    chips = tab.rate(1, True)[tab.screen.ratings.chips]
    given = asyncio.run(tab.screen.ratings.add_reason(chips, "", "me", SimpleNamespace(stars=4)))
    assert list(tab.chat.stars.values()) == [4] and "4 of 5" in given[tab.screen.note]["text"]
    back = asyncio.run(
        tab.screen.ratings.add_reason(
            given[tab.screen.ratings.chips], "", "me", SimpleNamespace(stars=4)
        )
    )
    assert list(tab.chat.stars.values()) == [0] and "withdrawn" in back[tab.screen.note]["text"]


def test_editing_a_reply_corrects_it_and_counts_as_a_rating():
    tab = Screen()
    tab.send("hello")
    tab.edit(1, "Good day.")
    assert list(tab.chat.corrected.values()) == ["Good day."] and tab.note.startswith("Saved")
    turn = tab.view["turns"][1]
    assert (turn["siblings"], turn["stamp"]) == (2, "corrected by you")
    tab.edit(1, "Good day.")
    assert tab.note.startswith("Not saved. Nothing was changed")


def test_why_shows_each_word_and_escapes_it():
    tab = Screen()
    tab.send("hello")
    reply = tab.view["turns"][1]["id"]
    tab.chat._nodes[reply].text = "<b>bold</b> words"
    shown = asyncio.run(tab.screen.on_view(tab.view, SimpleNamespace(explain=reply)))
    drawn = shown[tab.screen.heat]
    assert "&lt;b&gt;bold" in drawn and "<b>" not in drawn and 'class="up"' in drawn


def test_saved_is_only_said_when_it_was_saved():
    tab = Screen()
    tab.send("hello")
    tab.chat.refuse_ratings = "The disk is full."
    tab.rate(1, True)
    assert tab.note == "Not saved. The disk is full."


def test_a_rating_without_a_message_is_refused():
    tab = Screen()
    tab.send("hello")
    tab.rate(7, True)
    assert not tab.chat.rating_events and tab.note


def test_regenerate_and_edit_keep_the_others_as_siblings():
    tab = Screen()
    tab.send("hello")
    tab.take(tab.screen.replying.regenerate(tab.view, tab.request, SimpleNamespace(index=0)))
    assert (tab.view["turns"][1]["sibling"], tab.view["turns"][1]["siblings"]) == (2, 2)
    tab.edit(0, "good day")
    assert tab.view["turns"][0]["siblings"] == 2
    tab._take(
        asyncio.run(
            tab.screen.on_view(
                tab.view, SimpleNamespace(message_id=tab.view["turns"][0]["sibling_ids"][0])
            )
        )
    )
    assert tab.chat.conversations.history(tab.view["conversation"])[0].content == "hello"


def test_a_refused_edit_waits_in_the_message_box():
    tab = Screen()
    tab.send("hello")
    tab.edit(0, "x" * 9000)
    assert tab.message == "x" * 9000 and "too long" in tab.note
    assert len(tab.view["turns"]) == 2


def test_a_refused_wording_waits_in_the_message_box_below_what_stands_there():
    tab = Screen()
    tab.send("hello")
    reply = tab.chat.conversations.history(tab.view["conversation"])[1].content
    for index, value, draft, waits in (
        (0, "x" * 9000, "", "x" * 9000),
        (0, "x" * 9000, "a draft ", "a draft\n\n" + "x" * 9000),
        (0, "  ", "", None),
        (1, "x" * 9000, "a draft", "a draft\n\n" + "x" * 9000),
        (1, "x" * 9000, " ", "x" * 9000),
        (1, "\n", "", None),
        (1, reply, "", None),  # nothing was changed, so nothing is lost
    ):
        updates = tab.edit(index, value, draft)
        boxes = [u[tab.screen.message] for u in updates if tab.screen.message in u]
        assert boxes == ([waits] if waits else []), (index, value[:5], draft)
        assert tab.note and len(tab.view["turns"]) == 2
    tab.edit(1, "Good day.")
    assert tab.note.startswith("Saved") and tab.message == "x" * 9000  # of the last that waited


def test_a_comment_that_was_not_saved_stays_in_its_box():
    tab = Screen()
    tab.send("hello")
    ratings = tab.screen.ratings
    chips = tab.rate(1, True)[ratings.chips]
    tab.chat.refuse_ratings = "The disk is full."
    told = asyncio.run(ratings.add_comment(chips, "so short", "me"))
    assert told[tab.screen.note]["text"] == "Not saved. The disk is full."
    assert ratings.chips not in told and ratings.comment not in told
    tab.chat.refuse_ratings = ""
    told = asyncio.run(ratings.add_comment(chips, "so short", "me"))
    assert not told[ratings.chips]["id"]


def test_a_starter_leaves_the_message_box_alone():
    tab = Screen()
    chosen = SimpleNamespace(value={"text": "hello"})
    updates = tab.take(tab.screen.replying.send_example(tab.view, "id", tab.request, chosen))
    assert all(tab.screen.message not in update for update in updates)
    sent = [u[tab.screen.view]["sent"] for u in updates if tab.screen.view in u]
    assert sent and not any(sent)  # `sent` would forget the draft
    assert len(tab.view["turns"]) == 2 and tab.screen.conversations.list in updates[0]
    assert tab.send("and this")[0][tab.screen.message] == ""


def test_the_thumbs_are_sent_with_each_new_value():
    tab = Screen()
    tab.send("hello")
    tab.rate(1, True)
    first = tab.send("again")[0][tab.screen.bot]
    assert first["feedback_value"] == ["Like", None]
    assert asyncio.run(
        tab.screen.load(
            SimpleNamespace(session_hash="new", query_params={"c": tab.view["conversation"]})
        )
    )[tab.screen.bot]["feedback_value"] == ["Like", None]


def test_an_unknown_conversation_opens_an_empty_one():
    tab = Screen()
    tab._take(
        asyncio.run(
            tab.screen.load(SimpleNamespace(session_hash="tab", query_params={"c": "<b>no</b>"}))
        )
    )
    assert tab.view["conversation"] == "" and "not here" in tab.note


def deleted_elsewhere(tab: Screen) -> str:
    """A conversation with a liked reply, open here and deleted on another screen; its id."""
    tab.send("hello")
    tab.rate(1, True)
    gone = tab.view["conversation"]
    tab.chat.conversations.delete(gone)
    return gone


def test_what_was_deleted_elsewhere_leaves_the_page_and_the_list_when_chat_is_opened():
    tab = Screen()
    deleted_elsewhere(tab)
    update = tab._take(asyncio.run(tab.screen.reread(tab.view, tab.request)))
    assert (tab.view["conversation"], tab.view["turns"]) == ("", [])
    assert update[tab.screen.bot]["value"] == [] and "not here" in tab.note
    assert update[tab.screen.conversations.list]["rows"] == []


@pytest.mark.parametrize("how", ["in another tab", "on Data"])
def test_a_chat_deleted_while_its_reply_is_written_leaves_the_page(how):
    tab, other = Screen(), SimpleNamespace(session_hash="other", query_params={})
    screen = tab.screen
    tab.chat.go.clear()
    running = screen.replying.send("hello", tab.view, "", tab.request)
    tab._take(next(running))
    gone = tab.view["conversation"]
    along = screen.replying.follow(tab.view, SimpleNamespace(session_hash="third"))
    next(along), next(along)
    if how == "on Data":
        tab.chat.conversations.delete(gone)
    else:
        chosen = SimpleNamespace(do="delete", id=gone)
        elsewhere = {"conversation": "", "turns": []}
        asyncio.run(screen.on_list(elsewhere, other, chosen))
        assert screen.presence.reply(gone).stop.is_set()  # nobody waits for the rest of it
    tab.chat.go.set()
    for update in (tab.take(running)[-1], list(along)[-1]):
        assert "not here" in update[screen.note]["text"]
        assert update[screen.view]["conversation"] == ""
        assert update[screen.send_button]["visible"] and not update[screen.stop_button]["visible"]


def test_what_was_deleted_before_one_could_watch_its_reply_leaves_the_page():
    tab = Screen()
    tab.chat.go.clear()
    running = tab.screen.replying.send("hello", tab.view, "", tab.request)
    tab._take(next(running))
    tab.chat.conversations.delete(tab.view["conversation"])
    along = tab.screen.replying.follow(tab.view, SimpleNamespace(session_hash="other"))
    next(along)
    tab.chat.go.set()
    update = list(along)[-1]
    assert update[tab.screen.view]["conversation"] == "" and "not here" in str(
        update[tab.screen.note]
    )


def test_a_message_to_what_was_deleted_elsewhere_is_kept_and_can_be_sent_again():
    tab = Screen()
    gone = deleted_elsewhere(tab)
    [update] = tab.send("are you there?")
    assert "not here" in tab.note and tab.view["conversation"] == ""
    assert tab.screen.message not in update  # the box keeps what was typed
    tab.send("are you there?")
    assert tab.view["conversation"] not in ("", gone) and len(tab.view["turns"]) == 2


def test_a_thumb_on_what_was_deleted_elsewhere_is_refused_in_words():
    tab = Screen()
    deleted_elsewhere(tab)
    tab.chat.refuse_ratings = "This message is not here any more."
    update = tab.rate(1, False)
    assert tab.note == "Not saved. This message is not here any more."
    assert update[tab.screen.bot]["value"] == []


def test_a_thumb_taken_back_elsewhere_goes_out_when_chat_is_opened():
    tab = Screen()
    tab.send("hello")
    untouched = asyncio.run(tab.screen.reread(tab.view, tab.request))
    assert tab.screen.bot not in untouched  # a page that is right is not drawn again
    tab.rate(1, True)
    [told] = tab.chat.ratings.all()
    tab.chat.ratings.change(told, "withdrawn")
    update = asyncio.run(tab.screen.reread(tab.view, tab.request))
    assert update[tab.screen.bot]["feedback_value"] == [None]


def test_opening_chat_leaves_a_reply_under_way_alone():
    tab = Screen()
    tab.chat.go.clear()
    running = tab.screen.replying.send("hello", tab.view, "", tab.request)
    tab._take(next(running))
    assert set(asyncio.run(tab.screen.reread(tab.view, tab.request))) == {
        tab.screen.conversations.list
    }
    tab.chat.go.set()
    tab.take(running)


def test_a_message_is_sent_byte_for_byte():
    tab = Screen()
    text = "x\n\tall:\n\t\tgcc x"
    tab.send(text)
    shown = transcript.bubbles(tab.chat.conversations.history(tab.view["conversation"]))
    [part] = shown[0]["content"]
    assert part["type"] == "text" and markdown_escape.raw(part["text"]) == text


def test_an_unexpected_error_shows_no_traceback(caplog):
    tab = Screen()
    tab.send("hello")
    tab.chat.rate = lambda *a, **k: 1 / 0
    tab.rate(1, True)
    assert tab.note.startswith("Not saved.") and "division" not in tab.note


TAGS = (
    "vector<int> v; if (a<b",
    "<div></div>",
    "List<String>",
    "&lt;div&gt; &amp; & a&b",
    "Inline `a<b>c` and a lone ` tick <b>\n\nnext ` tick <i>",
    "```\nstd::vector<int> v;\n```\nthen <b>",
    "- point\n  ```py\n  a<b>\n  ```\n  <c>",
    "x\n\n    indented<code>\n\n<d>",
    "- a\n\n    <p>a paragraph of the point</p>",
    "> `a\n> <b>`\n<c>",
    "![x](/pwa_icon/3000) \\![y](z) \\\\![z][1] `![code](a)` a ! [b](c)!",
    "```mermaid\ngraph LR\n```",
    "```cpp\nint x;\n```",
    "\\`<z>` \\\\`<z>`",
    *PAYLOADS,
)


@pytest.mark.parametrize("text", TAGS)
def test_what_was_written_can_be_had_back_from_what_is_shown(text):
    assert markdown_escape.raw(markdown_escape.shown(text)) == text
    assert markdown_escape.raw(markdown_escape.literal(text)) == text


FORMULA = re.compile("[\ue0f0\ue0f2\ue0f4\ue0f6](.+?)[\ue0f1\ue0f3\ue0f5\ue0f7]", re.DOTALL)


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        ("It is $E=mc^2$, and \\(a_1 < b\\).", ["E=mc^2", "a_1 < b"]),
        ("($n$) or $x$, $O(n)$: $3$", ["n", "x", "O(n)", "3"]),
        ("$$\n\\frac{a}{b}\n+ c\n$$\n\n\\[x\n- y\\]", ["\n\\frac{a}{b}\n+ c\n", "x\n- y"]),
        ("- $$x$$\n- $\\alpha$", ["x", "\\alpha"]),
        ("$5 and $6", []),
        ("from $5-$10 or US$5 to US$6, 5$ or 6$", []),
        ("$5/$6, ($5 or more, 10$)", []),
        ("$HOME/bin and $PATH; \\$x$", []),
        ("`$x$` and\n```\n$y$\n\\(z\\)\n```\n\n    $w$", []),
        ("a \\\\(b\\\\)", []),
        ("$$ is a lot\n\n```\na<b\n```", []),
        ("\\[ open\n\n```\na<b\n```", []),
    ],
)
def test_maths_is_told_from_prices_and_code(text, formulas):
    shown = markdown_escape.shown(text)
    assert FORMULA.findall(shown) == formulas and markdown_escape.raw(shown) == text


@pytest.mark.parametrize(
    "text", ["\\(x\\) *a* _b_ `c`", "# x\n- y\n    z\n1. <b>", "|a|\n|-|", "http://x.org", "$x$"]
)
def test_a_persons_own_text_holds_nothing_that_markdown_reads(text):
    drawn = transcript.bubble("user", text)["content"][0]["text"]
    assert re.fullmatch(r"(?:\w| |&#x0\w{4};)*", drawn) and markdown_escape.raw(drawn) == text


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("vector<int> v; if (a<b", []),
        ("`a<b>c` <d>", ["<b>"]),
        ("```\n<a>\n```\n<b>", ["<a>"]),
        ("- x\n  ~~~py\n  <a>\n  ~~~\n  <b>", ["<a>"]),
        ("a `\n\n` <b>", []),
        ("x\n\n    <a>\n\n<b>", ["<a>"]),
        ("- x\n\n    <a>", []),
        ("<https://example.org>", ["<https://example.org>"]),
        ("<!-- a --> <script>x</script> <img src=x>", []),
    ],
)
def test_outside_code_nothing_is_a_tag_and_inside_code_nothing_is_changed(text, tags):
    assert re.findall(r"<[^>]*>?", markdown_escape.shown(text)) == tags


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("![v](/pwa_icon/3000)", 0),
        ("![a][b] ![c] *![d](e)*\n\n[b]: http://x", 0),
        ("[![badge](http://x)](http://y)", 0),
        ("- ![a](b)\n> ![c](d)\n\n| ![e](f) |\n", 0),
        ("\\\\![a](b)", 0),
        ("`![a](b)`\n```\n![c](d)\n```", 2),
    ],
)
def test_an_image_outside_code_is_a_link_whatever_its_host(text, images):
    shown = markdown_escape.shown(text)
    assert shown.count("![") == images and markdown_escape.raw(shown) == text
    assert shown.count("[") == text.count("[")


def test_the_policy_lets_the_page_fetch_no_image():
    assert "img-src data: blob:" in security.POLICY.split("; ")


def test_a_written_entity_is_shown_as_it_was_written():
    assert (
        "&lt;" not in markdown_escape.shown("&lt;b&gt;")
        and markdown_escape.shown("a & b") == "a & b"
    )


def test_a_word_after_a_fence_runs_no_program():
    assert not re.search(r"```mermaid\s*\n", markdown_escape.shown("```mermaid\ngraph LR\n```"))


ODD = ["`", "<", "&a;", " ", "> ", "- ", "```\n", "\\", "1. ", "$", "$a ", "\\(", "\\[", "$$\n"]


@pytest.mark.parametrize("piece", ODD)
def test_long_odd_text_is_made_ready_at_once(piece):
    began = time.process_time()
    markdown_escape.shown(piece * (60_000 // len(piece)))
    markdown_escape.shown(" ".join("`" * i for i in range(300)))
    assert time.process_time() - began < 2


def test_drafts_show_every_character_too():
    screen, _ = compare_screen()
    *_, last = own(screen, "echo vector<int>")
    assert markdown_escape.raw(last[screen.panes[0]]).strip() == "vector<int>"
    assert "<" not in last[screen.panes[0]]


def test_an_edit_that_comes_back_as_it_was_shown_is_what_was_written():
    tab = Screen()
    tab.send("hello")
    shown = transcript.bubble("user", "vector<int>")["content"][0]["text"]
    tab.edit(0, shown)
    assert tab.chat.conversations.history(tab.view["conversation"])[0].content == "vector<int>"


def test_a_reply_that_cannot_be_stored_does_not_lock_the_conversation():
    tab = Screen()
    tab.send("hello")

    class Full:
        def __iter__(self):
            return self

        def __next__(self):
            raise RuntimeError("broken")

        def close(self):
            raise OSError("No space left on device")

    reply, tab.chat.reply = tab.chat.reply, lambda *args, **more: Full()
    tab.send("again")
    assert "OSError" in tab.note
    tab.chat.reply = reply
    tab.send("and again")
    assert len(tab.view["turns"]) == 4


@pytest.mark.parametrize(
    ("typed", "stored"), [(" Ada ", "Ada"), ("", "me"), ("simulated:x", "simulated x")]
)
def test_an_answer_is_stored_under_the_name_as_it_is_tidied(typed, stored, monkeypatch):
    tab = Screen()
    tab.send("hello")
    ratings, names = tab.screen.ratings, []
    for act in ("rate", "score", "correct"):
        monkeypatch.setattr(
            tab.chat, act, lambda *given, rater, **more: names.append(rater), raising=True
        )
    monkeypatch.setattr(tab.chat, "of", lambda _, rater: names.append(rater) or MessageFeedback(1))
    click = SimpleNamespace(index=1, liked=True)
    chips = asyncio.run(ratings.rate(tab.view, typed, "id", click))[ratings.chips]
    asyncio.run(ratings.add_reason(chips, "", typed, SimpleNamespace(stars=4)))
    asyncio.run(ratings.add_reason(chips, "", typed, SimpleNamespace(reason="Helpful")))
    asyncio.run(ratings.add_comment(chips, "short", typed))
    asyncio.run(ratings.opened(chips["id"], typed))
    tab.edit(1, "Good day.", rater=typed)
    asyncio.run(tab.screen.rename(tab.view, typed, tab.request))
    assert tab.screen.presence.named("tab") == stored
    assert names == [stored] * 7


def test_the_thumbs_shown_are_those_of_who_rates_here():
    tab = Screen()
    tab.send("hello")
    tab.rate(1, True)
    conversation = tab.view["conversation"]
    renamed = tab._take(asyncio.run(tab.screen.rename(tab.view, "Ada", tab.request)))
    assert renamed[tab.screen.bot]["feedback_value"] == [None] and tab.view["rater"] == "Ada"
    update = tab.send("again")[-1]
    assert update[tab.screen.bot]["feedback_value"] == [None, None]
    opened = tab._take(asyncio.run(tab.screen.open(conversation, tab.request)))
    assert opened[tab.screen.bot]["feedback_value"] == [None, None]
    asked = SimpleNamespace(session_hash="tab", query_params={"c": conversation})
    assert asyncio.run(tab.screen.load(asked, "me"))[tab.screen.bot]["feedback_value"][0] == "Like"


def test_a_renamed_tab_shows_its_own_thumbs_at_the_end_of_a_reply():
    tab = Screen()
    tab.send("hello")
    tab.rate(1, True)
    running = tab.screen.replying.send("second", tab.view, "", tab.request)
    tab._take(next(running))
    renamed = asyncio.run(tab.screen.rename(tab.view, "Ada", tab.request))
    assert tab.screen.bot not in renamed  # what is being written stays on the page
    assert tab.take(running)[-1][tab.screen.bot]["feedback_value"] == [None, None]


def test_what_a_reply_opened_is_put_away_with_it():
    tab = Screen()
    tab.send("hello")
    tab.take(tab.screen.replying.regenerate(tab.view, tab.request, SimpleNamespace(index=0)))
    sibling = tab.view["turns"][1]["sibling_ids"][0]
    updates = [
        asyncio.run(tab.screen.on_view(tab.view, SimpleNamespace(message_id=sibling))),
        asyncio.run(tab.screen.open(tab.view["conversation"], tab.request)),
        asyncio.run(tab.screen.start_new(tab.request)),
        *tab.edit(1, "Good day."),
    ]
    for update in updates:
        assert update[tab.screen.heat] == "" and not update[tab.screen.ratings.chips]["id"]
    assert asyncio.run(tab.screen.on_view(tab.view, SimpleNamespace(shut="yes"))) == {
        tab.screen.heat: ""
    }


def test_a_reason_pressed_again_is_taken_back_and_said_so():
    tab = Screen()
    tab.send("hello")
    ratings = tab.screen.ratings
    chips = tab.rate(1, False)[ratings.chips]
    press = SimpleNamespace(reason="Too long")
    chosen = asyncio.run(ratings.add_reason(chips, "", "me", press))[ratings.chips]
    tab._take(asyncio.run(ratings.add_reason(chosen, "", "me", press)))
    assert tab.note == "Reason withdrawn." and list(tab.chat.rated.values()) == [(-1, "", "")]


def test_the_panel_opens_with_what_was_said_and_stars_need_no_thumb():
    tab = Screen()
    tab.send("hello")
    ratings, asked = tab.screen.ratings, SimpleNamespace(rate=tab.view["turns"][1]["id"])
    opened = asyncio.run(tab.screen.on_view(tab.view, asked))
    assert opened[ratings.chips]["id"] == asked.rate and not opened[ratings.comment]["visible"]
    assert opened[ratings.chips]["choices"] == []
    asyncio.run(ratings.add_reason(opened[ratings.chips], "", "me", SimpleNamespace(stars=4)))
    assert not tab.chat.rated
    again = tab.rate(1, True)
    assert again[ratings.chips]["stars"] == 4 and again[ratings.comment]["visible"]
    back = asyncio.run(ratings.add_reason(again[ratings.chips], "", "me", SimpleNamespace(stars=4)))
    assert "withdrawn" in back[tab.screen.note]["text"]
    shut = asyncio.run(ratings.add_reason(again[ratings.chips], "", "me", SimpleNamespace(shut=1)))
    assert not shut[ratings.chips]["id"]


def test_words_without_a_thumb_take_nothing_back():
    tab = Screen()
    tab.send("hello")
    ratings, asked = tab.screen.ratings, SimpleNamespace(rate=tab.view["turns"][1]["id"])
    chips = asyncio.run(tab.screen.on_view(tab.view, asked))[ratings.chips]
    asyncio.run(ratings.add_comment(chips, "nice", "me"))
    assert not tab.chat.rating_events


@pytest.mark.parametrize(
    ("asked", "kept", "told"),
    [
        ((-3, 0.9, 40, 96), (0, 0.9, 40, 96), "Temperature was set to 0"),
        ((1, 7, 40, 96), (1, 1, 40, 96), "Top-p was set to 1"),
        ((1, 0.9, 40, 9999), (1, 0.9, 40, 256), "Max reply length (tokens) was set to 256"),
    ],
)
def test_a_number_beyond_its_limits_is_moved_to_them_and_said_so(asked, kept, told):
    tab = Screen()
    panel = tab.screen.settings
    note = asyncio.run(panel.save(tab.view, "", *asked, "live"))[panel.note]
    assert note["text"] == f"Saved for new chats and for the next round. {told}, its limit."
    drawn = tab.chat.get("").sampling
    assert (drawn.temperature, drawn.top_p, drawn.top_k, drawn.max_new_tokens) == kept
    note = asyncio.run(panel.save(tab.view, "", None, 0.9, 40, 96, "live"))[panel.note]
    assert note == {"text": "Not saved. Write a number.", "tone": "bad"}


def test_a_number_beyond_its_limits_reaches_the_handler(served):
    chat, url = served
    view = {"conversation": chat.conversations.new(), "turns": [], "sent": False}
    tab, fields = Tab(url), ["", -3, 0.9, 40, 96, "live"]
    for _ in range(2):  # after an event Gradio makes its components anew
        tab.call("save", [view, *fields])
        tab.call("save_for_new", fields)
    assert chat.get(view["conversation"]).sampling.temperature == 0
    del chat.kept[""], chat.kept[view["conversation"]]


def test_a_stop_before_the_first_word_leaves_no_reply_to_rate():
    tab = Screen()
    tab.chat.go.clear()
    running = tab.screen.replying.send("hello", tab.view, "", tab.request)
    tab._take(next(running))
    asyncio.run(tab.screen.replying.stop(tab.view))
    tab.chat.go.set()
    tab.take(running)
    assert [turn["role"] for turn in tab.view["turns"]] == ["user"]
    assert tab.note == "Stopped before anything was written, so no reply is kept."


def test_a_message_refused_in_the_middle_of_a_conversation_stays_in_the_box():
    tab = Screen()
    tab.send("hello")
    tab.message = "a very long thought"

    def refuse(*args, **more):
        raise AppError("chat.message_too_long", tokens=900, limit=416)
        yield

    tab.chat.reply = refuse
    updates = tab.send("a very long thought")
    assert tab.message == "a very long thought" and "too long" in tab.note
    assert all(tab.screen.view not in update for update in updates)  # `sent` would forget the draft


def test_beside_a_simulated_person_the_note_counts_ones_own_ratings():
    tab = Screen()
    tab.send("hello")
    tab.chat.worker.waiting, tab.chat.worker.history.waiting = 8, lambda rater: 2
    tab.chat.worker.watched = "simulated:lists"
    tab.rate(1, True)
    assert tab.note.startswith("Saved. 2 of your ratings wait")


def compare_screen() -> tuple[CompareScreen, ToyChat]:
    chat = ToyChat(word_seconds=0)
    screen = CompareScreen(chat.compare, chat.worker)
    with gr.Blocks() as screen.demo:
        screen.lay_out()
        screen.wire(screen.demo, gr.Textbox("me"))
    return screen, chat


def own(screen: CompareScreen, prompt: str, event_id: str = "click", *duel, **more):
    """Drafts of a prompt that was typed."""
    return screen.draft(event_id, prompt, "", "own", *duel, **more)


def suggested(screen: CompareScreen, event_id: str, *duel, **more):
    return screen.draft(event_id, "", "", "suggested", *duel, **more)


def undo(screen: CompareScreen, page: dict, shown_id: str = "") -> dict:
    """With the values that the page has after these updates."""
    a = screen.answers
    found = [page.get(x, "") for x in (screen.set_id, a.order, a.voted_set, a.voted, a.voter)]
    return asyncio.run(a.undo(found[0], page.get(screen.shown_id, shown_id), *found[1:]))


def test_a_vote_can_be_taken_back_and_then_its_pair_is_there_again():
    screen, chat = compare_screen()
    first, *_, last = own(screen, "rivers")
    assert all(last[button]["interactive"] for button in screen.answers.vote_buttons)
    voted = asyncio.run(screen.answers.vote("a", last[screen.set_id], "id"))
    assert voted[screen.answers.verdict]["text"] == "Saved: A is better. A was v1, B was base."
    assert list(chat.compare.votes.values()) == ["a"]
    back = undo(screen, {**first, **last, **voted})
    assert not chat.compare.votes and back[screen.set_id] == last[screen.set_id]
    assert (
        back[screen.asked]["text"] == "rivers"
        and back[screen.answers.vote_buttons[0]]["interactive"]
    )


def early(screen: CompareScreen, chat: ToyChat, outcome: str = "a"):
    """A pair that is still being written and was voted on: its stream, and what the page has."""
    chat.compare.ending.clear()
    running, page = own(screen, "rivers"), {}
    for update in running:
        page |= update
        if page[screen.answers.vote_buttons[0]].get("interactive"):
            break
    update = asyncio.run(screen.answers.vote(outcome, "", "vote", page[screen.shown_id], "Ada"))
    assert list(update) == [screen.answers.asking]  # nothing that could undo a later update
    return running, {**page, **next(running)}


def test_a_vote_on_drafts_that_are_still_written_is_stored_when_they_end():
    screen, chat = compare_screen()
    running, page = early(screen, chat)
    told = page[screen.answers.asking]["text"]
    assert not chat.compare.votes and "when both answers are complete" in told
    assert "Saved" not in told and page[screen.answers.undo_button]["visible"]
    asyncio.run(screen.answers.vote("b", "", "vote-2", page[screen.shown_id], "Ada"))
    other = next(running)
    assert other[screen.answers.vote_buttons[1]]["variant"] == "primary"  # the last word counts
    chat.compare.ending.set()
    *_, last = running
    assert list(chat.compare.votes.values()) == ["b"] and list(chat.compare.by.values()) == ["Ada"]
    assert last[screen.answers.verdict]["text"].startswith("Saved: B is better.")
    assert last[screen.answers.voted_set] == last[screen.set_id]
    assert not any(last[b]["interactive"] for b in screen.answers.vote_buttons)


def test_whatever_shows_an_early_vote_shows_undo_with_it():
    """The next words of the answers are often drawn before the answer to the vote itself."""
    screen, chat = compare_screen()
    running, frame = early(screen, chat)
    page, a = frame, screen.answers
    assert frame[a.vote_buttons[0]]["variant"] == "primary" and frame[a.undo_button]["visible"]
    (again,) = own(screen, "rivers", "another click")
    assert again[a.asking] == frame[a.asking] and again[a.undo_button]["visible"]
    undo(screen, page)
    running.close()


@pytest.mark.parametrize("how", ["undo", "stop", "the tab is closed", "the answers changed"])
def test_an_early_vote_that_was_withdrawn_or_whose_drafts_did_not_end_is_not_stored(how):
    screen, chat = compare_screen()
    running, page = early(screen, chat)
    if how == "the tab is closed":
        running.close()
        time.sleep(0.2)
        assert not chat.compare.votes
        return
    if how == "undo":
        taken = undo(screen, page)
        assert "Withdrawn" in taken[screen.answers.verdict]["text"]
    elif how == "stop":
        asyncio.run(screen.stop(page[screen.shown_id]))
    else:
        chat.compare.redrawn = True
    if how != "stop":
        chat.compare.ending.set()
    *_, last = running
    assert not chat.compare.votes
    assert "Saved" not in last.get(screen.answers.verdict, {}).get("text", "")
    if how == "the answers changed":
        assert "written again" in last[screen.answers.asking]["text"]
    if how != "stop":
        assert last[screen.answers.vote_buttons[0]]["interactive"]


def test_that_a_vote_was_withdrawn_is_said_until_the_answers_are_whole_or_voted_on_again():
    """An update that shows the vote as given may be drawn after the answer to Undo."""
    screen, chat = compare_screen()
    running, page = early(screen, chat)
    undo(screen, page)
    a, frame = screen.answers, next(running)
    assert "Withdrawn" in frame[a.verdict]["text"] and not frame[a.undo_button]["visible"]
    assert frame[a.vote_buttons[0]]["variant"] == "secondary"
    asyncio.run(a.vote("b", "", "vote-2", page[screen.shown_id], "Ada"))
    frame = next(running)
    assert "Withdrawn" not in frame[a.verdict]["text"] and frame[a.undo_button]["visible"]
    undo(screen, page)
    chat.compare.ending.set()
    *_, last = running
    assert "Withdrawn" in last[a.verdict]["text"] and not chat.compare.votes


def test_an_early_vote_needs_text_in_both_drafts():
    screen, chat = compare_screen()
    chat.word_seconds = 0.02
    running = own(screen, "slow rivers")
    first = next(running)
    told = asyncio.run(screen.answers.vote("a", "", "vote", first[screen.shown_id]))
    assert (
        told[screen.answers.asking]["tone"] == "bad"
        and "Wait" in told[screen.answers.asking]["text"]
    )
    running.close()
    told = asyncio.run(screen.answers.vote("a", "", "vote", "from another page"))
    assert told[screen.answers.asking]["tone"] == "bad" and not chat.compare.votes


def test_an_early_vote_that_cannot_be_stored_says_so():
    screen, chat = compare_screen()
    running, _ = early(screen, chat)
    chat.compare.vote = lambda *given, **more: 1 / 0
    chat.compare.ending.set()
    *_, last = running
    assert last[screen.answers.verdict]["text"].startswith("Not saved.")
    assert last[screen.answers.vote_buttons[0]]["interactive"]
    assert screen.advance not in last


def test_after_a_choice_one_can_say_how_much_better():
    screen, chat = compare_screen()
    last = list(own(screen, "rivers"))[-1]
    pair = last[screen.set_id]
    early = asyncio.run(screen.answers.refine("much", pair, ""))
    assert early[screen.answers.verdict]["tone"] == "bad" and not chat.compare.votes
    voted = asyncio.run(screen.answers.vote("b", pair, "id"))
    assert all(voted[b]["visible"] for b in screen.answers.strength_buttons)
    asyncio.run(screen.answers.refine("much", pair, voted[screen.answers.voted]))
    assert chat.compare.votes == {pair: "b"} and chat.compare.strengths == {pair: "much"}
    tie = asyncio.run(screen.answers.vote("both_good", pair, "id2"))
    assert not any(tie[b]["visible"] for b in screen.answers.strength_buttons)


def test_after_an_answer_one_can_say_why():
    screen, chat = compare_screen()
    last = list(own(screen, "rivers"))[-1]
    pair = last[screen.set_id]
    early = asyncio.run(screen.answers.explain("it is short", pair))
    assert early[screen.answers.verdict]["tone"] == "bad"
    voted = asyncio.run(screen.answers.vote("b", pair, "id"))
    assert voted[screen.answers.because]["visible"]
    told = asyncio.run(screen.answers.explain("it is short", pair))
    assert (
        chat.compare.comments == {pair: "it is short"}
        and not told[screen.answers.because]["visible"]
    )


@pytest.mark.parametrize("count", [2, 3])
def test_after_an_answer_the_name_may_change_and_it_is_still_the_answer_of_who_gave_it(count):
    screen, chat = compare_screen()
    answers, compare = screen.answers, chat.compare
    pair = list(own(screen, "rivers", count=count))[-1][screen.set_id]
    if count == 2:
        saved = asyncio.run(answers.vote("a", pair, "id", "", " Ada "))
    else:
        saved = asyncio.run(answers.place("", pair, "id", "", " Ada "))
    assert saved[answers.voter] == compare.by[pair] == "Ada"
    wired = {fn.name: fn.inputs for fn in screen.demo.fns.values() if fn.fn is not None}
    for name in ("refine", "explain", "undo"):
        assert wired[name][-1] is answers.voter, name
    assert undo(screen, saved)[answers.voter] == "" and not (compare.votes or compare.rankings)


def test_several_drafts_are_pressed_in_order_and_the_last_one_places_itself():
    screen, chat = compare_screen()
    *_, last = own(screen, "rivers", count=3)
    assert [last[c]["visible"] for c in screen.columns[2:]] == [True, False]
    assert [last[b]["visible"] for b in screen.answers.place_buttons] == [True, True, True, False]
    assert not any(last[b]["visible"] for b in screen.answers.vote_buttons)
    drafts, order = last[screen.set_id], ""
    for letter in "CC":  # a second press of the same changes nothing
        told = asyncio.run(screen.answers.place(letter, drafts, "id", order, "Ada"))
        order = told[screen.answers.order]
        assert order == "C" and told[screen.answers.place_buttons[2]]["value"] == "1: C"
    assert not chat.compare.rankings and told[screen.answers.undo_button]["visible"]
    waiting = chat.worker.waiting
    over = undo(screen, {**last, **told})  # only the places given so far
    assert over[screen.answers.order] == "" and chat.worker.waiting == waiting
    whole = asyncio.run(screen.answers.place("A", drafts, "id", order, "Ada"))
    assert chat.compare.rankings == {drafts: (1, 2, 0)} and chat.compare.by == {drafts: "Ada"}
    assert whole[screen.answers.verdict]["text"].startswith("Saved: C, then A, then B. A was v1")
    back = undo(screen, {**last, **whole})
    assert not chat.compare.rankings and back[screen.answers.place_buttons[0]]["interactive"]


@pytest.mark.parametrize(("pressed", "places"), [("", (0, 0, 0, 0)), ("B", (1, 0, 1, 1))])
def test_the_rest_can_be_called_equal(pressed, places):
    screen, chat = compare_screen()
    *_, last = own(screen, "rivers", count=4)
    asyncio.run(screen.answers.place("", last[screen.set_id], "id", order=pressed))
    assert list(chat.compare.rankings.values()) == [places]


@pytest.mark.parametrize(("letter", "order"), [("B", "AC"), ("", "A")])
def test_an_order_that_could_not_be_stored_can_be_sent_again_as_it_is_or_be_undone(
    letter, order, monkeypatch
):
    screen, chat = compare_screen()
    answers, compare = screen.answers, chat.compare
    pair = list(own(screen, "rivers", count=4))[-1][screen.set_id]
    with monkeypatch.context() as full:
        full.setattr(compare, "rank", lambda *given, **more: 1 / 0)
        told = asyncio.run(answers.place(letter, pair, "id", order))
    assert told[answers.verdict]["text"].startswith("Not saved.")
    assert not any(told[b]["interactive"] for b in answers.place_buttons)
    assert told[answers.rest_button]["interactive"] and told[answers.undo_button]["visible"]
    asyncio.run(answers.place("", pair, "id", order + letter))
    assert compare.rankings[pair] == ((0, 2, 1, 3) if letter else (0, 1, 1, 1))


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ((0, 1), "A, then B"),
        ((1, 1, 0, 1), "C, then A, B and D"),
        ((0, 0, 0), "A, B and C are equal"),
    ],
)
def test_an_order_is_said_in_words(places, words):
    assert vote_panel.in_order(places) == words


@pytest.mark.parametrize(
    ("outcome", "strength", "versions", "same", "told"),
    [
        ("a", "", (1, 0), None, "Saved: A is better. A was v1, B was base."),
        ("b", "much", (2, 2), None, "Saved: B is much better. Both are from v2."),
        (
            "tie",
            "",
            (0, 1),
            True,
            "Saved: Tie. A was base, B was v1. You voted on this pair before, in the same way.",
        ),
    ],
)
def test_a_saved_vote_names_the_versions(outcome, strength, versions, same, told):
    assert vote_panel.vote_saved(outcome, VoteResult(versions, same), strength) == told


def test_a_ranking_needs_whole_drafts():
    screen, chat = compare_screen()
    told = asyncio.run(screen.answers.place("A", "", "id"))
    assert told[screen.answers.asking]["tone"] == "bad" and not chat.compare.rankings


def test_a_pair_seen_before_may_be_the_next_one():
    screen, chat = compare_screen()
    *_, first = own(screen, "rivers", request=tab())
    chat.compare.again = chat.compare.shown(first[screen.set_id])
    list(suggested(screen, "click-2", request=tab()))
    *_, shown = suggested(screen, "click-3", request=tab())
    assert shown[screen.set_id] == first[screen.set_id]
    assert shown[screen.asked]["text"] == "rivers"  # with the question it was an answer to


def test_who_rates_is_listed_once_there_are_several_and_can_be_set_aside():
    chat = ToyChat()
    people = RatersPanel(chat.raters, chat.worker)
    with gr.Blocks() as demo:
        people.lay_out_name()
        people.lay_out()
        people.wire(demo)
    rows = people.panel()[people.list]["rows"]
    assert [r["suspect"] for r in rows] == [False, True]
    assert "same vote on 8 of 9 repeated pairs" in rows[0]["parts"]
    told = asyncio.run(people.act(SimpleNamespace(do="aside", name="Visitor")))
    assert told[people.note]["tone"] == "good" and chat.raters.aside == {"Visitor"}
    assert not told[people.list]["rows"][1]["suspect"]
    asyncio.run(people.act(SimpleNamespace(do="back", name="Visitor")))
    assert not chat.raters.aside
    assert asyncio.run(people.name(" simulated:x ")) == {people.rater: "simulated x"}
    chat.raters.table = lambda: 1 / 0
    assert people.panel()[people.note]["tone"] == "bad"


def test_the_best_of_several_drafts_is_a_switch():
    tab = Screen()
    told = asyncio.run(tab.screen.settings.set_best_of(4))
    assert (
        tab.chat.settings.best_of == 4 and "Of 4 replies" in told[tab.screen.settings.note]["text"]
    )
    assert tab.screen.settings.shown("")[tab.screen.settings.best_of] == 4


def test_stopped_drafts_cannot_be_voted_on():
    screen, chat = compare_screen()
    chat.word_seconds = 0.05
    running = own(screen, "rivers")
    next(running)
    asyncio.run(screen.stop("click"))
    last = list(running)[-1]
    assert (
        not any(last[button]["interactive"] for button in screen.answers.vote_buttons)
        and last[screen.set_id] == ""
    )


def tab(name: str = "tab") -> SimpleNamespace:
    return SimpleNamespace(session_hash=name, query_params={})


def wait_for(condition, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_two_sets_are_written_ahead_and_come_after_a_vote_by_themselves():
    screen, chat = compare_screen()
    *_, last = suggested(screen, "click", request=tab())
    wait_for(lambda: len(chat.compare.sets) == 3)
    time.sleep(0.1)
    assert len(chat.compare.asked) == 3  # two ahead, no more
    made = list(chat.compare.sets)
    voted = asyncio.run(
        screen.answers.vote("a", last[screen.set_id], "id", "click", "me", "suggested")
    )
    assert voted[screen.advance] == {"after": last[screen.set_id]}
    chat.word_seconds = 10  # drafts written now would take minutes
    for n in (1, 2):
        [shown] = suggested(screen, f"click-{n + 1}", request=tab())
        assert (
            shown[screen.set_id] == made[n] and shown[screen.answers.vote_buttons[0]]["interactive"]
        )
        assert shown[screen.asked]["text"] == chat.compare.shown(made[n]).prompt
        assert screen.verdict not in shown  # what was said of the pair before stays
    chat.word_seconds = 0


def test_drafts_that_are_being_chosen_are_shown_as_they_stream_once_somebody_comes():
    screen, chat = compare_screen()
    chat.word_seconds = 0.02
    list(suggested(screen, "click", request=tab()))
    chat.compare.ending.clear()  # those ahead stay at their first half, unseen
    wait_for(lambda: len(chat.compare.asked) == 2)
    running, page = suggested(screen, "click-2", request=tab()), {}
    for update in running:
        page |= update
        if page[screen.answers.vote_buttons[0]]["interactive"]:
            break
    assert page[screen.panes[0]] != "…" and not page[screen.set_id]
    assert len(chat.compare.asked) == 2  # not begun again, and the next ones wait for it
    chat.word_seconds = 0
    chat.compare.ending.set()
    *_, last = running
    assert last[screen.set_id] and last[screen.panes[0]].startswith(page[screen.panes[0]].strip())


def test_a_pair_that_gave_way_to_the_one_before_it_comes_next():
    screen, chat = compare_screen()
    page: dict = {}
    for update in suggested(screen, "click", request=tab()):
        page |= update
    page |= asyncio.run(
        screen.answers.vote("a", page[screen.set_id], "id", "click", "me", "suggested")
    )
    first = page[screen.set_id]
    for update in suggested(screen, "click-2", request=tab()):
        page |= update
    second = page[screen.set_id]
    page |= undo(screen, page)
    assert page[screen.set_id] == first != second and not chat.compare.votes
    assert page[screen.advance] == {"after": ""}  # the same pair may be answered again
    assert not page[screen.answers.undo_button]["visible"]
    *_, last = suggested(screen, "click-3", request=tab())
    assert last[screen.set_id] == second


def test_the_next_prompt_is_no_guess_when_prompts_are_typed():
    """The pair stays; the box is free for the next prompt, or the same one is asked again."""
    screen, chat = compare_screen()
    first, *_, last = own(screen, "rivers", request=tab())
    assert first[screen.prompt] == "" and first[screen.drafted] == "rivers"
    saved = asyncio.run(screen.answers.vote("a", last[screen.set_id], "id", "click", "me", "own"))
    assert screen.advance not in saved and screen.prompt not in saved
    *_, again = screen.draft("click-2", "", "rivers", "own", request=tab())
    assert again[screen.asked]["text"] == "rivers" and again[screen.set_id] != last[screen.set_id]
    assert len(chat.compare.asked) == 2  # nothing is written ahead


def test_every_update_of_a_stream_repeats_what_a_page_that_lags_would_miss():
    """Gradio draws an update after the later ones have changed it, and the last one twice."""
    screen, _ = compare_screen()
    first, *rest = own(screen, "rivers")
    again = [screen.asked, screen.answers.asking, screen.stop_button, screen.panes[0]]
    assert len(rest) > 1
    for update in rest:
        assert all(part in update for part in [*again, *screen.answers.vote_buttons])
    opened = [u[screen.answers.vote_buttons[0]]["interactive"] for u in (first, *rest)]
    assert opened == sorted(opened) and opened[-1]


def test_a_set_that_gave_way_to_another_ends_without_a_word():
    screen, chat = compare_screen()
    chat.compare.ending.clear()
    running = own(screen, "rivers", request=tab())
    next(running)
    chat.compare.ending.set()
    list(own(screen, "mountains", "click-2", request=tab()))
    assert list(running) == []


def test_another_number_of_answers_ends_what_is_being_drawn():
    screen, chat = compare_screen()
    chat.compare.ending.clear()
    running = own(screen, "rivers", request=tab())
    next(running)
    room = asyncio.run(screen.choose_count(4, request=tab()))
    assert room[screen.columns[3]]["visible"] and not room[screen.stop_button]["visible"]
    chat.compare.ending.set()
    assert list(running) == []  # nothing that takes the room away again


def test_a_click_of_a_ranking_that_a_later_one_overtook_draws_nothing():
    screen, _ = compare_screen()
    drafts = list(own(screen, "rivers", count=4))[-1][screen.set_id]
    later = asyncio.run(screen.answers.place("B", drafts, "id", "C"))
    assert later[screen.answers.order] == "CB"
    assert asyncio.run(screen.answers.place("C", drafts, "id", "")) == {
        screen.answers.asking: gr.skip()
    }
    assert asyncio.run(screen.answers.place("C", drafts, "other", ""))[screen.answers.order] == "C"


def test_asking_for_more_does_not_lose_a_vote_that_waits():
    screen, chat = compare_screen()
    chat.compare.ending.clear()
    running, page = suggested(screen, "click", request=tab()), {}
    for update in running:
        page |= update
        if page[screen.answers.vote_buttons[0]].get("interactive"):
            break
    asyncio.run(screen.answers.vote("a", "", "vote", page[screen.shown_id]))
    [told] = suggested(screen, "click-2", request=tab())
    assert "when both answers are complete" in told[screen.answers.asking]["text"]
    chat.compare.ending.set()
    *_, last = running
    assert last[screen.verdict]["text"].startswith("Saved") and last[screen.advance]["after"]


@pytest.mark.parametrize(
    "change", ["another source", "another tab", "another name", "another version", "a duel",
               "another number", "other settings"]
)  # fmt: skip
def test_drafts_made_ahead_are_shown_only_for_what_they_were_made_for(change):
    screen, chat = compare_screen()
    list(suggested(screen, "click", request=tab()))
    wait_for(lambda: len(chat.compare.sets) == 3)
    made, before = list(chat.compare.sets), len(chat.compare.asked)
    request, duel, source = tab(), (), "suggested"
    more: dict[str, Any] = {}
    if change == "another source":
        source = "recent"
    elif change == "another tab":
        request = tab("other")
    elif change == "another name":
        more = {"rater": "Ada"}
    elif change == "another version":
        chat.worker.live = 0
    elif change == "another number":
        more = {"count": 3}
    elif change == "other settings":
        kept = chat.settings.get()
        chat.settings.set("", replace(kept, sampling=Sampling(temperature=0.3)))
    else:
        duel = (True, "1", "0")
    *_, shown = screen.draft("click-2", "", "", source, *duel, **more, request=request)
    assert shown[screen.set_id] not in made
    assert chat.compare.asked[before][1] == ((1, 0) if duel else None)
    if change == "other settings":
        assert "temperature 0.3" in asyncio.run(screen.refresh())[screen.sampled]["text"]


def test_a_prompt_does_not_come_twice_in_a_row_where_there_are_others():
    screen, chat = compare_screen()
    chat.compare.suggest_prompt = lambda: random.choice(["one", "two", "three"])
    random.seed(0)
    taken = [screen._next_prompt("suggested") for _ in range(3)]
    assert sorted(taken) == ["one", "three", "two"]
    chat.compare.suggest_prompt = lambda: "the only one"
    assert [screen._next_prompt("suggested") for _ in range(2)] == ["the only one"] * 2


def test_sets_ahead_that_failed_are_passed_over():
    screen, chat = compare_screen()
    list(suggested(screen, "click", request=tab()))
    wait_for(lambda: len(chat.compare.sets) == 3)
    key = screen.sets.of("tab").key

    def fails(stop: threading.Event, hurry: threading.Event) -> Iterator[Candidates]:
        raise AppError("text.empty")

    broken = PrefetchJob(fails)
    broken.over.wait()
    screen._ahead.put_back("tab", key, broken)
    *_, shown = suggested(screen, "click-2", request=tab())
    assert shown[screen.set_id]


def test_answers_that_are_touched_are_shown_once_more_and_the_last_ones_once():
    going_on = threading.Event()

    def written(stop: threading.Event, hurry: threading.Event) -> Iterator[Candidates]:
        yield half
        going_on.wait()
        yield whole

    half, whole = (
        Candidates(None, "sea", (text, text), done)
        for text, done in (("It", False), ("It is.", True))
    )
    job = PrefetchJob(written)
    followed = job.follow()
    assert next(followed) is half
    job.touch()
    assert next(followed) is half
    going_on.set()
    job.over.wait()
    job.touch()
    assert list(followed) == [whole]


def test_a_duel_sets_the_chosen_versions_against_each_other_and_says_how_it_stands():
    screen, chat = compare_screen()
    *_, last = own(screen, "rivers", "c", True, "1", "0", request=tab())
    assert chat.compare.asked == [("rivers", (1, 0))]
    after = ("own", True, "1", "0")
    voted = asyncio.run(screen.answers.vote("a", last[screen.set_id], "id", "c", "me", *after))
    assert voted[screen.duel.standing]["text"].startswith("v1 won 7 of 10 against base")


def test_prompts_come_from_where_they_are_wanted():
    screen, chat = compare_screen()
    asked = asyncio.run(screen.choose_source("recent"))
    assert "Suggested" in asked[screen.answers.verdict]["text"]
    list(chat.reply(chat.conversations.new(), "my question", stop=threading.Event()))
    asked = asyncio.run(screen.choose_source("recent"))
    assert asked[screen.advance]["after"] and not asked[screen.prompt]["visible"]
    *_, shown = screen.draft("click", "typed before", "", "recent", request=tab())
    assert shown[screen.asked]["text"] == "my question"
    asked = asyncio.run(screen.choose_source("own"))
    assert asked[screen.prompt]["visible"] and screen.advance not in asked


def test_choosing_another_number_of_drafts_begins_anew():
    """Nothing of the last answer stays to be pressed: it would be about drafts that are gone."""
    screen, _ = compare_screen()
    *_, last = own(screen, "rivers", count=4)
    asyncio.run(screen.answers.place("", last[screen.set_id], "id", order="B"))
    told = asyncio.run(screen.choose_count(2))
    assert not told[screen.answers.undo_button]["visible"]
    assert not told[screen.answers.because]["visible"]
    assert told[screen.answers.voted] == told[screen.answers.order] == told[screen.set_id] == ""
    assert "New answers" in told[screen.answers.asking]["text"]
    assert asyncio.run(screen.choose_count(3, "suggested"))[screen.advance]["after"]


def test_the_chosen_button_is_marked_until_the_answer_is_taken_back():
    screen, _ = compare_screen()
    *_, last = own(screen, "rivers")

    def marked(update: dict) -> list[bool]:
        return [update[b]["variant"] == "primary" for b in screen.answers.vote_buttons]

    voted = asyncio.run(screen.answers.vote("tie", last[screen.set_id], "id"))
    assert marked(voted) == [False, False, True, False, False]
    back = undo(screen, {**last, **voted})
    assert not any(marked(back)) and not any(marked(last))


def test_the_base_alone_is_no_duel():
    screen, chat = compare_screen()
    chat.worker.live, chat.worker._versions[1:] = 0, []
    for told in (
        asyncio.run(screen.set_duel(True, "0", "0")),
        screen.duel.begun(0),
    ):
        assert told[screen.duel.dueling] is False and not told[screen.duel.one]["visible"]
        assert "nothing to compare" in told[screen.duel.standing]["text"]
    assert asyncio.run(screen.set_duel(False, "0", "0"))[screen.duel.standing]["text"] == ""


@pytest.mark.parametrize(
    ("waiting", "paused", "words"),
    [
        (3, False, "3 of 12 ratings. 9 more start round 3."),
        (11, False, "11 of 12 ratings. One more starts round 3."),
        (12, False, "12 ratings, enough: round 3 starts now."),
        (3, True, "Learning is paused. 3 ratings are kept for round 3."),
    ],
)
def test_the_counter_says_what_the_next_vote_unlocks(waiting, paused, words):
    screen, chat = compare_screen()
    chat.worker.waiting, chat.worker.paused = waiting, paused
    assert words in asyncio.run(screen.answers.recount())["text"]


def versions_screen() -> tuple[VersionsScreen, ToyChat]:
    chat = ToyChat(word_seconds=0)
    chatting, comparing = ChatScreen(chat, chat.worker), CompareScreen(chat.compare, chat.worker)
    screen = VersionsScreen(chat, chat.worker)
    with gr.Blocks() as demo, gr.Tabs() as tabs:
        chatting.conversations.lay_out()
        chatting.lay_out()
        comparing.lay_out()
        screen.lay_out()
        chatting.wire(demo, tabs, gr.Textbox("me"))
        comparing.wire(demo, gr.Textbox("me"), tabs)
        screen.wire(demo, chatting, comparing)
    return screen, chat


def press(screen: VersionsScreen, do: str, version: object, **more) -> dict:
    return asyncio.run(screen.act(tab(), SimpleNamespace(do=do, version=version, **more)))


def test_any_version_can_be_named_talked_to_and_deleted():
    screen, chat = versions_screen()
    press(screen, "describe", 1, given="Short", remark="one line")
    assert screen.panel()[screen.timeline]["versions"][0]["given"] == "Short"
    opened = press(screen, "chat", 0)
    conversation = opened[screen.chatting.view]["conversation"]
    assert chat.settings.get(conversation).version == 0
    assert opened[screen.chatting.tabs]["selected"] == "chat"
    refused = press(screen, "delete", 1)
    assert "live" in refused[screen.note]["text"]
    press(screen, "live", 0)
    assert len(press(screen, "delete", 1)[screen.timeline]["versions"]) == 1


def test_a_duel_begins_from_a_version():
    screen, _ = versions_screen()
    update = press(screen, "duel", 1)
    comparing = screen.comparing
    assert (
        update[comparing.duel.dueling] is True and update[comparing.tabs]["selected"] == "compare"
    )
    assert {update[comparing.duel.one]["value"], update[comparing.duel.other]["value"]} == {
        "0",
        "1",
    }


def test_a_version_is_exported_while_the_screen_goes_on_and_says_where_it_is(tmp_path):
    screen, _ = versions_screen()
    asked, go_on = [], threading.Event()

    def run(request, tell):
        asked.append(request)
        tell("writing", 0.25)
        go_on.wait(10)
        return Exported(tmp_path / "made", {}, None)

    screen.exports = BackgroundExport(run)
    assert press(screen, "export", 1, given="gguf-q8_0")[screen.note]["text"] != ""
    refused = press(screen, "export", 1, given="peft")
    told = "An export is running already. It says here when it is done."
    assert (refused[screen.note]["text"], refused[screen.note]["tone"]) == (told, "bad")
    assert refused[screen.exporting]["text"] == "Exporting v1: writing the files, 25%."
    go_on.set()
    screen.exports.wait()
    done = screen.panel()[screen.exporting]
    assert done == {"text": f"v1 is exported: {tmp_path / 'made'}", "tone": "quiet"}
    assert [(one.form, one.kind, one.version) for one in asked] == [("gguf", "q8_0", "1")]
    assert press(screen, "export", 1, given="/etc")[screen.note]["tone"] == "bad"


@pytest.mark.parametrize(
    ("error", "words"),
    [(ExportError("export.base_has_nothing"), "learned nothing"), (RuntimeError("x"), "Runtime")],
)
def test_an_export_that_fails_says_why(error, words):
    screen, _ = versions_screen()

    def run(request, tell):
        raise error

    screen.exports = BackgroundExport(run)
    press(screen, "export", 1, given="peft")
    screen.exports.wait()
    told = screen.panel()[screen.exporting]
    assert words in told["text"] and told["tone"] == "bad"


@pytest.mark.parametrize("version", ["", "x", None, "1; drop"])
def test_a_version_that_is_none_is_refused(version):
    screen, _ = versions_screen()
    assert press(screen, "live", version)[screen.note]["tone"] == "bad"
    assert press(screen, "explode", 1)[screen.note]["tone"] == "bad"


def test_the_timeline_tells_win_rate_interval_and_ranking():
    screen, chat = versions_screen()
    value = screen.panel()[screen.timeline]
    newest, base = value["versions"]
    assert newest["told"] == "75% over base (31% to 98%), 10 blind votes"
    assert [r["label"] for r in value["ranking"]] == ["v1", "base"] and base["votes"] == 0
    chat.worker.blind = [(0, 1, "a")] * 9
    value = screen.panel()[screen.timeline]
    assert (
        value["advice"]
        and value["versions"][0]["standing"] == "Blind votes speak against this version"
    )


def test_the_settings_of_a_chat_are_saved_and_shown():
    one = Screen()
    one.send("hello")
    panel, conversation = one.screen.settings, one.view["conversation"]
    saved = asyncio.run(panel.save(one.view, "be brief", 0.5, 0.9, 5, 40, "0"))
    assert saved[panel.note]["text"] == "Saved for this chat."
    settings = one.chat.settings.get(conversation)
    assert (settings.system_prompt, settings.version) == ("be brief", 0)
    assert settings.sampling == Sampling(0.5, 0.9, 5, 40)
    assert panel.shown(conversation)[panel.heat] == 0.5
    # a reply that ends just now must not overwrite what is being typed
    assert set(asyncio.run(panel.after_sending(one.view))) == {panel.about, panel.by}
    refused = asyncio.run(panel.save(one.view, "", None, 1, 0, 40, "live"))
    assert refused[panel.note]["tone"] == "bad"
    assert asyncio.run(panel.save_for_new("", 0.2, 1, 0, 40, "live"))[panel.note]["tone"] == "good"
    assert one.chat.settings.get().sampling.temperature == 0.2


def test_a_polite_kill_ends_the_wait_whenever_it_comes(monkeypatch):
    """Also in the middle of the wait itself, whatever the wait may hold just then."""
    import signal

    monkeypatch.setattr(app, "time", SimpleNamespace(sleep=lambda _: signal.raise_signal(15)))
    before = signal.getsignal(signal.SIGTERM)
    app._wait_for_the_end(Restart())
    assert signal.getsignal(signal.SIGTERM) is before
    assert "threading" not in vars(app)  # no lock is taken by the handler


def test_search_names_the_chats_that_contain_the_words():
    one = Screen()
    one.send("tell me about wool")
    found = asyncio.run(one.screen.conversations.search("wool", one.view))[
        one.screen.conversations.list
    ]
    [hit] = found["hits"]
    assert hit == [one.view["conversation"], "tell me about ", "wool", ""]
    assert found["words"] == "wool"
    assert (
        asyncio.run(one.screen.conversations.search("zebra", one.view))[
            one.screen.conversations.list
        ]["hits"]
        == []
    )


def listed(tab: Screen, **chosen) -> list[dict]:
    update = asyncio.run(tab.screen.on_list(tab.view, tab.request, SimpleNamespace(**chosen)))
    tab._take(update)
    return update[tab.screen.conversations.list]["rows"]


def test_a_deleted_chat_can_be_had_back_for_a_while():
    tab = Screen()
    tab.send("hello")
    chat = tab.view["conversation"]
    [row] = listed(tab, do="delete", id=chat)
    assert row["until"] > time.time() and tab.view["conversation"] == ""
    assert not tab.screen.is_here(chat)
    [row] = listed(tab, do="undo_delete", id=chat)
    assert not row["until"] and tab.screen.is_here(chat) and tab.note == "Chat restored."
    tab.chat.deletion.seconds = -1
    assert listed(tab, do="delete", id=chat) == []
    assert listed(tab, do="undo_delete", id=chat) == [] and "not here" in tab.note


def test_a_pinned_chat_stays_on_top():
    tab = Screen()
    for text in ("first", "second"):
        tab.view = {"conversation": "", "turns": [], "sent": False}
        tab.send(text)
    first = next(c.id for c in tab.chat.conversations.all() if c.title == "first")
    rows = listed(tab, do="pin", id=first, pinned=True)
    assert [(r["title"], r["pinned"]) for r in rows] == [("first", True), ("second", False)]
    assert listed(tab, do="pin", id=first, pinned=False)[0]["title"] == "second"


def test_a_chat_is_exported_under_its_name():
    tab = Screen()
    settings = tab.screen.settings
    refused = asyncio.run(settings.export_json(tab.view))
    assert settings.file not in refused and refused[settings.note]["tone"] == "bad"
    tab.send("what: a/chat?")
    for make, name in (
        (settings.export_json, "what achat.json"),
        (settings.export_markdown, "what achat.md"),
    ):
        told = asyncio.run(make(tab.view))
        assert told[settings.file]["name"] == name and name in told[settings.note]["text"]


def test_a_model_to_choose_says_what_it_takes_and_how_it_is_started(monkeypatch):
    small = ModelChoice("small", "Qwen/Qwen3-1.7B", False, 3 << 30, True)
    large = ModelChoice("a b.gguf", "LM Studio", True, 30 << 30, False)
    odd = ModelChoice("odd", "Ollama", True, None, None)
    monkeypatch.setattr(model_list, "choices", lambda: [small, large, odd])
    picker = Screen().screen.settings.models
    looked = asyncio.run(picker.look())
    assert [name for name, _ in looked[picker.menu]["choices"]] == [
        "small · Qwen/Qwen3-1.7B · 3.0 GiB · fits · not on this machine",
        "a b.gguf · LM Studio · 30.0 GiB · too large",
        "odd · Ollama",
    ]
    assert "toy model" in looked[picker.note]["text"]
    chosen = asyncio.run(picker.choose("small"))
    assert chosen[picker.command]["value"] == "rlhf-chat --model small"
    assert "fetched" in chosen[picker.note]["text"]
    chosen = asyncio.run(picker.choose("a b.gguf"))
    assert chosen[picker.command]["value"] == "rlhf-chat --model 'a b.gguf'"
    assert chosen[picker.note]["tone"] == "bad"
    assert "base model" in asyncio.run(picker.choose("odd"))[picker.note]["text"]
    unknown = asyncio.run(picker.choose("unknown"))
    assert "value" not in unknown[picker.command] and unknown[picker.command]["visible"] is False


def test_a_model_is_started_from_the_page_only_if_it_was_listed_and_fits(monkeypatch):
    fitting = ModelChoice("small", "Qwen/Qwen3-1.7B", True, 3 << 30, True)
    large = ModelChoice("large", "Qwen/Qwen3-8B", True, 30 << 30, False)
    monkeypatch.setattr(model_list, "choices", lambda: [fitting, large])
    picker = Screen().screen.settings.models
    picker.restart = Restart()
    asyncio.run(picker.start_chosen("small"))
    assert not picker.restart.model  # not before the list was looked at
    asyncio.run(picker.look())
    for refused in ("large", "/etc", None):
        assert asyncio.run(picker.start_chosen(refused))[picker.start]["visible"] is False
        assert not picker.restart.model
    chosen = asyncio.run(picker.choose("small"))
    assert (chosen[picker.start]["visible"], chosen[picker.command]["visible"]) == (True, False)
    assert "small" in asyncio.run(picker.start_chosen("small"))[picker.note]["text"]
    assert picker.restart.model == "small"


def attach(tab: Screen, value: dict, **event) -> dict:
    panel = tab.screen.attachments
    return tab._take(asyncio.run(panel.change(value, tab.view, SimpleNamespace(**event))))


def test_files_are_counted_taken_away_and_sent_with_the_message():
    tab = Screen()
    box, files = (
        tab.screen.attachments.files,
        [{"name": n, "text": "a b c"} for n in ("a.txt", "b.py")],
    )
    value = attach(tab, attachments_panel.NOTHING, add=files)[box]
    assert [f["name"] for f in value["files"]] == ["a.txt", "b.py"] and not value["over"]
    assert "of 100 tokens" in value["told"]
    value = attach(tab, value, drop=0)[box]
    assert [f["name"] for f in value["files"]] == ["b.py"]
    updates = tab.take(tab.screen.replying.send("look", tab.view, "", tab.request, value))
    assert updates[0][box] == attachments_panel.NOTHING
    sent = tab.chat.conversations.history(tab.view["conversation"])[0].content
    assert sent == "look\n\nb.py:\n```python\na b c\n```"
    value = attach(tab, value, add=[{"name": "c.md", "text": "word " * 200}])[box]
    assert value["over"]


@pytest.mark.parametrize("name", ["x.png", "x", "x.docx"])
def test_a_file_that_is_no_text_is_refused_in_one_sentence(name):
    tab = Screen()
    update = attach(tab, attachments_panel.NOTHING, add=[{"name": name, "text": "%PDF"}])
    assert update[tab.screen.attachments.files] == attachments_panel.NOTHING
    assert name in tab.note and tab.note.count(".") < 4


def test_an_empty_prompt_gets_one_sentence():
    screen, _ = compare_screen()
    [told] = own(screen, "  ")
    assert told[screen.answers.asking]["text"] == "Write a prompt, then press New answers."


def test_learning_says_what_changed_in_a_sentence_and_by_examples():
    panel = (screen := learning_of(ToyTrainer())).panel()
    told = re.sub("<[^>]+>", "", panel[screen.changed])
    assert (
        "v1 differs from the original model: shorter replies, fewer lists." in told
    )  # the emoji hardly changed
    assert "On average a reply has 27 tokens instead of 41." in told
    assert "<del> Of course there is much more" in panel[screen.changed]
    assert "Not proved yet: v1 won 75% of 10 blind votes" in panel[screen.votes]
    told = re.sub("<[^>]+>", "", panel[screen.taste])
    assert "shorter replies, ends with a question more often, fewer lists" in told


def test_what_was_not_measured_is_not_told():
    worker = ToyTrainer()
    worker._rounds[0].verdict = None
    worker.metrics = lambda round_id: {}
    worker.history.metrics = worker.metrics
    screen = learning_of(worker)
    assert "What it changed was not stored" in screen.panel()[screen.changed]
    worker.live = 0
    assert "the original model answers" in screen.panel()[screen.changed]


def test_a_check_has_a_mark_a_name_a_value_and_a_limit():
    screen = learning_of(ToyTrainer())
    first = screen.panel()[screen.now]
    assert "Not live: it moved too far from the original model." in first and "nats" not in first
    shown = details_of(screen)[screen.details.history]
    assert "2 of 3 checks passed" in shown
    named = re.sub('<span class="lucide[^>]*aria-label="([^"]*)"></span>', r"\1", shown)
    rows = [re.sub("<[^>]+>", "|", row) for row in re.findall("<tr class.*?</tr>", named)]
    assert [re.sub(r"\|+", "|", row).strip("|") for row in rows[:3]] == [
        "passed|Weights finite|passed",
        "failed|Distance from the base (KL)|9.3 nats|at most 6.0",
        "passed|Reply length|1.10 times the base|0.25 to 2.5 times",
    ]
    assert "it is 3.1 nats from the base" in shown  # an older round's


def details_of(screen: LearningScreen, group="reward", axis="update", rounds=(), zoom="") -> dict:
    return screen.details.panel(group, axis, list(rounds), zoom)


def test_every_measure_is_in_the_table_as_a_person_reads_it():
    screen = learning_of(ToyTrainer())
    table = details_of(screen)[screen.details.table]
    for name in screen.worker.history.metrics(1):
        assert charts.safe(measure_title(name)) in table
    assert measure_title("some_new_measure") == "Some new measure"
    assert [figure(*one) for one in MEASURES] == ["3.5%", "42%", "27", "0.012", "0.035", "–", "–"]


MEASURES = (
    ("clipfrac", 0.034999),
    ("head_accuracy", 0.42),
    ("candidate_tokens", 27.4),
    ("head_p_value", 0.0123),
    ("entropy", 0.034999),
    ("kl", None),
    ("kl", float("nan")),
)


def test_a_measure_that_a_round_did_not_store_is_missing():
    worker = ToyTrainer()
    stored = worker.history.metrics
    worker.history.metrics = lambda n: {
        name: points for name, points in stored(n).items() if (n, name) != (1, "bootstrap_win_rate")
    }
    screen = learning_of(worker)
    row = re.search(r"<tr><th[^>]*>Predicted win rate over base<.*?</tr>", str(details_of(screen)))
    assert re.findall("<td>(.*?)</td>", row[0]) == ["–", "64%"]
    shown = details_of(screen, "policy")
    assert "Entropy" in shown[screen.details.absent]
    visible = [shown[plot].get("visible", False) for plot in screen.details.plots]
    assert visible == [False, True, False, False]  # of this group the toy has clipfrac alone
    with_wins = details_of(screen, "gate", "round")[screen.details.plots[0]]["value"]
    assert with_wins["data"] == [[2, 0.64, "All rounds"]] and with_wins["mark"] == "point"


def test_rounds_are_laid_over_each_other_and_zoomed_together():
    screen = learning_of(ToyTrainer())
    shown = details_of(screen, rounds=("1", "2"), zoom="10 20")
    plots = [shown[plot] for plot in screen.details.plots]
    drawn = [plot for plot in plots if "value" in plot]
    chosen = ("reward", "update", ["1", "2"], "10 20")
    dressed = asyncio.run(screen.details.dress("drawn", *chosen))
    assert len(drawn) == 3 and all(plot["x_lim"] == [10.0, 20.0] for plot in dressed.values())
    assert dressed[screen.details.plots[0]]["colors_in_legend"] == ["Round 1", "Round 2"]
    assert {line for _, _, line in drawn[0]["value"]["data"]} == {"Round 1", "Round 2"}
    assert shown[screen.details.whole_button]["visible"]
    lone = details_of(screen)[screen.details.plots[0]]
    assert {line for _, _, line in lone["value"]["data"]} == {"Round 2"}
    lone = asyncio.run(screen.details.dress("drawn", "reward", "update", [], ""))
    lone = lone[screen.details.plots[0]]
    assert lone["x_lim"] is None and lone["colors_in_legend"] == []


def test_where_nothing_can_be_trained_the_next_step_says_how_to_have_it():
    status = replace(ToyTrainer().status(), off=Notice("training.read_only"))
    step = learning_summary.next_step(status, [], None)
    assert "can be written" in step.told and not step.act


def test_details_are_drawn_only_while_they_are_open_and_only_when_something_changed():
    screen = learning_of(worker := ToyTrainer())
    chosen = ("reward", "update", [], "")
    assert screen.details.refreshed("", *chosen) == {}
    drawn = asyncio.run(screen.details.show(*chosen))[screen.details.drawn]
    assert drawn and screen.details.refreshed(drawn, *chosen) == {}
    worker.train_now()
    assert screen.details.refreshed(drawn, *chosen)[screen.details.drawn] != drawn
    assert asyncio.run(screen.details.hide()) == {screen.details.drawn: ""}


@pytest.mark.parametrize(
    ("facts", "blind", "act", "words"),
    [
        ({}, [(1, 0, "a")] * 2, "duel", "2 votes so far"),
        ({"live": 0}, [], "rate", "Rate 9 more answers, then round 3 starts."),
        ({"live": 0, "waiting": 12}, [], "", "round 3 starts by itself"),
        ({"live": 0, "waiting": 12, "awaits": "idle"}, [], "", "Train now"),
        ({"live": 0, "paused": True}, [], "", "Resume"),
        ({}, [(0, 1, "a")] * 30, "versions", "speak against v1"),
        ({}, [(1, 0, "a")] * 30, "rate", "Rate 9 more"),
    ],
)
def test_there_is_one_thing_to_do_next_and_one_primary_button(facts, blind, act, words):
    worker = ToyTrainer()
    vars(worker).update(facts, blind=blind)
    screen = learning_of(worker)
    assert screen._next_step().act == act
    panel = screen.panel()
    assert words in panel[screen.next_words]
    assert panel[screen.next_button]["visible"] == bool(act)
    assert panel[screen.train_button]["variant"] == ("secondary" if act else "primary")
    told = asyncio.run(screen.take_step())
    assert told[screen.target] == {"duel": "", "rate": "compare"}.get(act, act or "learning")


def test_a_tick_draws_only_what_changed():
    screen = learning_of(worker := ToyTrainer())
    chosen = ("", "reward", "update", [], "")
    first = asyncio.run(screen.tick("", *chosen))
    shown = {screen.shown: first[screen.shown]}
    assert first[screen.now] and asyncio.run(screen.tick(first[screen.shown], *chosen)) == shown
    worker.waiting += 1
    assert "4 of 12" in asyncio.run(screen.tick(first[screen.shown], *chosen))[screen.now]


def test_an_error_on_learning_is_told():
    screen = learning_of(worker := ToyTrainer())
    worker.status = lambda: 1 / 0
    assert screen.panel()[screen.note]["tone"] == "bad"


def learning_of(worker: ToyTrainer) -> LearningScreen:
    screen = LearningScreen(worker, Simulation(ToyChat(worker).compare, worker))
    with gr.Blocks() as demo:
        screen.lay_out()
        comparing = CompareScreen(ToyChat(worker).compare, worker)
        comparing.lay_out()
        comparing.wire(demo, gr.Textbox("me"))
        comparing.tabs = gr.Tabs()
        screen.wire(demo, comparing)
    return screen


@pytest.mark.parametrize("needed", [0, -5, 10_001, None, float("inf")])
def test_a_number_of_ratings_that_cannot_be_is_refused_in_words_and_the_old_one_stays(needed):
    worker = ToyTrainer()
    screen = learning_of(worker)
    if needed is not None and needed != float("inf"):
        assert screen.needed.preprocess(needed) == needed  # Gradio lets the handler speak
    told = asyncio.run(screen.set_needed(needed))
    assert told[screen.note] == components.status_message(
        "Choose a number of ratings from 1 to 10,000.", "bad"
    )
    assert told[screen.needed] == worker.needed == 12
    assert "after 7 new" in asyncio.run(screen.set_needed(7))[screen.note]["text"]
    assert worker.needed == 7


@pytest.mark.parametrize("minutes", [0, -5, 1_441, None, float("inf")])
def test_minutes_that_cannot_be_are_refused_in_words_and_the_old_ones_stay(minutes):
    screen = learning_of(worker := ToyTrainer())
    told = asyncio.run(screen.set_minutes(minutes))
    assert told[screen.note] == components.status_message(
        "Choose a number of minutes from 1 to 1,440.", "bad"
    )
    assert told[screen.minutes] == worker.round_minutes == 10


def test_the_minutes_of_a_round_can_be_chosen_and_it_is_told_what_a_round_does():
    screen = learning_of(worker := ToyTrainer())
    assert asyncio.run(screen.load())[screen.minutes] == 10
    told = asyncio.run(screen.set_minutes(7))
    assert "about 7 minutes" in told[screen.note]["text"] and worker.round_minutes == 7
    assert "up to 14 updates, each from 64 replies of up to 128 tokens" in told[screen.round_size]


def test_where_the_minutes_change_nothing_they_are_not_shown():
    worker = ToyTrainer()
    assert learning_of(worker).minutes.visible
    worker.sizes_rounds = False
    screen = learning_of(worker)
    assert not screen.minutes.visible and screen.panel()[screen.round_size] == ""


def every_place(chat: ToyChat) -> dict[str, str]:
    """What each of the four places says of the state of training."""
    watch = Simulation(chat.compare, chat.worker)
    learning, (compare, _) = learning_of(chat.worker), compare_screen()
    compare.answers.worker = chat.worker
    return {
        "header": StatusBar(chat, chat.worker, watch).read()["told"],
        "chat": components.saved_message("", chat.worker.status())["text"].strip(),
        "compare": compare.answers.counted()["text"],
        "learning": learning.panel()[learning.now],
    }


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"waiting": 0}, "0 of 12 ratings. 12 more start round 3."),
        ({"waiting": 12}, "12 ratings, enough: round 3 starts now."),
        ({"waiting": 15}, "15 ratings, enough: round 3 starts now."),
        ({"paused": True}, "Learning is paused. 3 ratings are kept for round 3."),
        ({"stopped_at": 3}, "The last round was stopped. 3 of 12 ratings."),
        ({"error": Notice("round.app_ended")}, "The app ended during this round. 3 of 12"),
    ],
)
def test_all_four_places_say_the_same(facts, words):
    chat = ToyChat()
    vars(chat.worker).update(facts)
    told = every_place(chat)
    assert all(words in where for where in told.values()), told
    assert "15 of 12" not in str(told)


def test_a_versions_name_is_never_capitalised_and_one_vote_is_one_vote():
    screen, chat = versions_screen()
    assert press(screen, "live", 1)[screen.note]["text"] == "v1 is live."
    assert press(screen, "live", 0)[screen.note]["text"] == "The original model is live."
    chat.worker.live = 1
    chat.worker.blind = [(1, 0, "a")]
    assert screen.panel()[screen.timeline]["versions"][0]["told"].endswith(", 1 blind vote")
    learning = learning_of(chat.worker)
    assert "of 1 blind vote over" in learning.panel()[learning.votes]


def test_the_strip_says_when_a_simulated_person_is_in_charge_and_until_when():
    chat = ToyChat(word_seconds=0)
    watch = Simulation(chat.compare, chat.worker)
    strip = StatusBar(chat, chat.worker, watch)
    part = SimulationPanel(watch, chat.worker)
    with gr.Blocks():
        part.lay_out()
    assert strip.read()["parts"][0] == "toy model"
    asyncio.run(part.start("short_and_plain", 120, *[0] * 5))
    assert strip.read()["parts"][0] == "Simulation running"
    asyncio.run(part.stop())  # its versions still answer
    assert strip.read()["parts"][0] == "Simulation running"
    shown = part.panel()[part.scene]
    assert shown["rater"] == "short and plain (simulated)"
    asyncio.run(part.remove())
    assert strip.read()["parts"][0] == "toy model"


def data_screen() -> tuple[DataScreen, ToyChat]:
    chat = ToyChat(word_seconds=0)
    screen = DataScreen(chat, chat.worker)
    with gr.Blocks():
        screen.lay_out()
        screen.wire(gr.Textbox("me"))
    for text in ("echo =1+1", "echo tea"):
        *_, reply = chat.reply(chat.conversations.new(), text, stop=threading.Event())
        chat.ratings.rate(reply.message_id, 1, comment="@home")
    *_, pair = chat.compare.write("rivers", stop=threading.Event())
    chat.compare.vote(pair.set_id, "a")
    return screen, chat


def ask(screen: DataScreen, do: str, id: str, **more) -> dict:
    return asyncio.run(screen.act("", "", "", 50, SimpleNamespace(do=do, id=id, **more)))


def test_what_was_said_can_be_searched_changed_taken_back_and_deleted():
    screen, chat = data_screen()
    rows = screen.panel()[screen.table]
    assert len(rows["rows"]) == 3 and ["Thumb up", 2] in rows["counts"]
    assert len(screen.panel("tea")[screen.table]["rows"]) == 1
    assert len(screen.panel("", "comparison")[screen.table]["rows"]) == 1
    vote, thumb, other = (r["id"] for r in sorted(rows["rows"], key=lambda r: r["kind"]))
    assert "Thumb down" in ask(screen, "change", thumb, value="down")[screen.note]["text"]
    assert chat.rated[thumb][0] == -1
    assert ask(screen, "withdraw", other)[screen.table]["found"] == 2
    assert ask(screen, "delete", vote)[screen.table]["found"] == 1
    assert ask(screen, "change", "nothing", value="up")[screen.note]["tone"] == "bad"


def test_deleted_words_that_are_still_in_a_backup_are_told_until_they_are_gone():
    screen, chat = data_screen()
    assert screen.panel()[screen.kept]["text"] == ""
    chat.unerased = Notice("data.not_erased", {"count": 1, "names": "feedback-0001.db"})
    kept = screen.panel()[screen.kept]
    assert "still in feedback-0001.db" in kept["text"] and kept["tone"] == "bad"


def test_what_the_disk_damaged_is_told_with_the_copy_to_go_back_to():
    screen, chat = data_screen()
    told = {"name": "feedback.db", "count": 2, "backup": "backups/feedback-0001.db"}
    chat.damage = Notice("db.rows_damaged_backup", told)
    kept = screen.panel()[screen.kept]
    assert "from 2 rows" in kept["text"] and "feedback-0001.db" in kept["text"]
    assert kept["tone"] == "bad"


def test_what_was_said_can_be_taken_away_whole():
    screen, chat = data_screen()
    lines = asyncio.run(screen.export_lines("", "", ""))[screen.file]["text"].splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f.id for f in chat.ratings.all()]
    table = asyncio.run(screen.export_table("", "", ""))[screen.file]["text"]
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert len(rows) == 3 and {r["answer"] for r in rows} == {"up", "a"}
    pairs = asyncio.run(screen.export_pairs("", "", ""))
    assert [set(json.loads(line)) for line in pairs[screen.file]["text"].splitlines()] == [
        {"prompt", "chosen", "rejected"}
    ]
    assert pairs[screen.note]["text"] == "1 preference pair is in the download."


def test_an_export_comes_in_parts_that_make_one_file(monkeypatch):
    screen, _ = data_screen()
    whole = asyncio.run(screen.export_table("", "", ""))[screen.file]["text"]
    monkeypatch.setattr(data_module, "EXPORTED_AT_ONCE", 2)
    made, parts = asyncio.run(screen.export_table("", "", "")), []
    while True:
        value = made[screen.file]
        parts.append(value["text"])
        assert value["part"] == len(parts) - 1
        if not value["next"]:
            break
        event = SimpleNamespace(**{**value, "part": len(parts)})
        made = asyncio.run(screen.export_more(event))
    rows = [list(csv.DictReader(io.StringIO(t, newline=""))) for t in ("".join(parts), whole)]
    for row in (row for table in rows for row in table):
        row.pop("created_at")  # the toy reads the clock each time
    assert len(parts) == 2 and rows[0] == rows[1] and len(rows[0]) == 3
    assert made[screen.note]["text"] == "3 ratings are in the download."
    told = asyncio.run(screen.export_more(SimpleNamespace(form="shell")))
    assert told[screen.note]["tone"] == "bad"


def test_a_file_is_looked_at_taken_in_once_and_undone():
    screen, chat = data_screen()
    panel, here = screen.imports, chat.imports.here

    def act(do: str, **more: str) -> tuple[dict, dict]:
        event = SimpleNamespace(do=do, **more)
        update = asyncio.run(panel.act("me", event))
        return update[panel.box], update[panel.note]

    pair = {"prompt": "the sea", "chosen": "blue", "rejected": "green"}
    lines = "\n".join([json.dumps(pair), *["{"] * 7])
    data = base64.b64encode(gzip.compress(lines.encode())).decode()
    box, note = act("preview", data=data, name="x.jsonl.gz")
    assert box["kinds"] == [["Votes", 1]] and not here and not note["text"]
    assert [at for at, _ in box["unread"]] == [2, 3, 4, 5, 6] and box["more"] == 2
    box, note = act("import", data=data, name="x.jsonl.gz")
    assert note["text"].startswith("Imported: 1 new rating.") and len(here) == 1
    assert note["tone"] == "good"
    [past] = screen.panel()[panel.past]["rows"]
    assert re.fullmatch(r"Imported .*, \d\d:\d\d: 1 chat", past["told"]) and not past["counts"]
    told = asyncio.run(panel.act("me", SimpleNamespace(do="accept", origin=past["origin"])))
    assert told[panel.note] == {"text": message(Notice("imports.accepted")), "tone": "good"}
    assert screen.panel()[panel.past]["rows"][0]["counts"]
    box, note = act("import", data=data, name="x.jsonl.gz")
    assert "here already" in note["text"]
    assert [one["origin"] for one in screen.panel()[panel.past]["rows"]] == [past["origin"]]
    told = asyncio.run(panel.act("me", SimpleNamespace(do="undo", origin=past["origin"])))
    assert not here and told[panel.note]["tone"] == "good" and panel.box not in told
    assert not screen.panel()[panel.past]["rows"]
    box, note = act("preview", data=base64.b64encode(b"no ratings").decode())
    assert note["tone"] == "bad" and set(box) == {"id"}
    box, note = act("preview", data="no base64")
    assert note["tone"] == "bad" and set(box) == {"id"}


@pytest.mark.parametrize("do", ["back", "retrain"])
def test_a_live_version_that_learned_from_what_lapsed_can_be_left(do):
    screen, chat = data_screen()
    lapsed, worker = screen.lapsed, chat.worker
    assert screen.panel()[lapsed.box] == {}
    worker.gone = Lapsed(worker.live, 0, ())
    assert "Go back to" in screen.panel()[lapsed.box]["told"]
    assert "Go back to" in VersionsScreen(chat, worker)._advice()
    told = asyncio.run(lapsed.act(SimpleNamespace(do=do)))
    assert told[lapsed.note]["tone"] == "good"
    if do == "back":
        assert worker.live == 0 and told[lapsed.box] == {}
    else:
        assert worker.rebuilt == [([], "")]


def test_a_ranking_is_shown_with_its_order_and_deleted_as_what_it_is():
    screen, chat = data_screen()
    *_, drafts = chat.compare.write("the sea", 3, stop=threading.Event())
    chat.compare.rank(drafts.set_id, (1, 0, 1))
    [row] = screen.panel("", "ranking")[screen.table]["rows"]
    assert [p["place"] for p in row["order"]] == [0, 1, 1]
    assert row["order"][0]["reply"] == drafts.texts[1]
    assert "all answers" in ask(screen, "delete", row["id"])[screen.note]["text"]
    assert not chat.compare.rankings


def test_one_can_learn_without_everything_that_was_found():
    screen, chat = data_screen()
    votes = [told.id for told in chat.ratings.all("", "comparison")]
    press = SimpleNamespace(do="rebuild_all", id="")
    told = asyncio.run(screen.act("", "comparison", "", 50, press))
    assert chat.worker.rebuilt == [(votes, "")] and told[screen.note]["tone"] == "good"


def test_a_refusal_never_has_the_colour_of_success():
    screen, chat = data_screen()
    told = asyncio.run(screen.act("", "", "", 50, SimpleNamespace(do="rebuild_all", id="")))
    assert told[screen.note]["tone"] == "bad"
    watch = Simulation(chat.compare, chat.worker)
    assert components.outcome_message(watch.remove())["tone"] == "bad"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_never_becomes_a_formula(start):
    told = replace(data_screen()[1].ratings.all()[0], reply=f"{start}HYPERLINK()", prompt="plain")
    [row] = list(csv.DictReader(io.StringIO(exporters.csv_table([told]), newline="")))
    assert row["reply"] == f"'{start}HYPERLINK()" and row["prompt"] == "plain"


# ---- what text may do --------------------------------------------------------------------------


@pytest.mark.parametrize("payload", PAYLOADS)
def test_text_in_charts_stays_text(payload):
    drawn = charts.line_chart([(0, 1.0), (1, 2.0)], payload, axis=payload)
    assert payload not in drawn or (payload == "</div><b>x" and "<b>x" not in drawn)
    assert not any(sign in drawn for sign in ("${", "{{", "`", "<script", "<img", "\\"))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_reasons_of_rounds_stay_text(payload):
    worker = ToyTrainer()
    worker._rounds[-1].reason = payload
    worker.error = Notice("raters.excluded", {"name": payload})
    screen = learning_of(worker)
    panel = screen.panel() | details_of(screen)
    for part in (screen.now, screen.next_words, screen.details.history):
        assert not any(
            sign in panel[part]
            for sign in ("${", "{{", "`", "<script", "<img", "onload=alert(1)>", "\\")
        )


def test_no_template_shows_a_value(demo):
    """Only our own markup, escaped by charts.safe, goes through Gradio's default template."""
    for block in demo.blocks.values():
        if isinstance(block, gr.HTML):
            assert block.html_template in ("<div></div>", "${value}")
            assert "innerHTML" not in (block.js_on_load or "")


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(0, None)],
        [(0, float("nan"))],
        [(0, 1.0)],
        [(0, 1.0), (1, 1.0)],
        [(i, i * 1e9) for i in range(5000)],
    ],
)
def test_any_line_can_be_drawn(points):
    drawn = charts.line_chart(points, "x", axis="y")
    assert "nan" not in drawn and drawn.count(",") < 4 * charts.MOST_POINTS + 20


@pytest.mark.parametrize(
    ("zone", "shown"), [("UTC0", "21 Nov, 23:05"), ("EAST-2", "22 Nov, 01:05")]
)
def test_times_are_shown_in_this_machines_clock(monkeypatch, zone, shown):
    if not hasattr(time, "tzset"):
        pytest.skip("this system's clock cannot be moved to another zone")
    try:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        for stamp in ("2026-11-21T23:05:03+00:00", "2026-11-21T23:05:03Z"):
            assert components.when(stamp) == shown
    finally:
        monkeypatch.undo()
        time.tzset()
    assert components.when("not a time") == "not a time" and components.when(None) == ""


@pytest.mark.parametrize(
    ("accepted", "chosen", "gradio"),
    [
        ("", "en", "en"),
        ("en-GB,en", "en", "en"),
        ("zh-TW", "zh", "zh-TW"),
        ("zh-HK,zh;q=0.9", "zh", "zh-CN"),
        ("de,zh;q=0.5", "zh", "zh-CN"),
        ("</script>", "en", "en"),
    ],
)
def test_a_page_is_told_its_language(web, accepted, chosen, gradio):
    answer = web.get("", headers={"Accept-Language": accepted})
    head = answer.text.partition("</head>")[0]
    assert f"window.rlhfLanguage = '{chosen}'" in head and f"() => '{gradio}'" in head
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_handlers_answer_in_the_language_of_the_request(url):
    chinese, english = Tab(url), Tab(url)
    chinese.http.headers["Accept-Language"] = "zh-CN,zh;q=0.9"
    for tab, refused in ((chinese, "未保存"), (english, "Not saved")):
        view = {"conversation": "", "turns": [{"id": "x", "role": "assistant"}], "sent": False}
        event = {"index": 0, "value": ["x"], "liked": True}
        told = json.dumps(tab.call("rate", [view, "me", ""], event), ensure_ascii=False)
        assert refused in told
    for tab, refused in ((chinese, "消息是空的"), (english, "message is empty")):
        assert refused in tab.told_by_send(" ")


def test_the_script_is_raw():
    assert (
        "\n" in page_scripts.head()
        and "</script>" in page_scripts.head()
        and page_scripts.head().count("<script>") == 1
    )


def test_what_a_rating_or_a_reply_holds_never_becomes_markup():
    worker = ToyTrainer()
    worker._rounds[0].verdict = {
        "card": {
            "moved": [["“<b>a</b>” was better than “b”", 0.2]],
            "changed": [["length", -0.4, -0.3], ["lists", 0.01, 0.2]],
            "examples": [["Why ${x}?", "before <i>", "after"]],
        }
    }
    screen = learning_of(worker)
    history, changed = details_of(screen)[screen.details.history], screen.panel()[screen.changed]
    assert "&lt;b&gt;a" in history and "<b>a" not in history
    assert "&lt;i&gt;" in changed and "<i>" not in changed and "$" not in changed
    assert "shorter replies" in changed and "lists" not in changed


def test_conditions_that_this_machine_does_not_have_are_hidden_and_stay_as_they_are():
    worker = ToyTrainer()
    worker.possible_conditions, worker.conditions = ["idle", "night"], ["mains"]
    screen = learning_of(worker)
    assert [value for _, value in screen.conditions.choices] == ["idle", "night"]
    assert asyncio.run(screen.load())[screen.conditions] == []
    asyncio.run(screen.set_conditions(["night"]))
    assert sorted(worker.conditions) == ["mains", "night"]
