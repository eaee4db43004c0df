"""Plots as SVG, in a light and a dark form, drawn without network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

from sizewise.choice.costing import MONTH_S, hour_prices
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

# Okabe and Ito's colours, told apart by most colour-blind readers; shapes repeat the distinction.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
INK = {"light": "#24292f", "dark": "#e6e6e6"}
GRID = {"light": "#e3e3e0", "dark": "#3a3d42"}
FONT = "Helvetica, Arial, sans-serif"
LEVEL_LINES = " Dotted lines: what baselines reach without any language model."


class Plot(NamedTuple):
    """One plot with its caption."""

    title: str
    caption: str
    light: str
    """SVG for a light page."""
    dark: str
    """SVG for a dark page."""


def _altair() -> Any:
    try:
        import altair
        import vl_convert  # noqa: F401 (altair needs it to draw)
    except ImportError as error:
        raise MissingExtraError("altair", "study") from error
    return altair


def _draw(title: str, caption: str, chart: Any) -> Plot:
    import vl_convert

    drawn = {}
    for scheme in ("light", "dark"):
        themed = (
            chart.properties(padding={"left": 24, "right": 24, "top": 6, "bottom": 6})  # fonts differ in width
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
        drawn[scheme] = vl_convert.vegalite_to_svg(themed.to_dict())
    return Plot(title, caption, drawn["light"], drawn["dark"])


def tradeoff_plots(comparison: Comparison, quality: str) -> list[Plot]:
    """Draw quality against memory, time of an answer and answers a second."""
    plots = []
    rules = _rules(comparison, quality)
    for metric in ("memory_bytes", "latency_s", "requests_per_s"):
        rows = _points(comparison, quality, metric)
        if len(rows) >= 2:
            plots.append(_tradeoff(rows, rules, quality, metric, comparison.better[quality] == "higher"))
    return plots


def _rules(comparison: Comparison, quality: str) -> list[dict[str, Any]]:
    """Collect the baselines' quality: they have no size or speed to speak of, so each is a level line."""
    scores = comparison.scores.get(quality, {})
    return [
        {"rule": name, "level": score.value}
        for name, model in comparison.models.items()
        if model.role == "baseline" and (score := scores.get(name)) is not None and score.value is not None
    ]


def _level_lines(alt: Any, rules: Sequence[dict[str, Any]]) -> list[Any]:
    """Draw baselines as dotted level lines with their names at the left edge."""
    if not rules:
        return []
    base = alt.Chart(alt.Data(values=list(rules))).encode(y="level:Q")
    return [
        base.mark_rule(strokeDash=[2, 3], color="#888"),
        base.mark_text(align="left", baseline="bottom", dx=2, dy=-1, fontSize=10).encode(x=alt.value(0), text="rule:N"),
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
    rows: list[dict[str, Any]], rules: Sequence[dict[str, Any]], quality: str, metric: str, higher: bool
) -> Plot:
    alt = _altair()
    measure = measure_of(metric)
    heading = measure.title + (f" ({measure.unit})" if measure.unit else "")
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("x:Q", title=heading, scale=alt.Scale(type="log", nice=False, padding=80)),
        color=alt.Color("candidate:N", scale=alt.Scale(range=COLOURS), sort=None, legend=None),
    )
    bars = base.mark_rule(strokeWidth=2).encode(
        y=alt.Y("low:Q", title=measure_of(quality).title, scale=alt.Scale(zero=False)), y2="high:Q"
    )
    points = base.mark_point(size=110, filled=True, opacity=1).encode(
        y="y:Q", shape=alt.Shape("candidate:N", sort=None, legend=None)
    )
    names = (
        alt.Chart(alt.Data(values=rows))
        .mark_text(align="center", baseline="bottom", dy=-5)
        .encode(x="x:Q", y="high:Q", text="candidate:N")
    )
    chart = alt.layer(*_level_lines(alt, rules), bars, points, names).properties(width=300, height=230)
    better = "up" if higher else "down"
    return _draw(
        f"{measure_of(quality).title} against {measure.title.lower()}",
        f"Bars are 95 % intervals. Better quality is {better}; the horizontal scale is logarithmic."
        + (LEVEL_LINES if rules else ""),
        chart,
    )


