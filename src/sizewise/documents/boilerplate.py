"""Find text that belongs to the page rather than to the document: running headers, page numbers, hyphens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

MIN_PAGES = 3
"""Pages that a line must recur on, at least."""
MIN_SHARE = 0.4
"""Share of pages that a line must recur on; less than half, because left and right pages may differ."""
MAX_LINE = 200
MAX_DISTINCT, MIN_COUNTED = 0.5, 0.6
"""Share of the pages that may have numbers of their own in a running header, unless in that share of the steps from one
page to the next the number counts the pages. An invoice's number and its total are neither."""
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


def recurring_forms(pages: Sequence[Sequence[str]]) -> set[str]:
    """Return the forms of lines that recur on many pages, with numbers that repeat or count the pages.

    Args:
        pages: The lines at the edges of each page.
    """
    places: dict[str, list[tuple[int, list[int]]]] = {}
    for number, page in enumerate(pages):
        for form, line in {line_form(line): line for line in page if len(line) <= MAX_LINE}.items():
            places.setdefault(form, []).append((number, [int(digits) for digits in re.findall(r"\d+", line)]))
    least = max(MIN_PAGES, MIN_SHARE * sum(map(bool, pages)))
    return {form for form, found in places.items() if len(found) >= least and _numbers_recur(found)}


def _numbers_recur(found: Sequence[tuple[int, list[int]]]) -> bool:
    """Check that each number of a line repeats on other pages or counts the pages.

    Args:
        found: (page, numbers of the line on it).
    """
    for place in range(max(len(numbers) for _, numbers in found)):
        values = [(page, numbers[place]) for page, numbers in found if place < len(numbers)]
        distinct = len({value for _, value in values})
        steps = [after[1] - before[1] == after[0] - before[0] for before, after in pairwise(values)]
        if distinct > max(1, MAX_DISTINCT * len(values)) and sum(steps) < MIN_COUNTED * len(steps):
            return False
    return True


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
