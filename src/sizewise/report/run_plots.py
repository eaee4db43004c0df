"""Plots of single runs: training curves, votes of a judging round, and routers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sizewise.records import Calibration, CurvePoint, PairVerdict, Replay
from sizewise.report.drawing import COLORS, Plot, draw, load_altair, significance_fill


def curve_plot(name: str, curve: Sequence[CurvePoint], start: float | None, caption: str) -> Plot:
    """Plot validation bits per byte (domain and control text) and training loss over tokens.

    Args:
        name: name of the run.
        curve: the run over time.
        start: validation bits per byte before the first step.
        caption: text below the plot.
    """
    alt = load_altair()
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
    return draw(f"Training: {name}", caption, alt.vconcat(upper, lower))


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
    alt = load_altair()
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("pair:N", title=None, sort=None, axis=alt.Axis(labelLimit=0))
    )
    axis = alt.X("ci_low:Q", title="Win rate of the first", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"))
    chart = alt.layer(
        alt.Chart(alt.Data(values=[{"even": 0.5}])).mark_rule(strokeDash=[4, 4], color="#888").encode(x="even:Q"),
        base.mark_rule(strokeWidth=3, color=COLORS[0]).encode(x=axis, x2="ci_high:Q"),
        base.mark_point(size=90, color=COLORS[0], opacity=1, strokeWidth=2).encode(
            x="x:Q", fill=significance_fill(alt)
        ),
    ).properties(width=300, height=max(60, 42 * len(rows)))
    return draw(
        "Win rate by pair",
        "Bars are 95% confidence intervals over raters and source documents. Filled points are significant after "
        "correction for all pairs.",
        chart,
    )


def route_plot(calibration: Calibration, replay: Replay) -> Plot:
    """Plot quality against the share of calls to the large model: router, random routing, and the replayed prompts."""
    alt = load_altair()
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
    return draw(
        "Quality vs. calls to the large model",
        "The router's line is cross-validated on its calibration prompts; the dot is its result on these prompts.",
        chart,
    )
