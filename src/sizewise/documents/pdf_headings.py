"""Find the headings of a PDF: by its outline (bookmarks), or else by the size of its type."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

MAX_OUTLINE, MAX_LEVEL = 5_000, 6
MIN_FOUND = 0.5
"""Share of an outline's titles that must be lines on their pages; else the outline isn't used."""
LARGER, MAX_SIZES, MAX_HEADING = 1.15, 4, 120
"""Height of a heading relative to that of most of the text, number of heights, and length."""
MAX_SHARE = 0.2
"""Share of the text above which large type isn't a heading, as on slides."""
_SPACE = re.compile(r"\s+")
_NUMBER = re.compile(r"\A\W*(?:[A-Za-z]{1,10}\s+)?(?:\d+(?:\.\d+)*|[IVXLC]+)[.:)]*\s+")
_LETTER = re.compile(r"[^\W\d_]")


class Title(NamedTuple):
    """An entry of an outline."""

    page: int
    """Index of its page."""
    level: int
    """1 for the coarsest."""
    text: str


class Line(NamedTuple):
    """A line of a page."""

    text: str
    height: float
    """Height of its type, in points."""
    above: str = ""
    """The line above it in its paragraph, if any."""
    below: str = ""
    """The line below it in its paragraph, if any."""


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


def headings_by_page(outline: Sequence[Title], pages: Sequence[Sequence[Line]]) -> list[dict[str, int]]:
    """Find the lines that are headings.

    Args:
        outline: entries of the outline.
        pages: the lines of each page.

    Returns:
        For each page, line -> level, 1 for the coarsest.
    """
    return _by_outline(outline, pages) or _by_size(pages)


def _by_outline(outline: Sequence[Title], pages: Sequence[Sequence[Line]]) -> list[dict[str, int]]:
    found: list[dict[str, int]] = [{} for _ in pages]
    wanted = [title for title in outline if title.page < len(pages) and _LETTER.search(title.text)]
    names = [_names(lines) for lines in pages]
    count = 0
    for title in wanted:
        line = names[title.page].get(_name(title.text)) or names[title.page].get(_name(_NUMBER.sub("", title.text)))
        if line is not None:
            found[title.page].setdefault(line, title.level)
            count += 1
    return found if count and count >= MIN_FOUND * len(wanted) else []


def _names(lines: Sequence[Line]) -> Mapping[str, str]:
    """Map what a line says, with its number and without, to the line; a long page number comes last."""
    names: dict[str, str] = {}
    for line in lines:
        names.setdefault(_name(line.text), line.text)
    for line in lines:
        names.setdefault(_name(_NUMBER.sub("", line.text)), line.text)
    return names


def _name(text: str) -> str:
    return _SPACE.sub("", text).casefold()


def _by_size(pages: Sequence[Sequence[Line]]) -> list[dict[str, int]]:
    """Take lines in larger type than most of the text as headings, the largest as the coarsest."""
    sizes: Counter[float] = Counter()
    for lines in pages:
        for line in lines:
            sizes[_rounded(line.height)] += len(line.text)
    if not sizes:
        return []
    body = max(sizes, key=lambda size: (sizes[size], size))
    larger = [[line for line in lines if _rounded(line.height) >= LARGER * body] for lines in pages]
    chosen = [[line for line in lines if _can_be_heading(line, {one.text for one in lines})] for lines in larger]
    if sum(len(line.text) for lines in chosen for line in lines) > MAX_SHARE * sizes.total():
        return []
    used = sorted({_rounded(line.height) for lines in chosen for line in lines}, reverse=True)[:MAX_SIZES]
    levels = {size: level for level, size in enumerate(used, start=1)}
    return [
        {line.text: levels[_rounded(line.height)] for line in lines if _rounded(line.height) in levels}
        for lines in chosen
    ]


def _rounded(height: float) -> float:
    return round(2 * height) / 2


def _can_be_heading(line: Line, large: Collection[str]) -> bool:
    """Check that a line in large type begins its paragraph and doesn't go on as text, like one with a footnote mark."""
    text = line.text
    begins = not line.above or line.above in large
    goes_on = line.below[:1].islower() or text.endswith((".", ",", ";", "\u3002", "\uff0c"))
    return begins and not goes_on and len(text) <= MAX_HEADING and bool(_LETTER.search(text))


def lines_of(page: Any) -> list[Line]:
    """Return the lines of a page of pdfplumber, with those above and below in their paragraphs."""
    near: dict[str, tuple[str, str]] = {}
    for box in page.textboxhorizontals:
        texts = ["", *(text.strip() for text in str(box["text"]).splitlines()), ""]
        for above, text, below in zip(texts, texts[1:], texts[2:], strict=False):
            near.setdefault(text, (above, below))
    found = []
    for line in page.textlinehorizontals:
        text = str(line["text"]).strip()
        found.append(Line(text, float(line["height"]), *near.get(text, ("", ""))))
    return found


def mark_headings(text: str, levels: Mapping[str, int]) -> str:
    """Write the lines of a paragraph that are headings as Markdown, each as a paragraph of its own."""
    if not levels:
        return text
    marked = []
    for line in text.splitlines():
        level = levels.get(line.strip())
        marked.append(f"\n{'#' * level} {line.strip()}\n" if level else line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(marked)).strip("\n")
