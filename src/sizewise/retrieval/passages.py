"""Split documents into passages that fit a prompt and can be cited."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sizewise.errors import UsageError
from sizewise.records import Document
from sizewise.text import count_words, fold_text, graphemes_of, pieces_of, sentences_of

PASSAGE_WORDS, MIN_PASSAGE_WORDS = 160, 20
_UNSPACED_WORDS = 0.5  # words of one character in a script without spaces, as `count_words` estimates
_HEADING = re.compile(r"(#{1,6}) +(.+)")
_HEADING_LINE = re.compile(r" {0,3}#{2,6} +\S")
_ANY_HEADING_LINE = re.compile(r" {0,3}#{1,6} +\S")
MAX_HEADING = 120
"""Characters of a heading that the headings below it are shown with; a longer one is a paragraph."""
ABOVE = ": "
"""What stands between a heading and the one above it."""
_FIRST_HEADING = re.compile(r"[\s\ufeff\u200b\u2060]*# +(.+)")
_UNDERLINED_TITLE = re.compile(r"\s*([^\n]{1,120})\n {0,3}={3,}[ \t]*(?:\n|\Z)")
_UNDERLINE = re.compile(r" {0,3}(={3,}|-{3,})[ \t]*")
_FRONT_MATTER = re.compile(r"\s*---[ \t]*\n(.*?\n)---[ \t]*(?:\n|\Z)", re.DOTALL)
_STATED_TITLE = re.compile(r"(?m)^title:[ \t]*(\S.*)$")
MAX_FRONT_MATTER = 8_000
_INVISIBLE = "\ufeff\u200b\u2060"  # before a heading
_FENCE = re.compile(r"(?m)^\s*(?:`{3,}[^`\n]*$|~~~)")
_TABLE_RULE = re.compile(r"\|?(?:\s*:?-+:?\s*\|)+(?:\s*:?-+:?\s*)?")


class Passage(NamedTuple):
    """A part of a document."""

    document: str
    """Id of the document."""
    title: str
    """Title of the document."""
    heading: str
    """Heading of the section, if any, after those above it: `Router X200: Warranty`. The title isn't repeated."""
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
    table begins with the table's header. Headings without text become a passage under the heading above them.

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
    title, section, heading = title_of(document), 0, ""
    parts: list[str] = []
    repeated = 0  # parts that the passage before ends with

    def passage() -> Passage:
        return Passage(document.id, title, heading, "\n".join(parts))

    for block in _blocks(document.text, title):
        if block.section != section:
            if len(parts) > repeated:
                yield passage()
            section, heading, parts, repeated = block.section, block.heading, [], 0
        for piece in _pieces(block.text, cutting.max_words):
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


class _Block(NamedTuple):
    """A paragraph, table or block of code."""

    section: int
    """Number of the section."""
    heading: str
    """Heading of the section, after those above it."""
    text: str
    """The text."""


class _Headings:
    """The headings that a place of a document is under, and those that have no text of their own.

    Args:
        title: title of the document, which isn't repeated in front of other headings.
    """

    def __init__(self, title: str) -> None:
        self._title = fold_text(title)
        self._above: list[tuple[int, str]] = []
        self._has_text = True
        self._bare: dict[str, list[str]] = {}

    @property
    def path(self) -> str:
        """The heading of the section, after those above it."""
        return self._path_of(self._above)

    def begin(self, level: int, text: str) -> None:
        """Begin a section."""
        self._end(level)
        while self._above and self._above[-1][0] >= level:
            self._above.pop()
        self._above.append((level, text))
        self._has_text = False

    def add_text(self) -> None:
        """Take note that the section has a text."""
        self._has_text = True

    def bare(self, alone: bool) -> Iterator[tuple[str, str]]:
        """End the document, and yield the headings without text or sections below them: (heading above, texts).

        Args:
            alone: the document has no other text; otherwise its title is left out.
        """
        self._end(0)
        for path, texts in self._bare.items():
            kept = [text for text in texts if alone or fold_text(text) != self._title]
            if kept:
                yield path, "\n".join(kept)

    def _end(self, level: int) -> None:
        if not self._has_text and level <= self._above[-1][0]:
            self._bare.setdefault(self._path_of(self._above[:-1]), []).append(self._above[-1][1])

    def _path_of(self, headings: Sequence[tuple[int, str]]) -> str:
        shown = [text for _, text in headings[:-1] if len(text) <= MAX_HEADING and fold_text(text) != self._title]
        return ABOVE.join(filter(None, [*shown, *(text for _, text in headings[-1:])]))


def _blocks(text: str, title: str) -> Iterator[_Block]:
    """Yield the paragraphs of a document with their headings; headings without any text come last."""
    headings, section, alone = _Headings(title), 0, True
    for paragraph in _paragraphs(text):
        for part in _sections(paragraph):
            rest = part.strip().lstrip(_INVISIBLE).lstrip()
            if begins := _HEADING.match(rest):
                headings.begin(len(begins[1]), _without_closing_marks(begins[2].strip()))
                section, rest = section + 1, rest[begins.end() :].strip()
            if rest:
                headings.add_text()
                alone = False
                yield _Block(section, headings.path, rest)
    for path, texts in headings.bare(alone):
        section += 1
        yield _Block(section, path, texts)


def _without_closing_marks(heading: str) -> str:
    """Remove the signs behind a heading, as in `## Title ##`; those of a word, as in `C#`, stay."""
    bare = heading.rstrip("#")
    return bare.rstrip() or heading if bare != heading and bare.endswith((" ", "\t")) else heading


def _sections(paragraph: str) -> Iterator[str]:
    """Split a paragraph before each heading: Markdown needs no blank line there. Comments in code are no headings.

    A single `#` inside of a paragraph is a heading only if the paragraph begins with one: it may be a comment as well.
    """
    paragraph = _with_marked_heading(paragraph)
    if "#" not in paragraph:
        yield paragraph
        return
    heading = _ANY_HEADING_LINE if _ANY_HEADING_LINE.match(paragraph.lstrip("\n")) else _HEADING_LINE
    lines: list[str] = []
    fenced = False
    for line in paragraph.split("\n"):
        if lines and not fenced and heading.match(line):
            yield "\n".join(lines)
            lines = []
        fenced ^= bool(_FENCE.match(line))
        lines.append(line)
    yield "\n".join(lines)


def _with_marked_heading(paragraph: str) -> str:
    """Write a heading that is underlined with `===` or `---` at the beginning of a paragraph as `#` or `##`."""
    first, _, rest = paragraph.strip("\n").partition("\n")
    second, _, rest = rest.partition("\n")
    underline = _UNDERLINE.fullmatch(second)
    heading = first.strip()
    if underline is None or not heading or len(heading) > MAX_HEADING or heading[0] in "#|>-*+=`~" or "|" in heading:
        return paragraph
    return f"{'#' if underline[1][0] == '=' else '##'} {heading}\n{rest}"


def title_of(document: Document) -> str:
    """Return the title of a document: the one in its front matter or its first heading, if it has only a file name."""
    title, text = document.title or document.id, document.text
    name = document.id.rsplit("/", 1)[-1]
    if title not in (name, name.rpartition(".")[0]):
        return title
    front = _FRONT_MATTER.match(text[:MAX_FRONT_MATTER])
    if front and (stated := _STATED_TITLE.search(front[1])):
        return stated[1].strip().strip("\"'") or title
    start = front.end() if front else 0
    begins = _FIRST_HEADING.match(text, start) or _UNDERLINED_TITLE.match(text, start)
    return _without_closing_marks(begins[1].strip()) if begins else title


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
