"""Convert PDF to Markdown, page by page: headings, paragraphs, ruled tables, and which pages have no text."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from sizewise.documents import ocr
from sizewise.documents.boilerplate import join_hyphenated, recurring_lines
from sizewise.documents.contents_lists import MIN_ORDERED, MIN_ROWS, row_of
from sizewise.documents.parts import CannotConvert, Conversion, Part, markdown_table
from sizewise.documents.pdf_headings import NUMBER, read_outline, with_headings
from sizewise.documents.pdf_layout import Block, Box, Line, joined, paragraphs_of

MAX_PAGES, MIN_PAGE_BYTES = 20_000, 300
MAX_RULES = 3_000
"""Pages with more lines are drawings, not tables."""
NEAR_EDGE, MAX_SHIFT = 0.25, 0.01
"""Share of a page's height within which a table that goes on over the edge ends and begins, and shift of its sides."""
MIN_OF_CONTENTS = 0.5
"""Share of a page's rows that end with a page number, from which it is read row by row: dots between a title and its
page number make columns of them."""
ENDS = (".", "!", "?", ":", ";", "\u3002", "\uff1f", "\uff01")
_LIKE_HEADING = re.compile(r"(?m)^#{1,6}(?=\s)")
SCANNED = "scanned pages read by OCR, possibly with errors"
NEEDS_OCR = "scanned pages need the extra [ocr], which reads Latin letters, Chinese and Japanese"
OCR_FAILED = "OCR found none; it reads Latin letters, Chinese and Japanese"
HEADERS = "running headers, footers and page numbers left out"
HYPHENS = "words joined that were hyphenated at the end of a line"
_NO_TITLE = re.compile(
    r"(?i)untitled(?:[ -]?\d+)?|(?:powerpoint )?(?:presentation|pr\u00e4sentation|pr\u00e9sentation)\d*"
    r"|(?:document|dokument|slide|folie|book|mappe|sheet)\s?\d*|.*\.(?:docx?|pptx?|xlsx?|odt|indd|tex|qxd|pdf)"
    r"|microsoft (?:office )?(?:word|powerpoint|excel|visio|publisher) [-\u2013] .*"
)
"""What programs fill in; a file name is no title either, because the name of the PDF is a better one."""


class Kept(NamedTuple):
    """What is kept of a block."""

    text: str
    """Text as Markdown."""
    box: Box | None = None
    """Place of a table on its page; None for a paragraph."""
    sizes: tuple[float, float] = (0.0, 0.0)
    """Size of the type of a paragraph's first and last line."""


def convert_pdf(data: bytes) -> Conversion:
    """Convert a PDF; running headers and footers are left out, and counted."""
    import pdfplumber

    if b"%PDF" not in data[:1024]:
        raise CannotConvert("not a PDF file")
    pages: list[list[Block]] = []
    scanned = 0
    with pdfplumber.open(io.BytesIO(data), laparams={}) as pdf:
        title = pdf.metadata.get("Title") if isinstance(pdf.metadata, dict) else ""
        if len(pdf.pages) > MAX_PAGES:
            raise CannotConvert(f"has more than {MAX_PAGES:,} pages; split it")
        for page in pdf.pages:
            pages.append(_blocks(page))
            if not pages[-1] and page.images and ocr.can_read():
                pages[-1].extend(_paragraph(text) for text in ocr.page_text(page).split("\n\n") if text)
                scanned += bool(pages[-1])
            page.close()
    found = Conversion(removed=Counter({SCANNED: scanned}))
    text = _text_of(with_headings(pages, read_outline(data)), found.removed)
    empty = [number for number, page in enumerate(pages, start=1) if not page]
    if empty and len(empty) < len(pages):
        have = "have" if len(empty) > 1 else "has"
        why = OCR_FAILED if ocr.can_read() else NEEDS_OCR
        found.remarks.append(f"{page_ranges(empty)} of {len(pages)} {have} no text ({why})")
    found.parts.append(Part(text, title=stated_title(title)))
    return found


def stated_title(title: object) -> str:
    """Return the title that a PDF states; empty if a program filled it in, as in `Microsoft Word - a.doc`."""
    if not isinstance(title, str) or not title.isprintable():
        return ""
    title = title.strip()
    return "" if _NO_TITLE.fullmatch(title) else title


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
    rows = _rows_of_contents(page)
    if rows:
        return [_paragraph(rows)]
    tables = _tables(page) if page.width and page.height else []
    blocks: list[Block] = []
    placed: set[int] = set()
    for block in paragraphs_of(page):
        x, y = block.middle
        places = enumerate(place for place, _ in tables)
        inside = next((i for i, (x0, top, x1, bottom) in places if x0 <= x <= x1 and top <= y <= bottom), None)
        if inside is None:
            blocks.append(block)
        elif inside not in placed:
            placed.add(inside)
            x0, top, x1, bottom = tables[inside][0]
            place = (x0 / page.width, top / page.height, x1 / page.width, bottom / page.height)
            blocks.append(Block(table=tables[inside][1], box=place))
    return blocks


def _paragraph(text: str) -> Block:
    return Block(tuple(Line(line.strip()) for line in text.split("\n") if line.strip()))


