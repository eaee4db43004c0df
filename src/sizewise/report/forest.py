"""The forest plot: every candidate and baseline with its interval, and the score that counts as good enough."""

from __future__ import annotations

from math import ceil, floor, log10
from typing import NamedTuple

from sizewise.metrics.display import is_percentage, measure_of
from sizewise.records import Score
from sizewise.report.rounding import fixed, rounded_score
from sizewise.report.standing import Relation, Standing

TICKS = 5
MAX_ROWS = 12
"""Candidates that are shown before the others are folded away."""
FULL = 100.0
"""Upper end of the scale of percentages and of metrics from 0 to 100."""


class Axis(NamedTuple):
    """The horizontal axis, in shown units."""

    lower: float
    upper: float
    ticks: tuple[tuple[float, str], ...]
    """Position in percent, and label."""

    def place(self, value: float) -> float:
        """Return the position of a value, in percent of the width."""
        share = (value - self.lower) / ((self.upper - self.lower) or 1.0)
        return round(100 * min(1.0, max(0.0, share)), 2)


class ForestRow(NamedTuple):
    """One candidate or baseline."""

    name: str
    point: float | None
    """Position of the value in percent; None without a value."""
    left: float
    right: float
    """Positions of the ends of the interval."""
    text: str
    """Value and interval, or why there is none."""
    relation: Relation
    """How it compares with the subject of the page."""
    baseline: bool
    note: str
    """Something the reader must know: it never answers, or was stopped early."""


class Forest(NamedTuple):
    """The whole plot."""

    title: str
    higher_is_better: bool
    axis: Axis
    rows: list[ForestRow]
    folded: list[ForestRow]
    """Candidates beyond the first dozen."""
    threshold: float | None
    """Position of the minimum score."""
    threshold_text: str


def forest_of(standing: Standing) -> Forest:
    """Lay out the forest plot of the quality metric."""
    metric = standing.quality
    scores = {name: standing.choice.score(metric, name) for name in standing.names}
    factor, unit = _scale(metric, scores)
    minimum = standing.choice.needs.min_quality
    axis = _axis([score for score in scores.values() if score is not None], factor, unit, minimum)
    rows = [_row(standing, name, scores[name], axis, factor) for name in standing.names]
    candidates = [row for row in rows if not row.baseline]
    shown = {row.name for row in candidates[:MAX_ROWS]} | {standing.subject}
    return Forest(
        title=measure_of(metric).title,
        higher_is_better=standing.choice.higher,
        axis=axis,
        rows=[row for row in rows if row.baseline or row.name in shown],
        folded=[row for row in candidates if row.name not in shown],
        threshold=None if minimum is None else axis.place(factor * minimum),
        threshold_text="" if minimum is None else standing.choice.minimum_text(),
    )


def _scale(metric: str, scores: dict[str, Score | None]) -> tuple[float, str]:
    shares = any(score is not None and is_percentage(metric, score.unit) for score in scores.values())
    return (100.0, "%") if shares else (1 / measure_of(metric).divisor, "")


def _row(standing: Standing, name: str, score: Score | None, axis: Axis, factor: float) -> ForestRow:
    baseline = standing.comparison.models[name].role == "baseline"
    note = "no answers" if standing.choice.silent(name) else ""
    if name in standing.view.study.stopped:
        note = "stopped early"
    if score is None or score.value is None:
        return ForestRow(name, None, 0, 0, "not measured", "not measured", baseline, note)
    lower = score.value if score.ci_low is None else score.ci_low
    upper = score.value if score.ci_high is None else score.ci_high
    return ForestRow(
        name=name,
        point=axis.place(factor * score.value),
        left=axis.place(factor * lower),
        right=axis.place(factor * upper),
        text=rounded_score(score),
        relation=standing.relation(standing.quality, name),
        baseline=baseline,
        note=note,
    )


def _axis(scores: list[Score], factor: float, unit: str, minimum: float | None) -> Axis:
    """Choose round ends around all intervals and the minimum score."""
    ends = [
        factor * end for score in scores for end in (score.value, score.ci_low, score.ci_high) if end is not None
    ] + ([factor * minimum] if minimum is not None else [])
    smallest, largest = min(ends, default=0.0), max(ends, default=1.0)
    step = round_step((largest - smallest) or abs(largest) or 1.0, TICKS)
    bounded = unit == "%" or any(score.unit == "0-100" for score in scores)
    lower, upper = step * floor(smallest / step), step * ceil(largest / step)
    if bounded:
        lower, upper = max(0.0, lower), min(FULL, upper)
    decimals = max(0, -floor(log10(step)))
    axis = Axis(lower, upper, ())
    count = round((upper - lower) / step)
    values = [lower + i * step for i in range(count + 1)]
    return axis._replace(ticks=tuple((axis.place(value), fixed(value, decimals) + unit) for value in values))


def round_step(width: float, parts: int) -> float:
    """Return a round step (1, 2 or 5 times a power of ten) that divides a width into about this many parts."""
    step = 10.0 ** floor(log10(width / parts))
    return next(step * factor for factor in (1, 2, 5, 10) if width / (step * factor) <= parts)
