"""A chart of repeated measurements over time for the terminal: one line a run, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sizewise.records import History, HistoryEntry, Score

WIDTH = 40
MARK, BAR, SPAN = "o", "-", " "


def drift_charts(found: History, metric: str) -> list[tuple[str, list[str]]]:
    """Draw the runs of each model on the same data, if there are several.

    Args:
        found: the history.
        metric: metric to draw.

    Returns:
        (model and data, lines) for each.
    """
    series: dict[tuple[str, str], list[HistoryEntry]] = {}
    for entry in found.entries:
        score = entry.scores.get(metric)
        if score is not None and score.value is not None:
            series.setdefault((entry.model, entry.data), []).append(entry)
    moved = {one.left: one.better for one in found.changes if one.metric == metric}
    return [
        (f"{model} on {data}", _lines(entries, metric, moved))
        for (model, data), entries in series.items()
        if len(entries) > 1
    ]


def _lines(entries: Sequence[HistoryEntry], metric: str, moved: dict[str, str | None]) -> list[str]:
    scores = [entry.scores[metric] for entry in entries]
    ends = [end for score in scores for end in _ends(score)]
    first_end, last_end = min(ends), max(ends)
    lines = []
    for entry, score in zip(entries, scores, strict=True):
        better = moved.get(entry.evaluation)
        sign = "" if better is None else "  better" if better == entry.evaluation else "  worse"
        lines.append(
            f"{entry.created[:16].replace('T', ' ')}  |{_bar(score, first_end, last_end)}|  {score.value:.4g}{sign}"
        )
    return [*lines, f"{'':16}   {f'{first_end:.4g}':<{WIDTH // 2}}{f'{last_end:.4g}':>{WIDTH // 2}}"]


def _ends(score: Score) -> tuple[float, float, float]:
    value = score.value or 0.0
    return value, value if score.ci_low is None else score.ci_low, value if score.ci_high is None else score.ci_high


def _bar(score: Score, first_end: float, last_end: float) -> str:
    """Draw an interval with its value on a scale."""
    value, first, last = (_place(end, first_end, last_end) for end in _ends(score))
    cells = [BAR if first <= i <= last else SPAN for i in range(WIDTH)]
    cells[value] = MARK
    return "".join(cells)


def _place(value: float, first_end: float, last_end: float) -> int:
    return round((WIDTH - 1) * (value - first_end) / (last_end - first_end)) if last_end > first_end else WIDTH // 2
