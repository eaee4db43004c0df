"""The chart of repeated measurements."""

from __future__ import annotations

from sizewise.cli.drift_chart import WIDTH, drift_charts
from sizewise.records import Difference, History, HistoryEntry, Score


def entry(day: int, value: float | None, model: str = "m") -> HistoryEntry:
    ends = {} if value is None else {"value": value, "ci_low": value - 0.1, "ci_high": value + 0.1}
    reason = "none" if value is None else None
    score = Score(metric="f1", n=9, unit="share", signature="", missing_reason=reason, **ends)
    when = f"2026-01-{day:02}T00:00:00+00:00"
    return HistoryEntry(created=when, evaluation=f"e{day}", model=model, data="d", scores={"f1": score})


def test_each_run_is_a_line_with_its_interval() -> None:
    change = Difference(
        metric="f1", left="e2", right="e1", value=-0.5, ci_low=-0.7, ci_high=-0.3, p=0.01, n=9, clusters=9,
        unit="share", better="e1",
    )  # fmt: skip
    entries = (entry(1, 0.9), entry(2, 0.4), entry(3, None), entry(4, 0.5, "other"))
    ((title, lines),) = drift_charts(History(name="m", entries=entries, changes=(change,)), "f1")
    assert title == "m on d"
    first, second, scale = lines
    assert first.startswith("2026-01-01 00:00  |")
    assert first.index("o") > second.index("o")
    assert second.endswith("0.4  worse")
    assert len(first.split("|")[1]) == len(second.split("|")[1]) == WIDTH
    assert scale.split() == ["0.3", "1"]
    assert first.split("|")[1].rstrip().endswith("-")


def test_equal_values_are_drawn_in_the_middle() -> None:
    exact = [entry(day, 0.5) for day in (1, 2)]
    flat = Score(metric="f1", value=0.5, n=9, unit="share", signature="")
    entries = tuple(one.model_copy(update={"scores": {"f1": flat}}) for one in exact)
    ((_, lines),) = drift_charts(History(name="m", entries=entries, changes=()), "f1")
    assert lines[0].split("|")[1].index("o") == WIDTH // 2
