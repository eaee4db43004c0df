"""Prepare HTML for Markdown: superscripts, readings of characters, and cells that span rows keep their meaning."""

from __future__ import annotations

import copy
import re
from typing import Any

MAX_SPAN, MAX_ADDED = 200, 20_000
_LIKE_HEADING = re.compile(r"\s*#{1,6}\s")
_WITHIN = re.compile(r"\A#")
_POWER = re.compile(r"[-+\u2212]?[\dn]{1,6}")
_BASE = re.compile(r"(?:[\d)\]]|(?<![^\W\d_])[^\W\d_]{1,3})\Z")
"""What a power follows: a number, a bracket, a variable or a unit. After a longer word, the number is a footnote."""


def keep_marks(soup: Any) -> None:
    """Write what only HTML can show as text: 10^6, readings in parentheses, and the value of each spanned cell.

    Links within a document become their text, because their addresses say nothing; one to a footnote is its number in
    brackets.
    """
    for mark in soup.find_all("sup"):
        text = mark.get_text(strip=True)
        if mark.find("a") is None and _POWER.fullmatch(text):
            before = str(mark.previous_sibling or "") if not getattr(mark.previous_sibling, "name", None) else ""
            before = before or (mark.previous_sibling.get_text() if mark.previous_sibling is not None else "")
            mark.replace_with(f"^{text}" if _BASE.search(before) else f"[{text}]")
    _escape_prompts(soup)
    _unwrap_links(soup)
    for reading in soup.find_all("rt"):
        text = reading.get_text(strip=True)
        reading.replace_with(f"({text})" if text else "")
    for parenthesis in soup.find_all("rp"):
        parenthesis.extract()
    added = 0
    for table in soup.find_all("table"):
        if table.find("table") is None and added < MAX_ADDED:
            added += _fill_spans(table)
    for cell in soup.find_all(["td", "th"]):
        for text in cell.find_all(string=re.compile(r"\|")):
            text.replace_with(text.replace("|", "\\|"))


def _escape_prompts(soup: Any) -> None:
    """Escape the `#` of a command after a prompt, or of a comment, which would be a heading."""
    for paragraph in soup.find_all(["p", "li"]):
        first: Any = next(iter(paragraph.children), None)
        is_text = first is not None and first.name is None
        if is_text and _LIKE_HEADING.match(str(first)) and paragraph.find_parent("pre") is None:
            first.replace_with(f"\\{str(first).lstrip()}")


def _unwrap_links(soup: Any) -> None:
    """Replace links within the document by their text, and those to footnotes by numbers in brackets."""
    for link in soup.find_all("a", href=_WITHIN):
        text = link.get_text(strip=True)
        if text.isdigit():
            link.replace_with(f"[{text}]")
        else:
            if getattr(link.next_sibling, "name", None) == "a":
                link.insert_after(" ")
            link.unwrap()


def _fill_spans(table: Any) -> int:
    """Repeat a cell that spans rows in each of them; return the number of cells added."""
    held: dict[int, tuple[int, Any]] = {}  # column -> (rows left, cell)
    added = 0
    for row in table.find_all("tr"):
        column, cells = 0, row.find_all(["td", "th"], recursive=False)
        last = None
        while cells or column in held:
            if column in held:
                left, origin = held.pop(column)
                repeated = copy.copy(origin)
                repeated["rowspan"] = "1"
                if last is None:
                    row.insert(0, repeated)
                else:
                    last.insert_after(repeated)
                last, added = repeated, added + 1
                if left > 1:
                    held[column] = left - 1, origin
                column += _span(origin, "colspan")
                continue
            last = cells.pop(0)
            rows = _span(last, "rowspan")
            if rows > 1:
                held[column] = rows - 1, last
            column += _span(last, "colspan")
        if added > MAX_ADDED:
            break
    return added


def _span(cell: Any, name: str) -> int:
    value = str(cell.get(name) or "1").strip()
    return min(MAX_SPAN, max(1, int(value))) if value.isdecimal() else 1
