"""`python -m rlhf_chat`: the same as the command `rlhf-chat`."""

import sys

from rlhf_chat.cli import main

if __name__ == "__main__":
    sys.exit(main())
