"""Leave out tables of contents: runs of lines whose titles are headings further down, mostly with page numbers.

A table of contents matches every question about the document and answers none.
"""

from __future__ import annotations

import re
from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

CONTENTS = "lines of tables of contents left out"
MIN_ROWS, MIN_UNTITLED, MIN_DOTS = 5, 20, 4
"""Rows of a table at least, those of a list without a title, and dots before a page number; four, because three end a
sentence."""
MAX_BETWEEN, MAX_ROW, MAX_APART = 2, 200, 15
"""Lines without a page number within a table, such as the first half of a long title; length of a row; lines between a
table and its title, or the table that it continues."""
MAX_TITLE = 60
MIN_ORDERED, MIN_FOUND, MIN_LISTED = 0.8, 0.5, 0.8
"""Share of the page numbers that don't fall, of their titles that are lines further down, and of the items of a list
without page numbers that are headings further down."""
DOTS = frozenset(".\u00b7\u2022\u2024\u2025\u2026_")
TITLES = frozenset({
    "contents", "tableofcontents", "contentsoverview", "inhalt", "inhaltsverzeichnis", "sommaire",
    "tabledesmati\u00e8res", "contenu", "\u00edndice", "indice", "contenido", "tabladecontenido",
    "tabladecontenidos", "sum\u00e1rio", "sommario", "inhoud", "inhoudsopgave", "inneh\u00e5ll",
    "inneh\u00e5llsf\u00f6rteckning", "innhold", "innholdsfortegnelse", "indhold", "indholdsfortegnelse",
    "sis\u00e4llys", "sis\u00e4llysluettelo", "obsah", "spistre\u015bci", "tartalom", "tartalomjegyz\u00e9k",
    "cuprins", "i\u00e7indekiler", "daftarisi", "m\u1ee5cl\u1ee5c",
    "\u03c0\u03b5\u03c1\u03b9\u03b5\u03c7\u03cc\u03bc\u03b5\u03bd\u03b1",
    "\u0441\u043e\u0434\u0435\u0440\u0436\u0430\u043d\u0438\u0435",
    "\u043e\u0433\u043b\u0430\u0432\u043b\u0435\u043d\u0438\u0435", "\u0437\u043c\u0456\u0441\u0442",
    "\u76ee\u5f55", "\u76ee\u9304", "\u76ee\u6b21", "\ucc28\ub840", "\ubaa9\ucc28",
    "\u0627\u0644\u0645\u062d\u062a\u0648\u064a\u0627\u062a", "\u0641\u0647\u0631\u0633",
    "\u0627\u0644\u0641\u0647\u0631\u0633", "\u05ea\u05d5\u05db\u05df\u05e2\u05e0\u05d9\u05d9\u05e0\u05d9\u05dd",
    "\u0935\u093f\u0937\u092f\u0938\u0942\u091a\u0940", "\u0e2a\u0e32\u0e23\u0e1a\u0e31\u0e0d"
})  # fmt: skip
"""What stands above a table of contents, without spaces. Without it, a price list or the lines of a balance sheet would
look like one."""
_PAGE = re.compile(r"(?:\d{1,4}|[ivxlc]{1,7}|[IVXLC]{1,7})\Z")
_CHAPTER = re.compile(r"[ \t]*\d+(?:\.\d+)*[.)]?[ \t]+\S")
_ITEM = re.compile(r"[ \t]*(?:[-*+\u2022]|\d+[.)])[ \t]+(?P<title>\S.*)")
_NUMBERING = re.compile(r"\A(?:\W*(?:\d+|[a-z]|[ivxlc]+)(?:\.\d+)*[.:)]*(?!\w))?\W*", re.IGNORECASE)
_SPACE, _BLANK_LINES = re.compile(r"\s+"), re.compile(r"\n{3,}")


class Row(NamedTuple):
    """A line of a table of contents."""

    title: str
    number: str
    """Number of its page."""
    has_dots: bool
    """Whether dots or a tab stand before the page number."""

    @property
    def page(self) -> int:
        """The number; 0 for a Roman one."""
        return int(self.number) if self.number.isdigit() else 0


def row_of(line: str) -> Row | None:
    """Return the title and page number of a line; None if it has none."""
    line = line.rstrip()
    found = _PAGE.search(line) if len(line) <= MAX_ROW else None
    if found is None:
        return None
    before = line[: found.start()]
    end = len(before)
    dots = tabs = 0
    while end and (before[end - 1] in DOTS or before[end - 1] in " \t"):
        end -= 1
        dots += before[end] in DOTS
        tabs += before[end] == "\t"
    title = before[:end].strip()
    if not title or end == len(before):
        return None
    has_dots = dots >= MIN_DOTS or (tabs > 0 and not dots)
    return Row(title, found[0], has_dots) if has_dots or _CHAPTER.match(before) else None


