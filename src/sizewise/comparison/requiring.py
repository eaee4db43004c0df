"""A gate for CI: whether a new evaluation keeps what an old one reached."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from sizewise.errors import UsageError
from sizewise.records import Comparison

_EXPRESSION = re.compile(
    r"\s*(?P<metric>\w+)\s*(?P<sign>>=|<=|>|<)\s*"
    r"(?:(?P<old>old)\s*(?:(?P<plus>[+-])\s*(?P<margin>\d+(?:\.\d+)?)\s*)?|(?P<bar>-?\d+(?:\.\d+)?)\s*)"
)
HOW = '"bleu >= old - 0.5" or "exact_match >= 0.8"'


class Requirement(NamedTuple):
    """One condition and whether it is kept."""

    expression: str
    kept: bool
    said: str
    """The values that were compared."""


def check_requirements(comparison: Comparison, new: str, old: str, expressions: Sequence[str]) -> list[Requirement]:
    """Check conditions on the point values of a new evaluation against an old one.

    Args:
        comparison: of both.
        new: name of the candidate that must keep them.
        old: name of the one that `old` means.
        expressions: such as "bleu >= old - 0.5" or "exact_match >= 0.8".

    Raises:
        UsageError: one cannot be read, or its metric was not measured.
    """
    return [_check(comparison, new, old, expression) for expression in expressions]


def _check(comparison: Comparison, new: str, old: str, expression: str) -> Requirement:
    parts = _EXPRESSION.fullmatch(expression)
    if parts is None:
        raise UsageError(f"'{expression}' is no condition.", HOW, "sizewise compare NEW OLD --require EXPRESSION")
    metric = parts["metric"]
    if metric not in comparison.scores:
        raise UsageError(
            f"'{expression}': {metric} was not measured.",
            ", ".join(name for name in comparison.scores if "@" not in name and "#" not in name),
            "evaluate again with --metrics",
        )
    scores = [comparison.scores[metric].get(name) for name in (new, old)]  # measured of one of them, perhaps
    value, before = (score.value if score else None for score in scores)
    if value is None or (parts["old"] and before is None):
        lacking = scores[0 if value is None else 1]
        return Requirement(
            expression, False, f"{metric} is missing: {lacking.missing_reason if lacking else 'not measured'}"
        )
    if parts["old"]:
        margin = float(parts["margin"] or 0) * (-1 if parts["plus"] == "-" else 1)
        bar = float(before or 0) + margin
    else:
        bar = float(parts["bar"])
    signs = {">=": value >= bar, "<=": value <= bar, ">": value > bar, "<": value < bar}
    kept = signs[parts["sign"]]
    found = next((d for d in comparison.differences if d.metric == metric), None)
    shown = "" if found is None else f"; {'shown to differ' if found.better else 'the difference is not decisive'}"
    return Requirement(expression, kept, f"{metric} is {value:.6g}, the bar {bar:.6g}{shown}")


def as_junit(requirements: Sequence[Requirement], new: str, old: str) -> str:
    """Write the conditions as a JUnit file, a test case each."""
    failures = sum(1 for one in requirements if not one.kept)
    suite = ElementTree.Element(
        "testsuite", name=f"{new} against {old}", tests=str(len(requirements)), failures=str(failures)
    )
    for one in requirements:
        case = ElementTree.SubElement(suite, "testcase", classname="sizewise.compare", name=one.expression)
        if one.kept:
            ElementTree.SubElement(case, "system-out").text = one.said
        else:
            ElementTree.SubElement(case, "failure", message=one.said).text = one.said
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def as_markdown(requirements: Sequence[Requirement], new: str, old: str) -> str:
    """Write the conditions as a table in Markdown."""
    lines = [f"### {new} against {old}", "", "| condition | kept | values |", "|---|---|---|"]
    lines += [f"| `{one.expression}` | {'yes' if one.kept else '**no**'} | {one.said} |" for one in requirements]
    return "\n".join(lines) + "\n"
