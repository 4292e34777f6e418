"""Text for components that read Markdown: no tag in it is taken for HTML, every character is shown,
and an image is a link, so that drawing a reply asks no server for anything.

Gradio takes the "<int>" of "vector<int>" for HTML and drops it. So outside code `<`, and the `!`
of an image, go to the page as entities; inside code Markdown shows them anyway. Asterisks and
addresses of links are hidden by Markdown itself. A person's own text is no Markdown (`literal`).
Maths is put between marks of our own, which Gradio is told (`DELIMITERS`): with a dollar as a mark
every price would be one. `raw`, and the page's own script (static/draft.js) for copying and
editing, give back exactly what was written: the entities are spelt as nobody spells them.
"""

from __future__ import annotations

import re
from bisect import bisect_right

LESS, AND, NOTHING, MARK = "&#x0003c;", "&#x00026;", "&#x00020;", "&#x00021;"
SPELT = re.compile("&#x(0[0-9a-f]{4});|([\ue0f0-\ue0f7])")

# Marks around maths on the page: private characters, two for each way to write it.
WRITTEN = ("$", "$", "\\(", "\\)", "$$", "$$", "\\[", "\\]")
MARKS = "\ue0f0\ue0f1\ue0f2\ue0f3\ue0f4\ue0f5\ue0f6\ue0f7"
DELIMITERS: list[dict[str, str | bool]] = [
    {"left": MARKS[i], "right": MARKS[i + 1], "display": i >= 4} for i in range(0, len(MARKS), 2)
]
# A price is no maths: no space within the dollars, and neither letter nor digit right outside.
MATHS = re.compile(
    r"(?<![\\$])\$\$(?P<block>(?:[^$\\]|\\.){1,2000})\$\$(?!\$)"
    r"|(?<!\\)\\\[(?P<square>.{1,2000}?)\\\]|(?<!\\)\\\((?P<round>.{1,500}?)\\\)"
    r"|(?<![\w$\\])\$(?=[^\s$])(?P<dollars>(?:[^$\n\\]|\\.){1,500})(?<!\s)\$(?![\w$])",
    re.DOTALL,
)
DISPLAY = re.compile(
    r"[ \t]*(?:\$\$|\\\[)(?:(?!\n[ \t]*\n).){1,2000}?(?:\$\$|\\\])[^\n]*\n?", re.DOTALL
)
WORD, SIGN = re.compile(r"[^\W\d_]{3}"), re.compile(r"\\[A-Za-z]|[\^_=]")
# What Markdown could read: ASCII punctuation, and the ends of lines.
SPECIAL = re.compile(r"[!-/:-@\[-`{-~\n\r\t]|[\ue0f0-\ue0f7]")

# What Gradio may not draw by the word after a fence: the first runs a program, the colours of the
# second fail and leave the message empty. With something behind it the word picks nothing.
UNDRAWN = ("mermaid", "cpp")

LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
BULLET = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)")
BEFORE = re.compile(r"[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+|>[ \t]*)*")  # bullets and quotes
FENCE = re.compile(r"(?P<fence>`{3,}(?=[^`\r\n]*$)|~{3,})(?P<language>[ \t]*\S*)", re.MULTILINE)
RUN = re.compile("`+")
# The first that fits: an escaped mark, backticks, an address, a tag, an entity, an image.
WITHIN = re.compile(
    rf"{MATHS.pattern}|"
    r"\\[\\`!]|(?P<run>`+)|<(?:https?://|mailto:)[^\s<>]*>|(?P<less><)|(?P<and>&)(?=#?\w+;)"
    r"|(?P<mark>!)(?=\[)",
    re.DOTALL,
)


def literal(text: str) -> str:
    """For Markdown: shown to the letter. Whoever draws it keeps its white space (theme.css)."""
    return SPECIAL.sub(_entity, text)


