"""Text of a reply that is still being written: how much of it no later token can change.

One character on the screen may be several code points and several tokens: an accent or a vowel sign
after its letter, an emoji with a skin tone, a family joined by zero-width joiners, the two letters
of a flag. Source: the boundaries of grapheme clusters in Unicode Standard Annex 29, without those
that no model writes piece by piece.
"""

from __future__ import annotations

import unicodedata

JOINER = "\u200d"
NON_JOINER = "\u200c"
REPLACEMENT = "\ufffd"  # what a tokenizer makes of the first bytes of a character
VIRAMA = 9  # the combining class of signs that join two consonants
PARTS = (  # code points that belong to the character before them
    (0x1160, 0x11FF),  # vowels and finals of Hangul syllables written in parts
    (0x1F3FB, 0x1F3FF),  # skin tones
    (0xE0020, 0xE007F),  # tags, in flags of regions
)
FLAGS = (0x1F1E6, 0x1F1FF)  # letters, two of which are a flag


def stable_text(text: str, last_token: str) -> str:
    """The beginning of `text` that is sure to stay as it is: without the last token, whose word may
    go on, and without a character that a later token may add to."""
    text = text.rstrip(REPLACEMENT)
    end = len(text) - 1
    if text.endswith(last_token):
        end = min(end, len(text) - len(last_token))
    while end > 0 and _joined(text, end):
        end -= 1
    return text[: max(end, 0)]


def without_tail(text: str, stop_text: str) -> str:
    """Without the longest end of `text` that may be the beginning of `stop_text`."""
    for length in range(min(len(stop_text) - 1, len(text)), 0, -1):
        if text.endswith(stop_text[:length]):
            return text[:-length]
    return text


def _joined(text: str, i: int) -> bool:
    """Whether the code points before and after position i are one character."""
    before, after = text[i - 1], text[i]
    if JOINER in (before, after) or after == NON_JOINER or unicodedata.combining(before) == VIRAMA:
        return True
    if unicodedata.category(after).startswith("M") or any(_within(after, part) for part in PARTS):
        return True
    return _within(after, FLAGS) and _flag_letters(text, i) % 2 == 1


def _within(char: str, part: tuple[int, int]) -> bool:
    return part[0] <= ord(char) <= part[1]


def _flag_letters(text: str, end: int) -> int:
    """How many letters of flags stand directly before a position."""
    start = end
    while start > 0 and _within(text[start - 1], FLAGS):
        start -= 1
    return end - start
