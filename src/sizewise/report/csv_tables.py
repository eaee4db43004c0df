"""Tables as CSV in data URLs, so that a saved page needs no server and no script for them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from html.parser import HTMLParser
from urllib.parse import quote

from sizewise.controls import spreadsheet_cell
from sizewise.records import Comparison


class _Table(HTMLParser):
    """Reads the cells of a table; a cell's text is what its `data-csv` attribute says, else what it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._in_cell = False
        self._replaced = False
        self._skipped = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            replacement = known.get("data-csv")
            self.rows[-1].append(replacement or "")
            self._in_cell, self._replaced = True, replacement is not None
        elif tag == "br" and self._in_cell:
            self.handle_data(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell and not self._replaced:
            self.rows[-1][-1] += data if not self.rows[-1][-1] else f" {data}"


def table_link(table: str) -> str:
    """Return the CSV of a table's HTML as a data URL."""
    reader = _Table()
    reader.feed(table)
    return csv_link([[" ".join(cell.split()) for cell in row] for row in reader.rows])


def csv_link(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV in a data URL; cells that a spreadsheet would run get an apostrophe."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows([[spreadsheet_cell(cell) for cell in row] for row in rows])
    return "data:text/csv;charset=utf-8," + quote("\ufeff" + text.getvalue())


def scores_link(comparison: Comparison, metrics: Sequence[str]) -> str:
    """Return the CSV of all scores: one line a score, unrounded, with interval, n, unit and signature."""
    heading = ["candidate", "metric", "value", "ci_low", "ci_high", "n", "unit", "missing_reason", "signature"]
    rows = [
        [name, metric, score.value, score.ci_low, score.ci_high, score.n, score.unit, score.missing_reason or "",
         score.signature]
        for metric in metrics
        for key in (metric, f"{metric}@all")
        for name, score in comparison.scores.get(key, {}).items()
    ]  # fmt: skip
    return csv_link([heading, *rows])
