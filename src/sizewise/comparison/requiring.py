"""A CI gate: check conditions on a new evaluation, relative to an old one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from sizewise.errors import UsageError
from sizewise.records import Comparison
from sizewise.records.upgrades import METRICS_2

_EXPRESSION = re.compile(
    r"\s*(?P<metric>\w+)\s*(?P<sign>>=|<=|>|<)\s*"
    r"(?:(?P<old>old)\s*(?:(?P<plus>[+-])\s*(?P<margin>\d+(?:\.\d+)?)\s*)?|(?P<threshold>-?\d+(?:\.\d+)?)\s*)"
)
EXAMPLES = '"bleu >= old - 0.5" or "exact_match >= 0.8"'


class Requirement(NamedTuple):
    """A condition and whether it is met."""

    expression: str
    kept: bool
    details: str
    """The compared values."""


def check_requirements(comparison: Comparison, new: str, old: str, expressions: Sequence[str]) -> list[Requirement]:
    """Check conditions on the point values of a new evaluation against an old one.

    Args:
        comparison: comparison of both.
        new: name of the candidate that must meet the conditions.
        old: name of the candidate that `old` refers to.
        expressions: conditions such as "bleu >= old - 0.5" or "exact_match >= 0.8".

    Raises:
        UsageError: a condition can't be parsed, or its metric wasn't measured.
    """
    return [_check(comparison, new, old, expression) for expression in expressions]


def _check(comparison: Comparison, new: str, old: str, expression: str) -> Requirement:
    parts = _EXPRESSION.fullmatch(expression)
    if parts is None:
        raise UsageError(
            f"Can't parse the condition '{expression}'.", EXAMPLES, "sizewise compare NEW OLD --require EXPRESSION"
        )
    metric = parts["metric"]
    if metric in METRICS_2 and metric not in comparison.scores:
        now = METRICS_2[metric]
        raise UsageError(f"'{expression}': the metric {metric} is now {now}.", now, f"use {now} in --require")
    if metric not in comparison.scores:
        raise UsageError(
            f"'{expression}': {metric} wasn't measured.",
            ", ".join(name for name in comparison.scores if "@" not in name and "#" not in name),
            f"run sizewise evaluate again with --metrics {metric}",
        )
    scores = [comparison.scores[metric].get(name) for name in (new, old)]  # one side may lack the metric
    value, before = (score.value if score else None for score in scores)
    if value is None or (parts["old"] and before is None):
        without = scores[0 if value is None else 1]
        return Requirement(
            expression, False, f"{metric} has no value: {without.missing_reason if without else 'not measured'}"
        )
    if parts["old"]:
        margin = float(parts["margin"] or 0) * (-1 if parts["plus"] == "-" else 1)
        threshold = float(before or 0) + margin
    else:
        threshold = float(parts["threshold"])
    largest = max(abs(float(parts[key] or 0)) for key in ("margin", "threshold"))
    if largest > 1 and any(score is not None and score.unit == "share" for score in scores):
        raise UsageError(
            f"'{expression}' can't be checked: {metric} ranges from 0 to 1.",
            f"a fraction, such as {largest / 100:g}",
            "sizewise compare NEW OLD --require EXPRESSION",
        )
    found = next((difference for difference in comparison.differences if difference.metric == metric), None)
    if parts["old"] and found is not None:  # on common items: one side may lack some
        value = float(before or 0) + (found.value if found.left == new else -found.value)
    signs = {">=": value >= threshold, "<=": value <= threshold, ">": value > threshold, "<": value < threshold}
    kept = signs[parts["sign"]]
    tested = ""
    if found is not None:
        side = {new: "the new one is significantly better", old: "the old one is significantly better"}
        tested = f"; {side[found.better] if found.better else 'the difference is not significant'}"
    return Requirement(expression, kept, f"{metric} is {value:.6g}, threshold {threshold:.6g}{tested}")


def as_junit(requirements: Sequence[Requirement], new: str, old: str) -> str:
    """Format the conditions as JUnit XML, one test case each."""
    failures = sum(1 for requirement in requirements if not requirement.kept)
    suite = ElementTree.Element(
        "testsuite", name=f"{new} vs. {old}", tests=str(len(requirements)), failures=str(failures)
    )
    for requirement in requirements:
        case = ElementTree.SubElement(suite, "testcase", classname="sizewise.compare", name=requirement.expression)
        if requirement.kept:
            ElementTree.SubElement(case, "system-out").text = requirement.details
        else:
            ElementTree.SubElement(case, "failure", message=requirement.details).text = requirement.details
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def as_markdown(requirements: Sequence[Requirement], new: str, old: str) -> str:
    """Format the conditions as a Markdown table."""
    lines = [f"### {new} vs. {old}", "", "| Condition | Met | Values |", "|---|---|---|"]
    lines += [
        f"| `{requirement.expression}` | {'yes' if requirement.kept else '**no**'} | {requirement.details} |"
        for requirement in requirements
    ]
    return "\n".join(lines) + "\n"
