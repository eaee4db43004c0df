"""Split documents into passages that fit a prompt and can be cited."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sizewise.records import Document
from sizewise.text import count_words, graphemes_of, pieces_of, sentences_of

PASSAGE_WORDS = 160
_UNSPACED_WORDS = 0.5  # words of one character in a script without spaces, as `count_words` estimates
_HEADING = re.compile(r"#{1,6} +(.+)")


class Passage(NamedTuple):
    """A part of a document."""

    document: str
    """Id of the document."""
    title: str
    """Title of the document."""
    heading: str
    """Heading of the section, if any."""
    text: str
    """Whole paragraphs, unless they are too long for a passage."""

    @property
    def full_text(self) -> str:
        """The text with title and heading, as it is indexed."""
        return f"{self.title} {self.heading} {self.text}"


def cut(documents: Sequence[Document], max_words: int = PASSAGE_WORDS) -> list[Passage]:
    """Split documents into passages of about `max_words` words at most.

    The text is split at headings, then at paragraphs, and within a long paragraph at sentences.
    """
    return [passage for document in documents for passage in _cut_document(document, max_words)]


def _cut_document(document: Document, max_words: int) -> Iterator[Passage]:
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
        for piece in [rest] if count_words(rest) <= max_words else _split_sentences(sentences_of(rest), max_words):
            if parts and sum(map(count_words, parts)) + count_words(piece) > max_words:
                yield passage()
                parts = []
            if piece:
                parts.append(piece)
    if parts:
        yield passage()


def _split_sentences(sentences: list[str], max_words: int) -> Iterator[str]:
    """Split sentences that are longer than a passage: legal enumerations and tables often have no full stop."""
    for sentence in sentences:
        if count_words(sentence) <= max_words:
            yield sentence
            continue
        part: list[str] = []
        size = 0.0
        for piece in _split_words(sentence, max_words):
            words = _UNSPACED_WORDS if len(piece) == 1 and not piece.isascii() else count_words(piece)
            if part and size + words > max_words:
                yield "".join(part).strip()
                part, size = [], 0.0
            part.append(piece)
            size += words
        yield "".join(part).strip()


def _split_words(sentence: str, max_words: int) -> Iterator[str]:
    """Yield the words of a sentence with the spaces before them; in scripts without spaces, its characters."""
    for piece in pieces_of(sentence):
        if count_words(piece) <= max_words:
            yield piece
        else:  # an embedded file, for example
            characters = graphemes_of(piece)
            yield from ("".join(characters[i : i + max_words]) for i in range(0, len(characters), max_words))
