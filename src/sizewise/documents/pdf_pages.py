"""Convert PDF to Markdown, page by page: paragraphs, ruled tables, and which pages have no text."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any, NamedTuple

from sizewise.documents import ocr
from sizewise.documents.boilerplate import is_page_number, join_hyphenated, recurring_forms
from sizewise.documents.boilerplate import line_form as form_of
from sizewise.documents.parts import CannotConvert, Conversion, Part, markdown_table

MAX_PAGES, MIN_PAGE_BYTES = 20_000, 300
MAX_RULES = 3_000
"""Pages with more lines are drawings, not tables."""
MARGIN = 0.1
"""Share of a page's height in which running headers and footers are looked for, at the top and at the bottom."""
SCANNED = "scanned pages read by OCR, possibly with errors"
NEEDS_OCR = "scanned pages need the extra [ocr], which reads Latin letters, Chinese and Japanese"
OCR_FAILED = "OCR found none; it reads Latin letters, Chinese and Japanese"
HEADERS = "running headers, footers and page numbers left out"
HYPHENS = "words joined that were hyphenated at the end of a line"


class Block(NamedTuple):
    """A paragraph or table of a page."""

    text: str
    """Text as Markdown."""
    is_table: bool = False
    """Whether it is a table."""


class PageText(NamedTuple):
    """The text of a page."""

    blocks: list[Block]
    """Paragraphs and tables in reading order."""
    edge_lines: list[str]
    """Lines in the upper and lower margin, where running headers and page numbers are."""


def convert_pdf(data: bytes) -> Conversion:
    """Convert a PDF; running headers and footers are left out, and counted."""
    import pdfplumber

    if b"%PDF" not in data[:1024]:
        raise CannotConvert("not a PDF file")
    pages: list[PageText] = []
    scanned = 0
    with pdfplumber.open(io.BytesIO(data), laparams={}) as pdf:
        title = pdf.metadata.get("Title") if isinstance(pdf.metadata, dict) else ""
        if len(pdf.pages) > MAX_PAGES:
            raise CannotConvert(f"has more than {MAX_PAGES:,} pages; split it")
        for page in pdf.pages:
            pages.append(PageText(_blocks(page), _edge_lines(page)))
            if not pages[-1].blocks and page.images and ocr.can_read():
                pages[-1].blocks.extend(Block(text) for text in ocr.page_text(page).split("\n\n") if text)
                scanned += bool(pages[-1].blocks)
            page.close()
    found = Conversion(removed=Counter({SCANNED: scanned}))
    text = _text_of(pages, found.removed)
    empty = [number for number, page in enumerate(pages, start=1) if not page.blocks]
    if empty and len(empty) < len(pages):
        have = "have" if len(empty) > 1 else "has"
        why = OCR_FAILED if ocr.can_read() else NEEDS_OCR
        found.remarks.append(f"{page_ranges(empty)} of {len(pages)} {have} no text ({why})")
    title = title if isinstance(title, str) and title.isprintable() else ""
    found.parts.append(Part(text, title=title.strip()))
    return found


def count_pages(data: bytes) -> int:
    """Return the number of pages that a PDF states, as far as its size allows; 0 if it is damaged."""
    import pypdfium2

    try:
        with pypdfium2.PdfDocument(data) as document:
            return min(len(document), MAX_PAGES, len(data) // MIN_PAGE_BYTES)
    except pypdfium2.PdfiumError:
        return 0


def page_ranges(numbers: list[int]) -> str:
    """Word a sorted list of page numbers, such as `pages 3-7 and 9`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    named = [f"{first}-{last}" if last > first else str(first) for first, last in runs]
    joined = ", ".join(named[:-1]) + (" and " if len(named) > 1 else "") + named[-1]
    return f"page{'s' if len(numbers) > 1 else ''} {joined}"


def _blocks(page: Any) -> list[Block]:
    """Return paragraphs and tables in reading order."""
    tables = _tables(page)
    blocks: list[Block] = []
    placed: set[int] = set()
    for box in page.textboxhorizontals + page.textboxverticals:
        middle = ((box["x0"] + box["x1"]) / 2, (box["top"] + box["bottom"]) / 2)
        inside = next(
            (
                index
                for index, ((x0, top, x1, bottom), _) in enumerate(tables)
                if x0 <= middle[0] <= x1 and top <= middle[1] <= bottom
            ),
            None,
        )
        if inside is None:
            text = str(box["text"]).strip()
            if text:
                blocks.append(Block(text))
        elif inside not in placed:
            placed.add(inside)
            blocks.append(Block(tables[inside][1], is_table=True))
    return blocks


def _tables(page: Any) -> list[tuple[tuple[float, float, float, float], str]]:
    """Return the ruled tables of a page: (x0, top, x1, bottom), Markdown."""
    if not 4 <= len(page.lines) + len(page.rects) <= MAX_RULES:
        return []
    found = []
    for table in page.find_tables():
        rows = [[cell or "" for cell in row] for row in table.extract()]
        if len(rows) > 1 and max(map(len, rows)) > 1:
            found.append((table.bbox, markdown_table(rows)))
    return [(place, text) for place, text in found if text]


def _edge_lines(page: Any) -> list[str]:
    upper, lower = MARGIN * page.height, (1 - MARGIN) * page.height
    lines = [line for line in page.textlinehorizontals if line["bottom"] <= upper or line["top"] >= lower]
    return [str(line["text"]).strip() for line in lines]


def _text_of(pages: list[PageText], removed: Counter[str]) -> str:
    """Join the pages without what recurs in their margins."""
    recurring = recurring_forms([page.edge_lines for page in pages])
    kept = []
    for page in pages:
        edge = {
            line for line in page.edge_lines if form_of(line) in recurring or (len(pages) > 1 and is_page_number(line))
        }
        for text, is_table in page.blocks:
            if not is_table:
                text, dropped = _without_lines(text, edge)
                text, joined = join_hyphenated(text)
                removed[HEADERS] += dropped
                removed[HYPHENS] += joined
            if text:
                kept.append(text)
    return "\n\n".join(kept)


def _without_lines(text: str, dropped: set[str]) -> tuple[str, int]:
    lines = text.splitlines()
    kept = [line for line in lines if line.strip() not in dropped]
    return "\n".join(kept), len(lines) - len(kept)