def without_contents(text: str) -> tuple[str, int]:
    """Leave out the tables of contents of a text.

    Returns:
        The text, and the number of lines left out.
    """
    lines = text.split("\n")
    rows = {number: row for number, line in enumerate(lines) if (row := row_of(line))}
    items = {number: item["title"] for number, line in enumerate(lines) if (item := _ITEM.fullmatch(line))}
    if max(sum(row.has_dots for row in rows.values()), len(items)) < MIN_ROWS:
        return text, 0
    titles = [number for number, line in enumerate(lines) if _is_title(line)]
    if not titles and len(items) < MIN_UNTITLED:
        return text, 0
    short = [line if len(line) <= MAX_ROW else "" for line in lines]
    last = {_name(f"{line} {below}"): number for number, (line, below) in enumerate(pairwise(short))}
    last |= {_name(line): number for number, line in enumerate(short)}
    headings = {_name(line): number for number, line in enumerate(lines) if line.startswith("#")}
    dropped = {*_with_pages(lines, rows, last, titles), *_lists(lines, items, headings, titles)}
    if not dropped:
        return text, 0
    kept = "\n".join(line for number, line in enumerate(lines) if number not in dropped)
    return _BLANK_LINES.sub("\n\n", kept).strip(), len(dropped)


def _is_title(line: str) -> bool:
    return len(line) <= MAX_TITLE and _SPACE.sub("", line.strip("#*_: ")).casefold() in TITLES


def _with_pages(
    lines: Sequence[str], rows: Mapping[int, Row], last: Mapping[str, int], titles: Sequence[int]
) -> set[int]:
    """Return the lines of tables with page numbers.

    Args:
        lines: the lines of the text.
        rows: line number -> row.
        last: name of a line -> the last line that has it.
        titles: line numbers of the titles of tables.
    """
    dropped: set[int] = set()
    ends = list(titles)  # in order, so that a table that ends is put where it belongs
    for run in _runs(sorted(rows), lines, MAX_BETWEEN):
        dotted = [number for number in run if number in rows and rows[number].has_dots]
        found = {number for number in run if number in rows and last.get(_name(rows[number].title), 0) >= run.stop}
        pages = [page for number in dotted if (page := rows[number].page)]
        falls = sum(after < before for before, after in pairwise(pages))
        if (
            len(dotted) >= MIN_ROWS
            and _follows(run, ends, lines)
            and falls <= (1 - MIN_ORDERED) * len(dotted)
            and len(found.intersection(dotted)) >= MIN_FOUND * len(dotted)
        ):
            highest = max((rows[number].page for number in found), default=0)
            others = [number for number in dotted if number < max(found) and rows[number].page <= highest]
            dropped.update(found, others, _first_halves(run, lines, rows, last))
            insort(ends, run.stop)
    return dropped


def _first_halves(run: range, lines: Sequence[str], rows: Mapping[int, Row], last: Mapping[str, int]) -> Iterator[int]:
    """Yield the lines that begin a title whose last line has the page number."""
    pending: list[int] = []
    for number in run:
        if number in rows:
            title = " ".join([*(lines[one] for one in pending), rows[number].title])
            if pending and last.get(_name(title), 0) >= run.stop:
                yield from pending
            pending = []
        elif lines[number].strip():
            pending.append(number)


def _lists(
    lines: Sequence[str], items: Mapping[int, str], headings: Mapping[str, int], titles: Sequence[int]
) -> set[int]:
    """Return the items of lists of the headings below them."""
    dropped: set[int] = set()
    for run in _runs(sorted(items), lines, 0):
        listed = [number for number in run if number in items]
        found = [number for number in listed if headings.get(_name(items[number]), 0) >= run.stop]
        has_title = _follows(run, titles, lines)
        least = MIN_LISTED if has_title else 1.0
        if len(listed) >= (MIN_ROWS if has_title else MIN_UNTITLED) and len(found) >= least * len(listed):
            dropped.update(found)
    return dropped


def _follows(run: range, ends: Sequence[int], lines: Sequence[str]) -> bool:
    """Check that a run stands below a title, or goes on where a table ended."""
    place = bisect_right(ends, run.start)
    if not place:
        return False
    end = ends[place - 1]
    return sum(bool(line.strip()) for line in lines[end : run.start][: 4 * MAX_APART]) <= MAX_APART


def _runs(rows: Sequence[int], lines: Sequence[str], max_between: int) -> Iterator[range]:
    """Yield ranges of lines from one row to another with hardly anything but rows between them."""
    for number, row in enumerate(rows):
        if not number:
            start = last = row
            continue
        between = [line for line in lines[last + 1 : row][: 4 * MAX_APART] if line.strip()]
        if row - last > 4 * MAX_APART or len(between) > max_between or any(len(line) > MAX_ROW for line in between):
            yield range(start, last + 1)
            start = row
        last = row
    if rows:
        yield range(start, last + 1)


def _name(line: str) -> str:
    """Return a title or heading without its number and spaces, which converters of PDF misplace."""
    return _SPACE.sub("", _NUMBERING.sub("", line.lstrip("# "), count=1)).casefold()
