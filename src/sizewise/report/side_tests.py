"""Tables of further tests (bias, general knowledge, fairness): small against large, before against after training."""

from __future__ import annotations

from typing import NamedTuple

from sizewise.metrics.display import measure_of, value_text
from sizewise.records import Comparison, Difference, ModelDescription
from sizewise.report.rounding import rounded_difference
from sizewise.report.view import StudyView
from sizewise.stats import LEVEL

SWAPPED_GROUPS = "counterfactual fairness"
TITLES = {
    "bias": "Bias test, by log-likelihood",
    "bias by prompting": "Bias test, by prompting",
    "general knowledge": "General knowledge",
    SWAPPED_GROUPS: "Counterfactual fairness on the test questions",
}
MIN_RATIO = 2.0
"""Ratio of parameters from which one model is called small and the other large."""


class SideScore(NamedTuple):
    """The score of one model on one metric."""

    name: str
    metric: str
    text: str
    note: str
    """n, or why there is no value."""


class SideDifference(NamedTuple):
    """A tested difference between two models."""

    metric: str
    left: str
    right: str
    relation: str
    """What the pair shows: training, size, or nothing in particular."""
    text: str
    p: str
    verdict: str


class SideTable(NamedTuple):
    """What one further test shows."""

    title: str
    slug: str
    scores: list[SideScore]
    differences: list[SideDifference]
    description: str


def side_tables(view: StudyView) -> list[SideTable]:
    """Build the tables of all further tests of a study."""
    return [_table(view, name, found) for name, found in view.side_tests.items()]


def _table(view: StudyView, test: str, found: Comparison) -> SideTable:
    shown = [name for name in found.scores if "#" not in name or "_gap#" in name]
    scores = [
        SideScore(
            candidate,
            measure_of(metric).title,
            value_text(score) if score.value is not None else "not measured",
            f"n = {score.n}" if score.value is not None else str(score.missing_reason),
        )
        for metric in shown
        for candidate, score in found.scores[metric].items()
    ]
    differences = [_row(view, found, one) for one in found.differences if one.metric in shown or _differs(one)]
    metrics = dict.fromkeys(metric.partition("#")[0] for metric in shown)
    description = " ".join(f"{measure_of(metric).title}: {measure_of(metric).description}" for metric in metrics)
    return SideTable(TITLES.get(test, test), test.replace(" ", "-"), scores, differences, description)


def _differs(one: Difference) -> bool:
    return one.corrected_p is not None and one.corrected_p < LEVEL


def _row(view: StudyView, found: Comparison, one: Difference) -> SideDifference:
    verdict = f"{one.better} is better" if one.better else "different" if _differs(one) else "not significant"
    p = "\u2013" if one.corrected_p is None else f"{one.corrected_p:.2g}"
    text = rounded_difference(one)
    return SideDifference(
        measure_of(one.metric).title, one.left, one.right, _relation(view, found, one), text, p, verdict
    )


def _relation(view: StudyView, found: Comparison, one: Difference) -> str:
    """Describe what a pair shows: the effect of training, or of size."""
    for trained, base in view.study.bases.items():
        if (one.left, one.right) == (trained, base):
            return "after and before training"
        if (one.left, one.right) == (base, trained):
            return "before and after training"
    pair = [found.models[name] for name in (one.left, one.right)]
    if pair[0].hosted and pair[1].local:
        return "paid and own"
    if pair[0].local and pair[1].hosted:
        return "own and paid"
    left, right = map(_size, pair)
    if left and right and max(left, right) >= MIN_RATIO * min(left, right):
        return "large and small" if left > right else "small and large"
    return ""


def _size(model: ModelDescription) -> int:
    """Return the number of parameters; 0 if it is unknown or only estimated."""
    return model.parameters or 0


def specializations(view: StudyView) -> dict[str, str]:
    """List what each trained candidate is: domain specialist, small generalist, or neither."""
    return {
        name: one.specialization.summary for name, one in view.checkpoints.items() if one.specialization is not None
    }
