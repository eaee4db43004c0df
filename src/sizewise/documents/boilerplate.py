"""Find text that belongs to the page rather than to the document: running headers, page numbers, hyphens."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

MIN_PAGES = 3
"""Pages that a line must recur on, at least."""
MIN_SHARE = 0.4
"""Share of pages that a line must recur on; less than half, because left and right pages may differ."""
MAX_LINE, NEAR = 200, 4
"""Length of a line, and pages within which the running header of a chapter recurs, which few pages have."""
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
    """Return the forms of lines that recur on many pages.

    Args:
        pages: The lines at the edges of each page.
    """
    pages = [page for page in pages if page]
    forms = [{line_form(line) for line in page if len(line) <= MAX_LINE} for page in pages]
    counts = Counter(form for of_page in forms for form in of_page)
    return {form for form, count in counts.items() if count >= max(MIN_PAGES, MIN_SHARE * len(pages))}


def near_recurring(pages: Sequence[Sequence[str]]) -> list[set[str]]:
    """Find the lines that recur on near pages, such as the running headers of chapters.

    Args:
        pages: The lines at the edges of each page.

    Returns:
        For each page, the lines that are also on two others within `NEAR` pages.
    """
    places: dict[str, list[int]] = {}
    for number, page in enumerate(pages):
        for line in {line for line in page if len(line) <= MAX_LINE}:
            places.setdefault(line, []).append(number)
    found: list[set[str]] = [set() for _ in pages]
    for line, numbers in places.items():
        for i in range(len(numbers) - MIN_PAGES + 1):
            near = numbers[i : i + MIN_PAGES]
            if all(after - before <= NEAR for before, after in pairwise(near)):
                for number in near:
                    found[number].add(line)
    return found


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
