"""The window: a status bar, a sidebar and five screens; and the server that shows it.

`build` lays the screens out, `launch` starts the server with every guard on.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.compare import Compare
from rlhf_chat.chat.raters import Raters
from rlhf_chat.errors import AppError
from rlhf_chat.simulation.simulator import Simulation
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui import connections, language, page_scripts, security, theme
from rlhf_chat.ui.charts import safe
from rlhf_chat.ui.chat_screen import ChatScreen
from rlhf_chat.ui.checked_blocks import CheckedBlocks
from rlhf_chat.ui.compare_screen import CompareScreen
from rlhf_chat.ui.data_screen import DataScreen
from rlhf_chat.ui.entry import Entry
from rlhf_chat.ui.handlers import QUICK
from rlhf_chat.ui.language import label
from rlhf_chat.ui.learning_screen import LearningScreen
from rlhf_chat.ui.page_language import PageLanguage
from rlhf_chat.ui.polling import Polling
from rlhf_chat.ui.port import check_port, port_error
from rlhf_chat.ui.raters_panel import RatersPanel
from rlhf_chat.ui.restart import Restart
from rlhf_chat.ui.status_bar import StatusBar
from rlhf_chat.ui.versions_screen import VersionsScreen
from rlhf_chat.ui.welcome import Welcome

SESSIONS = 100  # tabs that Gradio remembers
ANSWER_SECONDS = 0.5  # for the page to be told that the next start comes
STARTERS = 3  # prompts offered in an empty conversation
# id, text, icon and script of the buttons at the foot of the sidebar
FOOT = (
    ("help-toggle", label("help"), "lucide-circle-question-mark", "() => { rlhfHelp(); }"),
    ("theme-toggle", label("theme"), "lucide-sun-moon", "() => { rlhfTheme(); }"),
)
ICON = Path(__file__).parent / "static" / "icon.png"


class NotLocal(AppError):
    """There is no log-in, so the app serves this machine only."""


def build(
    chat: Chat,
    compare: Compare,
    raters: Raters,
    worker: TrainingWorker,
    *,
    title: str = "RLHF Chat",
    restart: Restart | None = None,
) -> CheckedBlocks:
    starters = [compare.suggest_prompt() for _ in range(STARTERS)]
    watch = Simulation(compare, worker)
    strip, chatting = StatusBar(chat, worker, watch), ChatScreen(chat, worker, starters, restart)
    welcome, people = Welcome(chat, worker), RatersPanel(raters, worker)
    comparing, learning, versions, data = (
        CompareScreen(compare, worker),
        LearningScreen(worker, watch),
        VersionsScreen(chat, worker),
        DataScreen(chat, worker),
    )
    demo = CheckedBlocks(
        title=title,
        fill_height=True,
        fill_width=True,
        analytics_enabled=False,
        delete_cache=(3600, 86400),
    )
    with demo:
        _lay_out_side(title, chatting, people)
        strip.lay_out()
        with gr.Tabs(elem_id="tabs", selected="chat", overflow_behavior="wrap") as tabs:
            with gr.Tab(label("tab_chat"), id="chat", elem_id="tab-chat"):
                chatting.lay_out()
                welcome.lay_out()
            with gr.Tab(label("tab_compare"), id="compare", elem_id="tab-compare"):
                comparing.lay_out()
            with gr.Tab(label("tab_learning"), id="learning", elem_id="tab-learning"):
                learning.lay_out()
            with gr.Tab(label("tab_versions"), id="versions", elem_id="tab-versions"):
                versions.lay_out()
            with gr.Tab(label("tab_data"), id="data", elem_id="tab-data"):
                people.lay_out()
                data.lay_out()
        people.wire(demo)
        chatting.wire(demo, tabs, people.rater)
        comparing.wire(demo, people.rater, tabs)
        learning.wire(demo, comparing)
        versions.wire(demo, chatting, comparing)
        data.wire(people.rater, people.acted)
        welcome.wire(demo)
        strip.wire(demo)
        polling = Polling(strip, chatting, comparing, learning, versions, data, people)
        demo.state = polling.wire(tabs)
    return demo


def _lay_out_side(title: str, chatting: ChatScreen, people: RatersPanel) -> None:
    with gr.Sidebar(width=268, elem_id="side"):
        gr.HTML(f'<div class="brand">{safe(title)}</div>', elem_id="brand", apply_default_css=False)
        chatting.conversations.lay_out()
        people.lay_out_name()
        with gr.Row(elem_id="side-foot"):
            for elem_id, name, icon, act in FOOT:
                foot = gr.Button(name, size="sm", min_width=0, elem_id=elem_id, elem_classes=icon)
                foot.click(None, js=act, **QUICK)


def launch(
    chat: Chat,
    compare: Compare,
    raters: Raters,
    worker: TrainingWorker,
    *,
    data_dir: Path,
    host: str = "127.0.0.1",
    port: int = 7860,
    entry: Entry | None = None,
    prevent_thread_lock: bool = False,
    free_port: Callable[[], None] = lambda: None,
    title: str = "RLHF Chat",
    api: Any = None,
    on_ready: Callable[[str], None] = lambda url: None,
    restart: Restart | None = None,
) -> str:
    """Start the server, say where it is, and stay; with `prevent_thread_lock` return its address,
    with the token in it. `entry` says who may enter: by default, who has that address.
    `api`: an ASGI app that answers what is below /v1.
    `on_ready` is told the address once it answers.
    `free_port` is called at the last moment, to end what holds the port until then.
    `restart` notes which model the person wants instead, and then the app ends as well.

    Call it on the main thread: made elsewhere, Gradio's queue does not work.
    """
    global _running
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise NotLocal("port.not_local", host=host)
    os.environ["GRADIO_TEMP_DIR"] = str(_temporary(Path(data_dir)))
    entry = entry or Entry(port)
    demo = build(chat, compare, raters, worker, title=title, restart=restart)
    free_port()
    check_port(port, host)
    try:
        _serve(demo, host, port, Path(data_dir), entry, api)
    except OSError as error:  # someone took the port between the check and the start
        raise port_error(host, port, error) from error
    _running = demo
    url = entry.address(host)
    if api:
        print(f"API at http://{host}:{port}/v1", flush=True)
    print(f"Ready at {url}", flush=True)
    on_ready(url)
    if not prevent_thread_lock:
        _wait_for_the_end(restart or Restart())
        close()
    return url


def _temporary(data_dir: Path) -> Path:
    """Where Gradio puts files, which other accounts may not read. In a data folder that cannot be
    written there is none."""
    folder = data_dir.resolve() / "tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="rlhf-chat-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _serve(
    demo: CheckedBlocks, host: str, port: int, data_dir: Path, entry: Entry, api: Any
) -> None:
    """Starts the server, local and private."""
    demo.queue(max_size=128, api_open=False, default_concurrency_limit=8, status_update_rate=5)
    # Gradio looks for work a thousand times a second and for progress a hundred times, which takes
    # 4 % of a core while the app is idle. Only replies and drafts go through its queue, and nothing
    # reports progress through it: a fiftieth of a second and a second are soon enough.
    demo._queue.sleep_when_free, demo._queue.progress_update_sleep_when_free = 0.02, 1.0
    demo.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        max_threads=64,
        # Gradio keeps a description of all components for each tab that ever called a handler. Ours
        # keep nothing there: one that comes back after that many others begins as laid out.
        state_session_capacity=SESSIONS,
        theme=theme.THEME,
        head=theme.head() + language.head() + page_scripts.head(),
        i18n=language.gradio_texts(),
        footer_links=[],
        favicon_path=str(ICON),
        pwa=True,
        # `share` and `run_history` are set explicitly: the environment can turn on the first,
        # the second keeps prompts in the browser by default.
        share=False,
        run_history=False,
        enable_monitoring=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        strict_cors=True,
        allowed_paths=[],
        blocked_paths=[str(data_dir.resolve())],
        max_file_size="1mb",
        app_kwargs={
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
            "middleware": [
                *security.guards(entry, api=api, state=demo.state),
                Middleware(PageLanguage),
            ],
            "lifespan": security.outside,
        },
    )
    connections.bound(demo.server)


def _wait_for_the_end(restart: Restart) -> None:
    """Until Ctrl+C, a polite kill or the end of the terminal; a second one ends everything at once.
    Or until another model is asked for.

    A handler that notes it: a KeyboardInterrupt is lost when it is raised inside a destructor, and
    the app would then run on. No threading.Event: its lock may be held by the very wait that the
    signal interrupts, and then nothing but kill -9 ends the app.
    """
    came: list[int] = []
    ends = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ends.append(signal.SIGHUP)  # the terminal was closed; `nohup` says not to mind
    before = [signal.signal(end, lambda number, _: came.append(number)) for end in ends]
    while not came and not restart.model:
        time.sleep(0.2)
    if restart.model:
        time.sleep(ANSWER_SECONDS)
    for end, handler in zip(ends, before, strict=True):
        signal.signal(end, handler)


_running: gr.Blocks | None = None


def close() -> None:
    """End the server that `launch` started, if one is running."""
    global _running
    if _running is not None:
        _running.close(verbose=False)
        _running = None
