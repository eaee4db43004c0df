"""Find the headings of a PDF: by its outline (bookmarks), or else by the size of its type."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, takewhile
from typing import NamedTuple

from sizewise.documents.pdf_layout import Block, Line

MAX_OUTLINE, MAX_LEVEL = 5_000, 6
MIN_FOUND, MIN_OF_LARGE = 0.5, 0.5
"""An outline is used if so many of its titles are lines on their pages, and as many as that share of the headings in
large type."""
LARGER, MAX_SIZES, MAX_HEADING, MAX_LINES = 1.15, 4, 120, 3
"""Size of a heading relative to that of most of the text, number of sizes, length, and number of its lines."""
MAX_SHARE, MAX_RUN = 0.2, 2.0
"""Share of the text above which large type isn't a heading, as on slides, and mean number of paragraphs in one size
that follow each other, as in an invoice with small print."""
NUMBER = re.compile(r"\A\W*(?:[^\W\d_]{1,12}\s+)?(?:\d+(?:\.\d+)*[.:)]*|[IVXLC]+[.:)]+)\s+")
_NO_LETTER = re.compile(r"[\W_]+")
_WORD = re.compile(r"[^\W\d_]{3,}|[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_ENDS_TEXT = (".", ",", ";", "\u3002", "\uff0c")

Pages = Sequence[Sequence[Block]]
Place = tuple[int, int, int]
"""Page, block and line."""


class Mark(NamedTuple):
    """What is known of a line that is a heading."""

    level: int
    """1 for the coarsest."""
    goes_on: bool
    """Whether it goes on with the heading of the line before."""


class Title(NamedTuple):
    """An entry of an outline."""

    page: int
    """Index of its page."""
    level: int
    """1 for the coarsest."""
    text: str


def read_outline(data: bytes) -> list[Title]:
    """Read the outline of a PDF; empty if there is none, or it is damaged."""
    import pypdfium2

    found: list[Title] = []
    try:
        with pypdfium2.PdfDocument(data) as document:
            for entry in document.get_toc():
                place = entry.get_dest()
                page = place.get_index() if place else None
                if page is not None and len(found) < MAX_OUTLINE:
                    found.append(Title(page, min(MAX_LEVEL, entry.level + 1), entry.get_title() or ""))
    except (pypdfium2.PdfiumError, UnicodeDecodeError):
        return []
    return found


def with_headings(pages: Pages, outline: Sequence[Title]) -> list[list[Block]]:
    """Set the level of the lines that are headings; a heading over two blocks becomes one.

    Args:
        pages: the blocks of each page.
        outline: entries of the outline.
    """
    stated, large = _by_outline(pages, outline), _by_size(pages)
    levels = stated if stated and len(stated) >= MIN_OF_LARGE * len(large) else large
    return [_marked(page, number, levels) for number, page in enumerate(pages)]


def _marked(page: Sequence[Block], number: int, levels: Mapping[Place, Mark]) -> list[Block]:
    marked: list[Block] = []
    for place, block in enumerate(page):
        marks = [levels.get((number, place, i)) for i in range(len(block.lines))]
        lines = [
            line if mark is None else line._replace(level=mark.level, goes_on=mark.goes_on)
            for line, mark in zip(block.lines, marks, strict=True)
        ]
        if marks and marks[0] and marks[0].goes_on and marked:
            count = sum(1 for _ in takewhile(lambda mark: mark and mark.goes_on, marks))
            marked[-1] = marked[-1]._replace(lines=(*marked[-1].lines, *lines[:count]))
            lines = lines[count:]
        if lines or block.table:
            marked.append(block._replace(lines=tuple(lines)))
    return marked


def title_names(text: str) -> set[str]:
    """Return the letters and digits of a title, with its number and without, to compare it with others."""
    names = {_NO_LETTER.sub("", one).casefold() for one in (text, NUMBER.sub("", text, count=1))}
    return names - {""}


def _by_outline(pages: Pages, outline: Sequence[Title]) -> dict[Place, Mark]:
    wanted = [title for title in outline if title.page < len(pages) and title_names(title.text)]
    places = {number: _named(pages[number]) for number in {title.page for title in wanted}}
    found: dict[Place, Mark] = {}
    count = 0
    for title in wanted:
        candidates = [one for name in title_names(title.text) for one in places[title.page].get(name, ())]
        if candidates:
            *_, places_of_lines = max(candidates, key=lambda one: one[:2])
            for i, (place, line) in enumerate(places_of_lines):
                found.setdefault((title.page, place, line), Mark(title.level, i > 0))
            count += 1
    return found if count >= MIN_FOUND * len(wanted) else {}


def _named(page: Sequence[Block]) -> dict[str, list[tuple[bool, float, list[tuple[int, int]]]]]:
    """Map what lines say, alone and with those below, to (whether outside the margins, size, blocks and lines)."""
    named: dict[str, list[tuple[bool, float, list[tuple[int, int]]]]] = defaultdict(list)
    lines = [((place, i), line) for place, block in enumerate(page) for i, line in enumerate(block.lines)]
    for start, (_, first) in enumerate(lines):
        for end in range(start + 1, min(start + MAX_LINES, len(lines)) + 1):
            some = lines[start:end]
            text = " ".join(line.text for _, line in some)
            is_apart = any(line.size != first.size for _, line in some) or some[-1][0][0] - some[0][0][0] > MAX_LINES
            has_table = any(page[place].table for place in range(some[0][0][0], some[-1][0][0]))
            if len(text) > 2 * MAX_HEADING or is_apart or has_table:
                break
            for name in title_names(text):
                named[name].append((not first.in_margin, first.size, [place for place, _ in some]))
    return named


def _by_size(pages: Pages) -> dict[Place, Mark]:
    """Take lines in larger type than most of the text as headings, the largest as the coarsest."""
    sizes: Counter[float] = Counter()
    for _, line in _lines(pages):
        sizes[line.size] += len(line.text)
    sizes.pop(0.0, None)
    if not sizes:
        return {}
    body = max(sizes, key=lambda size: (sizes[size], size))
    headings: dict[float, list[tuple[Place, int]]] = defaultdict(list)
    letters = 0
    for number, page in enumerate(pages):
        for place, block in enumerate(page):
            count = _lines_of_heading(block, LARGER * body)
            if count:
                headings[block.lines[0].size].append(((number, place, 0), count))
                letters += sum(len(line.text) for line in block.lines[:count])
    if letters > MAX_SHARE * sizes.total():
        return {}
    apart = [size for size, places in headings.items() if _mean_run(pages, size) <= MAX_RUN and places]
    found: dict[Place, Mark] = {}
    for level, size in enumerate(sorted(apart, reverse=True)[:MAX_SIZES], start=1):
        for (number, place, _), count in headings[size]:
            found.update({(number, place, i): Mark(level, i > 0) for i in range(count)})
    return found


def _lines(pages: Pages) -> Iterator[tuple[Place, Line]]:
    for number, page in enumerate(pages):
        for place, block in enumerate(page):
            for i, line in enumerate(block.lines):
                yield (number, place, i), line


def _lines_of_heading(block: Block, least: float) -> int:
    """Return how many lines of a block are a heading: those in one large size at its beginning."""
    lines = block.lines
    count = next((i for i, line in enumerate(lines) if line.size < least or line.size != lines[0].size), len(lines))
    text = " ".join(line.text for line in lines[:count])
    goes_on = count < len(lines) and lines[count].text[:1].islower()
    if not 0 < count <= MAX_LINES or len(text) > MAX_HEADING or goes_on:
        return 0
    return count if _WORD.search(text) and not text.endswith(_ENDS_TEXT) else 0


def _mean_run(pages: Pages, size: float) -> float:
    """Compute how many blocks that begin in a size follow each other, on average."""
    runs = [
        sum(1 for _ in run)
        for page in pages
        for of_size, run in groupby(page, key=lambda block: bool(block.lines) and block.lines[0].size == size)
        if of_size
    ]
    return sum(runs) / len(runs) if runs else 0.0
