"""A chat that learns from its ratings, on one machine.

    import rlhf_chat
    with rlhf_chat.open("my-chats", "demo") as session:
        session.rate(session.reply("Why is the sky blue?"), "up")

`open` gives a `Session` (session.py); what it needs is imported when it is called.
"""

import os
from typing import TYPE_CHECKING

# Read when torch is imported, which is later. Threads of libgomp wait for one another by computing,
# by default for so long that one busy program on the same cores nearly stops them (docs/LOG.md).
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

if TYPE_CHECKING:
    from pathlib import Path

    from rlhf_chat.session import Session

__version__ = "0.4.0"
__all__ = ["__version__", "open"]


def open(data: "Path | str" = ".", model: str = "", quantization: str = "nf4") -> "Session":
    """A session on a data folder, made if it is new: see rlhf_chat.session.Session. `model` as
    `rlhf-chat --model`; ignored while an app is open on the folder, which then answers."""
    from rlhf_chat.session import open_session

    return open_session(data, model, quantization)
