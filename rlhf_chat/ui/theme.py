"""Theme: one accent colour, quiet greys, system fonts, light and dark.

Colours and fonts are here, positions and sizes in static/theme.css.
"""

import base64
from pathlib import Path

import gradio as gr

from rlhf_chat.ui import icons

IRIS = gr.themes.Color(
    name="iris",
    c50="#f2f1fd",
    c100="#e6e4fb",
    c200="#d2cef6",
    c300="#b4adef",
    c400="#9187e4",
    c500="#7066d6",
    c600="#5a4fc7",
    c700="#4b41a9",
    c800="#3e3787",
    c900="#2f2b63",
    c950="#1d1b3c",
)
GREY = gr.themes.Color(
    name="grey",
    c50="#fafafa",
    c100="#f4f4f5",
    c200="#e6e6e9",
    c300="#d3d3d8",
    c400="#9d9da6",
    c500="#6d6d78",
    c600="#50505a",
    c700="#3a3a42",
    c800="#232328",
    c900="#18181b",
    c950="#111113",
)
SANS = [
    "ui-sans-serif",
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Helvetica Neue",
    "sans-serif",
]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]

THEME = gr.themes.Base(
    primary_hue=IRIS,
    secondary_hue=IRIS,
    neutral_hue=GREY,
    text_size=gr.themes.sizes.text_md,
    radius_size=gr.themes.sizes.radius_md,
    font=SANS,
    font_mono=MONO,
).set(
    body_background_fill="#ffffff",
    body_background_fill_dark="*neutral_950",
    body_text_color="*neutral_800",
    body_text_color_dark="#e9e9ec",
    body_text_color_subdued="*neutral_500",
    body_text_color_subdued_dark="#9c9ca6",
    background_fill_primary="#ffffff",
    background_fill_primary_dark="*neutral_900",
    background_fill_secondary="*neutral_50",
    background_fill_secondary_dark="*neutral_900",
    border_color_primary="*neutral_200",
    border_color_primary_dark="#2c2c32",
    block_background_fill="transparent",
    block_background_fill_dark="transparent",
    block_border_width="0px",
    block_shadow="none",
    block_padding="0px",
    input_background_fill="#ffffff",
    input_background_fill_dark="*neutral_900",
    input_placeholder_color="*neutral_500",
    input_placeholder_color_dark="#9c9ca6",
    input_border_color="*neutral_300",
    input_border_color_dark="#3a3a42",
    input_border_color_focus="*primary_500",
    input_border_color_focus_dark="*primary_400",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_dark="*primary_500",
    button_primary_background_fill_hover_dark="*primary_400",
    button_primary_text_color="#ffffff",
    button_primary_border_color="transparent",
    button_secondary_background_fill="#ffffff",
    button_secondary_background_fill_hover="*neutral_100",
    button_secondary_background_fill_dark="*neutral_800",
    button_secondary_background_fill_hover_dark="*neutral_700",
    button_secondary_border_color="*neutral_300",
    button_secondary_border_color_dark="#3a3a42",
    button_secondary_text_color="*neutral_800",
    button_secondary_text_color_dark="#e9e9ec",
    button_border_width="1px",
    button_large_text_weight="500",
    button_small_text_weight="500",
    button_large_padding="0 14px",
    button_large_text_size="14px",
    button_transition="background-color .12s, border-color .12s",
    chatbot_text_size="15.5px",
)

STATIC = Path(__file__).parent / "static"
CSS = (STATIC / "theme.css").read_text(encoding="utf-8")


def head() -> str:
    """The icon and the style sheet for `launch(head=...)`.

    Not `css=...`: Gradio rewrites each selector there, and breaks those with commas in brackets and
    those inside @media.
    """
    return f"{_icon()}<style>\n{CSS}{icons.css()}</style>\n"


def _icon() -> str:
    """The tab's icon, in the page itself: the policy (security.py) lets it fetch no image."""
    image = base64.b64encode((STATIC / "icon-192.png").read_bytes()).decode()
    return f'<link rel="icon" href="data:image/png;base64,{image}">\n'
