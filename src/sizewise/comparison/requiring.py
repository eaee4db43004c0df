"""A CI gate: test conditions on a new evaluation, relative to an old one.

A condition isn't a comparison of two points, because points differ by chance. It is met if the whole 95% interval of
what it is about lies on the right side of the threshold, missed if the whole interval lies on the wrong side, and
undecided otherwise. Two equal models therefore miss `metric >= old` in at most 2.5% of runs.

An interval of `new - factor * old - margin` combines the interval of the paired difference with that of the old score
where the factor isn't 1. Scores without paired items take the interval of Zou and Donner (2008), Construction of
confidence limits about effect measures, for independent estimates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from typing import Literal, NamedTuple
from xml.etree import ElementTree

import numpy as np

from sizewise.comparison.claims import differences
from sizewise.comparison.tables import ItemTable
from sizewise.errors import UsageError
from sizewise.records import Comparison, Difference, Evaluation, Score
from sizewise.records.upgrades import METRICS_2
from sizewise.stats import MIN_CLUSTERS
from sizewise.store import Store

_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_EXPRESSION = re.compile(
    r"\s*(?P<metric>[\w:.,/-]+(?:@\w+)?(?:#[^<>=]*[^<>=\s])?)\s*(?P<sign>>=|<=|>|<)\s*"
    rf"(?:(?P<threshold>[+-]?\s*{_NUMBER})|"
    rf"(?:(?P<before>{_NUMBER})\s*\*\s*)?(?P<old>old)(?:\s*(?P<scale>[*/])\s*(?P<factor>{_NUMBER}))?"
    rf"(?:\s*(?P<plus>[+-])\s*(?P<margin>{_NUMBER}))?)\s*"
)
EXAMPLES = '"bleu >= old - 0.5", "latency_s <= old * 1.2" or "exact_match@all >= .8"'
NEXT = "sizewise compare NEW OLD --require EXPRESSION"
COUNTED = ("parameters", "disk_bytes", "memory_bytes")
"""Facts that are counted or computed, so their points can be compared."""
_TINY = 1e-12
Ends = tuple[float, float]
Outcome = Literal["met", "missed", "undecided"]


class Requirement(NamedTuple):
    """A condition and whether it is met."""

    expression: str
    outcome: Outcome
    """`undecided` if the interval contains the threshold, or if there are too few documents for an interval."""
    details: str
    """The compared values, with the interval."""

    @property
    def kept(self) -> bool:
        """Whether the condition isn't missed."""
        return self.outcome != "missed"


class _Condition(NamedTuple):
    """`metric sign factor * old + margin`; without `relative`, only the margin counts."""

    expression: str
    metric: str
    sign: str
    relative: bool
    factor: float
    margin: float


def check_requirements(
    comparison: Comparison,
    new: str,
    old: str,
    expressions: Sequence[str],
    *,
    on_all: Sequence[Difference] = (),
) -> list[Requirement]:
    """Test conditions on a new evaluation against an old one.

    Args:
        comparison: comparison of both.
        new: name of the candidate that must meet the conditions.
        old: name of the candidate that `old` refers to.
        expressions: conditions such as "bleu >= old - 0.5" or "exact_match >= 0.8".
        on_all: differences of both on all items, for conditions on `metric@all`.

    Raises:
        UsageError: a condition can't be parsed, or its metric wasn't measured.
    """
    found = list(comparison.differences)
    found += [one.model_copy(update={"metric": f"{one.metric}@all"}) for one in on_all]
    pairs = {one.metric: one for one in found if {one.left, one.right} == {new, old}}
    scores = {metric: by.values() for metric, by in comparison.scores.items()}
    conditions = [_parse(expression, scores) for expression in expressions]
    return [_check(comparison, (new, old), condition, pairs, len(conditions)) for condition in conditions]


def differences_on_all(comparison: Comparison, store: Store) -> list[Difference]:
    """Compare the candidates of a comparison on all items, also on those that share text with training data.

    Args:
        comparison: the comparison.
        store: where its evaluations are kept.
    """
    tables = {name: ItemTable.read(store, record_id) for name, record_id in comparison.evaluations.items()}
    for table in tables.values():
        table.uncontaminated = np.ones_like(table.uncontaminated)
    records = {name: store.read(Evaluation, record_id) for name, record_id in comparison.evaluations.items()}
    return differences(records, tables, comparison.seed).differences


