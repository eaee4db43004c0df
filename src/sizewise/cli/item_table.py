"""Print an item analysis: `sizewise compare --items`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sizewise.cli.output import print_csv, print_line, print_notes, print_path, print_points, print_table, print_verdict

if TYPE_CHECKING:
    from sizewise.records import ItemAnalysis, ReviewedItem

HEADINGS = ["item", "why", "difficulty", "discrimination", "p", "p (FDR)", "passed", "failed"]
TEXT_HEADINGS = [*HEADINGS, "prompt", "reference", "common answer"]
NAMES = 3
"""Candidates in a cell on the terminal."""
SHOWN = 80
"""Characters of a prompt or an answer in a table on the terminal."""


def print_items(found: ItemAnalysis, csv: bool) -> None:
    """Print the summary, the items to review and the anchors."""
    if print_csv(TEXT_HEADINGS, [[*_row(one, None), *_texts(one)] for one in found.review], csv):
        return
    print_verdict(_summary(found))
    print_table(HEADINGS, [_row(one) for one in found.review], "Items to review" if found.review else "")
    print_points(
        "Prompt, reference and the answer that failing candidates have in common",
        [f"{one.item}: " + " | ".join(_shorten(text) for text in _texts(one) if text) for one in found.review],
    )
    print_line("")
    print_line(_anchors(found))
    print_notes(found.notes)
    print_path(f"comparison: {found.comparison}")


def _summary(found: ItemAnalysis) -> str:
    from sizewise.report.words import measure_of

    checked = f"{found.n:,} items, {len(found.candidates)} candidates, {measure_of(found.metric).title}"
    wrong = f"{found.suspicious} item{'s' * (found.suspicious != 1)} with a suspicious reference answer"
    constant = [
        f"{count} {'is' if count == 1 else 'are'} {what} by all"
        for count, what in ((found.passed_by_all, "passed"), (found.failed_by_all, "failed"))
        if count is not None
    ]
    return f"{wrong}. {checked}" + (f"; {' and '.join(constant)}." if constant else ".")


def _row(one: ReviewedItem, most: int | None = NAMES) -> list[str]:
    from sizewise.report.words import number

    figures = (one.discrimination, one.p, one.p_adjusted)
    return [
        one.item,
        "strong candidates fail, weak ones pass" if one.reason == "negative discrimination" else one.reason,
        number(one.difficulty),
        *("-" if value is None else number(value, 2) for value in figures),
        _names(one.passed, most) or "-",
        _names(one.failed, most) or "-",
    ]


def _names(candidates: tuple[str, ...], most: int | None) -> str:
    """List candidates, best first; of many the first few."""
    if most is None or len(candidates) <= most:
        return ", ".join(candidates)
    return f"{', '.join(candidates[: most - 1])} and {len(candidates) - most + 1} more"


def _texts(one: ReviewedItem) -> list[str]:
    return [one.prompt, one.references[0] if one.references else "", one.common_answer or ""]


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


def _anchors(found: ItemAnalysis) -> str:
    from sizewise.report.words import number

    anchors = found.anchors
    if anchors is None:
        return f"No anchor items: {found.n} items are too few to choose from."
    if anchors.error is None or anchors.random_error is None or anchors.largest_error is None:
        return (
            f"{len(anchors.items)} anchor items, listed with --json; their error is unknown: {anchors.missing_reason}."
        )
    return (
        f"{len(anchors.items)} anchor items, listed with --json, estimate the score of a candidate that had no part in "
        f"choosing them with an error of {number(anchors.error, 2)} (at most {number(anchors.largest_error, 2)}; "
        f"equally many random items: {number(anchors.random_error, 2)})."
    )
