"""Read the lines of a PDF page in reading order, with the size of their type and whether they're in a margin."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple

MARGIN = 0.1
"""Share of a page's height in which running headers and footers are looked for, at the top and at the bottom."""


class Line(NamedTuple):
    """A line of a page."""

    text: str
    size: float = 0.0
    """Size of most of its type, in points; 0 for a vertical line."""
    in_margin: bool = False
    """Whether it is in the upper or lower margin, where running headers and page numbers are."""
    level: int = 0
    """Level as a heading, 1 for the coarsest; 0 for text."""


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
    sizes = [_size(line) for line in _lines_of(page.layout)]
    upper, lower = MARGIN * page.height, (1 - MARGIN) * page.height
    lines = [
        Line(str(line["text"]).strip(), size, line["bottom"] <= upper or line["top"] >= lower)
        for line, size in zip(page.textlinehorizontals, sizes, strict=True)
    ]
    found, used = [], 0
    for box in page.textboxhorizontals:
        count = len(str(box["text"]).rstrip("\n").split("\n"))
        found.append(_paragraph(lines[used : used + count], box))
        used += count
    for box in page.textboxverticals:
        found.append(_paragraph([Line(text.strip()) for text in str(box["text"]).split("\n")], box))
    return [one for one in found if one.lines]


def _paragraph(lines: list[Line], box: dict[str, Any]) -> Block:
    middle = ((box["x0"] + box["x1"]) / 2, (box["top"] + box["bottom"]) / 2)
    return Block(tuple(line for line in lines if line.text), middle)


def _lines_of(part: Any) -> Iterator[Any]:
    """Yield the horizontal lines of a layout in the order in which pdfplumber lists them."""
    from pdfminer.layout import LTContainer, LTTextLineHorizontal

    for inner in part:
        if isinstance(inner, LTTextLineHorizontal):
            yield inner
        elif isinstance(inner, LTContainer):
            yield from _lines_of(inner)


def _size(line: Any) -> float:
    sizes = [letter.size for letter in line if hasattr(letter, "size")]
    return round(2 * statistics.median(sizes)) / 2 if sizes else 0.0
