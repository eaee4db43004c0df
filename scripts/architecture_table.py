"""Write the tables of docs/results/architectures.md from benchmarks/results/architectures.json.

python scripts/architecture_table.py     update the tables
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "architectures.json"
PAGE = ROOT / "docs" / "results" / "architectures.md"
Row = dict[str, Any]
VERDICTS = {
    "trains": "evaluates, answers and trains",
    "serves": "evaluates and answers",
    "refused": "refused, with the reason",
    "crashes": "ends in an error that doesn't explain itself",
    "wrong": "other numbers than transformers",
    "not built": "no tiny network could be built",
}
END = "<!-- end of table -->"


def begin(name: str) -> str:
    """Return the marker before a table."""
    return f"<!-- table {name}: written by scripts/architecture_table.py -->"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def counts(found: Row) -> str:
    """Write the table of verdicts."""
    tasks = ("text", "image", "any")
    rows = [
        [text, *(str(sum(r["verdict"] == verdict and r["task"] == task for r in found["rows"])) for task in tasks)]
        for verdict, text in VERDICTS.items()
    ]
    return table(["", "text", "text and images", "speech and other input"], rows)


def ways(row: Row) -> str:
    """Describe how a network is run where that isn't the fastest way."""
    found = row.get("ways") or {}
    parts = [
        "own forward pass" if found.get("logits") == "model" else "",
        "one text at a time" if found.get("padded") is False else "",
        {"single": "answers one by one", "uncached": "answers one by one, no cache"}.get(found.get("answers", ""), ""),
        "trains one text at a time" if found.get("rows") == "separate" and row["verdict"] == "trains" else "",
    ]
    return ", ".join(part for part in parts if part)


def supported(found: Row) -> str:
    """Write the table of architectures that evaluate and answer."""
    rows = [
        [f"`{row['kind']}`", row["opened as"], "yes" if row["verdict"] == "trains" else "no", ways(row)]
        for row in found["rows"]
        if row["verdict"] in ("trains", "serves")
    ]
    return table(["Architecture", "Opened as", "Trains", "Slower than others"], rows)


def others(found: Row) -> str:
    """Write the table of all other architectures."""
    rows = [
        [
            f"`{row['kind']}`",
            VERDICTS[row["verdict"]],
            row.get("reason", "").replace("|", "/").replace("<", "&lt;")[:160],
        ]
        for row in found["rows"]
        if row["verdict"] not in ("trains", "serves")
    ]
    return table(["Architecture", "Result", "Reason"], rows)


def page(text: str, found: Row) -> str:
    """Return the page with its tables written again."""
    for name, write in (("counts", counts), ("supported", supported), ("others", others)):
        before, rest = text.split(begin(name))
        text = f"{before}{begin(name)}\n{write(found)}\n{END}{rest.split(END, 1)[1]}"
    return text


if __name__ == "__main__":
    PAGE.write_text(
        page(PAGE.read_text(encoding="utf-8"), json.loads(RESULT.read_text(encoding="utf-8"))), encoding="utf-8"
    )