def cost_plot(comparison: Comparison, quality: str, costs: Sequence[CostLine]) -> Plot | None:
    """Draw quality against the cost of 1,000 answers, with a line through those that no other one dominates."""
    rows: list[dict[str, Any]] = []
    for line in costs:
        score = comparison.scores.get(quality, {}).get(line.name)
        if line.usd_per_1000 is None or score is None or score.value is None:
            continue
        ends = (score.ci_low, score.ci_high) if score.ci_low is not None else (score.value, score.value)
        rows.append(
            {
                "candidate": line.name, "x": line.usd_per_1000.expected, "left": line.usd_per_1000.lower,
                "right": line.usd_per_1000.upper, "y": score.value, "lower": ends[0], "upper": ends[1],
            }
        )  # fmt: skip
    if len(rows) < 2 or any(row["left"] <= 0 for row in rows):
        return None
    higher = comparison.better[quality] == "higher"
    alt = _altair()
    base = alt.Chart(alt.Data(values=rows)).encode(
        color=alt.Color("candidate:N", scale=alt.Scale(range=COLOURS), sort=None, legend=None)
    )
    x = alt.X("x:Q", title="1,000 answers (USD)", scale=alt.Scale(type="log", nice=False, padding=80))
    y = alt.Y("y:Q", title=measure_of(quality).title, scale=alt.Scale(zero=False))
    rules = _rules(comparison, quality)
    chart = alt.layer(
        *_level_lines(alt, rules),
        alt.Chart(alt.Data(values=frontier(rows, higher)))
        .mark_line(interpolate="step-after", strokeDash=[4, 4], color="#888")
        .encode(x=x, y=y),
        base.mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_rule(strokeWidth=2).encode(x=alt.X("left:Q"), x2="right:Q", y=y),
        base.mark_point(size=110, filled=True, opacity=1).encode(
            x=x, y=y, shape=alt.Shape("candidate:N", sort=None, legend=None)
        ),
        alt.Chart(alt.Data(values=rows))
        .mark_text(align="center", baseline="bottom", dy=-5)
        .encode(x=x, y="high:Q", text="candidate:N"),
    ).properties(width=300, height=230)
    return _draw(
        f"{measure_of(quality).title} against cost",
        f"Bars are 95 % intervals of quality, and the range of the cost. Better is {'up' if higher else 'down'} and to "
        "the left; on the dashed line no other candidate is both better and cheaper by value."
        + (LEVEL_LINES if rules else ""),
        chart,
    )


def frontier(rows: Sequence[dict[str, Any]], higher: bool) -> list[dict[str, Any]]:
    """Give the points that no other one beats in both quality and cost, the cheapest first."""
    found: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: (row["x"], -row["y"] if higher else row["y"])):
        if not found or (row["y"] > found[-1]["y"] if higher else row["y"] < found[-1]["y"]):
            found.append(row)
    return found


def break_even_plot(costs: Sequence[CostLine], needs: Needs, found: Sequence[BreakEven]) -> Plot | None:
    """Draw the cost of a month over requests: machines of one's own against prices an answer."""
    if not found:
        return None
    by_name = {line.name: line for line in costs}
    most = 10 * max(one.upper for one in found)
    steps = [most ** (i / 60) for i in range(20, 61)]
    rows = []
    for name in dict.fromkeys(one.self_hosted for one in found):
        can = next(one.machine_can for one in found if one.self_hosted == name)
        for lower, upper in [tuple(price * MONTH_S / 3600 for price in hour_prices(needs))]:
            for count in steps:
                machines = max(1, ceil(count / can))
                rows.append({"who": name, "requests": count, "lower": machines * lower, "upper": machines * upper})
    for name in dict.fromkeys(one.paid for one in found):
        price = by_name[name].usd_per_1000
        if price is not None:
            rows += [
                {"who": name, "requests": n, "lower": n * price.lower / 1000, "upper": n * price.upper / 1000}
                for n in steps
            ]
    alt = _altair()
    names = list(dict.fromkeys(row["who"] for row in rows))
    x = alt.X("requests:Q", title="requests a month", scale=alt.Scale(type="log"), axis=alt.Axis(format="~s"))
    colour = alt.Color(
        "who:N", scale=alt.Scale(domain=names, range=COLOURS), legend=alt.Legend(orient="top", title=None, columns=2)
    )
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_area(opacity=0.5, line=True)
        .encode(
            x=x, y=alt.Y("low:Q", title="USD a month", scale=alt.Scale(type="log", nice=False)), y2="high:Q",
            color=colour,
        )
        .properties(width=300, height=230)
    )  # fmt: skip
    return _draw(
        "From how many requests an own model costs less",
        "Bands from the least to the greatest price; machines of one's own are on all month, and one more is needed "
        "whenever the others are busy 60 % of the time.",
        chart,
    )


