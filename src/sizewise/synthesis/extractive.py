"""Synthesize examples from documents without a writer: everything that an answer says stands in the document.

Questions are headings, names of fields, and sentences with a word left out, in the language of the document. They are
plainer than what people ask; a writer makes better ones if it passes its check.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sizewise.models.given_passages import PASSAGE_COUNTS, before_question, not_given, passage_text
from sizewise.models.retrieving import has_signals
from sizewise.retrieval import Library, Passage
from sizewise.retrieval.lines import split_field
from sizewise.synthesis.formats import QUESTION, UNANSWERABLE, topic_of
from sizewise.text import count_words, fold_text, pieces_of, sentences_of

EXTRACTIVE = "extractive"
"""What stands for the writer."""
FORMATS = (QUESTION, "cloze", "field", "faq", "table", UNANSWERABLE)
CLOZE_WORDS, MAX_ANSWER_WORDS, MIN_FIELDS, MIN_SECTIONS = (8, 40), 120, 3, 2
GAP = "____"
_MARKS = re.compile(r"^\s*(?:(?:[-+*\u2022]|>+|#{1,6})\s+|\|\s*)*")
"""Marks of lists, quotes, headings and tables at the beginning of a line."""
_EMPHASIS = re.compile(r"(?<!\w)(\*{1,3}|_(?!_)|__(?=[^\W\d_a-z]|[^_]* )|`)(?=\S)(.+?)(?<=\S)\1(?!\w)")
"""Words between signs of emphasis; in `max_users`, `*.pdf` and `__init__` they belong to a name."""


class Item(NamedTuple):
    """A synthesized example, before it is checked."""

    format: str
    prompt: str
    answer: str
    passage: Passage


def items_of(passages: Sequence[Passage], library: Library, formats: Sequence[str]) -> Iterator[Item]:
    """Yield the examples of one document.

    Args:
        passages: all passages of the document, in order.
        library: all passages, also those of other documents.
        formats: what to synthesize.
    """
    questions = list(_section_questions(passages))
    if QUESTION in formats:
        yield from questions
    for passage in passages:
        if "cloze" in formats:
            yield from _cloze(passage, library)
    fields = [(passage, *found) for passage in passages for found in _fields(passage)]
    if "field" in formats:
        for passage, key, value in fields:
            yield Item("field", f"{topic_of(passage)}: {key}?", f"{key}: {value}", passage)
    if "table" in formats and len(fields) >= MIN_FIELDS:
        rows = "\n".join(f"| {key} | {value.replace('|', ' ')} |" for _, key, value in fields)
        yield Item("table", f"Table: {passages[0].title}", f"| | |\n|---|---|\n{rows}", fields[0][0])
    if "faq" in formats and len(questions) >= MIN_SECTIONS:
        text = "\n\n".join(f"{one.passage.heading}?\n{_beginning(one.passage.text, 60)}" for one in questions)
        yield Item("faq", f"FAQ: {passages[0].title}", text, questions[0].passage)
    if UNANSWERABLE in formats:
        yield from _unanswerable(questions, library)


def _section_questions(passages: Sequence[Passage]) -> Iterator[Item]:
    """Yield a heading as the question and the beginning of its section as the answer."""
    seen: set[str] = set()
    for passage in passages:
        heading = fold_text(passage.heading)
        if heading and heading not in seen and heading != fold_text(passage.title):
            seen.add(heading)
            answer = _beginning(passage.text, MAX_ANSWER_WORDS)
            if answer:
                yield Item(QUESTION, f"{topic_of(passage)}?", answer, passage)


def _beginning(text: str, max_words: int) -> str:
    """Return the first whole sentences of a text; empty if the first one is too long."""
    kept: list[str] = []
    for sentence in sentences_of(text):
        if sum(map(count_words, kept)) + count_words(sentence) > max_words:
            break
        kept.append(sentence)
    return "\n".join(kept)


def _cloze(passage: Passage, library: Library) -> Iterator[Item]:
    """Yield the sentence with the rarest word of a passage; in the prompt that word is left out."""
    best: tuple[float, str, str] | None = None
    for sentence in sentences_of(passage.text):
        if not CLOZE_WORDS[0] <= count_words(sentence) <= CLOZE_WORDS[1]:
            continue
        for piece in pieces_of(sentence):
            word = piece.strip().strip(".,;:!?()[]{}\"'")
            rarity = library.rarity(word) if len(word) > 1 and sentence.count(word) == 1 else 0.0
            if rarity and (best is None or rarity > best[0]):
                best = rarity, sentence, word
    if best is not None:
        _, sentence, word = best
        yield Item("cloze", f"{topic_of(passage)}\n\n{sentence.replace(word, GAP, 1)}", sentence, passage)


def _fields(passage: Passage) -> Iterator[tuple[str, str]]:
    """Yield the key and the value of lines such as `Opening hours: 9 to 17`."""
    for line in passage.text.splitlines():
        found = split_field(_plain(line))
        if found is not None and all(found):
            yield found


def _plain(line: str) -> str:
    """Return a line as it is read, without marks of Markdown."""
    bare = _EMPHASIS.sub(r"\2", _EMPHASIS.sub(r"\2", _MARKS.sub("", line)))  # twice: `**_key_**`
    return " ".join(bare.replace("|", " ").split())


def _unanswerable(questions: Sequence[Item], library: Library) -> Iterator[Item]:
    """Yield the first question with passages of other documents, none of which states the answer or another version."""
    for item in questions[:1]:
        hits = [hit.passage for hit in library.find(item.prompt, 12).hits]
        others = [
            passage
            for passage in hits
            if passage.document != item.passage.document
            and not library.is_related(item.answer, item.passage, passage)
            and not has_signals(passage_text(passage))
        ]
        if others:
            count = random.Random(item.prompt).choice(PASSAGE_COUNTS)
            prompt = before_question([passage_text(passage) for passage in others[:count]], item.prompt)
            yield Item(UNANSWERABLE, prompt, not_given(item.answer), item.passage)