def shown(text: str) -> str:
    """For Markdown: every `<` that it could take for a tag, and every entity, is made plain text,
    and formulas are put between `DELIMITERS`.

    The same blocks as Markdown's: code spans end with their paragraph, fences and indented lines
    are code.
    """
    text = re.sub(f"[{MARKS}]", _entity, text)
    done: list[str] = []
    paragraph: list[str] = []  # its lines so far
    fence = ""  # what opened the fence we are in
    in_list, after_blank = False, True

    def end_paragraph() -> None:
        done.append(_plain("".join(paragraph)))
        paragraph.clear()

    at = 0
    while at < len(text):
        found = DISPLAY.match(text, at) if not fence else None
        line = (found or LINES.match(text, at) or "")[0]
        at += len(line)
        deep = len(line.expandtabs(4)) - len(line.expandtabs(4).lstrip(" ")) >= 4
        if fence:
            done.append(line)
            if _closes(line, fence):
                fence = ""
        elif (opened := FENCE.match(line, _start(line))) and (in_list or not deep):
            end_paragraph()
            in_list |= bool(BULLET.match(line))
            fence, after_blank = opened["fence"], False
            left_plain = NOTHING if opened["language"].strip().lower() in UNDRAWN else ""
            done += [line[: opened.end()], left_plain, line[opened.end() :]]
        elif not line.strip():
            end_paragraph()
            done.append(line)
            after_blank = True
        elif deep and after_blank and not in_list:
            done.append(line)
        else:
            bullet = bool(BULLET.match(line))
            if bullet or line.lstrip()[0] in "#|" or _quoted(line) != _quoted("".join(paragraph)):
                end_paragraph()
            in_list = bullet or (in_list and (line[0] in " \t" or not after_blank))
            paragraph.append(line)
            after_blank = False
    end_paragraph()
    return "".join(done)


def raw(text: str) -> str:
    """What was written, from what `shown` or `literal` made of it."""
    return SPELT.sub(_meant, text)


def _entity(found: re.Match[str]) -> str:
    return f"&#x{ord(found[0]):05x};"


def _meant(found: re.Match[str]) -> str:
    if found[2]:
        return WRITTEN[MARKS.index(found[2])]
    return "" if found[0] == NOTHING else chr(int(found[1], 16))


def _plain(paragraph: str) -> str:
    """With code spans left alone: from a run of backticks to the next one as long."""
    runs: dict[int, list[int]] = {}
    for run in RUN.finditer(paragraph):
        runs.setdefault(len(run[0]), []).append(run.start())
    done, at = [], 0
    while found := WITHIN.search(paragraph, at):
        done.append(paragraph[at : found.start()])
        at = found.end()
        if (formula := _formula(found)) is not None:
            done.append(formula)
            continue
        if found["run"]:
            same = runs.get(len(found["run"]), [])
            later = bisect_right(same, found.start())
            if later < len(same):
                at = same[later] + len(found["run"])
        written = paragraph[found.start() : at]
        entities = {"less": LESS, "and": AND, "mark": MARK}
        done.append(entities.get(found.lastgroup or "", written))
    return "".join([*done, paragraph[at:]])


def _formula(found: re.Match[str]) -> str | None:
    """The same between our own marks; None where it is no maths, or not all of it."""
    for i, name in enumerate(("dollars", "round", "block", "square")):
        inside = found.groupdict().get(name)
        if inside is None:
            continue
        words = name == "dollars" and WORD.search(inside) and not SIGN.search(inside)
        return None if words else f"{MARKS[2 * i]}{inside}{MARKS[2 * i + 1]}"
    return None


def _start(line: str) -> int:
    """Where the words of a line begin, behind its bullets and quotes."""
    found = BEFORE.match(line)
    return found.end() if found else 0


def _closes(line: str, fence: str) -> bool:
    bare = line.lstrip(" \t>").rstrip()
    return bare.startswith(fence) and not bare.strip("`~")


def _quoted(line: str) -> bool:
    return line.lstrip()[:1] == ">"
