"""The window: one file per screen, on Gradio. app.py reads as a table of contents.

This file sets what Gradio reads from the environment at import, so it must run before Gradio does:
no analytics, no per-event statistics, and none of the switches that would open the app to others.
It hands out what starts the window. Nothing in this package knows how a reply is made or a round
is run.
"""

import os
from typing import Any

from rlhf_chat.ui import running_app, window
from rlhf_chat.ui.entry import Entry
from rlhf_chat.ui.loading_page import LoadingPage

# Off, spelled exactly so: Gradio compares with the text "True". The last two stop it from building
# a table of up to 10,000 events after each click (8 to 21 ms of CPU time a click).
os.environ |= {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000",
    "GRADIO_ANALYTICS_MAX_EVENTS": "100",
}

# Each of these would weaken what security.py promises (a public link, more files served, a log of
# prompts kept in the browser, another address to listen on). This app takes its address from its
# own flags only.
for _name in (
    "GRADIO_SHARE",
    "GRADIO_ALLOWED_PATHS",
    "GRADIO_LOCAL_DEV_MODE",
    "GRADIO_VIBE_MODE",
    "GRADIO_MCP_SERVER",
    "GRADIO_SERVER_NAME",
    "GRADIO_SERVER_PORT",
    "GRADIO_RUN_HISTORY",
    "GRADIO_HISTORY_BUCKET",
    "GRADIO_WATCH_DIRS",
    "GRADIO_ROOT_PATH",
    "GRADIO_NUM_WORKERS",
    "GRADIO_SSR_MODE",
    "GRADIO_DEBUG",
):
    os.environ.pop(_name, None)


def launch(*args: Any, **kwargs: Any) -> str:
    """`rlhf_chat.ui.app.launch`, imported when it is called: Gradio takes seconds to load."""
    from rlhf_chat.ui.app import launch as launch_now

    return launch_now(*args, **kwargs)


__all__ = ["Entry", "LoadingPage", "launch", "running_app", "window"]
