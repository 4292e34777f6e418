"""Files that are sent with a message: which are taken, and how the model reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from rlhf_chat.errors import AppError

LARGEST = 256 * 1024  # characters of one file; a model reads far fewer
MOST = 8  # files with one message
# Suffix -> the word after the fence, "" for plain text.
TYPES = {"txt": "", "log": "", "md": "markdown", "csv": "csv", "tsv": "", "json": "json"}
TYPES |= {"jsonl": "json", "yaml": "yaml", "yml": "yaml", "toml": "toml", "ini": "ini"}
TYPES |= {"py": "python", "js": "javascript", "ts": "typescript", "html": "html", "css": "css"}
TYPES |= {"c": "c", "h": "c", "cpp": "cpp", "hpp": "cpp", "rs": "rust", "go": "go", "rb": "ruby"}
TYPES |= {"java": "java", "kt": "kotlin", "swift": "swift", "php": "php", "sql": "sql"}
TYPES |= {"sh": "bash", "r": "r", "lua": "lua", "tex": "latex", "xml": "xml", "svg": "xml"}
TYPES |= {"pdf": ""}


@dataclass(frozen=True)
class Attachment:
    name: str
    text: str

    @classmethod
    def of(cls, name: str, text: str) -> Attachment:
        """Raises AppError for what cannot be sent."""
        name = " ".join(PurePath(name.replace("\\", "/")).name.split())[:120]
        if _suffix(name) not in TYPES or "\0" in text or text.count("\ufffd") > len(text) // 20:
            raise AppError("attachments.type", name=name)
        if len(text) > LARGEST:
            raise AppError("attachments.too_large", name=name, limit=LARGEST)
        if not text.strip():
            raise AppError("attachments.empty", name=name)
        return cls(name, text)


def with_files(message: str, files: Sequence[Attachment]) -> str:
    """The message as it is stored and read: each file below it, under its name."""
    check_count(len(files))
    return "\n\n".join([*filter(None, [message.strip()]), *map(_block, files)])


def check_count(count: int) -> None:
    """Raises AppError if these are too many files for one message."""
    if count > MOST:
        raise AppError("attachments.too_many", limit=MOST)


def _block(file: Attachment) -> str:
    longest = max(map(len, re.findall("`{3,}", file.text)), default=2)
    fence = "`" * (longest + 1)
    return f"{file.name}:\n{fence}{TYPES[_suffix(file.name)]}\n{file.text.rstrip()}\n{fence}"


def _suffix(name: str) -> str:
    return PurePath(name).suffix.removeprefix(".").lower()
