"""Who may enter: whoever knows the token of this start, or has been given its cookie for it.

The app listens on 127.0.0.1, which every account of the machine can reach. So each start makes a
token, which stands in the address that is opened and printed; a page that is asked for with it
brings a cookie, and everything else is answered to that cookie alone. The cookie is set with the
page itself, not with a redirect to it: a browser that came from a file or another site would not
send it there (SameSite=Strict).

The address that a browser is started with is in the list of processes, which other accounts can
read. There it holds a ticket instead: good once, for two minutes.

Without Gradio and without torch: the loading page and a second start need it at once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from enum import Enum, auto
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import parse_qs, urlencode

from rlhf_chat import locale
from rlhf_chat.ui.refusals import answer, headers_of, refuse

PARAMETER = "token"
TICKET_SECONDS = 120
PROOF_PATH = "/proof"
NONCE_LENGTH = 64  # characters, at most
MOST_PARAMETERS = 32
STATIC = Path(__file__).parent / "static"
SCRIPT = (STATIC / "entry.js").read_text(encoding="utf-8")  # takes the token out of the address
PAGE = Template((STATIC / "entry.html").read_text(encoding="utf-8"))

# They say nothing about anybody. The browser asks for the first ones without a cookie, Gradio for
# the last one when it starts.
OPEN_TO_ALL = frozenset(
    {
        "/manifest.json",
        "/favicon.ico",
        "/pwa_icon/192",
        "/pwa_icon/512",
        "/gradio_api/startup-events",
    }
)


class Verdict(Enum):
    STRANGER = auto()
    KNOWN = auto()  # by its cookie, or nobody is asked
    NEWCOMER = auto()  # has the token or a ticket: gets the cookie


class Entry:
    """The key of one start of the app on one port. With `required` off everybody may enter, and
    the key only proves to a second start which app this is."""

    def __init__(self, port: int, *, required: bool = True, token: str = "") -> None:
        self.port, self.required = port, required
        self.token = token or secrets.token_urlsafe(32)
        self._used: dict[str, int] = {}  # tickets, with the second in which they end

    def address(self, host: str = "127.0.0.1") -> str:
        """To be shown to the person who started the app."""
        return self._address(host, self.token)

    def ticket_address(self, host: str = "127.0.0.1") -> str:
        """To start a browser with."""
        head = f"{int(time.time()) + TICKET_SECONDS}.{secrets.token_urlsafe(12)}"
        return self._address(host, f"{head}.{self._sign('ticket', head)}")

    def _address(self, host: str, word: str) -> str:
        query = f"?{urlencode({PARAMETER: word})}" if self.required else ""
        return f"http://{host}:{self.port}/{query}"

    @property
    def cookie_name(self) -> str:
        """With the port: cookies are shared by all ports of a host."""
        return f"rlhf_chat_{self.port}"

    def set_cookie(self) -> str:
        return f"{self.cookie_name}={self.token}; HttpOnly; SameSite=Strict; Path=/"

    def judge(self, method: str, path: str, query: str, headers: dict[str, str]) -> Verdict:
        if not self.required or self._has_cookie(headers.get("cookie", "")):
            return Verdict.KNOWN
        if method == "GET" and path in OPEN_TO_ALL:
            return Verdict.KNOWN
        if method == "GET" and path == "/":
            word = only(query, PARAMETER)
            if _same(word, self.token) or self._takes(word):
                return Verdict.NEWCOMER
        return Verdict.STRANGER

    def _has_cookie(self, header: str) -> bool:
        pairs = (part.strip().partition("=") for part in header.split(";"))
        return any(
            name == self.cookie_name and _same(value, self.token) for name, _, value in pairs
        )

    def _takes(self, ticket: str) -> bool:
        """Whether this ticket is ours and good; it is not afterwards."""
        head, _, signature = ticket.rpartition(".")
        until = head.partition(".")[0]
        if not _same(signature, self._sign("ticket", head)) or not until.isdecimal():
            return False
        now = int(time.time())
        self._used = {one: end for one, end in self._used.items() if end >= now}
        if int(until) < now or ticket in self._used:
            return False
        self._used[ticket] = int(until)
        return True

    def proof(self, nonce: str) -> str:
        """What only this start can say about a word that another program made up."""
        return self._sign("proof", nonce)

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(
            self.token.encode(), f"{purpose} {text}".encode(errors="replace"), hashlib.sha256
        ).hexdigest()


def _same(given: str, right: str) -> bool:
    """In a time that does not depend on how much of it is right."""
    return hmac.compare_digest(given.encode(errors="replace"), right.encode())


def only(query: str, name: str) -> str:
    """The one value of a parameter; "" if it has none or several."""
    try:
        words = parse_qs(query, max_num_fields=MOST_PARAMETERS).get(name, [])
    except ValueError:
        return ""
    return words[0] if len(words) == 1 else ""


def nonce_of(query: str) -> str:
    """The word in a request for a proof; "" if there is none that can be one."""
    word = only(query, "nonce")
    return word if len(word) <= NONCE_LENGTH else ""


def stranger_page(language: str) -> str:
    """How to get in, for somebody who opened the window without the token."""
    return PAGE.substitute(
        language=language,
        how=escape(locale.render("security.no_entry", {}, language)),
        again=escape(locale.render("security.entry_again", {}, language)),
    )


class EntryGuard:
    """Lets in whom the entry knows, hands out its cookie, and tells the others how to get in."""

    def __init__(self, app: Any, entry: Entry) -> None:
        self.app, self.entry = app, entry

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":  # the list of open routes has no WebSocket
            await self.app(scope, receive, send)
            return
        headers, query = headers_of(scope), scope["query_string"].decode("latin-1")
        if (scope["method"], scope["path"]) == ("GET", PROOF_PATH):
            return await _prove(send, self.entry, query)
        verdict = self.entry.judge(scope["method"], scope["path"], query, headers)
        if verdict is Verdict.STRANGER:
            language = locale.best_language(headers.get("accept-language", ""))
            if (scope["method"], scope["path"]) == ("GET", "/"):
                return await answer(send, 401, "text/html", stranger_page(language))
            return await refuse(send, 401, "security.no_entry", language)
        if verdict is Verdict.NEWCOMER:
            send = _with_cookie(send, self.entry.set_cookie())
        await self.app(scope, receive, send)


async def _prove(send: Any, entry: Entry, query: str) -> None:
    if nonce := nonce_of(query):
        await answer(send, 200, "text/plain", entry.proof(nonce))
    else:
        await refuse(send, 404, "security.not_here")


def _with_cookie(send: Any, cookie: str) -> Any:
    async def sent(message: Any) -> None:
        if message["type"] == "http.response.start":
            more = [(b"set-cookie", cookie.encode()), (b"cache-control", b"no-store")]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sent
