"""Whether a difference in a measure shows better answers: only where the measures that fit the task agree.

Overlap with a reference rewards answers of the reference's length and wording. So a difference in overlap is contested
unless the content of the reference also occurs more often in the better one's answers. Both must be larger than what
measures and people's grades differ by on answers of different styles (`ALLOWANCE`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sizewise.comparison.claims import check_alike, differences
from sizewise.comparison.content import (
    MATCH,
    OVERLAP,
    PREDICTORS,
    RECALL,
    SIMILARITY,
    SUPPORT,
    Content,
    read_content,
)
from sizewise.comparison.grade_sheet import read_grade_sheet
from sizewise.comparison.grading import combined_grades
from sizewise.comparison.tables import ItemTable
from sizewise.comparison.voice import add_voice
from sizewise.comparison.worst_gaps import gap_differences
from sizewise.metrics import find_metric
from sizewise.metrics.base import total_of
from sizewise.metrics.grades import HUMAN_GRADE
from sizewise.records import Difference, Evaluation, Score, Spread, Unlike
from sizewise.stats import LEVEL
from sizewise.store import Store

ALLOWANCE = 0.03
"""Difference in content that measures may show between answers of different styles that people grade alike: about the
largest of ten pairs of systems whose answers people graded, see docs/explanation/measures.md."""
LONG_ALLOWANCE = 0.05
"""The same where references are long, see there."""
ASK = "ask people"
NOT_VALIDATED = "not validated on people"


class Checked(NamedTuple):
    """Differences with the claims that stand, and the scores of the measures that were added."""

    differences: tuple[Difference, ...]
    scores: dict[str, dict[str, Score]]
    notes: list[str]


class Claims(NamedTuple):
    """What a comparison measures and claims."""

    tables: dict[str, ItemTable]
    """Candidate -> its items."""
    extra: tuple[str, ...]
    """Metrics that the evaluations didn't ask for."""
    differences: tuple[Difference, ...]
    """Differences on all metrics."""
    scores: dict[str, dict[str, Score]]
    """Scores on the further metrics."""
    spread: dict[str, Spread]
    """How the candidates' values vary together."""
    unlike: tuple[Unlike, ...]
    """Pairs that were measured in different ways."""
    notes: list[str]
    """Notes for the reader."""
    graded: str = ""
    """Fingerprint of the grade sheet; empty without one."""


def measure_claims(
    store: Store,
    records: Mapping[str, Evaluation],
    named: Mapping[str, str],
    seed: int,
    classical_tests: bool,
    grades: str | Path | None = None,
) -> Claims:
    """Read the items of evaluations, compute the differences, and check what they show.

    Args:
        store: where records live.
        records: candidate -> evaluation.
        named: candidate -> its id.
        seed: seed of the random subsets of documents.
        classical_tests: whether to compute the p-values of classical tests as well.
        grades: a grade sheet that people filled in.
    """
    sheet = None if grades is None else read_grade_sheet(grades, named, store)
    content = read_content(store, records, named, sheet)
    voices, voice_notes = add_voice(content.tables, store, records, named, seed)
    found = check_alike(differences(records, content.tables, seed, classical_tests, content.extra))
    gaps = gap_differences(records, content.tables)
    checked = check_claims([*found.differences, *gaps], content, records)
    notes = [*voice_notes, *found.notes, *checked.notes]
    return Claims(
        content.tables,
        content.extra,
        checked.differences,
        checked.scores | voices,
        found.spread,
        tuple(found.unlike),
        notes,
        sheet.digest if sheet else "",
    )


def check_claims(found: Sequence[Difference], content: Content, records: Mapping[str, Evaluation]) -> Checked:
    """Contest the differences that don't show better answers, and add people's grades; pure.

    Args:
        found: differences on all metrics.
        content: the items, with measures of their content.
        records: candidate -> evaluation.
    """
    graded = combined_grades(found, content)
    notes = [*content.notes, *graded.notes]
    found = [
        graded.differences.get(frozenset((one.left, one.right)), one) if one.metric == HUMAN_GRADE else one
        for one in found
    ]
    by_pair = {(one.metric, frozenset((one.left, one.right))): one for one in found}
    checked = []
    for one in found:
        reason = _contest(one, by_pair, content, records)
        checked.append(one.model_copy(update={"contested": reason, "better": None}) if reason else one)
    settled = {frozenset((one.left, one.right)) for one in checked if one.metric == HUMAN_GRADE}
    contested = sorted(
        f"{left} and {right}"
        for left, right in {(one.left, one.right) for one in checked if one.contested and one.metric not in PREDICTORS}
        if frozenset((left, right)) not in settled
    )
    if contested:
        listed = "; ".join(contested[:5]) + ("; ..." if len(contested) > 5 else "")
        notes.append(f"overlap with the reference alone doesn't show better answers; {ASK} about {listed}")
    unvalidated = sorted({one.metric for one in checked if one.contested == NOT_VALIDATED})
    if unvalidated:
        notes.append(
            f"{' and '.join(unvalidated)}: {NOT_VALIDATED}; people's grades of about 50 answers (column 'grade' of "
            "recorded answers) show what the differences are worth"
        )
    scores = _scores(content) | ({HUMAN_GRADE: graded.scores} if graded.scores else {})
    return Checked(tuple(checked), scores, notes)


