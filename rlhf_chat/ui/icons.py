"""Icons: drawings of Lucide (ISC licence) from the package `lucide`, as masks in the style sheet.

What has the class `lucide-NAME` begins with that icon, in the colour of its text (theme.css).
"""

from __future__ import annotations

from importlib.resources import files
from urllib.parse import quote
from zipfile import ZipFile

NAMES = (
    "check",
    "chevron-left",
    "chevron-right",
    "circle-question-mark",
    "paperclip",
    "pencil",
    "pin",
    "pin-off",
    "sliders-horizontal",
    "square-pen",
    "star",
    "sun-moon",
    "trash-2",
    "upload",
    "x",
)
TABS = {
    "chat": "message-square",
    "compare": "columns-2",
    "learning": "graduation-cap",
    "versions": "layers",
    "data": "database",
}


def css() -> str:
    """One rule for each icon, and for that of each tab."""
    with files("lucide").joinpath("lucide.zip").open("rb") as stored, ZipFile(stored) as drawings:

        def rule(selector: str, name: str) -> str:
            drawing = " ".join(drawings.read(f"{name}.svg").decode().split())
            return f'{selector}::before {{ --icon: url("data:image/svg+xml,{quote(drawing)}"); }}\n'

        own = [rule(f".lucide-{name}", name) for name in NAMES]
        own += [rule(f"#tab-{tab}-button", name) for tab, name in TABS.items()]
        filled = own[NAMES.index("star")].replace(quote('fill="none"'), quote('fill="black"'))
        return "".join([*own, filled.replace(".lucide-star", ".lucide-star.full")])
