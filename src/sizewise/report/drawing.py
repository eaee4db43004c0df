"""Drawing shared by all plots: the palette, light and dark themes, baselines and quality axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sizewise.errors import MissingExtraError
from sizewise.metrics.display import is_percentage, measure_of
from sizewise.records import Comparison

# Okabe and Ito's palette, safe for most color-blind readers; shapes encode the same distinction.
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
    """Render a chart as SVG in a light and a dark theme."""
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


def significance_fill(alt: Any) -> Any:
    """Fill only the points of significant differences."""
    return alt.condition("datum.significant", alt.value(COLORS[0]), alt.value("transparent"))


def quality_axis(alt: Any, comparison: Comparison, metric: str) -> dict[str, Any]:
    """Return title and number format of an axis of quality, for alt.X and alt.Y."""
    shares = any(is_percentage(metric, score.unit) for score in comparison.scores.get(metric, {}).values())
    return {"title": measure_of(metric).title, "axis": alt.Axis(format="%") if shares else alt.Axis()}
