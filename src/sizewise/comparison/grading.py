"""People's grades of some answers, made more precise by measures of all answers (prediction-powered inference).

A linear model predicts a grade from measures of the answer, fitted on the graded answers of other documents. The mean
of the predictions only enters as a difference between all answers and the graded ones, so it can't bias the estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sizewise.comparison.content import MATCH, PREDICTORS, RECALL, SIMILARITY, Content, GradeSheet
from sizewise.comparison.grade_sheet import common_items, expected_grades
from sizewise.comparison.tables import ItemTable
from sizewise.metrics.grades import HUMAN_GRADE
from sizewise.records import Difference, Score
from sizewise.stats import LEVEL, MIN_CLUSTERS, holm
from sizewise.stats.drawn import DrawnMean, drawn_mean
from sizewise.stats.inference import FloatArray, IntArray, group_clusters
from sizewise.stats.prediction_powered import Combined, Judgments, combine

FOLDS = 10
RIDGE = 1.0
"""Penalty of the coefficients, on standardized measures."""
MIN_FURTHER = 10
"""Ungraded answers from which on measures can add something."""


class Graded(NamedTuple):
    """People's grades as a measure of all answers."""

    differences: dict[frozenset[str], Difference]
    """Pair -> difference, where measures make it more precise."""
    scores: dict[str, Score]
    """Candidate -> mean grade, where measures make it more precise."""
    notes: list[str]


def combined_grades(found: Sequence[Difference], content: Content) -> Graded:
    """Combine people's grades with measures of all answers.

    Args:
        found: differences on all metrics; those of people's grades rest on the graded answers alone.
        content: the items, with grades and measures.
    """
    if content.sheet is not None and content.graded:
        return drawn_grades([one for one in found if one.metric == HUMAN_GRADE], content, content.sheet)
    alone = [one for one in found if one.metric == HUMAN_GRADE and one.ci_low is not None]
    predicted = _predictions(content) if alone else {}
    if not predicted:
        return Graded({}, {}, [])
    items = list(dict.fromkeys(item for table in content.tables.values() for item in table.items))
    rows = {name: table.rows_of(items) for name, table in content.tables.items()}
    combined = []
    used = 0
    for one in alone:
        result = _pair(one, content.tables, predicted, rows)
        if result is not None and result.weights.any():
            one, used = _difference(one, result), used + 1
        combined.append(one)
    better = _adjusted(combined)
    if not used:
        return Graded({}, {}, [])
    counts = ", ".join(f"{count} of {name}" for name, count in content.graded.items())
    notes = [f"people graded some answers ({counts}); measures of the others make {used} differences more precise"]
    return Graded({frozenset((one.left, one.right)): one for one in better}, {}, notes)


def drawn_grades(found: Sequence[Difference], content: Content, sheet: GradeSheet) -> Graded:
    """Estimate mean grades and their differences from the items that a sheet drew.

    Args:
        found: differences of the drawn grades as they stand, one for each pair.
        content: the items, with grades and measures.
        sheet: the drawn items and their chances.
    """
    common = common_items(content)
    chances = np.array([sheet.chances.get(item, 1.0) for item in common])
    grades, expected, rows = {}, {}, {}
    for name, table in content.tables.items():
        rows[name] = table.rows_of(common)
        drawn = np.array([item in sheet.chances for item in common])
        grades[name] = np.where(drawn, table.stats[HUMAN_GRADE][rows[name], 0], np.nan)
        expected[name] = expected_grades(content, name)[rows[name]]
    documents = [next(iter(content.tables.values())).clusters[row] for row in next(iter(rows.values()))]
    differences, scores = [], {}
    for one in found:
        left, right = one.left, one.right
        mean = drawn_mean(grades[left] - grades[right], expected[left] - expected[right], chances, documents)
        differences.append(_drawn_difference(one, mean, len(sheet.chances)))
    signature = f"human_grade|scale:0 to 1|drawn:{len(sheet.chances)} of {len(common)}|sheet:{sheet.digest}"
    for name in content.tables:
        mean = drawn_mean(grades[name], expected[name], chances, documents)
        scores[name] = _drawn_score(mean, len(sheet.chances), signature)
    notes = [
        f"people graded {len(sheet.chances)} of {len(common)} items, drawn by how much the measures leave their grades "
        f"in doubt (grade sheet {sheet.digest})"
    ]
    if len(sheet.chances) < sheet.drawn:
        notes.append(
            f"{sheet.drawn - len(sheet.chances)} items of the grade sheet lack a grade and are taken for a random part "
            "of it; if people left out the hard ones, the grades don't hold"
        )
    return Graded({frozenset((one.left, one.right)): one for one in _adjusted(differences)}, scores, notes)


def _drawn_difference(one: Difference, mean: DrawnMean, items: int) -> Difference:
    known = np.isfinite(mean.p)
    return one.model_copy(
        update={
            "value": mean.value,
            "ci_low": max(-1.0, mean.ci_low) if known else None,
            "ci_high": min(1.0, mean.ci_high) if known else None,
            "p": mean.p if known else None,
            "n": items,
            "detectable": None,
            "needed": None,
            "other_p": {},
        }
    )


def _drawn_score(mean: DrawnMean, items: int, signature: str) -> Score:
    known = np.isfinite(mean.p)
    return Score(
        metric=HUMAN_GRADE,
        value=float(np.clip(mean.value, 0, 1)),
        ci_low=max(0.0, mean.ci_low) if known else None,
        ci_high=min(1.0, mean.ci_high) if known else None,
        ci_missing_reason="" if known else f"too few source documents with grades, of at least {MIN_CLUSTERS}",
        n=items,
        unit="share",
        signature=signature,
    )


