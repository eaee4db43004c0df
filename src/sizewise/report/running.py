"""The page of a training run, written again while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from sizewise.records import CurvePoint, Estimate, Recipe
from sizewise.report.plots import curve_plot
from sizewise.report.writing import make_environment
from sizewise.store import write_atomically


def write_training_page(
    path: Path,
    recipe: Recipe,
    points: Sequence[CurvePoint],
    budget: int,
    *,
    speed: float | None = None,
    start: float | None = None,
    estimate: Estimate | None = None,
    finished: bool = False,
) -> Path:
    """Write how far a run is; a browser that shows the page loads it again by itself.

    Args:
        path: where to.
        recipe: what is being done.
        points: the run so far, at least one.
        budget: tokens to see.
        speed: tokens a second, where it is known.
        start: validation bits per byte before training.
        estimate: what the run was expected to take.
        finished: whether it is over.
    """
    measured = [point for point in points if point.bits_per_byte is not None]
    tokens = points[-1].tokens
    left_s = (budget - tokens) / speed if speed else None
    caption = "Above: validation text, lower is better. Below: loss of each step in nats a token."
    content = {
        "run": path.parent.name,
        "recipe": recipe,
        "points": points,
        "tokens": tokens,
        "budget": budget,
        "left": "time not known" if left_s is None else f"{left_s / 60:.0f} min" if left_s > 90 else f"{left_s:.0f} s",
        "speed": f"{speed:,.0f} tokens/s" if speed else "speed not measured yet",
        "first": start,
        "best": min((point.bits_per_byte for point in measured if point.bits_per_byte is not None), default=None),
        "measured": measured,
        "estimate": estimate,
        "finished": finished,
        "plots": [curve_plot(recipe.start, points, start, caption)],
        "now": datetime.now(UTC).strftime("%H:%M:%S UTC"),
        "css": (resources.files("sizewise.report") / "templates" / "page.css").read_text(encoding="utf-8"),
    }
    write_atomically(path, make_environment().get_template("training.html.jinja").render(**content))
    return path
