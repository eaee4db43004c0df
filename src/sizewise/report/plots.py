"""Plots as SVG for light and dark pages, drawn offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

from sizewise.choice.costing import MAX_UTILIZATION, MONTH_S, hour_prices
from sizewise.errors import MissingExtraError
from sizewise.records import (
    BreakEven,
    Calibration,
    Comparison,
    CostLine,
    CurvePoint,
    Difference,
    Evaluation,
    Needs,
    PairVerdict,
    Replay,
)
from sizewise.report.words import measure_of

# Okabe and Ito's palette, safe for most color-blind readers; shapes repeat the distinction.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
INK = {"light": "#24292f", "dark": "#e6e6e6"}
GRID = {"light": "#e3e3e0", "dark": "#3a3d42"}
FONT = "Helvetica, Arial, sans-serif"
BASELINE_NOTE = " Dotted lines are baselines without a language model."


class Plot(NamedTuple):
    """A plot with its caption."""

    title: str
    caption: str
    light: str
    """SVG for light mode."""
    dark: str
    """SVG for dark mode."""


def _altair() -> Any:
    try:
        import altair
        import vl_convert  # noqa: F401 (altair renders with it)
    except ImportError as error:
        raise MissingExtraError("altair", "study") from error
    return altair


def _draw(title: str, caption: str, chart: Any) -> Plot:
    import vl_convert

    svg = {}
    for scheme in ("light", "dark"):
        themed = (
            chart.properties(padding={"left": 24, "right": 24, "top": 6, "bottom": 6})  # leaves room for wider fonts
            .configure(font=FONT, background="transparent")
            .configure_axis(
                labelColor=INK[scheme],
                titleColor=INK[scheme],
                gridColor=GRID[scheme],
                domainColor=GRID[scheme],
                tickColor=GRID[scheme],
                labelFontSize=12,
                titleFontSize=12,
                titleFontWeight="normal",
            )
            .configure_text(color=INK[scheme], fontSize=12)
            .configure_legend(labelColor=INK[scheme], titleColor=INK[scheme])
            .configure_view(stroke=None)
        )
        svg[scheme] = vl_convert.vegalite_to_svg(themed.to_dict())
    return Plot(title, caption, svg["light"], svg["dark"])


def tradeoff_plots(comparison: Comparison, quality: str) -> list[Plot]:
    """Plot quality against memory, latency and throughput."""
    plots = []
    baselines = _baselines(comparison, quality)
    for metric in ("memory_bytes", "latency_s", "requests_per_s"):
        rows = _points(comparison, quality, metric)
        if len(rows) >= 2:
            plots.append(_tradeoff(rows, baselines, quality, metric, comparison.better[quality] == "higher"))
    return plots


def _baselines(comparison: Comparison, quality: str) -> list[dict[str, Any]]:
    """Collect the quality of the baselines; without a relevant size or speed, each is drawn as a horizontal line."""
    scores = comparison.scores.get(quality, {})
    return [
        {"baseline": name, "level": score.value}
        for name, model in comparison.models.items()
        if model.role == "baseline" and (score := scores.get(name)) is not None and score.value is not None
    ]


def _baseline_lines(alt: Any, baselines: Sequence[dict[str, Any]]) -> list[Any]:
    """Draw baselines as dotted horizontal lines, labeled at the left edge."""
    if not baselines:
        return []
    base = alt.Chart(alt.Data(values=list(baselines))).encode(y="level:Q")
    return [
        base.mark_rule(strokeDash=[2, 3], color="#888"),
        base.mark_text(align="left", baseline="bottom", dx=2, dy=-1, fontSize=10).encode(
            x=alt.value(0), text="baseline:N"
        ),
    ]


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
    rows: list[dict[str, Any]], baselines: Sequence[dict[str, Any]], quality: str, metric: str, higher: bool
) -> Plot:
    alt = _altair()
    measure = measure_of(metric)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("x:Q", title=measure.heading, scale=alt.Scale(type="log", nice=False, padding=80)),
        color=alt.Color("candidate:N", scale=alt.Scale(range=COLORS), sort=None, legend=None),
    )
    bars = base.mark_rule(strokeWidth=2).encode(
        y=alt.Y("ci_low:Q", title=measure_of(quality).title, scale=alt.Scale(zero=False)), y2="ci_high:Q"
    )
    points = base.mark_point(size=110, filled=True, opacity=1).encode(
        y="y:Q", shape=alt.Shape("candidate:N", sort=None, legend=None)
    )
    names = (
        alt.Chart(alt.Data(values=rows))
        .mark_text(align="center", baseline="bottom", dy=-5)
        .encode(x="x:Q", y="ci_high:Q", text="candidate:N")
    )
    chart = alt.layer(*_baseline_lines(alt, baselines), bars, points, names).properties(width=300, height=230)
    return _draw(
        f"{measure_of(quality).title} vs. {measure.title.lower()}",
        f"Bars are 95% confidence intervals; {'higher' if higher else 'lower'} is better. Logarithmic horizontal axis."
        + (BASELINE_NOTE if baselines else ""),
        chart,
    )


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
    alt = _altair()
    base = alt.Chart(alt.Data(values=rows)).encode(
        color=alt.Color("candidate:N", scale=alt.Scale(range=COLORS), sort=None, legend=None)
    )
    x = alt.X("x:Q", title="Cost per 1,000 requests (USD)", scale=alt.Scale(type="log", nice=False, padding=80))
    y = alt.Y("y:Q", title=measure_of(quality).title, scale=alt.Scale(zero=False))
    baselines = _baselines(comparison, quality)
    chart = alt.layer(
        *_baseline_lines(alt, baselines),
        alt.Chart(alt.Data(values=frontier(rows, higher)))
        .mark_line(interpolate="step-after", strokeDash=[4, 4], color="#888")
        .encode(x=x, y=y),
        base.mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("ci_low:Q"), y2="ci_high:Q"),
        base.mark_rule(strokeWidth=2).encode(x=alt.X("left:Q"), x2="right:Q", y=y),
        base.mark_point(size=110, filled=True, opacity=1).encode(
            x=x, y=y, shape=alt.Shape("candidate:N", sort=None, legend=None)
        ),
        alt.Chart(alt.Data(values=rows))
        .mark_text(align="center", baseline="bottom", dy=-5)
        .encode(x=x, y="ci_high:Q", text="candidate:N"),
    ).properties(width=300, height=230)
    return _draw(
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
    alt = _altair()
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
    return _draw(
        "Break-even: self-hosting vs. paying per request",
        "Bands span the lowest to the highest price. Self-hosted machines run around the clock, and another one is "
        "added "
        f"once the others are busy {MAX_UTILIZATION:.0%} of the time.",
        chart,
    )


def bias_plot(bias: Mapping[str, Evaluation]) -> Plot | None:
    """Plot the stereotype score of each candidate by group."""
    rows = []
    for name, measured in bias.items():
        for key, score in measured.scores.items():
            metric, _, group = key.partition("#")
            if metric == "stereotype_score" and score.value is not None:
                low, high = (score.value, score.value) if score.ci_low is None else (score.ci_low, score.ci_high)
                rows.append(
                    {"candidate": name, "group": group or "all", "x": score.value, "ci_low": low, "ci_high": high}
                )
    if not rows:
        return None
    alt = _altair()
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
    return _draw(
        "Stereotype score by group",
        "Bars are 95% confidence intervals. The dashed line means no preference; a model that understands nothing also "
        "ends up there.",
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
    alt = _altair()
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
    return _draw(
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
    alt = _altair()
    title = measure_of(metric).title
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("other:N", title=None, sort="x", axis=alt.Axis(labelLimit=200))
    )
    axis = alt.X(
        "ci_low:Q", title=f"{title}: {leader} minus other", scale=alt.Scale(type="symlog", constant=_linear_range(rows))
    )
    chart = alt.layer(
        alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(strokeDash=[4, 4], color="#888").encode(x="zero:Q"),
        base.mark_rule(strokeWidth=3, color=COLORS[0]).encode(x=axis, x2="ci_high:Q"),
        base.mark_point(size=90, color=COLORS[0], opacity=1, strokeWidth=2).encode(
            x="x:Q",
            fill=_fill(alt),
        ),
    ).properties(width=300, height=max(90, 42 * len(rows)))
    better = comparison.better[metric]
    return _draw(
        f"Differences in {title}",
        f"Paired 95% confidence intervals on the same items. {'Right' if better == 'higher' else 'Left'} of the dashed "
        f"line, {leader} is better. Filled points are significant after correction for all comparisons.",
        chart,
    )


def _fill(alt: Any) -> Any:
    """Fill only the points of significant differences."""
    return alt.condition("datum.significant", alt.value(COLORS[0]), alt.value("white"))


def _linear_range(rows: Sequence[dict[str, Any]]) -> float:
    """Return the range in which the axis is roughly linear, so that one distant outlier doesn't flatten the rest."""
    return float(min(abs(row["x"]) for row in rows)) or 1.0