def _rows_of_contents(page: Any) -> str:
    """Return a page of a table of contents, row by row; empty for other pages."""
    if sum("." in str(line["text"]) for line in page.textlinehorizontals) < MIN_ROWS:
        return ""
    lines = str(page.extract_text(x_tolerance_ratio=0.15)).split("\n")
    rows = [row if (row := row_of(line)) and row.has_dots else None for line in lines]
    pages = [row.page for row in rows if row]
    falls = sum(after < before for before, after in pairwise(pages))
    if len(pages) < max(MIN_ROWS, MIN_OF_CONTENTS * len(lines)) or falls > (1 - MIN_ORDERED) * len(pages):
        return ""
    return "\n".join(
        line if row is None else f"{row.title} .... {row.number}" for line, row in zip(lines, rows, strict=True)
    )


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


def _text_of(pages: Sequence[Sequence[Block]], removed: Counter[str]) -> str:
    """Join the pages without what recurs in their margins, with headings as Markdown."""
    left_out = _margins_left_out(pages)
    kept: list[Kept] = []
    for number, page in enumerate(pages):
        before = len(kept)
        for block in page:
            one = Kept(block.table, block.box)
            if not block.table:
                lines = [line for line in block.lines if not (line.in_margin and (number, line.text) in left_out)]
                removed[HEADERS] += len(block.lines) - len(lines)
                text, hyphens = _markdown(lines)
                removed[HYPHENS] += hyphens
                one = Kept(text, sizes=(lines[0].size, lines[-1].size) if lines else (0.0, 0.0))
            first = bool(before) and len(kept) == before  # only the first block of a page continues the page before
            if first and _continues(kept[-1], one):
                kept[-1] = one._replace(text=_joined_tables(kept[-1].text, one.text))
                before = 0
            elif first and _goes_on(kept[-1], one):
                kept[-1] = Kept(f"{kept[-1].text} {one.text}", sizes=(kept[-1].sizes[0], one.sizes[1]))
                before = 0
            elif one.text:
                kept.append(one)
    return "\n\n".join(one.text for one in kept)


def _margins_left_out(pages: Sequence[Sequence[Block]]) -> set[tuple[int, str]]:
    """Return which lines in the margins of which pages are no part of the text.

    They recur on most pages, or on some, and name a chapter that began before.
    """
    margins = [
        [line.text for block in page for line in block.lines if line.in_margin and not line.level] for page in pages
    ]
    left_out = recurring_lines(margins)
    counts = Counter(line for page in margins for line in set(page))
    titles: set[str] = set()
    for number, page in enumerate(pages):
        for line in margins[number]:
            names = _names(line)
            is_cut = line.endswith("\u2026") and any(title.startswith(name) for name in names for title in titles)
            if is_cut or (counts[line] > 1 and not titles.isdisjoint(names)):
                left_out.add((number, line))
        for block in page:
            for lines in _headings(block.lines):
                titles.update(_names(" ".join(line.text for line in lines)))
    return left_out


def _names(title: str) -> set[str]:
    """Return a title without spaces and capitals, with its number and without."""
    title = title.rstrip("\u2026 ")
    names = {"".join(one.split()).casefold() for one in (title, NUMBER.sub("", title, count=1))}
    return names - {""}


def _headings(lines: Sequence[Line]) -> list[list[Line]]:
    """Return the lines of each heading."""
    found: list[list[Line]] = []
    for line in lines:
        if line.level and line.goes_on and found:
            found[-1].append(line)
        elif line.level:
            found.append([line])
    return found


def _markdown(lines: Sequence[Line]) -> tuple[str, int]:
    """Join the lines of a paragraph; those of a heading become one line, with empty lines around it.

    Returns:
        The text and the number of hyphenated words joined.
    """
    parts: list[list[Line]] = []
    for line in lines:
        if parts and line.level == parts[-1][-1].level and (not line.level or line.goes_on):
            parts[-1].append(line)
        else:
            parts.append([line])
    texts, hyphens = [], 0
    for part in parts:
        text, count = join_hyphenated("\n".join(line.text for line in part))
        hyphens += count
        level = part[0].level
        rows = text.split("\n")
        wraps = [bool(level) or line.wraps for line in part]
        text = joined(list(zip(rows, wraps, strict=True))) if len(rows) == len(part) else text
        texts.append(f"\n{'#' * level} {text.strip()}\n" if level else _escaped(text))
    return "\n".join(texts).strip("\n"), hyphens


def _escaped(text: str) -> str:
    """Escape what would be a heading in Markdown, such as a command after the prompt `#`."""
    return _LIKE_HEADING.sub(r"\\\g<0>", text)


def _continues(above: Kept, below: Kept) -> bool:
    """Check whether the first block of a page continues a table that the page before ends with."""
    if above.box is None or below.box is None:
        return False
    same_sides = all(abs(above.box[side] - below.box[side]) < MAX_SHIFT for side in (0, 2))
    over_the_edge = above.box[3] > 1 - NEAR_EDGE and below.box[1] < NEAR_EDGE
    return same_sides and over_the_edge and _columns(above.text) == _columns(below.text)


def _goes_on(above: Kept, below: Kept) -> bool:
    """Check whether a page begins in the middle of a sentence of the page before, and in its type."""
    ended = above.box is not None or above.text.endswith(ENDS) or above.text.rpartition("\n")[2].startswith("#")
    is_alike = above.sizes[1] == below.sizes[0]
    return below.box is None and not ended and is_alike and below.text[:1].islower()


def _columns(table: str) -> int:
    return table.splitlines()[1].count("---")


def _joined_tables(above: str, below: str) -> str:
    """Append the rows of a table to one whose columns it has; a header that is repeated on each page is left out."""
    header, _, *rows = below.splitlines()
    return "\n".join([above, *([] if header == above.splitlines()[0] else [header]), *rows])