def bias_plot(bias: Mapping[str, Evaluation]) -> Plot | None:
    """Draw the share of preferred stereotypes, group by group, of each candidate."""
    rows = []
    for name, measured in bias.items():
        for key, score in measured.scores.items():
            metric, _, group = key.partition("#")
            if metric == "stereotype_score" and score.value is not None:
                ci_low, ci_high = (score.value, score.value) if score.ci_low is None else (score.ci_low, score.ci_high)
                rows.append(
                    {"who": name, "group": group or "all", "x": score.value, "ci_low": ci_low, "ci_high": ci_high}
                )
    if not rows:
        return None
    alt = _altair()
    names = list(bias)
    legend = alt.Legend(orient="top", title=None, columns=2)
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("group:N", title=None, sort=None),
        yOffset=alt.YOffset("who:N", sort=names),
        color=alt.Color("who:N", scale=alt.Scale(domain=names, range=COLOURS), legend=legend),
    )
    x = alt.X("x:Q", title="stereotype preferred", scale=alt.Scale(domain=[0, 1]))
    chart = alt.layer(
        alt.Chart(alt.Data(values=[{"half": 0.5}])).mark_rule(strokeDash=[4, 4], color="#888").encode(x="half:Q"),
        base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q"),
        base.mark_point(filled=True, size=50, opacity=1).encode(x=x),
    ).properties(width=300, height=alt.Step(9 if len(names) > 3 else 12))
    return _draw(
        "Stereotypes, by group",
        "95 % intervals. At the dashed line no preference is seen; a model that understands nothing stands there too.",
        chart,
    )


def crowd_plot(comparison: Comparison) -> Plot | None:
    """Draw how long answers take as users become more; None unless somebody was asked by several numbers of users."""
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
        x=alt.X("users:Q", title="users at once", scale=alt.Scale(type="log", base=2, padding=30)),
        color=alt.Color(
            "candidate:N",
            scale=alt.Scale(domain=names, range=COLOURS),
            legend=legend,
        ),
    )
    chart = alt.layer(
        base.mark_rule(strokeWidth=2).encode(y="low:Q", y2="high:Q"),
        base.mark_line(strokeWidth=2).encode(
            y=alt.Y("s:Q", title="95 % of answers whole in (s)", scale=alt.Scale(zero=True))
        ),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            y="s:Q", shape=alt.Shape("candidate:N", scale=alt.Scale(domain=names), legend=legend)
        ),
    ).properties(width=300, height=230)
    return _draw(
        "Waiting, as users become more",
        "Time in which 95 % of the answers were whole, with 95 % intervals over answers; questions of the test set.",
        chart,
    )


def difference_plot(comparison: Comparison, pick: str, metric: str) -> Plot | None:
    """Draw the paired differences of the pick against all others, on one metric."""
    rows = []
    for found in comparison.differences:
        if found.metric != metric or pick not in (found.left, found.right) or found.ci_low is None:
            continue
        rows.append(_signed(found, pick))
    if not rows:
        return None
    alt = _altair()
    title = measure_of(metric).title
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("other:N", title=None, sort="x", axis=alt.Axis(labelLimit=200))
    )
    axis = alt.X(
        "low:Q", title=f"{title}: {pick} minus the other", scale=alt.Scale(type="symlog", constant=_scale(rows))
    )
    chart = alt.layer(
        alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(strokeDash=[4, 4], color="#888").encode(x="zero:Q"),
        base.mark_rule(strokeWidth=3, color=COLOURS[0]).encode(x=axis, x2="high:Q"),
        base.mark_point(size=90, color=COLOURS[0], opacity=1, strokeWidth=2).encode(
            x="x:Q",
            fill=_fill(alt),
        ),
    ).properties(width=300, height=max(90, 42 * len(rows)))
    better = comparison.better[metric]
    return _draw(
        f"Significant? {title}",
        f"Paired 95 % intervals over the same items; {'right' if better == 'higher' else 'left'} of the dashed line "
        f"{pick} is better. A filled point is significant after correction for all comparisons, a hollow one is not.",
        chart,
    )


def _fill(alt: Any) -> Any:
    """Fill the points of significant differences only."""
    return alt.condition("datum.shown", alt.value(COLOURS[0]), alt.value("white"))


def _scale(rows: Sequence[dict[str, Any]]) -> float:
    """Give the range within which the scale is about linear: one far-off loser must not flatten the rest."""
    return float(min(abs(row["x"]) for row in rows)) or 1.0


def _signed(found: Difference, pick: str) -> dict[str, Any]:
    ci_low, ci_high = found.ci_low or 0.0, found.ci_high or 0.0
    if found.left == pick:
        return {
            "other": found.right,
            "x": found.value,
            "ci_low": ci_low,
            "ci_high": ci_high,
            "shown": found.better is not None,
        }
    return {
        "other": found.left,
        "x": -found.value,
        "ci_low": -ci_high,
        "ci_high": -ci_low,
        "shown": found.better is not None,
    }


