"""Tables as HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def html_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Render rows with the same keys as an HTML table; columns without any value are left out."""
    columns = [key for key in dict.fromkeys(key for row in rows for key in row) if _any_value(rows, key)]
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(row.get(column)))}</td>" for column in columns) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _any_value(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    return any(row.get(key) not in (None, "") for row in rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:z.4g}" if isinstance(value, float) else str(value)
