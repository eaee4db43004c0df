"""Plots of cost: quality vs. cost, and the break-even of self-hosting."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from sizewise.choice.costing import MAX_UTILIZATION, MONTH_S, hour_prices
from sizewise.records import BreakEven, Comparison, CostLine, Needs
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
)
from sizewise.report.words import measure_of


def cost_plot(comparison: Comparison, quality: str, costs: Sequence[CostLine]) -> Plot | None:
    """Plot quality against the cost of 1,000 requests, with the Pareto frontier as a line."""
    rows: list[dict[str, Any]] = []
    for line in costs:
        score = comparison.scores.get(quality, {}).get(line.name)
        if line.usd_per_1000 is None or score is None or score.value is None:
            continue
        ends = (score.ci_low, score.ci_high) if score.ci_low is not None else (score.value, score.value)
        rows.append(
            {
                "candidate": line.name, "x": line.usd_per_1000.expected, "left": line.usd_per_1000.lower,
                "right": line.usd_per_1000.upper, "y": score.value, "ci_low": ends[0], "ci_high": ends[1],
            }
        )  # fmt: skip
    if len(rows) < 2 or any(row["left"] <= 0 for row in rows):
        return None
    higher = comparison.better[quality] == "higher"
    alt = load_altair()
    base = alt.Chart(alt.Data(values=rows)).encode(color=candidate_colors(alt, rows))
    x = alt.X(
        "x:Q",
        title="Cost per 1,000 requests (USD)",
        scale=alt.Scale(type="log", nice=False, padding=80),
        axis=alt.Axis(grid=False),
    )
    y = alt.Y("y:Q", scale=alt.Scale(zero=False), **quality_axis(alt, comparison, quality))
    baselines = baselines_of(comparison, quality)
    chart = alt.layer(
        *baseline_lines(alt, baselines),
        alt.Chart(alt.Data(values=frontier(rows, higher)))
        .mark_line(interpolate="step-after", strokeDash=[4, 4], color="#888")
        .encode(x=x, y=y),
        base.mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("ci_low:Q"), y2="ci_high:Q"),
        base.mark_rule(strokeWidth=2).encode(x=alt.X("left:Q"), x2="right:Q", y=y),
        base.mark_point(size=110, filled=True, opacity=1).encode(x=x, y=y, shape=candidate_shapes(alt, rows)),
    ).properties(width=300, height=230)
    return draw(
        f"{measure_of(quality).title} vs. cost",
        "Vertical bars are 95% confidence intervals of quality, horizontal bars the range of the cost. "
        f"{'Higher' if higher else 'Lower'} and further left is better; the dashed line is the Pareto frontier."
        + (BASELINE_NOTE if baselines else ""),
        chart,
    )


def frontier(rows: Sequence[dict[str, Any]], higher: bool) -> list[dict[str, Any]]:
    """Return the Pareto frontier of quality and cost, cheapest first."""
    found: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: (row["x"], -row["y"] if higher else row["y"])):
        if not found or (row["y"] > found[-1]["y"] if higher else row["y"] < found[-1]["y"]):
            found.append(row)
    return found


def break_even_plot(costs: Sequence[CostLine], needs: Needs, found: Sequence[BreakEven]) -> Plot | None:
    """Plot the monthly cost over the number of requests: self-hosted machines vs. pay-per-request prices."""
    if not found:
        return None
    by_name = {line.name: line for line in costs}
    max_requests = 10 * max(pair.upper for pair in found)
    steps = [max_requests ** (i / 60) for i in range(20, 61)]
    rows = []
    for name in dict.fromkeys(pair.self_hosted for pair in found):
        capacity = next(pair.machine_can for pair in found if pair.self_hosted == name)
        for lower, upper in [tuple(price * MONTH_S / 3600 for price in hour_prices(needs))]:
            for count in steps:
                machines = max(1, ceil(count / capacity))
                rows.append(
                    {"candidate": name, "requests": count, "lower": machines * lower, "upper": machines * upper}
                )
    for name in dict.fromkeys(pair.paid for pair in found):
        price = by_name[name].usd_per_1000
        if price is not None:
            rows += [
                {"candidate": name, "requests": n, "lower": n * price.lower / 1000, "upper": n * price.upper / 1000}
                for n in steps
            ]
    alt = load_altair()
    names = list(dict.fromkeys(row["candidate"] for row in rows))
    x = alt.X("requests:Q", title="Requests per month", scale=alt.Scale(type="log"), axis=alt.Axis(format="~s"))
    color = alt.Color(
        "candidate:N",
        scale=alt.Scale(domain=names, range=COLORS),
        legend=alt.Legend(orient="top", title=None, columns=2),
    )
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_area(opacity=0.5, line=True)
        .encode(
            x=x, y=alt.Y("lower:Q", title="USD per month", scale=alt.Scale(type="log", nice=False)), y2="upper:Q",
            color=color,
        )
        .properties(width=300, height=230)
    )  # fmt: skip
    return draw(
        "Break-even: self-hosting vs. paying per request",
        "Bands span the lowest to the highest price. Self-hosted machines run around the clock, and another one is "
        "added "
        f"once the others are busy {MAX_UTILIZATION:.0%} of the time. Costs of people and of training aren't drawn.",
        chart,
    )
