"""Read the lines of a PDF page in reading order, with the size of their type and whether they're in a margin."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, Self

MARGIN = 0.1
"""Share of a page's height in which running headers and footers are looked for, at the top and at the bottom."""


COLUMN, NEAR, FULL = 20.0, 3, 0.8
"""Width of the parts of a page in which lines begin, in points, parts that are near, and share of their lines that
don't reach beyond the right edge of the text."""
MIN_PROSE, MIN_WIDE = 35, 15
"""Characters of a line that may wrap, also in scripts with wide characters; shorter lines are those of an address or a
list."""
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uff01-\uff60]")
_NO_SPACE = re.compile(rf"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]|{_WIDE.pattern}")
_ITEM = re.compile(r"[\u2022\u25aa\u25e6\u00b7*\-\u2013\u2014]\s|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)]\s|#")


class Line(NamedTuple):
    """A line of a page."""

    text: str
    size: float = 0.0
    """Size of most of its type, in points; 0 for a vertical line."""
    in_margin: bool = False
    """Whether it is in the upper or lower margin, where running headers and page numbers are."""
    wraps: bool = False
    """Whether its text goes on in the next line, which has its first word only because there was no room for it."""
    level: int = 0
    """Level as a heading, 1 for the coarsest; 0 for text."""
    goes_on: bool = False
    """Whether it goes on with the heading of the line before."""


Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as a share of the page's width or height."""


class Block(NamedTuple):
    """A paragraph or table of a page."""

    lines: tuple[Line, ...] = ()
    """Lines of a paragraph."""
    middle: tuple[float, float] = (0.0, 0.0)
    """Middle of a paragraph on its page, from the left and from the top, in points."""
    table: str = ""
    """A table as Markdown; empty for a paragraph."""
    box: Box | None = None
    """Place of a table on its page."""


def paragraphs_of(page: Any) -> list[Block]:
    """Return the paragraphs of a page of pdfplumber in reading order."""
    placed = iter(page.textlinehorizontals)
    boxes = [[_Row.of(next(placed), line) for line in lines] for lines in _boxes_of(page.layout)]
    edges = _right_edges([row for rows in boxes for row in rows])
    upper, lower = MARGIN * page.height + page.bbox[1], (1 - MARGIN) * page.height + page.bbox[1]
    found: list[Block] = []
    above: _Row | None = None
    for box, rows in zip(page.textboxhorizontals, boxes, strict=True):
        lines = [
            Line(row.text, row.size, row.bottom <= upper or row.top >= lower, _wraps(row, below, edges))
            for row, below in zip_longest(rows, rows[1:])
        ]
        if above is not None and rows and _goes_on(above, rows[0], edges):
            *before, last = found[-1].lines
            found[-1] = found[-1]._replace(lines=(*before, last._replace(wraps=True), *lines))
        else:
            found.append(_paragraph(lines, box))
        above = rows[-1] if rows and rows[-1].text and found[-1].lines else None
    for box in page.textboxverticals:
        found.append(_paragraph([Line(text.strip()) for text in str(box["text"]).split("\n")], box))
    return [one for one in found if one.lines]


class _Row(NamedTuple):
    """A line with its place on the page, in points."""

    text: str
    size: float
    left: float
    right: float
    top: float
    bottom: float

    @classmethod
    def of(cls, placed: dict[str, Any], line: Any) -> Self:
        text = " ".join(str(placed["text"]).split())
        return cls(text, _size(line), placed["x0"], placed["x1"], placed["top"], placed["bottom"])


def _right_edges(rows: Sequence[_Row]) -> dict[int, float]:
    """Estimate where lines end on the right, for each part of the page in which they begin."""
    ends: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        place = int(row.left // COLUMN)
        for near in range(place - NEAR, place + NEAR + 1):
            ends[near].append(row.right)
    return {place: sorted(of)[int(FULL * (len(of) - 1))] for place, of in ends.items()}


def _wraps(row: _Row, below: _Row | None, edges: Mapping[int, float]) -> bool:
    """Check whether a line ends only because the first word of the next one had no room."""
    if below is None or not below.text or _ITEM.match(below.text) or row.size != below.size:
        return False
    if len(row.text) < (MIN_WIDE if _WIDE.search(row.text) else MIN_PROSE):
        return False
    word = 1 if _WIDE.match(below.text) else len(below.text.split(maxsplit=1)[0]) + 1
    needed = (below.right - below.left) * word / len(below.text)
    return row.right + needed > edges[int(row.left // COLUMN)]


def _goes_on(above: _Row, below: _Row, edges: Mapping[int, float]) -> bool:
    """Check whether a box only continues the one above it, whose last line wraps."""
    is_near = 0 <= below.top - above.bottom < above.size
    return is_near and below.text[:1].islower() and _wraps(above, below, edges)


def _paragraph(lines: list[Line], box: dict[str, Any]) -> Block:
    middle = ((box["x0"] + box["x1"]) / 2, (box["top"] + box["bottom"]) / 2)
    return Block(tuple(line for line in lines if line.text), middle)


def _boxes_of(part: Any) -> Iterator[list[Any]]:
    """Yield the lines of each horizontal box of a layout in the order in which pdfplumber lists them."""
    from pdfminer.layout import LTContainer, LTTextBoxHorizontal, LTTextLineHorizontal

    for inner in part:
        if isinstance(inner, LTTextBoxHorizontal):
            yield [line for line in inner if isinstance(line, LTTextLineHorizontal)]
        elif isinstance(inner, LTContainer):
            yield from _boxes_of(inner)


def _size(line: Any) -> float:
    sizes = [letter.size for letter in line if hasattr(letter, "size")]
    return round(2 * statistics.median(sizes)) / 2 if sizes else 0.0


def joined(lines: Sequence[tuple[str, bool]]) -> str:
    """Join lines; one that wraps goes on in the next line, without a space in scripts that have none.

    Args:
        lines: (text, whether it wraps).
    """
    text = ""
    for (line, wraps), (below, _) in zip_longest(lines, lines[1:], fillvalue=("", False)):
        between = "\n" if not wraps else "" if _NO_SPACE.search(line[-1:]) and _NO_SPACE.match(below) else " "
        text += line + between
    return text.strip("\n")
