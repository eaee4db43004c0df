"""The table of candidates that `study`, `compare` and `choose` print."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sizewise.records import Comparison, CostLine, Range

NONE = "-"
LEADING_SCORES = ("accuracy", "json_f1", "field_f1", "bleu", "chrf", "exact_match", "choice_accuracy", "bits_per_byte")
"""Metrics that can represent an evaluation in a single column; the first one measured is shown."""


class Table(NamedTuple):
    """A table as text."""

    headings: list[str]
    rows: list[list[str]]


def candidates_table(
    comparison: Comparison, quality: str | None, costs: Sequence[CostLine] = (), *, wide: bool = False
) -> Table:
    """Compute the table of candidates, baselines last.

    Args:
        comparison: evaluations side by side.
        quality: metric of the second column, if any.
        costs: cost of each candidate; without them the list price of paid models.
        wide: show every metric instead of quality, latency, memory and cost.
    """
    from sizewise.report import table_rows
    from sizewise.report.words import shown_metrics

    cells = {row.name: row.cells for row in table_rows(comparison)}
    table = Table(["candidate"], [[name] for name in cells])
    for metric in shown_metrics(comparison) if wide else ([quality] if quality else []):
        texts = [row[metric].text if metric in row and not row[metric].empty else NONE for row in cells.values()]
        _add(table, _heading(metric), texts)
    if not wide:
        _add(table, *_latency(comparison, list(cells)))
        _add(table, "memory (GB)", [_value(comparison, "memory_bytes", name) for name in cells])
    by_name = {line.name: line.usd_per_1000 for line in costs}
    if not wide or costs:
        _add(
            table,
            "USD/1,000",
            [
                range_text(by_name[name]) if name in by_name else _value(comparison, "usd_per_1000", name)
                for name in cells
            ],
        )
    return table


def default_quality(comparison: Comparison) -> str | None:
    """Return the quality metric to show if the needs name none; None if no suitable one was measured."""
    from sizewise.choice import decide, quality_measures
    from sizewise.errors import SizewiseError
    from sizewise.records import Needs

    try:
        return decide(comparison, "", Needs()).quality
    except SizewiseError:
        return next(iter(quality_measures(comparison)), None)


def range_text(found: Range | None) -> str:
    """Format an estimate with its bounds."""
    if found is None:
        return NONE
    between = f" [{found.lower:.3g}, {found.upper:.3g}]" if found.lower != found.upper else ""
    return f"{found.expected:.3g}{between}"


def _add(table: Table, heading: str, texts: Sequence[str]) -> None:
    table.headings.append(heading)
    for row, text in zip(table.rows, texts, strict=True):
        row.append(text)


def _heading(metric: str) -> str:
    from sizewise.report.words import measure_of

    measure = measure_of(metric)
    return measure.title + (f" ({measure.unit})" if measure.unit else "")


def _value(comparison: Comparison, metric: str, name: str) -> str:
    from sizewise.report.words import value_text

    score = comparison.scores.get(metric, {}).get(name)
    return NONE if score is None or score.value is None else value_text(score)


def _latency(comparison: Comparison, names: list[str]) -> tuple[str, list[str]]:
    """Return heading and values: p95 at the highest common load if measured, else the median for a single user."""
    from sizewise.report.words import value_text

    counts = [
        {level.concurrent_users for level in levels if level.concurrent_users}
        for levels in comparison.load_levels.values()
    ]
    common = set.intersection(*counts) if counts else set()
    if not common:
        return "p50 latency (s)", [_value(comparison, "latency_s", name) for name in names]
    most_users = max(common)
    texts = []
    for name in names:
        found = [
            level.scores["p95_latency_s"]
            for level in comparison.load_levels.get(name, ())
            if level.concurrent_users == most_users
        ]
        texts.append(value_text(found[0]) if found and found[0].value is not None else NONE)
    return f"p95 latency (s), {most_users} users", texts
