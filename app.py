"""Starts RLHF Chat from a checkout; the same as the command `rlhf-chat` (rlhf_chat/cli.py)."""

import sys

from rlhf_chat.cli import main

if __name__ == "__main__":
    sys.exit(main())
