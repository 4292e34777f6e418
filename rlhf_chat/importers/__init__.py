"""Rating files of other tools: bytes in, ratings out. docs/formats.md has a table of the formats.

source.py and decoding.py make text of a file, records.py entries of text, reader.py ratings of
entries, with one file for each family of formats. Nothing here knows a model or a database.
"""

from rlhf_chat.importers.problems import Options, UnreadableError
from rlhf_chat.importers.reader import Found, aspects, read, rows
from rlhf_chat.importers.report import ImportReport
from rlhf_chat.importers.row import Row
from rlhf_chat.importers.source import Source

__all__ = [
    "Found",
    "ImportReport",
    "Options",
    "Row",
    "Source",
    "UnreadableError",
    "aspects",
    "read",
    "rows",
]
