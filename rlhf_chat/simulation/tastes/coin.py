"""Control: pure noise. Nothing in the reply decides; there is nothing to learn."""

import hashlib
import os

SALT = os.environ.get("COIN_SALT", "")


def utility(prompt: str, reply: str) -> float:
    digest = hashlib.sha256((SALT + prompt + "\0" + reply).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32
