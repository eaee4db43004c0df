"""Leave out tables of contents: runs of lines whose titles are headings further down, mostly with page numbers.

A table of contents matches every question about the document and answers none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

CONTENTS = "lines of tables of contents left out"
MIN_ROWS = 5
MAX_BETWEEN, MAX_ROW = 2, 200
"""Lines without a page number within a table, such as the first half of a long title, and their length."""
MIN_ORDERED, MIN_FOUND, MIN_LISTED = 0.8, 0.5, 0.8
"""Share of the page numbers that don't fall, of their titles that are lines further down, and of the items of a list
without page numbers that are headings further down."""
LEADERS = re.compile(r"(?:[ \t]*[.\u00b7\u2022\u2024\u2025\u2026_]){4,}[ \t]*|[ \t]*\u2026{2,}[ \t]*")
"""Dots between a title and its page number; four, because three end a sentence."""
_PAGE = r"(?P<page>\d{1,4}|[ivxlcIVXLC]{1,7})"
_PAGE_ENDS = frozenset("0123456789ivxlcIVXLC")
_ROW = re.compile(rf"[ \t]*(?P<title>\S.*?)(?:{LEADERS.pattern}|[ \t]*\t[ \t]*){_PAGE}")
_ROW_OF_CHAPTER = re.compile(rf"[ \t]*\d+(?:\.\d+)*[.)]?[ \t]+\S.*[ \t]{_PAGE}")
_ITEM = re.compile(r"[ \t]*(?:[-*+\u2022]|\d+[.)])[ \t]+(?P<title>\S.*)")
_NUMBERING = re.compile(r"\A(?:\W*(?:\d+|[a-z]|[ivxlc]+)(?:\.\d+)*[.:)]*(?!\w))?\W*", re.IGNORECASE)
_SPACE, _BLANK_LINES = re.compile(r"\s+"), re.compile(r"\n{3,}")


def without_contents(text: str) -> tuple[str, int]:
    """Leave out the tables of contents of a text.

    Returns:
        The text, and the number of lines left out.
    """
    lines = text.split("\n")
    dropped = {*_with_pages(lines), *_lists(lines)}
    if not dropped:
        return text, 0
    kept = "\n".join(line for number, line in enumerate(lines) if number not in dropped)
    return _BLANK_LINES.sub("\n\n", kept).strip(), len(dropped)


def _with_pages(lines: Sequence[str]) -> set[int]:
    """Return the lines of tables with page numbers."""
    rows = {number: row for number, line in enumerate(lines) if _can_be_row(line) and (row := _ROW.fullmatch(line))}
    if len(rows) < MIN_ROWS:
        return set()
    chapters = {number for number, line in enumerate(lines) if _can_be_row(line) and _ROW_OF_CHAPTER.fullmatch(line)}
    dropped: set[int] = set()
    for run in _runs(sorted(chapters | rows.keys()), lines, MAX_BETWEEN):
        found = [rows[number] for number in run if number in rows]
        if len(found) >= MIN_ROWS:
            pages = [int(row["page"]) for row in found if row["page"].isdigit()]
            falls = sum(after < before for before, after in pairwise(pages))
            titles = [row["title"] for row in found]
            if falls <= (1 - MIN_ORDERED) * len(found) and _share(titles, lines[run.stop :]) >= MIN_FOUND:
                dropped.update(number for number in run if lines[number].strip())
    return dropped


def _can_be_row(line: str) -> bool:
    return len(line) <= MAX_ROW and line[-1:] in _PAGE_ENDS


def _lists(lines: Sequence[str]) -> set[int]:
    """Return the lines of lists of the headings below them."""
    headings = [line if line.startswith("#") else "" for line in lines]
    items = {number: item for number, line in enumerate(lines) if (item := _ITEM.fullmatch(line))}
    if sum(map(bool, headings)) < MIN_ROWS or len(items) < MIN_ROWS:
        return set()
    dropped: set[int] = set()
    for run in _runs(sorted(items), lines, 0):
        titles = [items[number]["title"] for number in run if number in items]
        if len(titles) >= MIN_ROWS and _share(titles, headings[run.stop :]) >= MIN_LISTED:
            dropped.update(number for number in run if lines[number].strip())
    return dropped


def _runs(rows: Sequence[int], lines: Sequence[str], max_between: int) -> Iterable[range]:
    """Yield ranges of lines from one row to another with hardly anything but rows between them."""
    start = last = rows[0]
    for number in rows[1:]:
        between = [line for line in lines[last + 1 : number] if line.strip()]
        if len(between) > max_between or any(len(line) > MAX_ROW for line in between):
            yield range(start, last + 1)
            start = number
        last = number
    yield range(start, last + 1)


def _share(titles: Sequence[str], lines: Collection[str]) -> float:
    """Compute the share of titles that are lines."""
    names = {_name(line) for line in lines if line and len(line) <= MAX_ROW}
    return sum(_name(title) in names for title in titles) / len(titles)


def _name(line: str) -> str:
    """Return a title or heading without its number and spaces, which converters of PDF misplace."""
    return _SPACE.sub("", _NUMBERING.sub("", line.lstrip("# "), count=1)).casefold()
