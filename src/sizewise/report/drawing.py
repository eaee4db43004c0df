"""Drawing shared by all plots: the palette, light and dark themes, baselines and quality axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sizewise.controls import CONTROLS, replace_texts
from sizewise.errors import MissingExtraError
from sizewise.metrics.display import is_percentage, measure_of
from sizewise.records import Comparison

# Okabe and Ito's palette, safe for most color-blind readers; shapes encode the same distinction.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
INK = {"light": "#24292f", "dark": "#e6e6e6"}
GRID = {"light": "#e3e3e0", "dark": "#3a3d42"}
FONT = "Helvetica, Arial, sans-serif"
FAILED = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="320" height="40"><text x="8" y="24" font-size="12" '
    f'fill="{INK["light"]}">This plot can\'t be drawn.</text></svg>'
)
"""Drawn in place of a plot that the library refuses: a study isn't lost to one of its names."""
BASELINE_NOTE = " Dotted lines are baselines without a language model."


class Plot(NamedTuple):
    """A plot with its caption."""

    title: str
    caption: str
    light: str
    """SVG for light mode."""
    dark: str
    """SVG for dark mode."""


def load_altair() -> Any:
    """Import altair.

    Raises:
        MissingExtraError: altair isn't installed.
    """
    try:
        import altair
        import vl_convert  # noqa: F401 (altair renders with it)
    except ImportError as error:
        raise MissingExtraError("altair", "study") from error
    return altair


def draw(title: str, caption: str, chart: Any) -> Plot:
    """Render a chart as SVG in a light and a dark theme, which differ only in the colors of text and lines."""
    ink, grid = INK["light"], GRID["light"]
    themed = (
        chart.properties(padding={"left": 24, "right": 24, "top": 6, "bottom": 6})  # leaves room for wider fonts
        .configure(font=FONT, background="transparent")
        .configure_axis(
            labelColor=ink,
            titleColor=ink,
            gridColor=grid,
            domainColor=grid,
            tickColor=grid,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            labelOverlap="greedy",
            labelSeparation=10,
        )
        .configure_text(color=ink, fontSize=12)
        .configure_legend(labelColor=ink, titleColor=ink)
        .configure_view(stroke=None)
    )
    light = _svg(themed)
    return Plot(title, caption, light, light.replace(ink, INK["dark"]).replace(grid, GRID["dark"]))


def _svg(chart: Any) -> str:
    """Render a chart as SVG.

    Names come from data. The library ends the process at control characters, so they are replaced before; whatever
    else it refuses, panics of its core included, costs one plot.
    """
    import vl_convert

    try:
        return str(vl_convert.vegalite_to_svg(replace_texts(chart.to_dict(), _drawable)))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a panic isn't an Exception
        return FAILED


def _drawable(text: str) -> str:
    """Replace what the library can't draw; it reads a backslash in a name as the start of an escape."""
    return CONTROLS.sub("\ufffd", text).replace("\\", "\u29f5")


def baselines_of(comparison: Comparison, quality: str) -> list[dict[str, Any]]:
    """Collect the quality of the baselines, each drawn as a horizontal line because its size and speed don't matter."""
    scores = comparison.scores.get(quality, {})
    return [
        {"baseline": name, "level": score.value}
        for name, model in comparison.models.items()
        if model.role == "baseline" and (score := scores.get(name)) is not None and score.value is not None
    ]


def baseline_lines(alt: Any, baselines: Sequence[dict[str, Any]]) -> list[Any]:
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


def candidate_colors(alt: Any, rows: Sequence[dict[str, Any]]) -> Any:
    """Color the candidates, with a legend: names beside points that lie close together can't be read."""
    return alt.Color("candidate:N", scale=_candidate_scale(alt, rows, range=COLORS), legend=_legend(alt))


def candidate_shapes(alt: Any, rows: Sequence[dict[str, Any]]) -> Any:
    """Encode each candidate as a shape, with the legend of the colors."""
    return alt.Shape("candidate:N", scale=_candidate_scale(alt, rows), legend=_legend(alt))


def _candidate_scale(alt: Any, rows: Sequence[dict[str, Any]], **options: Any) -> Any:
    return alt.Scale(domain=list(dict.fromkeys(row["candidate"] for row in rows)), **options)


def _legend(alt: Any) -> Any:
    return alt.Legend(orient="top", title=None, columns=2)


def significance_fill(alt: Any) -> Any:
    """Fill only the points of significant differences."""
    return alt.condition("datum.significant", alt.value(COLORS[0]), alt.value("transparent"))


def quality_axis(alt: Any, comparison: Comparison, metric: str) -> dict[str, Any]:
    """Return title and number format of an axis of quality, for alt.X and alt.Y."""
    shares = any(is_percentage(metric, score.unit) for score in comparison.scores.get(metric, {}).values())
    return {"title": measure_of(metric).title, "axis": alt.Axis(format="%") if shares else alt.Axis()}
