"""Questions of the corpus: wordings of a question about a topic, and the topic a wording asks for.

Follow-ups depend on the turns before and are in grammar.py.
"""

from __future__ import annotations

from functools import lru_cache

from . import wording as w
from .topics import TOPICS, Topic

_NO_SINGULAR = {"scissors", "glasses"}
_IRREGULAR = {
    "mice": "mouse", "wolves": "wolf", "knives": "knife", "leaves": "leaf", "teeth": "tooth",
    "sheep": "sheep", "deer": "deer", "fish": "fish", "salmon": "salmon",
}  # fmt: skip


def singular(topic: Topic) -> str:
    """One of it with its article ("a cat"), or the bare name where there is no singular."""
    name = topic.name
    if not topic.plural or name in _NO_SINGULAR:
        return name
    if name in _IRREGULAR:
        one = _IRREGULAR[name]
    elif name.endswith("ies"):
        one = name[:-3] + "y"
    elif (
        name.endswith("oes")
        or name.endswith(("ches", "shes", "xes", "sses"))
        or (name.endswith("uses") and not name.endswith("ouses"))
    ):
        one = name[:-2]
    else:
        one = name[:-1]
    return ("an " if one[0] in "aeiou" else "a ") + one


def topic_prompt(topic: Topic, template: str) -> str:
    """The question `template` asked about `topic`."""
    verbs = {"is": "are", "do": "do"} if topic.plural else {"is": "is", "do": "does"}
    return template.format(t=topic.name, T=topic.subject, a=singular(topic), **verbs)


def canonical(text: str) -> str:
    """Text without case, punctuation and extra spaces; what the split and the grammar look at."""
    kept = "".join(c if c.isalnum() else " " if c not in "'" else "" for c in text.lower())
    return " ".join(kept.split()) or text.strip()


@lru_cache(maxsize=1)
def _known_questions() -> dict[str, str]:
    """Canonical question -> key. Talk goes last: its wordings win over a topic's."""
    table = {
        canonical(topic_prompt(topic, template)): topic.name
        for template in w.TOPIC_WORDINGS
        for topic in TOPICS.values()
    }
    for key, talk in w.TALK.items():
        table.update((canonical(text), key) for text in talk.prompts)
    return table


@lru_cache(maxsize=1)
def _undress() -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (
        tuple(canonical(prefix) + " " for prefix in w.PREFIXES),
        tuple(" " + canonical(suffix) for suffix in w.SUFFIXES),
    )


def bare(text: str, known: dict[str, str]) -> str:
    """Canonical text, without a word of greeting or thanks around a known question."""
    text = canonical(text)
    if text in known:
        return text
    prefixes, suffixes = _undress()
    shorter = [text.removeprefix(prefix) for prefix in prefixes]
    shorter += [text.removesuffix(suffix) for suffix in suffixes]
    return next((candidate for candidate in shorter if candidate in known), text)


def key_of_text(text: str) -> str:
    """The topic or kind of talk a prompt asks for by itself, or "unknown"."""
    known = _known_questions()
    return known.get(bare(text, known), "unknown")
