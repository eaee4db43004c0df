"""The page of a training run, rewritten while it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sizewise.records import Checkpoint, CurvePoint, Estimate, Recipe
from sizewise.report.environment import make_environment, read_template
from sizewise.report.run_plots import curve_plot
from sizewise.store import write_atomically

PAGE_EVERY_S = 20.0


class PageWatcher:
    """Rewrites a run's page every 20 seconds and at each validation; called after each training step.

    Args:
        path: path of the page.
        recipe: the recipe of the run.
    """

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path, self._recipe = path, recipe
        self._written = 0.0

    def __call__(self, progress: Any) -> None:
        """Write the page if it is due."""
        if time.monotonic() - self._written < PAGE_EVERY_S and progress.bits_per_byte is None:
            return
        write_training_page(
            self.path,
            self._recipe,
            [CurvePoint(**asdict(point)) for point in progress.points],
            progress.budget,
            speed=progress.tokens_per_s,
            start=progress.start_bits_per_byte,
        )
        self._written = time.monotonic()

    def finish(self, record: Checkpoint) -> None:
        """Write the page of a finished run."""
        write_training_page(
            self.path,
            record.recipe,
            record.curve,
            record.tokens,
            speed=record.tokens_per_s,
            start=record.start_bits_per_byte,
            estimate=record.estimate,
            finished=True,
        )


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
    """Write the progress of a run; the page reloads itself until the run has finished.

    Args:
        path: path of the page.
        recipe: the recipe of the run.
        points: the run so far, at least one point.
        budget: tokens to train on.
        speed: tokens per second, if known.
        start: validation bits per byte before training.
        estimate: the estimate made before the start.
        finished: whether the run has finished.
    """
    measured = [point for point in points if point.bits_per_byte is not None]
    tokens = points[-1].tokens
    left_s = (budget - tokens) / speed if speed else None
    caption = "Top: validation, lower is better. Bottom: training loss per step, in nats per token."
    content = {
        "run": path.parent.name,
        "recipe": recipe,
        "points": points,
        "tokens": tokens,
        "budget": budget,
        "left": None if left_s is None else f"{left_s / 60:.0f} min" if left_s > 90 else f"{left_s:.0f} s",
        "speed": f"{speed:,.0f} tokens/s" if speed else "speed not measured yet",
        "first": start,
        "best": min((point.bits_per_byte for point in measured if point.bits_per_byte is not None), default=None),
        "measured": measured,
        "estimate": estimate,
        "finished": finished,
        "plots": [curve_plot(recipe.start, points, start, caption)],
        "now": datetime.now(UTC).strftime("%H:%M:%S UTC"),
        "css": read_template("page.css"),
    }
    write_atomically(path, make_environment().get_template("training.html.jinja").render(**content))
    return path