def check_expressions(evaluation: Evaluation, expressions: Sequence[str]) -> None:
    """Check that conditions can be tested on evaluations like this one, before there is another to compare it with.

    Raises:
        UsageError: a condition can't be parsed, or its metric wasn't measured.
    """
    for expression in expressions:
        _parse(expression, {metric: (score,) for metric, score in evaluation.scores.items()})


def _parse(expression: str, scores: Mapping[str, Iterable[Score]]) -> _Condition:
    """Parse a condition, and check that its metric was measured and its numbers fit the unit.

    Raises:
        UsageError: it can't be parsed, or checked.
    """
    parts = _EXPRESSION.fullmatch(expression)
    if parts is None:
        raise UsageError(f"Can't parse the condition '{expression}'.", EXAMPLES, NEXT)
    metric = parts["metric"]
    if metric not in scores:
        now = METRICS_2.get(metric)
        if now is not None:
            raise UsageError(f"'{expression}': the metric {metric} is now {now}.", now, f"use {now} in --require")
        plain = metric.partition("#")[0].partition("@")[0]
        near = [name for name in scores if name.partition("#")[0].partition("@")[0] == plain]
        known = near or [name for name in scores if "@" not in name and "#" not in name]
        raise UsageError(
            f"'{expression}': {metric} wasn't measured.",
            ", ".join(known),
            f"run sizewise evaluate again with --metrics {plain}",
        )
    relative = parts["old"] is not None
    factor = float(parts["before"] or 1) if relative else 0.0
    if parts["factor"]:
        if parts["scale"] == "/" and not float(parts["factor"]):
            raise UsageError(f"'{expression}' divides by zero.", EXAMPLES, NEXT)
        factor *= float(parts["factor"]) if parts["scale"] == "*" else 1 / float(parts["factor"])
    written = parts["margin"] if relative else parts["threshold"].replace(" ", "")
    margin = float(written or 0) * (-1 if parts["plus"] == "-" else 1)
    if abs(margin) > 1 and any(score.unit == "share" for score in scores[metric]):
        raise UsageError(
            f"'{expression}' can't be checked: {metric} ranges from 0 to 1.",
            f"a fraction, such as {abs(margin) / 100:g}",
            NEXT,
        )
    return _Condition(expression, metric, parts["sign"], relative, factor, margin)


def _check(
    comparison: Comparison,
    names: tuple[str, str],
    condition: _Condition,
    pairs: dict[str, Difference],
    conditions: int,
) -> Requirement:
    metric = condition.metric
    scores = [comparison.scores[metric].get(name) for name in names]  # one side may lack the metric
    for score in scores if condition.relative else scores[:1]:
        if score is None or score.value is None:
            reason = score.missing_reason if score is not None else "not measured"
            return Requirement(condition.expression, "missed", f"{metric} has no value: {reason}")
    found = pairs.get(metric) if condition.relative else None
    if found is not None and found.left != names[0]:
        found = found.turned()
    new, old = scores
    assert new is not None
    assert new.value is not None
    before = old.value if condition.relative and old is not None and old.value is not None else 0.0
    # On common items, if there is a paired difference: one side may lack some.
    value = before + found.value if found is not None else new.value
    threshold = condition.factor * before + condition.margin
    shown = f"{metric} is {value:.6g}, threshold {threshold:.6g}"
    ends, few = _interval(new, old, condition, found)
    if ends is None:
        return Requirement(condition.expression, "undecided", f"{shown}; {few}")
    failing = ends
    if conditions > 1 and found is not None and None not in found.family_ends:
        # Any of several conditions may be missed by chance; all of them have to be met, so that needs no correction.
        adjusted, _ = _interval(new, old, condition, found.model_copy(update=_simultaneous(found)))
        failing = adjusted if adjusted is not None else ends
    outcome = _outcome(condition.sign, ends, failing)
    details = f"{shown}; value minus threshold {value - threshold:.6g}"
    if ends[0] < ends[1]:
        details += f" [{ends[0]:.6g}, {ends[1]:.6g}]"
    return Requirement(condition.expression, outcome, details + _advice(outcome, found, few))


