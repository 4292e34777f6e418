"""Text features of a reply: named measurements that anybody can check by eye.

With tens of ratings a head on hidden states alone is close to chance; with named features beside a
few hidden ones it learns several times faster, and the app can say what it learned. Where possible
they do not depend on a language (length, lists, emoji, punctuation); the word lists are English and
are 0 elsewhere.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import pairwise, takewhile

import numpy as np

HEDGES = (
    r"perhaps|maybe|might|probably|possibly|i think|i believe|i guess|i suppose|it seems|"
    r"as far as i know|not (?:quite |entirely |completely )?sure|could be|if i remember|likely|"
    r"i could be wrong|may be"
)
EXAMPLES = r"for example|for instance|such as|e\.g\.|an example|to illustrate|think of|say,"
FORMAL = (
    r"certainly|indeed|of course|allow me|kindly|it is my pleasure|good day|furthermore|moreover|"
    r"please note|very well|naturally|i would be|at your service|i shall|with pleasure"
)
CASUAL = (
    r"sure|hey|yeah|yep|okay|ok|cool|gonna|kinda|stuff|btw|well,|alright|no problem|awesome|"
    r"gotcha|you bet|oh|so,|right,"
)
WARM = (
    r"lovely|wonderful|great|happy|glad|love|thanks|thank you|nice|sweet|delighted|friend|"
    r"fantastic|pleasure|enjoy|beautiful|dear|fun|kind|good question"
)
WISHES = r"have a|take care|enjoy your|best wishes|good luck|all the best|hope you|i wish|stay"
LINKS = r"because|therefore|however|although|since|while|also|besides|in addition|then|thus"
REFUSALS = r"sorry|cannot|can't|do not know|don't know|unable|no idea|not able"
STOCK_PHRASES = (
    r"very|really|truly|actually|basically|simply|essential(?:ly)?|crucial|vital|important(?:ly)?|"
    r"incredibly|extremely|highly|significant(?:ly)?|ultimately|overall|in general|in conclusion|"
    r"in summary|in short|in order to|as well as|it is worth|when it comes to|in today's world|"
    r"an? (?:wide |great |large )?(?:range|variety|number) of|"
    r"there (?:are|is) (?:many|several|various)"
)
_WORD_LISTS = {
    "hedging": HEDGES,
    "examples": EXAMPLES,
    "formal words": FORMAL,
    "casual words": CASUAL,
    "warm words": WARM,
    "good wishes": WISHES,
    "linking words": LINKS,
    "says it does not know": REFUSALS,
    "stock phrases": STOCK_PHRASES,
}
_EXAMPLE = re.compile(rf"(?<!\w)(?:{EXAMPLES}|examples?|imagine|suppose|including)(?!\w)", re.I)
_MATCHERS = {k: re.compile(rf"(?<!\w)(?:{v})(?!\w)", re.I) for k, v in _WORD_LISTS.items()}
_EMOJI = re.compile(
    "[\U0001f300-\U0001faff\u2600-\u27bf\U0001f1e6-\U0001f1ff\u2b50\u2b55\u231a\u231b]"
)
_LIST_LINE = re.compile(r"^\s*(?:[-*\u2022]|\d+[.)])\s+", re.M)
_ADDRESS = re.compile(r"(?<!\w)(?:you|your|i|i'm|me|my|us)(?!\w)", re.I)
_SMALL = re.compile(
    r"the|and|you|your|are|can|how|who|why|for|was|has|did|does|what|tell|about|with|that|this|when|"
    r"where|which|some|have|give|will|want|know|like",
    re.I,
)
_CODE_OR_TABLE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|^[ \t]*\|[^\n]*$", re.S | re.M)
_EMPTY_POINT = re.compile(r"^\s*(?:[-*\u2022]|\d+[.)])\s*$", re.M)
_SENTENCE = re.compile(r"[^.!?\u3002\uff01\uff1f\n]+[.!?\u3002\uff01\uff1f]*")
# Units that an edit changes: a word as written, or a character of a script without spaces.
_UNSPACED = (  # Thai, Lao, Burmese, Khmer, kana, Han
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_WRITTEN = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_WORD = re.compile(r"\w+(?:['\u2019]\w+)?")

NAMES = (
    "length",
    "long sentences",
    "lists",
    "line breaks",
    "emoji",
    "exclamation marks",
    "questions",
    "ends by asking back",
    *_WORD_LISTS,
    "says I",
    "says you",
    "numbers",
    "code or markup",
    "repeats itself",
    "picks up your words",
    "opening remarks",
    "closing remarks",
    "long words",
    "early examples",
    "long first sentence",
)
KEY = hashlib.sha256("\n".join(NAMES).encode()).hexdigest()[:8]  # changes when they do
REMARK_WORDS = 7
EARLY_WORDS = 30  # before an example: after so many it counts a third
LENGTH = NAMES.index("length")  # capped when it is used as a reward
LONG_REPLIES = "stock phrases", "early examples", "long first sentence"  # what they are about
LEAST_LENGTH_STD = 0.2
UNSEEN_STD = 1e3


def least_std(*, short_replies: bool) -> np.ndarray:
    """(len(NAMES),): what the standard deviation of each feature among the base's replies to one
    prompt counts as at the least. Replies of a real model often end at the token limit and vary in
    length by less than anybody would notice. With `short_replies`, those of the bundled model,
    LONG_REPLIES say nothing new and cost votes: they count as good as nothing (docs/LOG.md)."""
    least = np.where(np.arange(len(NAMES)) == LENGTH, LEAST_LENGTH_STD, 0.0)
    if short_replies:
        least[[NAMES.index(name) for name in LONG_REPLIES]] = UNSEEN_STD
    return least


def measure(prompt: str, reply: str) -> np.ndarray:
    """Prompt and reply text -> (len(NAMES),) float32, in the order of NAMES."""
    words = [w.lower() for w in _WORD.findall(reply)]
    count = max(len(words), 1)
    sentences = [s for s in _SENTENCE.findall(reply) if _WORD.search(s)]
    without_emoji = _EMOJI.sub("", reply).rstrip(" \n\ufe0f\u200d")
    values = [
        math.log1p(len(words)),
        math.log1p(count / max(len(sentences), 1)),
        math.log1p(len(_LIST_LINE.findall(reply))),
        math.log1p(reply.count("\n")),
        math.log1p(len(_EMOJI.findall(reply))),
        math.log1p(reply.count("!") + reply.count("\uff01")),
        math.log1p(reply.count("?") + reply.count("\uff1f")),
        float(without_emoji.endswith(("?", "\uff1f"))),
    ]
    values += [math.log1p(len(m.findall(reply))) for m in _MATCHERS.values()]
    values += [
        math.log1p(sum(w in ("i", "me", "my", "i'm", "i'll", "i've") for w in words)),
        math.log1p(sum(w in ("you", "your", "you're", "you'll") for w in words)),
        math.log1p(sum(w[0].isdigit() for w in words)),
        math.log1p(reply.count("`") + reply.count("**") + reply.count("#")),
        repeated_share(words, 3),
        _overlap(prompt, words),
        float(_opens_with_a_remark(prompt, sentences)),
        float(_closes_with_a_remark(sentences)),
        sum(map(len, words)) / count,
        _example_comes_early(reply),
        math.log1p(len(_WORD.findall(sentences[0]))) if sentences else 0.0,
    ]
    return np.array(values, dtype=np.float32)


def repeated_share(words: list[str], n: int) -> float:
    """Share of n-grams that occurred before in the same reply; 0 for short replies."""
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct(replies: Sequence[str]) -> float:
    """Distinct 2-grams / 2-grams over all replies, a measure of variety; 0 without any."""
    grams = [gram for reply in replies for gram in pairwise(reply.lower().split())]
    return len(set(grams)) / max(len(grams), 1)


def degeneration_spans(reply: str) -> list[tuple[int, int]]:
    """Where a reply degenerates, whatever the preference: (start, end) of empty list points and of
    repeated sentences. Code and tables, which repeat by nature, are skipped.
    """
    prose = _CODE_OR_TABLE.sub(lambda m: " " * len(m[0]), reply)  # all else keeps its place
    found = [m.span() for m in _EMPTY_POINT.finditer(prose)]
    before: dict[tuple[str, ...], list[list[str]]] = {}  # by their last words
    for sentence in _SENTENCE.finditer(prose):
        words = [w.lower() for w in _WORD.findall(sentence[0])]
        if len(words) > 1:
            alike = before.setdefault(tuple(words[-3:]), [])
            if any(_repeats(words, earlier) for earlier in alike):
                found.append(sentence.span())
            alike.append(words)
    return found


def _repeats(words: list[str], earlier: list[str]) -> bool:
    """Whether a sentence repeats an earlier one with the same end: "It keeps warm in winter" after
    "Wool keeps warm in winter", but not "Food: 300 dollars a month" after "Rent: 900 dollars a
    month". At least half of both is the same, and what comes before it has no number."""
    backwards = zip(words[::-1], earlier[::-1], strict=False)
    same = sum(1 for _ in takewhile(lambda two: two[0] == two[1], backwards))
    front = words[: len(words) - same] + earlier[: len(earlier) - same]
    half = 2 * same >= max(len(words), len(earlier))
    return half and not any(word[0].isdigit() for word in front)


