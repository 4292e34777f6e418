"""Keyboard shortcuts, the message draft and the phone layout: the script in the page's head.

The script is static/shortcuts.js; here is the list of shortcuts, which it draws on the help sheet.
"""

import json

from rlhf_chat.ui.scripts import script

# (keys, text `page.NAME`); two spaces separate keys, and keys that are a text themselves begin with
# "key_".
SHORTCUTS = (
    ("/", "key_message"),
    ("Enter", "key_send"),
    ("\u2191", "key_edit_last"),
    ("Esc", "key_escape"),
    ("+  \u2212", "key_thumbs"),
    ("Ctrl+\u2191  Ctrl+\u2193", "key_thumbs_typing"),
    ("R", "key_regenerate"),
    ("[  ]", "key_siblings"),
    ("C", "key_copy"),
    ("1  2  3  4  5", "key_vote"),
    ("1  2  3  4  T", "key_rank"),
    ("S  B", "key_strength"),
    ("N", "key_next"),
    ("U", "key_undo"),
    ("C", "key_note"),
    ("key_go_keys", "key_go"),
    ("Ctrl+K", "key_search"),
    ("Ctrl+Shift+O", "key_new_chat"),
    ("Ctrl+Shift+S", "key_sidebar"),
    ("Ctrl+.", "key_settings"),
    ("?", "key_help"),
)


def head() -> str:
    """The script for `launch(head=...)`, with the list of shortcuts written in."""
    return f"<script>\nconst SHORTCUTS = {json.dumps(SHORTCUTS)};\n{script('shortcuts')}</script>"
