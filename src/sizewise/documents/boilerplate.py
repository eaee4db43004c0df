"""Find text that belongs to the page rather than to the document: running headers, page numbers, hyphens."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

MIN_PAGES = 3
"""Pages that a line must recur on, at least."""
MIN_SHARE = 0.4
"""Share of pages that a line must recur on; less than half, because left and right pages may differ."""
MAX_LINE = 200
MAX_OFFSET = 999
"""Number of a first page at most: an invoice's number counts the pages, too."""
_NUMBER = re.compile(r"\d+|\b[ivxlc]+\b", re.IGNORECASE)
_PAGE_NUMBER = re.compile(
    r"\W*(?:(?:page|seite|página|pagina|side|sida|sivu|стр\.?|страница|第|صفحة|पृष्ठ|หน้า)?\s*\d{1,4}\s*"
    r"(?:页|頁|ページ|쪽)?(?:\s*(?:of|von|de|di|av|/|из|من)\s*\d{1,4})?|[ivxl]{1,7})\W*",
    re.IGNORECASE,
)
_HYPHENATED = re.compile(r"([^\W\d_]+)-\n([^\W\d_]+)")
_SOFT_HYPHEN = re.compile("\u00ad\n?")


def line_form(line: str) -> str:
    """Return a line with its numbers replaced, so that running headers of all pages are equal."""
    return _NUMBER.sub("#", " ".join(line.split())).casefold()


def recurring_lines(pages: Sequence[Sequence[str]]) -> set[tuple[int, str]]:
    """Find the lines that recur on many pages: each of their numbers is on another page, too, or counts the pages.

    Args:
        pages: The lines at the edges of each page.

    Returns:
        (index of the page, line).
    """
    places: dict[tuple[str, int], list[tuple[int, str]]] = {}
    for number, page in enumerate(pages):
        for line in dict.fromkeys(page):
            if len(line) <= MAX_LINE:
                places.setdefault((line_form(line), len(_numbers(line))), []).append((number, line))
    least = max(MIN_PAGES, MIN_SHARE * sum(map(bool, pages)))
    found: set[tuple[int, str]] = set()
    for (_, columns), on in places.items():
        enough = 2 if columns and is_page_number(on[0][1]) else least
        if len({page for page, _ in on}) >= enough:
            fits = [_fitting([(page, _numbers(line)[column]) for page, line in on]) for column in range(columns)]
            found.update(one for place, one in enumerate(on) if all(column[place] for column in fits))
    return found


def _numbers(line: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", line)]


def _fitting(values: Sequence[tuple[int, int]]) -> list[bool]:
    """Return which numbers are on another page, too, or count the pages as another one does.

    Args:
        values: (page, number).
    """
    repeated = Counter(value for _, value in values)
    offsets = Counter(value - page for page, value in values)
    return [repeated[value] > 1 or (offsets[value - page] > 1 and value - page <= MAX_OFFSET) for page, value in values]


def is_page_number(line: str) -> bool:
    """Return whether a line is nothing but a page number."""
    return bool(_PAGE_NUMBER.fullmatch(line.strip()))


def join_hyphenated(text: str) -> tuple[str, int]:
    """Join words that were hyphenated at the end of a line; compounds that have their hyphen elsewhere keep it.

    Returns:
        The text and the number of words joined.
    """
    words = {word.casefold() for word in re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", text)} if "-\n" in text else set()
    joined = 0

    def join(match: re.Match[str]) -> str:
        nonlocal joined
        first, second = match.groups()
        if not second[0].islower() or (len(first) > 1 and first.isupper()):
            return match[0]
        joined += 1
        compound = f"{first}-{second}".casefold()
        hyphen = "-" if compound in words and (first + second).casefold() not in words else ""
        return f"{first}{hyphen}{second}\n"

    text, soft = _SOFT_HYPHEN.subn("", text)
    text = _HYPHENATED.sub(join, text)
    return re.sub(r"\n[ \t]+", "\n", text) if joined else text, joined + soft
