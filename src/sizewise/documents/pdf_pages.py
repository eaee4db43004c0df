"""Convert PDF to Markdown, page by page: paragraphs, ruled tables, and which pages have no text."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sizewise.documents import ocr
from sizewise.documents.boilerplate import is_page_number, join_hyphenated, near_recurring, recurring_forms
from sizewise.documents.boilerplate import line_form as form_of
from sizewise.documents.contents_lists import LEADERS
from sizewise.documents.parts import CannotConvert, Conversion, Part, markdown_table
from sizewise.documents.pdf_headings import Line, headings_by_page, lines_of, mark_headings, read_outline

MAX_PAGES, MIN_PAGE_BYTES = 20_000, 300
MAX_RULES = 3_000
"""Pages with more lines are drawings, not tables."""
NEAR_EDGE, MAX_SHIFT = 0.25, 0.01
"""Share of a page's height within which a table that goes on over the edge ends and begins, and shift of its sides."""
MIN_DOTTED, DOTS = 0.15, ".\u00b7\u2022\u2024\u2025\u2026"
"""Share of a page's characters that are dots, from which it has dotted lines and is read row by row."""
MARGIN = 0.1
"""Share of a page's height in which running headers and footers are looked for, at the top and at the bottom."""
ENDS = (".", "!", "?", ":", ";", "\u3002", "\uff1f", "\uff01")
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


Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as a share of the page's width or height."""


class Block(NamedTuple):
    """A paragraph or table of a page."""

    text: str
    """Text as Markdown."""
    is_table: bool = False
    """Whether it is a table."""
    box: Box | None = None
    """Place of a table on its page."""


class PageText(NamedTuple):
    """The text of a page."""

    blocks: list[Block]
    """Paragraphs and tables in reading order."""
    edge_lines: list[str]
    """Lines in the upper and lower margin, where running headers and page numbers are."""
    lines: list[Line]
    """All lines, with the height of their type."""


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
            pages.append(PageText(_blocks(page), _edge_lines(page), lines_of(page)))
            if not pages[-1].blocks and page.images and ocr.can_read():
                pages[-1].blocks.extend(Block(text) for text in ocr.page_text(page).split("\n\n") if text)
                scanned += bool(pages[-1].blocks)
            page.close()
    found = Conversion(removed=Counter({SCANNED: scanned}))
    text = _text_of(pages, headings_by_page(read_outline(data), [page.lines for page in pages]), found.removed)
    empty = [number for number, page in enumerate(pages, start=1) if not page.blocks]
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
    boxes = page.textboxhorizontals + page.textboxverticals
    if _is_dotted("".join(str(box["text"]) for box in boxes)):
        return [
            Block(
                "\n".join(LEADERS.sub(" .... ", row) for row in page.extract_text(x_tolerance_ratio=0.15).split("\n"))
            )
        ]
    tables = _tables(page)
    blocks: list[Block] = []
    placed: set[int] = set()
    for box in boxes:
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
            x0, top, x1, bottom = tables[inside][0]
            box = (x0 / page.width, top / page.height, x1 / page.width, bottom / page.height)
            blocks.append(Block(tables[inside][1], is_table=True, box=box))
    return blocks


def _is_dotted(text: str) -> bool:
    """Check for dotted lines between titles and page numbers, which are far apart, so that a row isn't one line."""
    dots = sum(map(text.count, DOTS))
    return dots >= MIN_DOTTED * (len(text) - text.count(" ") - text.count("\n")) > 0


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


def _text_of(pages: list[PageText], headings: Sequence[Mapping[str, int]], removed: Counter[str]) -> str:
    """Join the pages without what recurs in their margins, with the headings of each page marked."""
    recurring = recurring_forms([page.edge_lines for page in pages])
    kept: list[Block] = []
    near = near_recurring([page.edge_lines for page in pages])
    for page, levels, running in zip(pages, headings or [{}] * len(pages), near, strict=True):
        before = len(kept)
        edge = (running - levels.keys()) | {
            line for line in page.edge_lines if form_of(line) in recurring or (len(pages) > 1 and is_page_number(line))
        }
        for block in page.blocks:
            text = block.text
            if not block.is_table:
                text, dropped = _without_lines(text, edge)
                text, joined = join_hyphenated(mark_headings(text, levels))
                removed[HEADERS] += dropped
                removed[HYPHENS] += joined
            if before and len(kept) == before and _continues(kept[-1], block):
                kept[-1] = block._replace(text=_joined_tables(kept[-1].text, text))
                before = 0  # only the first block of a page continues the page before
            elif before and len(kept) == before and _goes_on(kept[-1], text, block.is_table):
                kept[-1] = block._replace(text=f"{kept[-1].text}\n{text}")
                before = 0
            elif text:
                kept.append(block._replace(text=text))
    return "\n\n".join(block.text for block in kept)


def _continues(above: Block, below: Block) -> bool:
    """Check whether the first block of a page continues a table that the page before ends with."""
    if above.box is None or below.box is None:
        return False
    same_sides = all(abs(above.box[side] - below.box[side]) < MAX_SHIFT for side in (0, 2))
    over_the_edge = above.box[3] > 1 - NEAR_EDGE and below.box[1] < NEAR_EDGE
    return same_sides and over_the_edge and _columns(above.text) == _columns(below.text)


def _goes_on(above: Block, text: str, is_table: bool) -> bool:
    """Check whether a page begins in the middle of a sentence of the page before."""
    ended = above.is_table or above.text.endswith(ENDS) or above.text.rpartition("\n")[2].startswith("#")
    return not is_table and not ended and text[:1].islower()


def _columns(table: str) -> int:
    return table.splitlines()[1].count("---")


def _joined_tables(above: str, below: str) -> str:
    """Append the rows of a table to one whose columns it has; a header that is repeated on each page is left out."""
    header, _, *rows = below.splitlines()
    return "\n".join([above, *([] if header == above.splitlines()[0] else [header]), *rows])


def _without_lines(text: str, dropped: set[str]) -> tuple[str, int]:
    lines = text.splitlines()
    kept = [line for line in lines if line.strip() not in dropped]
    return "\n".join(kept), len(lines) - len(kept)