def _scores(content: Content) -> dict[str, dict[str, Score]]:
    found: dict[str, dict[str, Score]] = {}
    for name in content.extra:
        metric = find_metric(name)
        for candidate, table in content.tables.items():
            rows = np.flatnonzero(table.measured(name, np.arange(len(table.clusters))) >= 0)
            stats = table.stats[name][rows] if name in table.stats else np.empty((0, 2))
            clusters = [table.clusters[row] for row in rows]
            found.setdefault(name, {})[candidate] = total_of(
                metric, stats, clusters, name=name, signature="from stored answers|items:uncontaminated"
            )
    return found


def _contest(
    one: Difference,
    by_pair: Mapping[tuple[str, frozenset[str]], Difference],
    content: Content,
    records: Mapping[str, Evaluation],
) -> str:
    """Return why a significant difference doesn't show better answers; empty if it does or isn't significant."""
    if one.metric in PREDICTORS and one.p is not None and one.p < LEVEL:
        grade = by_pair.get((HUMAN_GRADE, frozenset((one.left, one.right))))
        if grade is None or grade.ci_low is None:
            return NOT_VALIDATED
        return _against("people's grades", one, grade, 0.0)
    if not content.derived or one.metric not in (*OVERLAP, MATCH, RECALL) or one.p is None or one.p >= LEVEL:
        return ""
    if "baseline" in (records[one.left].model.role, records[one.right].model.role):
        return ""  # a rule isn't preferred by anyone; whether a candidate beats it is a question of the measure
    pair = frozenset((one.left, one.right))
    grade = by_pair.get((HUMAN_GRADE, pair))
    if grade is not None and grade.ci_low is not None and grade.ci_high is not None:
        return _against("people's grades", one, grade, 0.0)
    match = by_pair.get((MATCH, pair))
    if match is not None:
        return _against("the content of the references", one, match, ALLOWANCE)
    recall, similarity = by_pair.get((RECALL, pair)), by_pair.get((SIMILARITY, pair))
    if recall is None or similarity is None:
        return ""
    return (
        _against("the share of the reference's content", one, recall, LONG_ALLOWANCE)
        or _against("token F1", one, similarity, LONG_ALLOWANCE)
        or _unsupported(one, by_pair.get((SUPPORT, pair)))
    )


def _favored(one: Difference) -> tuple[str, str, int]:
    """Return the candidate that a difference favors, its rival, and 1 or -1: the left or the right one is favored."""
    sign = 1 if (one.value > 0) == (find_metric(one.metric).better == "higher") else -1
    return (one.left, one.right, sign) if sign > 0 else (one.right, one.left, sign)


def _unsupported(one: Difference, support: Difference | None) -> str:
    """Return whether the source supports clearly less of what the favored candidate says; empty if not, or unknown."""
    favored, rival, sign = _favored(one)
    if support is None or support.ci_low is None or support.ci_high is None:
        return ""
    turned = support if support.left == one.left else support.turned()
    farthest = turned.ci_high if sign > 0 else -(turned.ci_low or 0.0)
    if farthest is not None and farthest < -ALLOWANCE:
        return f"the source supports more of what {rival} says than of what {favored} says"
    return ""


def _against(what: str, one: Difference, other: Difference, allowance: float) -> str:
    """Return why another measure doesn't support a difference; empty if it does."""
    turned = other if other.left == one.left else other.turned()
    favored, rival, sign = _favored(one)
    ci_low, ci_high = turned.ci_low, turned.ci_high
    if ci_low is None or ci_high is None:
        return f"{what} can't be compared"
    nearest, farthest = (ci_low, ci_high) if sign > 0 else (-ci_high, -ci_low)
    if nearest > allowance:
        return ""
    if farthest < 0:
        return f"{what} {'favor' if what.endswith('grades') else 'favors'} {rival}"
    if one.metric == other.metric:
        return f"the lead of {favored} may be smaller than {allowance:g}, which wording alone can explain"
    return f"{what} {'do' if what.endswith('grades') else 'does'}n't clearly favor {favored}"