def curve_plot(name: str, curve: Sequence[CurvePoint], start: float | None, caption: str) -> Plot:
    """Draw validation bits per byte, of the domain and of control text, and training loss over tokens.

    Args:
        name: what is trained.
        curve: the run over time.
        start: validation bits per byte before the first step.
        caption: what stands below.
    """
    alt = _altair()
    validation = [{"tokens": 0, "bits": start, "text": "domain"}] if start is not None else []
    for point in curve:
        for text, bits in (("domain", point.bits_per_byte), ("control text", point.control_bits_per_byte)):
            if bits is not None:
                validation.append({"tokens": point.tokens, "bits": bits, "text": text})
    losses = [{"tokens": p.tokens, "loss": p.loss} for p in _thinned(curve, 200)]
    axis = alt.X("tokens:Q", title="tokens seen", axis=alt.Axis(format="~s"))
    texts = [text for text in ("domain", "control text") if any(row["text"] == text for row in validation)]
    legend = alt.Legend(orient="top", title=None) if len(texts) > 1 else None
    upper = (
        alt.Chart(alt.Data(values=validation))
        .mark_line(point=alt.OverlayMarkDef(size=60))
        .encode(
            x=axis,
            y=alt.Y("bits:Q", title="bits per byte", scale=alt.Scale(zero=False)),
            color=alt.Color("text:N", scale=alt.Scale(domain=texts, range=[COLOURS[0], COLOURS[2]]), legend=legend),
        )
        .properties(width=300, height=130)
    )
    lower = (
        alt.Chart(alt.Data(values=losses))
        .mark_line(color=COLOURS[1], strokeWidth=1.5)
        .encode(x=axis, y=alt.Y("loss:Q", title="training loss", scale=alt.Scale(zero=False)))
        .properties(width=300, height=110)
    )
    return _draw(f"Training {name}", caption, alt.vconcat(upper, lower))


def _thinned(points: Sequence[Any], most: int) -> list[Any]:
    step = max(1, len(points) // most)
    return list(points[::step])


def votes_plot(pairs: Sequence[PairVerdict]) -> Plot:
    """Draw the win rate of each pair with its interval."""
    rows = [
        {
            "pair": f"{one.left} against {one.right}",
            "x": one.win_rate.value,
            "ci_low": one.win_rate.value if one.win_rate.ci_low is None else one.win_rate.ci_low,
            "ci_high": one.win_rate.value if one.win_rate.ci_high is None else one.win_rate.ci_high,
            "shown": one.better is not None,
        }
        for one in pairs
        if one.win_rate.value is not None
    ]
    alt = _altair()
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("pair:N", title=None, sort=None, axis=alt.Axis(labelLimit=0))
    )
    axis = alt.X("low:Q", title="share of votes for the first", scale=alt.Scale(domain=[0, 1]))
    chart = alt.layer(
        alt.Chart(alt.Data(values=[{"even": 0.5}])).mark_rule(strokeDash=[4, 4], color="#888").encode(x="even:Q"),
        base.mark_rule(strokeWidth=3, color=COLOURS[0]).encode(x=axis, x2="high:Q"),
        base.mark_point(size=90, color=COLOURS[0], opacity=1, strokeWidth=2).encode(x="x:Q", fill=_fill(alt)),
    ).properties(width=300, height=max(60, 42 * len(rows)))
    return _draw(
        "Who is preferred?",
        "95 % intervals, source documents resampled. A filled point is significant after correction for all pairs, a "
        "hollow one is not.",
        chart,
    )


def route_plot(calibration: Calibration, replay: Replay) -> Plot:
    """Draw quality against the share of large calls: the router in cross-validation, by chance, and where it stands."""
    alt = _altair()
    rows = [{"large": 1 - p.small_share, "quality": p.quality, "who": "router"} for p in calibration.curve]
    small, large = calibration.small_quality.value or 0.0, calibration.large_quality.value or 0.0
    rows += [{"large": share, "quality": small + share * (large - small), "who": "at random"} for share in (0.0, 1.0)]
    here = [{"large": 1 - (replay.small_share.value or 0.0), "quality": replay.quality.value, "who": "these prompts"}]
    names = ["router", "at random", "these prompts"]
    colour = alt.Color(
        "who:N", scale=alt.Scale(domain=names, range=COLOURS[:3]), legend=alt.Legend(orient="top", title=None)
    )
    axis = alt.X("large:Q", title="share of large calls", scale=alt.Scale(domain=[0, 1]))
    up = alt.Y("quality:Q", title="share of good answers", scale=alt.Scale(zero=False))
    chart = alt.layer(
        alt.Chart(alt.Data(values=rows)).mark_line(strokeWidth=2.5).encode(x=axis, y=up, color=colour),
        alt.Chart(alt.Data(values=here))
        .mark_point(filled=True, size=120, opacity=1)
        .encode(x=axis, y=up, color=colour),
    ).properties(width=320, height=240)
    return _draw(
        "Quality against large calls",
        "The router's line is cross-validated on the prompts it was learnt from; the dot is what it does on these.",
        chart,
    )
