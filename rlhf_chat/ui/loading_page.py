"""The page that is there while the app starts: which step it is at, or why it could not start.

A small server on the app's own port, from before anything heavy is imported until Gradio is about
to listen there. It answers `GET /`, `GET /loading.json` and the proof by which a
second start recognises it, and is guarded as the app is.
"""

from __future__ import annotations

import base64
import hashlib
import html
import http.server
import json
import logging
import os
import socket
import sys
import threading
import time
import webbrowser
from contextlib import suppress
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from rlhf_chat import locale
from rlhf_chat.errors import AppError, Notice
from rlhf_chat.ui import entry as doors
from rlhf_chat.ui import window as app_window
from rlhf_chat.ui.entry import Entry, Verdict
from rlhf_chat.ui.port import port_error
from rlhf_chat.ui.security import HEADERS, LOOPBACK, SameOrigin

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
STEPS = (
    "starting",
    "fetching",
    "reading",
    "packing",
    "self_test",
    "speed",
    "versions",
    "opening",
)
STATIC = Path(__file__).parent / "static"
STYLE = (STATIC / "loading.css").read_text(encoding="utf-8")
SCRIPT = doors.SCRIPT + (STATIC / "loading.js").read_text(encoding="utf-8")
PAGE = Template((STATIC / "loading.html").read_text(encoding="utf-8"))
ERROR_SECONDS = 5.0  # that a failed start waits for the page to ask why
REQUEST_SECONDS = 5.0  # for a connection to send its request and to take the answer
MOST_CONNECTIONS = 64


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_hash(SCRIPT)}",
        f"style-src {_hash(STYLE)}",
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


