"""Keys, the message's draft, the help sheet and the phone layout: the script in the page's head.

The script is js/keys.js; here is the list of shortcuts, which it draws on the help sheet. Leaves
out everything the server decides.
"""

import json

from rlhf_chat.web.words import script

SHORTCUTS = (
    ("/", "Write a message"),
    ("Enter", "Send; Shift+Enter starts a new line"),
    ("Esc", "Stop the reply"),
    ("+  \u2212", "Rate the last reply up or down"),
    ("1  2  3  4", "Compare: A, B, tie, both bad"),
    ("N", "Compare: next drafts (Enter after a vote)"),
    ("Ctrl+Shift+O", "New chat"),
    ("?", "This sheet"),
)


def head() -> str:
    """The script for `launch(head=...)`, with the list of shortcuts written in."""
    return f"<script>\nconst SHORTCUTS = {json.dumps(SHORTCUTS)};\n{script('keys')}</script>"
