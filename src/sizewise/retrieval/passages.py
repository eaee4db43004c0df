"""Documents cut into passages that can be shown to a model and cited."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sizewise.records import Document
from sizewise.retrieval.words import size_of

WORDS = 160
_HEADING = re.compile(r"#{1,6} +(.+)")
_SENTENCE = re.compile(
    r"(?P<end>(?<=[.!?\u2026\u061f\u06d4\u0964\u0965])[^\S\n]+(?!\n)"  # Arabic and Indic marks
    r"|(?<=[\u3002\uff01\uff1f\uff61])(?![\u3002\uff01\uff1f\u300d\u300f\u201d\u2019\uff09])"  # of Chinese and Japanese
    r"|(?<=[\u3002\uff01\uff1f][\u300d\u300f\u201d\u2019\uff09]))|\n+"
)


class Passage(NamedTuple):
    """A part of a document."""

    document: str
    """Id of the document."""
    title: str
    """What a person would call the document."""
    heading: str
    """Heading that it stands under, if there is one."""
    text: str
    """Whole paragraphs where they are not too long."""


def cut(documents: Sequence[Document], words: int = WORDS) -> list[Passage]:
    """Cut documents into passages of at most about so many words, at headings, paragraphs, and else at sentences."""
    return [passage for document in documents for passage in _cut_one(document, words)]


def _cut_one(document: Document, words: int) -> Iterator[Passage]:
    heading = ""
    parts: list[str] = []

    def passage() -> Passage:
        return Passage(document.id, document.title or document.id, heading, "\n".join(parts))

    for paragraph in re.split(r"\n\s*\n", document.text):
        rest = paragraph.strip()
        begins = _HEADING.match(rest)
        if begins:
            if parts:
                yield passage()
            heading, parts, rest = begins[1].strip(), [], rest[begins.end() :].strip()
        for piece in [rest] if size_of(rest) <= words else _short(sentences_of(rest), words):
            if parts and sum(map(size_of, parts)) + size_of(piece) > words:
                yield passage()
                parts = []
            if piece:
                parts.append(piece)
    if parts:
        yield passage()


def _short(sentences: list[str], words: int) -> Iterator[str]:
    """Cut sentences that are longer than a passage may be: lists of law are often one, and tables have no end."""
    for sentence in sentences:
        if size_of(sentence) <= words:
            yield sentence
            continue
        part: list[str] = []
        size = 0.0
        for word in _pieces(sentence, words):
            if part and size + size_of(word) > words:
                yield " ".join(part)
                part, size = [], 0.0
            part.append(word)
            size += size_of(word)
        yield " ".join(part)


def _pieces(sentence: str, words: int) -> Iterator[str]:
    """Give the words of a sentence; one that is as long as a passage, as a text without blanks is, in parts."""
    for word in sentence.split():
        if size_of(word) <= words:
            yield word
        else:
            yield from (word[start : start + words] for start in range(0, len(word), words))


def sentences_of(text: str) -> list[str]:
    """Split a text into sentences and lines, in scripts without capitals and without blanks too."""
    spans: list[tuple[int, int]] = []
    start, joins = 0, False
    ends = [(one.start(), one.end(), one["end"] is not None) for one in _SENTENCE.finditer(text)]
    for stop, after, may_go_on in [*ends, (len(text), len(text), False)]:
        part = text[start:stop].strip()
        if part and joins and part[0].islower():  # a dot within a sentence: 'e.g. this'
            spans[-1] = (spans[-1][0], stop)
        elif part:
            spans.append((start, stop))
        start, joins = after, may_go_on and bool(spans)
    return [text[start:stop].strip() for start, stop in spans]
