"""Plots of decisions: reliability diagram, accuracy over coverage, curves, and the ladder of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sizewise.metrics.display import listed
from sizewise.records import Comparison, CostLine, DecisionAnalysis
from sizewise.report.drawing import COLORS, Plot, draw, load_altair, quality_axis
from sizewise.report.words import measure_of

WIDTH, HEIGHT = 300, 230


def reliability_plot(found: DecisionAnalysis) -> Plot | None:
    """Plot accuracy over confidence; None without bins."""
    rows = [one.model_dump(include={"confidence", "accuracy", "ci_low", "ci_high", "n"}) for one in found.reliability]
    if not rows:
        return None
    alt = load_altair()
    smallest = min(min(row["confidence"], row["accuracy"], row["ci_low"] or 1.0) for row in rows)
    scale = alt.Scale(domain=[max(0.0, smallest - 0.02), 1.0])
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("confidence:Q", title="Confidence", scale=scale, axis=alt.Axis(format="%"))
    )
    line = alt.Chart(alt.Data(values=[{"x": 0, "y": 0}, {"x": 1, "y": 1}])).mark_line(
        strokeDash=[4, 4], color="#888", clip=True
    )
    chart = alt.layer(
        line.encode(x=alt.X("x:Q", scale=scale), y=alt.Y("y:Q", scale=scale)),
        base.mark_rule(strokeWidth=2, color=COLORS[0]).encode(
            y=alt.Y("ci_low:Q", title="Accuracy", scale=scale, axis=alt.Axis(format="%")), y2="ci_high:Q"
        ),
        base.mark_point(filled=True, size=70, opacity=1, color=COLORS[0]).encode(y="accuracy:Q"),
    ).properties(width=WIDTH, height=HEIGHT)
    return draw(
        "Reliability diagram",
        f"Accuracy of decisions of about the same confidence, {len(rows)} bins of equal size, with 95% confidence "
        "intervals. On the dashed line, confidence is exactly right; below it, the model is overconfident.",
        chart,
    )


def coverage_plot(found: DecisionAnalysis) -> Plot | None:
    """Plot the accuracy of the most confident decisions over their share; None with fewer than two points."""
    rows = [one.model_dump(exclude={"threshold"}) for one in found.coverage]
    if len(rows) < 2:
        return None
    alt = load_altair()
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("coverage:Q", title="Share of cases decided", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False))
    )
    y = alt.Y("accuracy:Q", title="Accuracy", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False))
    chart = alt.layer(
        base.mark_area(opacity=0.2, color=COLORS[0]).encode(
            y=alt.Y("ci_low:Q", scale=alt.Scale(zero=False)), y2="ci_high:Q"
        ),
        base.mark_line(strokeWidth=2, color=COLORS[0], interpolate="step-before").encode(y=y),
    ).properties(width=WIDTH, height=HEIGHT)
    return draw(
        "Accuracy over coverage",
        "If only the most confident cases are decided and the rest handed over. The band holds 95% confidence "
        "intervals, each for its point alone.",
        chart,
    )


def curve_plots(found: DecisionAnalysis) -> list[Plot]:
    """Plot the ROC and precision-recall curves."""
    plots = []
    titles = {
        "roc": ("ROC curve", "False-positive rate", "True-positive rate", "Area {}; 50% is chance."),
        "precision_recall": ("Precision and recall", "Recall", "Precision", "Area (average precision) {}."),
    }
    for kind, (title, x_title, y_title, caption) in titles.items():
        curves = [one for one in found.curves if one.kind == kind]
        rows = [
            {"label": one.label, "place": place, "x": x, "y": y}
            for one in curves
            for place, (x, y) in enumerate(zip(one.x, one.y, strict=True))
        ]
        if not rows:
            continue
        alt = load_altair()
        names = [one.label for one in curves]
        chart = (
            alt.Chart(alt.Data(values=rows))
            .mark_line(strokeWidth=2)
            .encode(
                x=alt.X("x:Q", title=x_title, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
                y=alt.Y("y:Q", title=y_title, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
                order="place:Q",
                color=alt.Color(
                    "label:N",
                    scale=alt.Scale(domain=names, range=COLORS),
                    legend=alt.Legend(orient="top", title=None) if len(names) > 1 else None,
                ),
            )
            .properties(width=WIDTH, height=HEIGHT)
        )
        areas = "; ".join(f"{one.label}: {_area(one.area)}" for one in curves)
        plots.append(draw(title, caption.format(areas), chart))
    return plots


def _area(score: Any) -> str:
    from sizewise.report.words import value_text

    return str(value_text(score))


def ladder_plot(comparison: Comparison, quality: str, costs: Sequence[CostLine]) -> Plot | None:
    """Plot quality against cost and latency in one picture, with intervals; None with fewer than two candidates."""
    cost_of = {line.name: line.usd_per_1000 for line in costs}
    rows = []
    for name, score in comparison.scores.get(quality, {}).items():
        if score.value is None:
            continue
        ends = score.ci_low if score.ci_low is not None else score.value, score.ci_high or score.value
        row: dict[str, Any] = {"candidate": name, "y": score.value, "y_low": ends[0], "y_high": ends[1]}
        latency, cost = comparison.scores.get("latency_s", {}).get(name), cost_of.get(name)
        if latency is not None and latency.value:
            milliseconds = [1_000 * (end or latency.value) for end in (latency.value, latency.ci_low, latency.ci_high)]
            row |= dict(zip(("ms", "ms_low", "ms_high"), milliseconds, strict=True))
        if cost is not None and cost.expected > 0:
            row |= {"usd": cost.expected, "usd_low": cost.lower or cost.expected, "usd_high": cost.upper}
        rows.append(row)
    panels = [(key, title) for key, title in _PANELS.items() if sum(key in row for row in rows) >= 2]
    if not panels:
        return None
    alt = load_altair()
    drawn = {row["candidate"] for row in rows if any(key in row for key, _ in panels)}
    colors = {name: COLORS[i % len(COLORS)] for i, name in enumerate(comparison.scores[quality]) if name in drawn}
    charts = [
        _panel(alt, comparison, quality, [row for row in rows if key in row], (key, title), colors)
        for key, title in panels
    ]
    left_out = [row["candidate"] for row in rows if row["candidate"] not in drawn]
    undrawn = f" Without a cost or a latency, and so not drawn: {listed(left_out)}." if left_out else ""
    return draw(
        f"{measure_of(quality).title} against cost and latency",
        f"Every candidate and baseline with a cost or a latency.{undrawn} Vertical bars are 95% confidence intervals "
        "of quality; horizontal ones are the range of the cost, and the interval of the median latency for a single "
        "user. Horizontal axes are logarithmic.",
        alt.hconcat(*charts, spacing=30).resolve_scale(color="shared"),
    )


_PANELS = {"usd": "Cost per 1,000 decisions (USD)", "ms": "Latency p50 (ms)"}


def _panel(
    alt: Any,
    comparison: Comparison,
    quality: str,
    rows: list[dict[str, Any]],
    shown: tuple[str, str],
    colors: dict[str, str],
) -> Any:
    key, title = shown
    scale = alt.Scale(type="log", nice=False, padding=50)
    names = list(colors)
    base = alt.Chart(alt.Data(values=rows)).encode(
        color=alt.Color(
            "candidate:N",
            scale=alt.Scale(domain=names, range=list(colors.values())),
            legend=alt.Legend(orient="top", title=None),
        )
    )
    x, y = alt.X(f"{key}:Q", title=title, scale=scale), alt.Y("y_low:Q", scale=alt.Scale(zero=False))
    y_axis = alt.Y("y:Q", scale=alt.Scale(zero=False), **quality_axis(alt, comparison, quality))
    return alt.layer(
        base.mark_rule(strokeWidth=2).encode(x=x, y=y, y2="y_high:Q"),
        base.mark_rule(strokeWidth=2).encode(x=alt.X(f"{key}_low:Q", scale=scale), x2=f"{key}_high:Q", y="y:Q"),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            x=x, y=y_axis, shape=alt.Shape("candidate:N", scale=alt.Scale(domain=names), legend=None)
        ),
    ).properties(width=330, height=HEIGHT)
