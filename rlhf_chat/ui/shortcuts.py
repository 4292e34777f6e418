"""Keys, the message's draft, the help sheet and the phone layout: the script in the page's head.

The script is js/keys.js; here is the list of shortcuts, which it draws on the help sheet. Leaves
out everything the server decides.
"""

import json

from rlhf_chat.ui.components import script

SHORTCUTS = (
    ("/", "Write a message"),
    ("Enter", "Send; Shift+Enter starts a new line"),
    ("\u2191", "In an empty message box: change your last message"),
    ("Esc", "Stop the reply; leave a box; close what a reply opened"),
    ("+  \u2212", "Rate the last reply up or down"),
    ("R", "Another reply to the same message"),
    ("[  ]", "Previous or next version of the last reply"),
    ("C", "Copy the last reply"),
    ("1  2  3  4  5", "Compare: A, B, tie, both bad, both good"),
    ("1  2  3  4  T", "Several drafts: the next best; T, the rest are equal"),
    ("S  B", "Compare, after a vote: slightly, or much (B for big)"),
    ("N", "Compare: next drafts (Enter after a vote)"),
    ("U", "Compare: take the answer back"),
    ("C", "Compare, after an answer: say why"),
    ("G then C M L V D", "Go to Chat, Compare, Learning, VersionRegistry, Data"),
    ("Ctrl+K", "Search chats"),
    ("Ctrl+Shift+O", "New chat"),
    ("Ctrl+Shift+S", "Show or hide the list of chats"),
    ("Ctrl+.", "Settings of this chat"),
    ("?", "This sheet"),
)


def head() -> str:
    """The script for `launch(head=...)`, with the list of shortcuts written in."""
    return f"<script>\nconst SHORTCUTS = {json.dumps(SHORTCUTS)};\n{script('shortcuts')}</script>"
