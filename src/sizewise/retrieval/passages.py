"""Documents cut into passages that can be shown to a model and cited."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sizewise.records import Document

WORDS = 160
_HEADING = re.compile(r"#{1,6} +(.+)")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'“(À-Ý])|\n+")


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
        for piece in [rest] if len(rest.split()) <= words else _short(sentences_of(rest), words):
            if parts and sum(len(part.split()) for part in parts) + len(piece.split()) > words:
                yield passage()
                parts = []
            if piece:
                parts.append(piece)
    if parts:
        yield passage()


def _short(sentences: list[str], words: int) -> Iterator[str]:
    """Cut sentences that are longer than a passage may be: lists of law are often one."""
    for sentence in sentences:
        said = sentence.split()
        if len(said) <= words:
            yield sentence
        else:
            yield from (" ".join(said[start : start + words]) for start in range(0, len(said), words))


def sentences_of(text: str) -> list[str]:
    """Split a text into sentences and lines."""
    return [one.strip() for one in _SENTENCE.split(text) if one.strip()]
