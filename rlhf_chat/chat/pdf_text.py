"""The text of a PDF file, page by page (pypdf)."""

from __future__ import annotations

import io
import logging
import time

import pypdf
from pypdf.errors import PyPdfError

from rlhf_chat.errors import AppError

LARGEST = 16 << 20  # bytes of one file
SECONDS = 10.0  # for reading one; the pages until then are taken

logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of each slip of a file's writer


def pages(name: str, data: bytes) -> list[str]:
    """The text of each page, without empty lines. Raises AppError for a file that is too large,
    damaged or encrypted, or that holds pictures of pages instead of text."""
    if len(data) > LARGEST:
        raise AppError("attachments.pdf_too_large", name=name, limit=LARGEST >> 20)
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted:  # some are with an empty password
            reader.decrypt("")
        until, read = time.monotonic() + SECONDS, []
        for page in reader.pages:
            read.append(_tidy(page.extract_text()))
            if time.monotonic() > until:
                break
    except Exception as error:  # a damaged file fails in any way
        locked = isinstance(error, PyPdfError | ImportError) and _encrypted(data)
        code = "attachments.pdf_encrypted" if locked else "attachments.pdf_damaged"
        raise AppError(code, name=name) from error
    if not any(read):
        raise AppError("attachments.pdf_scanned", name=name)
    return read


def _encrypted(data: bytes) -> bool:
    try:
        return bool(pypdf.PdfReader(io.BytesIO(data)).is_encrypted)
    except Exception:
        return False


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.replace("\0", "").splitlines() if line.strip())
