"""Icons of the style sheet."""

import re
from pathlib import Path
from urllib.parse import unquote

from rlhf_chat.ui import icons, polling

UI = Path(icons.__file__).parent


def test_every_icon_is_drawn_and_every_drawing_is_used() -> None:
    code = "".join(f.read_text() for f in [*UI.glob("*.py"), *UI.glob("static/*.js")])
    assert set(re.findall(r"\blucide-([a-z0-9-]+)", code)) == set(icons.NAMES)
    assert tuple(icons.TABS) == polling.TABS
    rules = icons.css().splitlines()
    assert len(rules) == len(icons.NAMES) + len(icons.TABS) + 1  # and a star that is full
    for rule in rules:
        (drawing,) = re.findall(r'url\("data:image/svg\+xml,([^"]+)"\)', rule)
        drawn = unquote(drawing)
        assert drawn.startswith("<svg") and drawn.endswith("</svg>")
    assert 'fill="black"' in unquote(rules[-1]) and 'fill="none"' in unquote(rules[-2])