def _signed(found: Difference, leader: str) -> dict[str, Any]:
    ci_low, ci_high = found.ci_low or 0.0, found.ci_high or 0.0
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


def curve_plot(name: str, curve: Sequence[CurvePoint], start: float | None, caption: str) -> Plot:
    """Plot validation bits per byte (domain and control text) and training loss over tokens.

    Args:
        name: name of the run.
        curve: the run over time.
        start: validation bits per byte before the first step.
        caption: text below the plot.
    """
    alt = _altair()
    validation = [{"tokens": 0, "bits": start, "text": "domain"}] if start is not None else []
    for point in curve:
        for text, bits in (("domain", point.bits_per_byte), ("control text", point.control_bits_per_byte)):
            if bits is not None:
                validation.append({"tokens": point.tokens, "bits": bits, "text": text})
    losses = [{"tokens": p.tokens, "loss": p.loss} for p in _thinned(curve, 200)]
    axis = alt.X("tokens:Q", title="Tokens seen", axis=alt.Axis(format="~s"))
    texts = [text for text in ("domain", "control text") if any(row["text"] == text for row in validation)]
    legend = alt.Legend(orient="top", title=None) if len(texts) > 1 else None
    upper = (
        alt.Chart(alt.Data(values=validation))
        .mark_line(point=alt.OverlayMarkDef(size=60))
        .encode(
            x=axis,
            y=alt.Y("bits:Q", title="Bits per byte", scale=alt.Scale(zero=False)),
            color=alt.Color("text:N", scale=alt.Scale(domain=texts, range=[COLORS[0], COLORS[2]]), legend=legend),
        )
        .properties(width=300, height=130)
    )
    lower = (
        alt.Chart(alt.Data(values=losses))
        .mark_line(color=COLORS[1], strokeWidth=1.5)
        .encode(x=axis, y=alt.Y("loss:Q", title="Training loss", scale=alt.Scale(zero=False)))
        .properties(width=300, height=110)
    )
    return _draw(f"Training: {name}", caption, alt.vconcat(upper, lower))


