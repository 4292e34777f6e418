"""Properties of the questions, instructions and prompts that real models are measured on: their
checks accept what is right and nothing else, and none of them occurs in the product."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import abilities
from bench.abilities import CHECKERS, Instruction, Question, is_followed, is_right
from rlhf_chat.demo_model import corpus
from rlhf_chat.reward import prompt_sets

ROOT = Path(__file__).parents[2]
EVERYDAY = (ROOT / "bench" / "prompts" / "everyday.txt").read_text().splitlines()
QUESTIONS, INSTRUCTIONS = abilities.questions(), abilities.instructions()
ASKED = [*EVERYDAY, *(q.text for q in QUESTIONS), *(i.text for i in INSTRUCTIONS)]
CLOSE = 0.6  # share of content words in common from which two prompts ask for much the same
EMPTY = {
    "what", "which", "does", "with", "your", "about", "have", "that", "this", "give", "tell",
    "difference", "between",
}  # fmt: skip


def bare(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def content(text: str) -> set[str]:
    """What a prompt is about: its longer words, without those of every other question."""
    return {word for word in bare(text).split() if len(word) > 3 or word.isdigit()} - EMPTY


def common(one: set[str], other: set[str]) -> float:
    return len(one & other) / max(len(one | other), 1)


def pattern_free(answer: str) -> bool:
    return re.fullmatch(r"[\w ]+\??", answer) is not None


# ---------------------------------------------------------------------- the prompts


def test_counts() -> None:
    assert (len(EVERYDAY), len(QUESTIONS), len(INSTRUCTIONS)) == (320, 100, 50)
    assert 450 <= len(abilities.page().split()) <= 550


def test_no_prompt_is_there_twice() -> None:
    assert len({bare(prompt) for prompt in ASKED}) == len(ASKED)
    sets = [content(prompt) for prompt in EVERYDAY]
    for i, one in enumerate(sets):
        for j in range(i):
            assert common(one, sets[j]) < CLOSE, f"{EVERYDAY[i]} / {EVERYDAY[j]}"


def test_no_prompt_is_empty_or_has_space_around_it() -> None:
    assert all(prompt == prompt.strip() and len(prompt) > 10 for prompt in ASKED)


def test_no_prompt_occurs_in_the_product() -> None:
    kinds = ("*.py", "*.json", "*.txt", "*.md", "*.js", "*.html", "*.jinja")
    files = [file for kind in kinds for file in (ROOT / "rlhf_chat").rglob(kind)]
    product = " ".join(f" {bare(file.read_text())} " for file in files)
    for prompt in ASKED:
        assert f" {bare(prompt)} " not in product, prompt


def test_no_prompt_is_close_to_one_that_the_product_trains_on_or_checks_with() -> None:
    theirs = [*prompt_sets.GENERAL, *prompt_sets.PRACTICE_ONLY, *corpus.prompts("train", 600, 1)]
    sets = [(prompt, content(prompt)) for prompt in theirs]
    for asked in ASKED:
        mine = content(asked)
        for prompt, words in sets:
            assert common(mine, words) < CLOSE, f"{asked} / {prompt}"


# ---------------------------------------------------------------------- questions


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.text)
def test_an_accepted_answer_is_right_alone_in_a_sentence_and_in_bold(question: Question) -> None:
    for answer in filter(pattern_free, question.answers):
        word = answer.removesuffix("?")
        for reply in (
            word,
            f"I think it is {word}.",
            f"**{word.upper()}**",
            f"That's {word}, I say",
        ):
            assert is_right(question, reply), reply
    assert any(map(pattern_free, question.answers))


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.text)
def test_nothing_else_is_right(question: Question) -> None:
    for reply in ("", " \n", question.text, "I do not know.", "It is xylophone 987654."):
        assert not is_right(question, reply), reply
    for answer in filter(pattern_free, question.answers):
        word = answer.removesuffix("?")
        for reply in (f"x{word}", f"{word}x", f"{word}-x", f"x-{word}"):
            assert not is_right(question, reply), reply


def test_answers_of_other_questions_of_the_same_kind_are_mostly_wrong() -> None:
    for question in QUESTIONS:
        others = [q for q in QUESTIONS if q.kind == question.kind and q != question]
        right = sum(is_right(question, q.answers[0].removesuffix("?")) for q in others)
        assert right <= 2, question.text


@pytest.mark.parametrize("reply", ["14", "4.5", "4,000", "0.4", "forty", "fourteen", "twenty-four"])
def test_a_number_inside_another_one_is_wrong(reply: str) -> None:
    assert not is_right(Question("arithmetic", "What is 2 + 2?", ("4", "four")), f"It is {reply}.")


# ---------------------------------------------------------------------- instructions


@pytest.mark.parametrize("instruction", INSTRUCTIONS, ids=lambda i: i.text)
def test_a_good_reply_follows_the_instruction_and_a_bad_one_does_not(
    instruction: Instruction,
) -> None:
    assert is_followed(instruction, instruction.good)
    assert is_followed(instruction, f"\n {instruction.good}  \n")
    for reply in (instruction.bad, "", "  \n", instruction.text, f"{instruction.text}\n"):
        assert not is_followed(instruction, reply), reply


@pytest.mark.parametrize(
    "checker, how, good, bad",
    [
        ("sentences", {"at_least": 1, "at_most": 1}, "It is 3.5 m, e.g. a bus.", "It is. A bus."),
        ("sentences", {"at_least": 1, "at_most": 1}, '"It is."', "It is a bus that was cut in the"),
        ("sentences", {"at_least": 2, "at_most": 2}, 'He said: "Go!" I went.', "He went."),
        ("words", {"at_least": 2, "at_most": 3}, "Don't go well-known", "One two three four"),
        ("words", {"at_least": 2}, "One two three four", "One!"),
        (
            "names",
            {"count": 2, "of": ["cats?", "dogs?"]},
            "A cat, cats and dogs",
            "Cats, catalogues",
        ),
        ("names", {"count": 1, "of": ["cats?", "dogs?"]}, "A cat", "A cat and a dog"),
        ("contains", {"words": ["moon", "sun"]}, "The Sun and the MOON", "Sunday on the moon"),
        ("avoids", {"letters": "e"}, "A cat sat", "An EEL sat"),
        ("avoids", {"words": ["hot"]}, "I took a photo", "It is Hot"),
        ("in_order", {"words": ["one", "two"]}, "One, then two", "Two, one"),
        ("begins", {"text_at_start": "Yes"}, "**Yes**, it is", "Yesterday it was"),
        ("ends", {"text_at_end": "flowers"}, 'Many "Flowers".', "Many wildflowers"),
        ("ends", {"text_at_end": "?"}, '"Are you?"', "Are you? Yes."),
        ("upper_case", {}, "HELLO, 3 CATS!", "HELLO, 3 CATs!"),
        ("upper_case", {}, "YES", "12!"),
        ("lower_case", {}, "hello, 3 cats!", "Hello, 3 cats!"),
        ("lines", {"count": 2}, "One\n\nTwo", "One\nTwo\nThree"),
        ("lines", {"count": 2, "begin": "[-*]"}, "Here:\n- one\n* two", "- one\n-\n"),
        ("exactly", {"pattern": "yes|no"}, "NO.", "No, never."),
    ],
)
def test_each_checker_accepts_a_right_example_and_refuses_a_wrong_one(
    checker: str, how: dict, good: str, bad: str
) -> None:
    assert CHECKERS[checker](good, **how)
    assert not CHECKERS[checker](bad, **how)


def test_every_checker_is_used() -> None:
    assert {name for i in INSTRUCTIONS for name in i.checks} == set(CHECKERS)