def _adjusted(found: Sequence[Difference]) -> list[Difference]:
    """Adjust the p-values of all pairs, and name the better candidates."""
    return [
        one.model_copy(
            update={
                "p_adjusted": p,
                "ci_low_adjusted": None,
                "ci_high_adjusted": None,
                "better": (one.left if one.value > 0 else one.right) if p < LEVEL and _excludes_zero(one) else None,
            }
        )
        for one, p in zip(found, holm([1.0 if one.p is None else one.p for one in found]), strict=True)
    ]


def _excludes_zero(one: Difference) -> bool:
    return one.ci_low is not None and one.ci_high is not None and not one.ci_low <= 0 <= one.ci_high


def _features(content: Content, name: str, further: Sequence[str]) -> FloatArray:
    """Collect the measures of each answer: match, recall, similarity, length and further ones that exist."""
    table = content.tables[name]
    columns = [np.ones(len(table.clusters))]
    for metric in (MATCH, RECALL, SIMILARITY):
        if metric in table.stats:
            values = np.nan_to_num(table.stats[metric][:, 0])
            columns += [values, values**2]
    for metric in further:
        values = table.stats[metric][:, 0]
        known = np.isfinite(values)
        filled = np.where(known, values, values[known].mean() if known.any() else 0.0)
        columns += [filled, (~known).astype(float)]
    if name in content.words:
        columns.append(np.log1p(np.nan_to_num(content.words[name][:, 0])))
    return np.column_stack(columns)


def _predictions(content: Content) -> dict[str, FloatArray]:
    """Predict the grade of each answer from its measures: candidate -> (rows,), fitted on other documents."""
    further = [metric for metric in PREDICTORS if all(metric in content.tables[name].stats for name in content.graded)]
    graded = [name for name in content.graded if name in content.words or further]
    features = {name: _features(content, name, further) for name in graded}
    if len({columns.shape[1] for columns in features.values()}) != 1 or len(graded) < 2:
        return {}
    documents = sorted({cluster for name in graded for cluster in content.tables[name].clusters})
    fold_of = {document: number % FOLDS for number, document in enumerate(documents)}
    folds = {name: np.array([fold_of[one] for one in content.tables[name].clusters]) for name in graded}
    grades = {name: content.tables[name].stats[HUMAN_GRADE][:, 0] for name in graded}
    predicted = {name: np.full(len(folds[name]), np.nan) for name in graded}
    for fold in range(FOLDS):
        known = {name: np.isfinite(grades[name]) & (folds[name] != fold) for name in graded}
        x = np.concatenate([features[name][known[name]] for name in graded])
        y = np.concatenate([grades[name][known[name]] for name in graded])
        if len(y) <= x.shape[1]:
            return {}
        coefficients = _fit(x, y)
        for name in graded:
            here = folds[name] == fold
            predicted[name][here] = np.clip(features[name][here] @ coefficients, 0.0, 1.0)
    return predicted


def _fit(x: FloatArray, y: FloatArray) -> FloatArray:
    """Fit a ridge regression; the intercept isn't penalized."""
    scale = x.std(axis=0)
    scale[0] = 1.0
    scale[scale <= 1e-9 * np.abs(x).max(axis=0)] = 1.0  # constant but for rounding
    z = x / scale
    penalty = RIDGE * np.eye(x.shape[1])
    penalty[0, 0] = 0.0
    found: FloatArray = np.linalg.lstsq(z.T @ z + penalty, z.T @ y, rcond=None)[0] / scale
    return found


def _pair(
    one: Difference,
    tables: Mapping[str, ItemTable],
    predicted: Mapping[str, FloatArray],
    rows: Mapping[str, IntArray],
) -> Combined | None:
    """Estimate the difference of a pair as a share from 0 to 1; None if too few answers are ungraded."""
    if one.left not in predicted or one.right not in predicted:
        return None
    left, right = tables[one.left], tables[one.right]
    both = (rows[one.left] >= 0) & (rows[one.right] >= 0)
    at, to = rows[one.left][both], rows[one.right][both]
    usable = left.uncontaminated[at] & right.uncontaminated[to]
    at, to = at[usable], to[usable]
    grade = left.stats[HUMAN_GRADE][at, 0] - right.stats[HUMAN_GRADE][to, 0]
    prediction = (1 + predicted[one.left][at] - predicted[one.right][to]) / 2
    documents = group_clusters([left.clusters[row] for row in at])[0]
    known = np.isfinite(grade)
    further = ~known & np.isfinite(prediction)
    if further.sum() < MIN_FURTHER or len(set(documents[known])) < MIN_CLUSTERS:
        return None
    return combine(
        Judgments(
            shares=(1 + grade[known]) / 2,
            raters=None,
            documents=documents[known],
            predictions=prediction[known][:, None],
            judged=prediction[further][:, None],
            judged_documents=documents[further],
        )
    )


def _difference(alone: Difference, combined: Combined) -> Difference:
    """Build the difference from a share."""
    estimate = combined.estimate
    return alone.model_copy(
        update={
            "value": 2 * estimate.value - 1,
            "ci_low": 2 * estimate.ci_low - 1,
            "ci_high": 2 * estimate.ci_high - 1,
            "p": estimate.p,
            "detectable": None,
            "needed": None,
        }
    )