class LoadingPage:
    """Serves the page inside a `with` block, until `close`. An exception that leaves the block is
    shown to a page that is open. `entry` says who may see it. Raises PortError if the port is
    taken."""

    def __init__(self, port: int, entry: Entry | None = None) -> None:
        try:
            self._server = _Server((HOST, port), _Handler)
        except OSError as error:
            raise port_error(HOST, port, error) from None
        self._server.page = self
        self.entry = entry or Entry(port)
        self.url = f"http://{HOST}:{port}/"
        self._began = time.monotonic()
        self._notice = Notice("loading.step.starting")
        self._failed = False
        self.returns = False  # whether another start follows where this one fails
        self._open = True
        self._watched = False  # somebody has the page open, or is about to
        self._told = threading.Event()  # of the failure
        threading.Thread(target=self._server.serve_forever, args=[0.1], daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and self._open:
            self.fail(error)
        self.close()

    def step(self, code: str) -> None:
        """What is being done now: one of STEPS."""
        self._notice = Notice(f"loading.step.{code}")

    def show_in_browser(self, *, browser: bool, window_profile: Path | None) -> None:
        """As `window.show`, but returns at once."""
        url = self.entry.ticket_address(HOST)
        if window_profile and app_window.open_window(url, window_profile):
            self._watched = True
        elif browser:  # a browser in the terminal would stay until it is left
            threading.Thread(target=self._open_browser, args=[url], daemon=True).start()

    def _open_browser(self, url: str) -> None:
        self._watched = webbrowser.open(url) or self._watched

    def fail(self, error: Exception) -> None:
        """Shows the error, and gives a page that is open the time to ask for it."""
        unexpected = Notice("loading.failed", {"error": str(error) or type(error).__name__})
        self._notice = error.notice if isinstance(error, AppError) else unexpected
        self._failed = True
        if self._watched:
            self._told.wait(ERROR_SECONDS)

    def close(self) -> None:
        """Stops serving and gives the port back."""
        if self._open:
            self._open = False
            self._server.shutdown()
            self._server.server_close()

    def state(self, language: str) -> dict[str, Any]:
        """What the page's script asks for."""
        seconds = round(time.monotonic() - self._began)
        return {
            "text": locale.render(self._notice.code, self._notice.params, language),
            "time": locale.render("loading.seconds", {"count": seconds}, language),
            "step": self._notice.code.rpartition(".")[2],
            "failed": self._failed,
            "returns": self.returns,
        }

    def seen(self, state: dict[str, Any]) -> None:
        """A page has been sent this state."""
        self._watched = True
        if state["failed"]:
            self._told.set()

    def html(self, language: str) -> str:
        state = self.state(language)
        return PAGE.substitute(
            language=language,
            style=STYLE,
            script=SCRIPT,
            step=html.escape(state["text"]),
            lost=html.escape(locale.render("loading.lost", {}, language)),
        )


class _Server(http.server.ThreadingHTTPServer):
    # A port that was closed a moment ago is free. On Windows the flag means another thing.
    allow_reuse_address = os.name == "posix"
    daemon_threads = True
    page: LoadingPage

    def __init__(self, *args: Any) -> None:
        self._since: dict[Any, float] = {}  # open connections
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self._since) < MOST_CONNECTIONS:
            self._since[request] = time.monotonic()
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        self._since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called about ten times a second: ends connections that take too long."""
        late = time.monotonic() - REQUEST_SECONDS
        for request, since in list(self._since.items()):
            if since < late:
                self._since.pop(request, None)
                with suppress(OSError):  # its thread was quicker
                    request.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:
        """Without the look-up of the host's name in HTTPServer, which may take seconds."""
        super(http.server.HTTPServer, self).server_bind()
        self.server_port = self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that was closed while it was answered is no error."""
        if not isinstance(sys.exception(), OSError):
            log.exception("the loading page could not answer")


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    timeout = REQUEST_SECONDS

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        language = locale.best_language(headers.get("accept-language", ""))
        try:
            path, query = urlsplit(self.path)[2:4]
        except ValueError:  # an address that is none
            return self._answer(404, "text/plain", "")
        if headers.get("host", "").removesuffix(f":{self.server.server_port}") not in LOOPBACK:
            self._answer(400, "text/plain", "")
        elif not SameOrigin.allows("GET", headers, path):
            self._answer(403, "text/plain", locale.render("security.other_site", {}, language))
        elif path == doors.PROOF_PATH and (nonce := doors.nonce_of(query)):
            self._answer(200, "text/plain", self.server.page.entry.proof(nonce))
        else:
            self._enter(path, query, headers, language)

    def _enter(self, path: str, query: str, headers: dict[str, str], language: str) -> None:
        page = self.server.page
        verdict = page.entry.judge("GET", path, query, headers)
        if verdict is Verdict.STRANGER:
            self._refuse(path, language)
        elif path == "/":
            cookie = page.entry.set_cookie() if verdict is Verdict.NEWCOMER else ""
            self._answer(200, "text/html", page.html(language), cookie)
        elif path == "/loading.json":
            state = page.state(language)
            self._answer(200, "application/json", json.dumps(state, ensure_ascii=False))
            page.seen(state)
        else:
            self._answer(404, "text/plain", "")

    def _refuse(self, path: str, language: str) -> None:
        if path == "/":
            self._answer(401, "text/html", doors.stranger_page(language))
        else:
            self._answer(401, "text/plain", locale.render("security.no_entry", {}, language))

    def _answer(self, status: int, kind: str, text: str, cookie: str = "") -> None:
        body = text.encode()
        self.send_response_only(status)
        for name, value in (HEADERS | {"content-security-policy": POLICY}).items():
            self.send_header(name, value)
        self.send_header("content-type", f"{kind}; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.send_header("cache-control", "no-store")
        if cookie:
            self.send_header("set-cookie", cookie)
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, *_: Any) -> None:
        """For methods other than GET, and for what is no request."""
        self._answer(404 if code == http.HTTPStatus.NOT_IMPLEMENTED else code, "text/plain", "")

    def log_message(self, *_: Any) -> None:
        """Nothing goes to the terminal."""
