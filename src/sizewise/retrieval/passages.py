"""Split documents into passages that fit a prompt and can be cited."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sizewise.errors import UsageError
from sizewise.records import Document
from sizewise.text import count_words, graphemes_of, pieces_of, sentences_of

PASSAGE_WORDS, MIN_PASSAGE_WORDS = 160, 20
_UNSPACED_WORDS = 0.5  # words of one character in a script without spaces, as `count_words` estimates
_HEADING = re.compile(r"#{1,6} +(.+)")
_FIRST_HEADING = re.compile(r"[\s\ufeff\u200b\u2060]*# +(.+)")
_INVISIBLE = "\ufeff\u200b\u2060"  # before a heading
_FENCE = re.compile(r"(?m)^\s*(?:```|~~~)")
_TABLE_RULE = re.compile(r"\|?(?:\s*:?-+:?\s*\|)+(?:\s*:?-+:?\s*)?")


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


class Cutting(NamedTuple):
    """How documents are split into passages."""

    max_words: int = PASSAGE_WORDS
    """Words of a passage at most."""
    overlap: int = 0
    """Words at most that a passage repeats from the end of the one before it, in whole sentences."""

    def check(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: a number is out of range.
        """
        if self.max_words < MIN_PASSAGE_WORDS:
            raise UsageError(
                f"Passages of {self.max_words} words can't hold a fact.",
                f"at least {MIN_PASSAGE_WORDS} words",
                f"--passage-words {PASSAGE_WORDS}",
            )
        if not 0 <= self.overlap <= self.max_words // 2:
            raise UsageError(
                f"The overlap is {self.overlap} words of passages of {self.max_words}.",
                f"from 0 to {self.max_words // 2} words, half of a passage",
                f"--overlap {self.max_words // 5}",
            )


def cut(documents: Sequence[Document], max_words: int = PASSAGE_WORDS, overlap: int = 0) -> list[Passage]:
    """Split documents into passages of about `max_words` words at most.

    The text is split at headings, then at paragraphs, and within a long paragraph at sentences. Each part of a long
    table begins with the table's header.

    Args:
        documents: The documents.
        max_words: Words of a passage at most.
        overlap: Words at most that a passage repeats from the end of the one before it in the same section.

    Raises:
        UsageError: A number is out of range.
    """
    cutting = Cutting(max_words, overlap)
    cutting.check()
    return [passage for document in documents for passage in cut_document(document, cutting)]


def cut_document(document: Document, cutting: Cutting) -> Iterator[Passage]:
    """Split one document."""
    heading, title = "", title_of(document)
    parts: list[str] = []
    repeated = 0  # parts that the passage before ends with

    def passage() -> Passage:
        return Passage(document.id, title, heading, "\n".join(parts))

    for paragraph in _paragraphs(document.text):
        rest = paragraph.strip().lstrip(_INVISIBLE).lstrip()
        begins = _HEADING.match(rest)
        if begins:
            if len(parts) > repeated:
                yield passage()
            heading, parts, repeated, rest = begins[1].strip(), [], 0, rest[begins.end() :].strip()
        for piece in _pieces(rest, cutting.max_words):
            if parts and sum(map(count_words, parts)) + count_words(piece) > cutting.max_words:
                if len(parts) > repeated:
                    yield passage()
                room = min(cutting.overlap, cutting.max_words - count_words(piece))
                parts = _last_sentences(parts, room)
                repeated = len(parts)
            if piece:
                parts.append(piece)
    if len(parts) > repeated:
        yield passage()


def title_of(document: Document) -> str:
    """Return the title of a document: its first heading, where the title is only the name of the file."""
    title = document.title or document.id
    begins = _FIRST_HEADING.match(document.text)
    name = document.id.rsplit("/", 1)[-1]
    return begins[1].strip() if begins and title in (name, name.rpartition(".")[0]) else title


def _paragraphs(text: str) -> Iterator[str]:
    """Split a text at blank lines; a block of code stays in one piece, so that its comments aren't headings."""
    fenced: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        opens = len(_FENCE.findall(paragraph)) % 2 == 1
        if fenced or opens:
            fenced.append(paragraph)
        if fenced and (opens is (len(fenced) > 1)):
            yield "\n\n".join(fenced)
            fenced = []
        elif not fenced:
            yield paragraph
    yield from fenced  # code that never ends


def _pieces(paragraph: str, max_words: int) -> Iterable[str]:
    """Split a paragraph that is too long for a passage."""
    if count_words(paragraph) <= max_words:
        return [paragraph]
    lines = paragraph.splitlines()
    rule = next((i for i, line in enumerate(lines) if _TABLE_RULE.fullmatch(line.strip())), None)
    if rule is None or not all(line.lstrip().startswith("|") for line in lines):
        return _split_sentences(sentences_of(paragraph), max_words)
    header = "\n".join(lines[: rule + 1])
    if 2 * count_words(header) > max_words:
        return _split_sentences(sentences_of(paragraph), max_words)
    return _table_parts(header, lines[rule + 1 :], max_words)


def _table_parts(header: str, rows: Sequence[str], max_words: int) -> Iterator[str]:
    """Split a table at its rows; each part begins with the header."""
    part: list[str] = []
    room = int(max_words - count_words(header))
    size = 0.0
    for row in rows:
        for piece in [row] if count_words(row) <= room else _split_sentences([row], room):
            if part and size + count_words(piece) > room:
                yield "\n".join([header, *part])
                part, size = [], 0.0
            part.append(piece)
            size += count_words(piece)
    if part:
        yield "\n".join([header, *part])


def _last_sentences(parts: Sequence[str], max_words: float) -> list[str]:
    """Return the last sentences of parts that have at most `max_words` words together."""
    kept: list[str] = []
    if max_words <= 0 or not parts or parts[-1].lstrip().startswith("|"):
        return kept
    for sentence in reversed([sentence for part in parts for sentence in sentences_of(part)]):
        if sum(map(count_words, kept)) + count_words(sentence) > max_words:
            break
        kept.insert(0, sentence)
    return [" ".join(kept)] if kept else []


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
