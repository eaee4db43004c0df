"""Sliders of the page: what counts as good enough, requests per month, and where the candidates are on each."""

from __future__ import annotations

from math import log
from typing import Any, NamedTuple

import numpy as np

from sizewise.choice import Slider, decide, sliders
from sizewise.choice.costing import cost_line
from sizewise.metrics.display import is_percentage, measure_of, plain_value
from sizewise.records import Recommendation
from sizewise.report.forest import round_step
from sizewise.report.rounding import money_range
from sizewise.report.standing import Standing

STOPS = 8
"""Stops of the slider of a saved page, which can't compute a decision and so carries one for each stop."""
MAX_MARKS = 8
VOLUMES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
MAX_COSTS = 4
LOGARITHMIC = 10
"""A slider is logarithmic if its range spans more than this factor."""


class Mark(NamedTuple):
    """A candidate on a slider."""

    name: str
    position: float
    """In percent of the slider's width."""


class MarkedSlider(NamedTuple):
    """A slider of the live page with the candidates on it."""

    slider: Slider
    marks: list[Mark]


class Stop(NamedTuple):
    """One position of the slider of a saved page."""

    label: str
    minimum: float | None
    threshold: float | None
    """Minimum in the units of the forest plot."""
    recommendation: Recommendation


def marked_sliders(standing: Standing) -> list[MarkedSlider]:
    """List the sliders of the live page, each with the candidates' values."""
    metrics = {
        "min_quality": standing.quality,
        "max_latency_s": "latency_s",
        "max_latency_p95_s": "p95_latency_s",
        "max_memory_gb": "memory_bytes",
    }
    found = []
    for slider in sliders(standing.comparison, standing.choice.needs):
        marks = []
        for name in standing.candidates[:MAX_MARKS]:
            value = _value(standing, slider.name, metrics.get(slider.name), name)
            if value is not None:
                marks.append(Mark(name, _position(slider, value)))
        found.append(MarkedSlider(slider, marks))
    return found


def _value(standing: Standing, need: str, metric: str | None, name: str) -> float | None:
    """Return the value of a candidate on the scale of a slider."""
    if need == "max_bias_gap":
        return standing.choice.bias_gap(name)
    if need == "max_cost_usd_per_1000":
        line = standing.cost(name)
        return line.usd_per_1000.expected if line and line.usd_per_1000 else None
    if metric is None:
        return None
    if metric == "p95_latency_s":
        found = standing.p95(name)
        return found[0].value if found else None
    score = standing.score(metric, name)
    return None if score is None or score.value is None else score.value / (1e9 if metric == "memory_bytes" else 1)


def _position(slider: Slider, value: float) -> float:
    """Return the place of a value on a slider in percent, as the page's script computes it."""
    lower, upper = slider.lower, slider.upper
    if lower > 0 and upper / lower > LOGARITHMIC:
        share = log(max(value, lower) / lower) / log(upper / lower)
    else:
        share = (value - lower) / max(1e-12, upper - lower)
    return round(100 * min(1.0, max(0.0, share)), 1)


def quality_stops(standing: Standing) -> list[Stop]:
    """Decide for no minimum score and for round ones between the candidates' scores."""
    scores = [score for name in standing.candidates if (score := standing.score(standing.quality, name))]
    values = [end for score in scores for end in (score.value, score.ci_low, score.ci_high) if end is not None]
    if len(values) < 2 or min(values) == max(values):
        return []
    step = round_step(max(values) - min(values), STOPS)
    first, last = int(np.floor(min(values) / step)), int(np.ceil(max(values) / step))
    minimums = [found for i in range(max(first, 0), last + 1) if (found := float(f"{i * step:.6g}")) > 0]
    given = standing.choice.needs.min_quality
    unit = scores[0].unit
    factor = 100.0 if is_percentage(standing.quality, unit) else 1 / measure_of(standing.quality).divisor
    stops = []
    wanted: list[float | None] = [None, *sorted({*minimums, *([given] if given is not None else [])})]
    for minimum in wanted:
        needs = standing.choice.needs.model_copy(update={"min_quality": minimum, "incumbent": None, "max_loss": None})
        same = minimum == given
        stops.append(
            Stop(
                "(not set)" if minimum is None else plain_value(standing.quality, unit, minimum),
                minimum,
                None if minimum is None else factor * minimum,
                standing.recommendation if same else decide(standing.comparison, "", needs),
            )
        )
    return stops


def stop_marks(standing: Standing, stops: list[Stop]) -> list[Mark]:
    """Place the candidates on the slider of a saved page."""
    known = [(i, stop.minimum) for i, stop in enumerate(stops) if stop.minimum is not None]
    if not known:
        return []  # no score to set a minimum of
    places, minimums = [i for i, _ in known], [minimum for _, minimum in known]
    marks = []
    for name in standing.candidates[:MAX_MARKS]:
        score = standing.score(standing.quality, name)
        if score is not None and score.value is not None:
            place = float(np.interp(score.value, minimums, places))
            marks.append(Mark(name, round(100 * place / max(1, len(stops) - 1), 1)))
    return marks


def monthly_costs(standing: Standing) -> list[dict[str, Any]]:
    """Compute the cost of a month at several volumes, for the subject and the best other candidates with a cost."""
    names = [standing.subject, *(name for name in standing.candidates if name != standing.subject)]
    shown = [name for name in names if standing.cost(name)][:MAX_COSTS]
    found = []
    for volume in VOLUMES if shown else ():
        needs = standing.choice.needs.model_copy(update={"requests_per_month": volume})
        lines = [cost_line(standing.comparison, name, needs) for name in shown]
        costs = [[line.name, f"{money_range(line.usd_per_month)} USD"] for line in lines if line.usd_per_month]
        found.append({"label": f"{volume:,}", "costs": costs})
    return found
