"""Safetensors files, looked at before a library reads them: the length of the header is a number in
the file, and the header is parsed as a whole."""

from __future__ import annotations

from pathlib import Path

HEADER_LIMIT = 32 << 20  # bytes; about 120 for each tensor, and the largest models have 100,000


def check_headers(folder: Path) -> None:
    """Raises ValueError for a weights file whose header cannot be one."""
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
        if length > HEADER_LIMIT or length + 8 > file.stat().st_size:
            raise ValueError(f"{file.name} says that its header has {length:,} bytes")
