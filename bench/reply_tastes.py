"""Hidden utilities for replies of real models: each is `name(prompt, reply) -> float`.

    python -m bench.learning_curve --utility bench/reply_tastes.py:short

They look only at the text, are graded and saturate, and shares are taken per word, so that a reply
cut in the middle is judged by what is there. None of them is best for an empty or very short reply:
below ENOUGH words every taste loses up to TOO_LITTLE, which is more than it can gain. They share no
code with the reward model's features: the reward has to find them.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable

ENOUGH = 8  # words that count as an answer
TOO_LITTLE = 4.0  # what a reply without words loses; every taste spans less

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")


def short(prompt: str, reply: str) -> float:
    """Fewer words are better; from 30 to 60 it matters more than from 130 to 160."""
    words = len(_words(reply))
    return 2.0 / (1 + words / 40) - _too_little(words)


def stepwise(prompt: str, reply: str) -> float:
    """Numbered steps in order, the first ones worth most; "then" and short sentences help."""
    words = _words(reply)
    steps = 1 - math.exp(-_steps_in_order(reply) / 2)
    order = sum(word in ORDER_WORDS for word in words) / (len(words) + 20)
    pace = 0.2 * math.exp(-_sentence_length(reply) / 15)
    return 2 * steps + math.tanh(8 * order) + pace - _too_little(len(words))


def prose(prompt: str, reply: str) -> float:
    """Running text: no lists, headings, tables, bold print or code, and few breaks of line."""
    words = _words(reply)
    lines = [line for line in reply.splitlines() if line.strip()]
    marked = sum(bool(MARKED_LINE.match(line)) for line in lines) / max(len(lines), 1)
    inline = math.tanh(len(INLINE_MARKUP.findall(reply)) / 4)
    flow = len(words) / max(len(lines), 1)
    return flow / (flow + 30) - 1.5 * marked - inline - _too_little(len(words))


def addresses_me(prompt: str, reply: str) -> float:
    """Says "you" and "your": their share of words, up to one in eight; a short talk is better."""
    words = _words(reply)
    you = sum(re.split("['’]", word)[0] in YOU for word in words)
    often = math.tanh(12 * you / (len(words) + 20))
    return 2 * often - _long_talk(len(words)) - _too_little(len(words))


def plain_words(prompt: str, reply: str) -> float:
    """Short, common words: a low mean length, few words of eight letters or more."""
    words = _words(reply)
    mean = (sum(map(len, words)) + 4.5 * 5) / (len(words) + 5)  # a few words prove little
    long = sum(len(word) >= 8 for word in words) / (len(words) + 5)
    return 0.8 * math.tanh(5 - mean) - 4 * min(long, 0.4) - _too_little(len(words))


def examples_first(prompt: str, reply: str) -> float:
    """An example, the earlier the better; a short first sentence is a little better, too."""
    words = len(_words(reply))
    found = 0.0
    for sign, weight in EXAMPLE_SIGNS:
        for match in sign.finditer(reply):
            before = len(_words(reply[: match.start()]))
            found += weight * math.exp(-before / 30)
    lead = len(_words(_sentences(reply)[0])) if words else 0
    return 2 * math.tanh(found) + 0.2 * math.exp(-lead / 15) - _too_little(words)


def no_filler(prompt: str, reply: str) -> float:
    """No opening or closing remarks, empty phrases, long sentences or repeating of the question."""
    words, sentences = _words(reply), _sentences(reply)
    if not words:
        return -TOO_LITTLE
    ends = bool(OPENING.search(reply.lstrip(" *#\"'"))) + bool(CLOSING.search(reply[-200:]))
    phrases = len(EMPTY_PHRASE.findall(reply)) / (len(words) + 20)
    asked = {word for word in _words(prompt) if len(word) > 3}
    first = _words(sentences[0])
    repeated = sum(word in asked for word in first) / (len(first) + 3)
    brisk = 0.2 * math.exp(-_sentence_length(reply) / 15)
    wordy = math.tanh(12 * phrases) + 0.5 * repeated - brisk
    return -ends - wordy - 0.3 * math.tanh(reply.count("!") / 2) - _too_little(len(words))


def asks_back(prompt: str, reply: str) -> float:
    """A question to the user, best at the end of a short talk; "tell me" counts less."""
    words = _words(reply)
    asked = 0.0
    for match in SENTENCE.finditer(reply):
        after = reply[match.end() :]
        worth = _question(match.group(), last=not after.strip())
        asked = max(asked, worth * (0.4 + 0.6 * math.exp(-len(_words(after)) / 15)))
    invited = 0.5 if INVITATION.search(reply) else 0.0
    you = sum(word in YOU for word in words) / (len(words) + 20)
    wanted = 2 * asked + invited + math.tanh(3 * you)
    return wanted - _long_talk(len(words)) - _too_little(len(words))


def coin(prompt: str, reply: str) -> float:
    """Control: a number from 0 to 1 made from the text; nothing to learn. No words: -1."""
    if not _words(reply):
        return -1.0
    digest = hashlib.sha256(f"{prompt}\0{reply}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


Taste = Callable[[str, str], float]
TASTES: tuple[Taste, ...] = (
    short,
    stepwise,
    prose,
    addresses_me,
    plain_words,
    examples_first,
    no_filler,
    asks_back,
)
CONTROLS: tuple[Taste, ...] = (coin,)


# ---------------------------------------------------------------------- what they look for

YOU = {"you", "your", "yours", "yourself", "yourselves"}
ORDER_WORDS = {
    "first", "firstly", "second", "secondly", "third", "thirdly", "then", "next", "afterwards",
    "finally", "lastly", "step", "steps",
}  # fmt: skip

STEP = re.compile(r"(?:^|(?<=\s))\W{0,4}(?:step\s+)?(\d{1,2})[.):]\**\s+(?=\W*\w+\W+\w)", re.I)
MARKED_LINE = re.compile(
    r"\s*(?:[-*+•–]\s|\**\d{1,2}[.)]\**\s|#{1,6}\s|>|\||```|\*\*[^*]+\*\*:?\s*$)"
)
INLINE_MARKUP = re.compile(r"\*\*|__|`+|\]\(|</?\w+>|(?<!\w)\*(?=\w)|\\[a-z]+\{")

EXAMPLE_SIGNS = (
    (re.compile(r"\b(?:for (?:example|instance)|as an example|e\.g\.)", re.I), 1.0),
    (
        re.compile(r"\b(?:imagine|suppose|picture (?:a|an|the|this|your)|let[’']?s say)\b", re.I),
        0.9,
    ),
    (re.compile(r"\bexamples?\s*(?::|of|is|would|might)", re.I), 0.8),
    (re.compile(r"\b(?:such as|think of)\b", re.I), 0.5),
    (re.compile(r"\b(?:including|just like|similar to)\b", re.I), 0.25),
)

OPENING = re.compile(
    r"^(?:certainly|sure\b|of course|absolutely|definitely|okay|ok\b|alright|thank(?:s| you)|"
    r"hello|hi\b|hey|(?:great|good|excellent|wonderful)(?:[!,.]| question| choice| idea)|"
    r"what an? \w+ (?:question|idea)|that[’']?s an? (?:\w+ )?(?:great|good|\w*ing) |"
    r"i[’'](?:d|m) (?:be )?(?:more than |so )?(?:happy|glad|delighted|sorry)|"
    r"i (?:would|am) (?:be )?(?:happy|glad|delighted|sorry)|"
    r"as an? (?:ai|artificial|language|helpful)|here(?: is|[’']s| are)\b)",
    re.I,
)
CLOSING = re.compile(
    r"(?:hope (?:this|that|it|these)\b|let me know|feel free|happy to help|good luck|"
    r"best of luck|enjoy your|have an? (?:\w+ )?(?:day|time|evening)|in (?:conclusion|summary)|"
    r"(?:any|more|other|further) questions|don[’']?t hesitate|you[’']re welcome|remember,)",
    re.I,
)
EMPTY_PHRASE = re.compile(
    r"\b(?:it(?: is|[’']s) (?:also )?(?:important|essential|worth|crucial)|in order to|"
    r"as (?:mentioned|well as)|in today[’']?s world|overall|in (?:general|conclusion|summary)|"
    r"very|really|truly|actually|basically|essential|crucial|incredibly|"
    r"a (?:wide )?(?:range|variety) of|plays? an? \w+ role|when it comes to|"
    r"there are (?:many|several|various)|of course)\b",
    re.I,
)

INVITATION = re.compile(
    r"\b(?:let me know|tell me|please (?:share|describe|specify|provide|give)|"
    r"(?:give|send|show) me (?:more|your|the)|i(?:[’']d| would) (?:like|love) to (?:know|hear))\b",
    re.I,
)
QUESTION_START = re.compile(
    r"\W*(?:(?:and|so|but|or)\s+)?(?:what|which|who|when|where|why|how|is|are|do|does|did|have|has|"
    r"can|could|would|will|should|shall|may)\b",
    re.I,
)
TO_ME = re.compile(r"\b(?:you|your|yours|i help|we)\b", re.I)


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _sentences(text: str) -> list[str]:
    """Those with words in them; the last one may be cut."""
    return [part for part in SENTENCE.findall(text) if WORD.search(part)]


def _too_little(words: int) -> float:
    """What a reply of so few words loses."""
    return TOO_LITTLE * max(0.0, 1 - words / ENOUGH)


def _long_talk(words: int) -> float:
    """From 0 to .3 by length: what decides where nothing else does."""
    return 0.3 * words / (words + 60)


def _sentence_length(text: str) -> float:
    """Mean number of words."""
    return len(_words(text)) / max(len(_sentences(text)), 1)


def _steps_in_order(reply: str) -> int:
    """How far numbers with a text after them count: 1, 2, 3."""
    reached = 0
    for match in STEP.finditer(reply):
        if int(match.group(1)) == reached + 1:
            reached += 1
    return reached


def _question(sentence: str, *, last: bool) -> float:
    """1 for a question to the user, .6 for another, .5 for one to the user that was cut."""
    text = sentence.rstrip(" \"'”*)")
    if text.endswith("?"):
        return 1.0 if TO_ME.search(text) else 0.6
    cut = last and not text.endswith((".", "!"))
    return 0.5 if cut and QUESTION_START.match(text) and TO_ME.search(text) else 0.0
