"""Plots of a study: trade-offs, differences, load and bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sizewise.metrics.display import possible_ends
from sizewise.records import Checkpoint, Comparison, Difference, Evaluation
from sizewise.report.cost_plots import break_even_plot, cost_plot
from sizewise.report.drawing import (
    BASELINE_NOTE,
    COLORS,
    Plot,
    baseline_lines,
    baselines_of,
    candidate_colors,
    candidate_shapes,
    draw,
    load_altair,
    quality_axis,
    significance_fill,
)
from sizewise.report.run_plots import curve_plot
from sizewise.report.view import StudyView
from sizewise.report.words import measure_of


def study_plots(view: StudyView, subject: str) -> dict[str, list[Plot]]:
    """Draw the plots of a study, by the part of the page where they belong.

    Args:
        view: the study.
        subject: candidate whose differences to all others are drawn.
    """
    comparison, recommendation = view.comparison, view.recommendation
    differences = (
        difference_plot(comparison, subject, metric)
        for metric in dict.fromkeys((recommendation.quality, "bits_per_byte"))
    )
    costs = (
        *tradeoff_plots(comparison, recommendation.quality),
        cost_plot(comparison, recommendation.quality, recommendation.costs),
        break_even_plot(recommendation.costs, recommendation.needs, recommendation.break_even),
        load_plot(comparison),
    )
    return {
        "quality": [plot for plot in differences if plot],
        "cost": [plot for plot in costs if plot],
        "fairness": [plot for plot in (bias_plot(view.scored_for_bias()),) if plot],
        "method": [_curve(name, checkpoint) for name, checkpoint in view.checkpoints.items()],
    }


def _curve(name: str, checkpoint: Checkpoint) -> Plot:
    caption = (
        f"Top: validation, lower is better. Bottom: training loss per step, in nats per token. "
        f"{checkpoint.tokens:,} tokens in {checkpoint.seconds:.0f} s; {checkpoint.tokens_per_s:,.0f} tokens/s after a "
        f"first step of {checkpoint.warmup_s:.0f} s."
    )
    return curve_plot(name, checkpoint.curve, checkpoint.start_bits_per_byte, caption)


def tradeoff_plots(comparison: Comparison, quality: str) -> list[Plot]:
    """Plot quality against memory, latency and throughput."""
    plots = []
    baselines = baselines_of(comparison, quality)
    for metric in ("memory_bytes", "latency_s", "requests_per_s"):
        rows = _points(comparison, quality, metric)
        if len(rows) >= 2:
            plots.append(_tradeoff(comparison, rows, baselines, quality, metric))
    return plots


def _points(comparison: Comparison, quality: str, metric: str) -> list[dict[str, Any]]:
    rows = []
    for name, model in comparison.models.items():
        x, y = comparison.scores.get(metric, {}).get(name), comparison.scores.get(quality, {}).get(name)
        if model.role == "baseline" or not x or not y or not x.value or y.value is None:
            continue
        rows.append(
            {
                "candidate": name,
                "x": x.value / measure_of(metric).divisor,
                "y": y.value,
                "ci_low": y.ci_low if y.ci_low is not None else y.value,
                "ci_high": y.ci_high if y.ci_high is not None else y.value,
            }
        )
    return rows


def _tradeoff(
    comparison: Comparison,
    rows: list[dict[str, Any]],
    baselines: Sequence[dict[str, Any]],
    quality: str,
    metric: str,
) -> Plot:
    alt = load_altair()
    measure = measure_of(metric)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X(
            "x:Q", title=measure.heading, scale=alt.Scale(type="log", nice=False, padding=80), axis=alt.Axis(grid=False)
        ),
        color=candidate_colors(alt, rows),
    )
    bars = base.mark_rule(strokeWidth=2).encode(
        y=alt.Y("ci_low:Q", scale=alt.Scale(zero=False), **quality_axis(alt, comparison, quality)), y2="ci_high:Q"
    )
    points = base.mark_point(size=110, filled=True, opacity=1).encode(y="y:Q", shape=candidate_shapes(alt, rows))
    chart = alt.layer(*baseline_lines(alt, baselines), bars, points).properties(width=300, height=230)
    return draw(
        f"{measure_of(quality).title} vs. {measure.title.lower()}",
        f"Bars are 95% confidence intervals; {comparison.better[quality]} is better. Logarithmic horizontal axis."
        + (BASELINE_NOTE if baselines else ""),
        chart,
    )


def bias_plot(bias: Mapping[str, Evaluation]) -> Plot | None:
    """Plot the stereotype score of each candidate by group."""
    rows = []
    for name, measured in bias.items():
        for key, score in measured.scores.items():
            metric, _, group = key.partition("#")
            if metric == "stereotype_score" and score.value is not None:
                lower, upper = (score.value, score.value) if score.ci_low is None else (score.ci_low, score.ci_high)
                rows.append(
                    {"candidate": name, "group": group or "all", "x": score.value, "ci_low": lower, "ci_high": upper}
                )
    if not rows:
        return None
    alt = load_altair()
    names = list(bias)
    legend = alt.Legend(orient="top", title=None, columns=2)
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("group:N", title=None, sort=None),
        yOffset=alt.YOffset("candidate:N", sort=names),
        color=alt.Color("candidate:N", scale=alt.Scale(domain=names, range=COLORS), legend=legend),
    )
    x = alt.X("x:Q", title="Stereotype score", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"))
    chart = alt.layer(
        alt.Chart(alt.Data(values=[{"half": 0.5}])).mark_rule(strokeDash=[4, 4], color="#888").encode(x="half:Q"),
        base.mark_rule(strokeWidth=2).encode(x=alt.X("ci_low:Q"), x2="ci_high:Q"),
        base.mark_point(filled=True, size=50, opacity=1).encode(x=x),
    ).properties(width=300, height=alt.Step(9 if len(names) > 3 else 12))
    return draw(
        "Stereotype score by group",
        "Bars are 95% confidence intervals. The dashed line means no preference; a model that understands nothing also "
        "scores 50%.",
        chart,
    )


def load_plot(comparison: Comparison) -> Plot | None:
    """Plot p95 latency over concurrent users; None unless several load levels were measured."""
    rows = []
    for name, levels in comparison.load_levels.items():
        for level in levels:
            score = level.scores["p95_latency_s"]
            if level.concurrent_users and score.value is not None:
                rows.append(
                    {
                        "candidate": name,
                        "concurrent_users": level.concurrent_users,
                        "s": score.value,
                        "ci_low": score.ci_low,
                        "ci_high": score.ci_high,
                    }
                )
    if len({row["concurrent_users"] for row in rows}) < 2:
        return None
    alt = load_altair()
    names = list(dict.fromkeys(row["candidate"] for row in rows))
    legend = alt.Legend(orient="top", title=None, columns=2)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("concurrent_users:Q", title="Concurrent users", scale=alt.Scale(type="log", base=2, padding=30)),
        color=alt.Color(
            "candidate:N",
            scale=alt.Scale(domain=names, range=COLORS),
            legend=legend,
        ),
    )
    chart = alt.layer(
        base.mark_rule(strokeWidth=2).encode(y="ci_low:Q", y2="ci_high:Q"),
        base.mark_line(strokeWidth=2).encode(y=alt.Y("s:Q", title="Latency p95 (s)", scale=alt.Scale(zero=True))),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            y="s:Q", shape=alt.Shape("candidate:N", scale=alt.Scale(domain=names), legend=legend)
        ),
    ).properties(width=300, height=230)
    return draw(
        "Latency under load",
        "Time within which 95% of the answers are complete, with 95% confidence intervals; prompts from the test set.",
        chart,
    )


def difference_plot(comparison: Comparison, leader: str, metric: str) -> Plot | None:
    """Plot the paired differences between the leading candidate and all others on one metric."""
    rows = []
    for found in comparison.differences:
        if found.metric != metric or leader not in (found.left, found.right) or found.ci_low is None:
            continue
        rows.append(_signed(found, leader))
    if not rows:
        return None
    alt = load_altair()
    title = measure_of(metric).title
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("other:N", title=None, sort="x", axis=alt.Axis(labelLimit=200))
    )
    axis = alt.X(
        "ci_low:Q",
        scale=alt.Scale(type="symlog", constant=_linear_range(rows)),
        **quality_axis(alt, comparison, metric) | {"title": f"{title}: {leader} minus other"},
    )
    chart = alt.layer(
        alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(strokeDash=[4, 4], color="#888").encode(x="zero:Q"),
        base.mark_rule(strokeWidth=3, color=COLORS[0]).encode(x=axis, x2="ci_high:Q"),
        base.mark_point(size=90, color=COLORS[0], opacity=1, strokeWidth=2).encode(
            x="x:Q",
            fill=significance_fill(alt),
        ),
    ).properties(width=300, height=max(90, 42 * len(rows)))
    better = comparison.better[metric]
    return draw(
        f"Differences in {title}",
        "Simultaneous 95% confidence intervals of all comparisons, on the same items. "
        f"{'Right' if better == 'higher' else 'Left'} of the dashed line, {leader} is better. Filled points are "
        "significant; their intervals exclude zero.",
        chart,
    )


def _linear_range(rows: Sequence[dict[str, Any]]) -> float:
    """Return the range in which the axis is roughly linear, so that one distant outlier doesn't flatten the rest."""
    return float(min(abs(row["x"]) for row in rows)) or 1.0


def _signed(found: Difference, leader: str) -> dict[str, Any]:
    ci_low, ci_high = (end or 0.0 for end in possible_ends(found.metric, found.unit, found.family_ends))
    if found.left == leader:
        return {
            "other": found.right,
            "x": found.value,
            "ci_low": ci_low,
            "ci_high": ci_high,
            "significant": found.better is not None,
        }
    return {
        "other": found.left,
        "x": -found.value,
        "ci_low": -ci_high,
        "ci_high": -ci_low,
        "significant": found.better is not None,
    }
