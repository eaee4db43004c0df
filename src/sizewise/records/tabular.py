"""Convert records to tables for notebooks and data frames, with one row per listed item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import singledispatch
from html import escape
from typing import Any

from sizewise.errors import SizewiseError
from sizewise.records.base import Record
from sizewise.records.decision import Recommendation, Study
from sizewise.records.judging import Agreement, JudgeReport, Ranking
from sizewise.records.scores import Comparison, Evaluation, History, RedteamReport, Score
from sizewise.records.text import Dataset
from sizewise.records.traffic import LoadTest
from sizewise.records.training import Checkpoint, LearningCurve, Tuning

Row = dict[str, Any]


@singledispatch
def rows_of(record: Record) -> list[Row]:
    """Return the table of a record: one row per listed item, all with the same keys.

    Raises:
        SizewiseError: the record has no table.
    """
    raise SizewiseError(
        f"A {type(record).__name__} record has no table.",
        "a record that lists scores, candidates, levels or steps",
        "record.model_dump() returns its fields",
    )


@rows_of.register
def _(record: Evaluation) -> list[Row]:
    return [_score(score) | {"score": name} for name, score in record.scores.items()]


@rows_of.register
def _(record: Comparison) -> list[Row]:
    return [
        {"candidate": candidate} | _score(score) | {"score": metric}
        for metric, scores in record.scores.items()
        for candidate, score in scores.items()
    ]


@rows_of.register
def _(record: Recommendation) -> list[Row]:
    costs = {line.name: line for line in record.costs}
    names = dict.fromkeys([*([record.pick] if record.pick else []), *record.rejected, *costs])
    return [
        {
            "candidate": name,
            "pick": name == record.pick,
            "probability_best": record.probability_best.get(name),
            "usd_per_1000": line.usd_per_1000.expected if (line := costs.get(name)) and line.usd_per_1000 else None,
            "rejected": record.rejected.get(name),
        }
        for name in names
    ]


@rows_of.register
def _(record: Study) -> list[Row]:
    return [
        {
            "candidate": one.name,
            "model": one.model,
            "pick": one.name == record.pick,
            "rejected": record.rejected.get(one.name),
            "checkpoint": record.checkpoints.get(one.name),
            "evaluation": record.evaluations.get(one.name),
        }
        for one in record.candidates
    ]


@rows_of.register
def _(record: Dataset) -> list[Row]:
    return [{"split": name} | size.model_dump() for name, size in record.splits.items()]


@rows_of.register
def _(record: LoadTest) -> list[Row]:
    return [
        {
            "concurrent_users": level.concurrent_users,
            "rate": level.rate,
            "requests": level.requests,
            "errors": sum(level.errors.values()),
        }
        | {name: score.value for name, score in level.scores.items()}
        for level in record.levels
    ]


@rows_of.register
def _(record: History) -> list[Row]:
    return [
        {"created": entry.created, "evaluation": entry.evaluation, "model": entry.model, "data": entry.data}
        | _score(score)
        for entry in record.entries
        for score in entry.scores.values()
    ]


@rows_of.register
def _(record: RedteamReport) -> list[Row]:
    return [
        {"model": model, "attack": attack} | _score(score)
        for model, scores in record.scores.items()
        for attack, score in scores.items()
    ]


@rows_of.register
def _(record: Ranking) -> list[Row]:
    return [{"rank": one.rank, "name": one.name} | _score(one.score) for one in record.table]


@rows_of.register
def _(record: JudgeReport) -> list[Row]:
    return [
        {"left": pair.left, "right": pair.right, "votes": pair.votes, "better": pair.better} | _score(pair.win_rate)
        for pair in record.pairs
    ]


@rows_of.register
def _(record: Agreement) -> list[Row]:
    return [_score(score) | {"score": name} for name, score in record.scores.items()]


@rows_of.register
def _(record: Checkpoint) -> list[Row]:
    return [point.model_dump() for point in record.curve]


@rows_of.register
def _(record: Tuning) -> list[Row]:
    return [trial.settings | {"bits_per_byte": trial.bits_per_byte, "pruned": trial.pruned} for trial in record.trials]


@rows_of.register
def _(record: LearningCurve) -> list[Row]:
    return [step.model_dump() for step in record.steps]


def html_of(record: Record) -> str:
    """Render a record for a notebook: its summary and its table, or its fields if it has no table."""
    try:
        rows = rows_of(record)
    except SizewiseError:
        rows = [{"field": name, "value": value} for name, value in record.model_dump().items()]
    summary = getattr(record, "summary", "")
    lead = f"<p><b>{escape(summary)}</b></p>" if summary else ""
    if not rows:
        return lead or f"<p>{escape(type(record).__name__)}: no rows</p>"
    return lead + html_table(rows)


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
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _score(score: Score) -> Row:
    return score.model_dump(include={"metric", "value", "ci_low", "ci_high", "n", "unit", "missing_reason"})