def _advice(outcome: Outcome, found: Difference | None, note: str) -> str:
    """Return what else a reader should know: a comparison of points, or how many documents would decide."""
    if note:
        return f"; {note}"
    if outcome != "undecided" or found is None or found.detectable is None:
        return ""
    return f"; {found.clusters} documents detect a difference of {found.detectable:.3g}"


def _simultaneous(found: Difference) -> dict[str, float | None]:
    return dict(zip(("ci_low", "ci_high"), found.family_ends, strict=True))


def _outcome(sign: str, passing: Ends, failing: Ends) -> Outcome:
    """Apply the rule to intervals of the value minus the threshold."""
    if sign in ("<=", "<"):
        passing, failing = (-passing[1], -passing[0]), (-failing[1], -failing[0])
    strict, exact = sign in (">", "<"), passing[0] == passing[1]
    if passing[0] > _TINY or (not strict and passing[0] >= -_TINY):
        return "met"
    if failing[1] < -_TINY or (strict and exact and failing[1] <= _TINY):
        return "missed"
    return "undecided"


def _interval(
    new: Score, old: Score | None, condition: _Condition, found: Difference | None
) -> tuple[Ends | None, str]:
    """Return the interval of the value minus the threshold, or None and the reason; and a note for the reader."""
    assert new.value is not None
    if not condition.relative:
        ends, note = _ends(new)
        return (ends and (ends[0] - condition.margin, ends[1] - condition.margin)), note
    assert old is not None
    assert old.value is not None
    before, note = _ends(old)
    if found is not None:
        if found.ci_low is None or found.ci_high is None:
            return None, f"too few documents to decide: {found.clusters}, and {MIN_CLUSTERS} are needed"
        more, base = condition.factor - 1, before or (old.value, old.value)
        floor, ceiling = sorted((more * base[0], more * base[1]))
        margin = condition.margin
        return (found.ci_low - ceiling - margin, found.ci_high - floor - margin), "" if not more else note
    after, why = _ends(new)
    if after is None or before is None:
        return None, why or note
    floor, ceiling = sorted((condition.factor * before[0], condition.factor * before[1]))
    scaled = condition.factor * old.value
    value = new.value - scaled - condition.margin
    down = sqrt((new.value - after[0]) ** 2 + (ceiling - scaled) ** 2)
    up = sqrt((after[1] - new.value) ** 2 + (scaled - floor) ** 2)
    return (value - down, value + up), why or note


def _ends(score: Score) -> tuple[Ends | None, str]:
    """Return the interval of a score; a counted fact is its own, and too few documents have none."""
    assert score.value is not None
    if score.ci_low is not None and score.ci_high is not None:
        return (score.ci_low, score.ci_high), ""
    if score.metric in COUNTED:
        return (score.value, score.value), ""
    if score.clusters is not None and score.clusters < MIN_CLUSTERS:
        return None, f"too few documents to decide: {score.clusters}, and {MIN_CLUSTERS} are needed"
    return None, score.ci_missing_reason or f"{score.metric} has no interval"


def as_junit(requirements: Sequence[Requirement], new: str, old: str) -> str:
    """Format the conditions as JUnit XML, one test case each; undecided ones are skipped."""
    missed = sum(1 for requirement in requirements if requirement.outcome == "missed")
    undecided = sum(1 for requirement in requirements if requirement.outcome == "undecided")
    counts = {"tests": str(len(requirements)), "failures": str(missed), "skipped": str(undecided)}
    suite = ElementTree.Element("testsuite", {"name": f"{new} vs. {old}", **counts})
    for requirement in requirements:
        case = ElementTree.SubElement(suite, "testcase", classname="sizewise.compare", name=requirement.expression)
        if requirement.outcome == "met":
            ElementTree.SubElement(case, "system-out").text = requirement.details
        elif requirement.outcome == "undecided":
            ElementTree.SubElement(case, "skipped", message=f"undecided: {requirement.details}")
        else:
            ElementTree.SubElement(case, "failure", message=requirement.details).text = requirement.details
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def as_markdown(requirements: Sequence[Requirement], new: str, old: str) -> str:
    """Format the conditions as a Markdown table."""
    words = {"met": "yes", "missed": "**no**", "undecided": "undecided"}
    lines = [f"### {new} vs. {old}", "", "| Condition | Met | Values |", "|---|---|---|"]
    lines += [f"| `{one.expression}` | {words[one.outcome]} | {one.details} |" for one in requirements]
    return "\n".join(lines) + "\n"
