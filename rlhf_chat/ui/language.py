"""Texts in the language of the page: the browser's, as its requests name it.

Three ways lead to a text of rlhf_chat.locale. `text` and `message` render on the server, in the
language of the request that is being answered. `label` (keys `label.*`) is for what Gradio lays out
once for everybody: Gradio translates it in the browser. Scripts call `rlhfText` (keys `page.*`),
which static/text.js fills from the same files.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import gradio as gr
from gradio.context import LocalContext
from gradio.i18n import I18nData

from rlhf_chat import locale
from rlhf_chat.errors import AppError, Notice, failure, from_stored
from rlhf_chat.ui.scripts import script

LABEL, PAGE = "label.", "page."
# As Gradio calls them; page_language.py tells it which one to take.
GRADIO_NAMES = {"en": ("en",), "zh": ("zh-CN", "zh-TW")}

log = logging.getLogger(__name__)


def language() -> str:
    """Of the request whose handler is running; English outside of one."""
    request = LocalContext.request.get(None)
    return locale.best_language(request.headers.get("accept-language", "")) if request else "en"


def text(key: str, /, **params: Any) -> str:
    return locale.render(key, params, language())


def message(what: Notice | AppError | str | None) -> str:
    """A notice or an error of ours, or what a database holds of one (`errors.from_stored`)."""
    if not what:
        return ""
    found = from_stored(what) if isinstance(what, str) else what
    return found if isinstance(found, str) else text(found.code, **found.params)


def problem(error: BaseException) -> Notice:
    """What to tell the person about an error. One that is not ours is logged."""
    if isinstance(error, AppError):
        return error.notice
    log.exception("unexpected error in a handler", exc_info=error)
    return failure(error) or Notice("common.unexpected", {"error": type(error).__name__})


def label(name: str) -> I18nData:
    """A text that Gradio translates in the browser: label, placeholder, or value of a button."""
    return I18nData(LABEL + name)


def gradio_texts() -> gr.I18n:
    """For `launch(i18n=...)`."""
    tables: dict[str, Any] = {
        name: {k: v for k, v in locale.catalogue(known).items() if k.startswith(LABEL)}
        for known, names in GRADIO_NAMES.items()
        for name in names
    }
    return gr.I18n(**tables)


def head() -> str:
    """The script for `launch(head=...)`, with the texts of the scripts written in."""
    tables = {
        known: {
            k.removeprefix(PAGE): v
            for k, v in locale.catalogue(known).items()
            if k.startswith(PAGE)
        }
        for known in locale.LANGUAGES
    }
    written = json.dumps(tables, ensure_ascii=False).replace("</", "<\\/")
    return f"<script>\nconst RLHF_TEXTS = {written};\n{script('text')}</script>"