def degeneration(reply: str) -> int:
    """Number of `degeneration_spans`, at most 3."""
    return min(len(degeneration_spans(reply)), 3)


def changed_share(before: str, after: str) -> float:
    """Share of the words that an edit changed, 0 to 1."""
    old, new = _WRITTEN.findall(before), _WRITTEN.findall(after)
    return 1 - SequenceMatcher(None, old, new, autojunk=False).ratio()


def _opens_with_a_remark(prompt: str, sentences: list[str]) -> bool:
    """Whether the first sentence is short and shares no word with the prompt."""
    if len(sentences) < 2:
        return False
    first = _WORD.findall(sentences[0])
    about = tuple(_stems(_WORD.findall(prompt)))
    picked_up = any(a.startswith(about) or b.startswith(a) for a in _stems(first) for b in about)
    return len(first) <= REMARK_WORDS and not picked_up


def _closes_with_a_remark(sentences: list[str]) -> bool:
    """Whether the last sentence addresses the reader and is no question."""
    if len(sentences) < 2 or sentences[-1].rstrip().endswith(("?", "\uff1f")):
        return False
    return bool(_ADDRESS.search(sentences[-1]) or _MATCHERS["good wishes"].search(sentences[-1]))


def _example_comes_early(reply: str) -> float:
    """1 for a reply that begins with an example, less the later the first one comes, 0 without."""
    first = _EXAMPLE.search(reply)
    return math.exp(-len(_WORD.findall(reply[: first.start()])) / EARLY_WORDS) if first else 0.0


def _stems(words: list[str]) -> set[str]:
    """First four letters of the content words, so that "octopus" matches "octopuses"."""
    return {w.lower()[:4] for w in words if len(w) > 2 and not _SMALL.fullmatch(w)}


def _overlap(prompt: str, words: list[str]) -> float:
    """Share of the prompt's words of four letters or more that the reply repeats."""
    asked = {w.lower() for w in _WORD.findall(prompt) if len(w) > 3}
    return len(asked & set(words)) / len(asked) if asked else 0.0
