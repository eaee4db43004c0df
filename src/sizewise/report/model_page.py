"""Models side by side: the text of a cell, the table as CSV, and the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.controls import escape_all
from sizewise.metrics.display import difference_text, number
from sizewise.records import ModelCell, ModelRow, SideBySide
from sizewise.report.csv_tables import csv_link
from sizewise.report.environment import make_environment, read_template
from sizewise.report.rounding import rounded_score, size_text
from sizewise.store import write_atomically

CSV_HEADINGS = ("group", "point", "model", "kind", "value", "ci_low", "ci_high", "n", "unit", "source", "as_of", "note")
SENTENCE = "The patient was told to take the tablets twice a day, after meals, until she feels better."
"""What the page shows until the reader types a sentence."""


class Group(NamedTuple):
    """Points under one heading."""

    name: str
    slug: str
    rows: tuple[ModelRow, ...]


def cell_text(cell: ModelCell) -> str:
    """Format a cell without its source: a value with interval and n, a fact, or `unknown`."""
    if cell.score is None:
        if cell.kind != "unknown":
            return cell.text
        return cell.text if cell.text.startswith("unknown") else f"unknown ({cell.text})"
    where = f"; {cell.text}" if cell.text else ""
    return f"{rounded_score(cell.score)} (n = {cell.score.n:,}{where})"


def groups_of(record: SideBySide) -> list[Group]:
    """Group the points by their headings, in their order."""
    names = dict.fromkeys(row.group for row in record.points)
    return [
        Group(name, name.lower().replace(" ", "-"), tuple(row for row in record.points if row.group == name))
        for name in names
    ]


def csv_rows(record: SideBySide) -> list[list[str]]:
    """List every cell as a row of CSV, values unrounded."""
    found = []
    for row in record.points:
        for column, cell in zip(record.models, row.cells, strict=True):
            score = cell.score
            values: list[Any] = [cell.text, "", "", "", ""]
            if score is not None:
                values = [score.value, score.ci_low, score.ci_high, score.n, score.unit]
            note = "; ".join(filter(None, (cell.text if score is not None else "", row.note)))
            cells = [row.group, row.title, column.name, cell.kind, *values, cell.source, cell.as_of, note]
            found.append(["" if value is None else str(value) for value in cells])
    return found


def write_model_page(record: SideBySide, path: Path, sentence: str = "", tokens: Sequence[str] = ()) -> Path:
    """Write the page of models side by side, with the explanation of attention; it needs no other file.

    Args:
        record: the models.
        path: file to write.
        sentence: sentence that explains attention; by default one about a prescription.
        tokens: the same sentence as the tokenizer of one of the models splits it, if there is one.
    """
    data = {
        "caches": [shape.model_dump() for shape in record.caches],
        "tokens": list(tokens),
        "sentence": "".join(tokens) or sentence or SENTENCE,
    }
    content = {
        "record": record,
        "groups": groups_of(record),
        "title": " and ".join(model.name for model in record.models),
        "cell": cell_text,
        "csv": csv_link([CSV_HEADINGS, *csv_rows(record)]),
        "number": number,
        "size_text": size_text,
        "difference": difference_text,
        "css": read_template("page.css") + read_template("report.css") + read_template("models.css"),
        "script": read_template("attention.js"),
        "data": json.dumps(escape_all(data), ensure_ascii=False).replace("<", "\\u003c"),
        "sentence": data["sentence"],
    }
    environment = make_environment([model.name for model in record.models])
    write_atomically(path, environment.get_template("models.html.jinja").render(**content))
    return path
