"""The scripts in the page's head, joined in one scope, and what the help sheet says."""

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
# Words of the app, each with the texts `page.term_NAME` and `page.means_NAME`.
TERMS = ("base", "version", "round", "reward_model", "checks", "trial", "blind_vote", "distance")
STEPS = ("learns_rate", "learns_taste", "learns_train", "learns_check")  # how it learns


# In this order: a script uses what those before it define.
SCRIPTS = (
    "page",
    "draft",
    "drawing",
    "layout",
    "theme",
    "help_sheet",
    "notifications",
    "voting",
    "shortcuts",
)


def head() -> str:
    """For `launch(head=...)`, with what the help sheet says written in."""
    lists = {"SHORTCUTS": SHORTCUTS, "TERMS": TERMS, "STEPS": STEPS}
    written = "".join(f"const {name} = {json.dumps(it)};\n" for name, it in lists.items())
    joined = written + "".join(map(script, SCRIPTS))
    return f"<script>\n(() => {{\n{joined}}})();\n</script>"