def _thinned(points: Sequence[Any], max_points: int) -> list[Any]:
    step = max(1, len(points) // max_points)
    return list(points[::step])


def votes_plot(pairs: Sequence[PairVerdict]) -> Plot:
    """Plot the win rate of each pair with its interval."""
    rows = [
        {
            "pair": f"{pair.left} vs. {pair.right}",
            "x": pair.win_rate.value,
            "ci_low": pair.win_rate.value if pair.win_rate.ci_low is None else pair.win_rate.ci_low,
            "ci_high": pair.win_rate.value if pair.win_rate.ci_high is None else pair.win_rate.ci_high,
            "significant": pair.better is not None,
        }
        for pair in pairs
        if pair.win_rate.value is not None
    ]
    alt = _altair()
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("pair:N", title=None, sort=None, axis=alt.Axis(labelLimit=0))
    )
    axis = alt.X("ci_low:Q", title="Win rate of the first", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"))
    chart = alt.layer(
        alt.Chart(alt.Data(values=[{"even": 0.5}])).mark_rule(strokeDash=[4, 4], color="#888").encode(x="even:Q"),
        base.mark_rule(strokeWidth=3, color=COLORS[0]).encode(x=axis, x2="ci_high:Q"),
        base.mark_point(size=90, color=COLORS[0], opacity=1, strokeWidth=2).encode(x="x:Q", fill=_fill(alt)),
    ).properties(width=300, height=max(60, 42 * len(rows)))
    return _draw(
        "Win rate by pair",
        "Bars are 95% confidence intervals from resampling source documents. Filled points are significant after "
        "correction for all pairs.",
        chart,
    )


def route_plot(calibration: Calibration, replay: Replay) -> Plot:
    """Plot quality against the share of calls to the large model: router, random routing, and the replayed prompts."""
    alt = _altair()
    rows = [{"large": 1 - p.small_share, "quality": p.quality, "source": "router"} for p in calibration.curve]
    small, large = calibration.small_quality.value or 0.0, calibration.large_quality.value or 0.0
    rows += [{"large": share, "quality": small + share * (large - small), "source": "random"} for share in (0.0, 1.0)]
    replayed = [
        {"large": 1 - (replay.small_share.value or 0.0), "quality": replay.quality.value, "source": "these prompts"}
    ]
    names = ["router", "random", "these prompts"]
    color = alt.Color(
        "source:N", scale=alt.Scale(domain=names, range=COLORS[:3]), legend=alt.Legend(orient="top", title=None)
    )
    axis = alt.X("large:Q", title="Calls to the large model", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"))
    quality = alt.Y("quality:Q", title="Good answers", scale=alt.Scale(zero=False), axis=alt.Axis(format="%"))
    chart = alt.layer(
        alt.Chart(alt.Data(values=rows)).mark_line(strokeWidth=2.5).encode(x=axis, y=quality, color=color),
        alt.Chart(alt.Data(values=replayed))
        .mark_point(filled=True, size=120, opacity=1)
        .encode(x=axis, y=quality, color=color),
    ).properties(width=320, height=240)
    return _draw(
        "Quality vs. calls to the large model",
        "The router's line is cross-validated on its calibration prompts; the dot is its result on these prompts.",
        chart,
    )
