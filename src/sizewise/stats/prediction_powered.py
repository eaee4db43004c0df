"""Prediction-powered inference: a few human votes and many votes of judge models, combined into one estimate.

People's mean is corrected by how judges' votes on people's tasks differ from their votes on further tasks:
`mean(people) + weight * (mean(judge, further tasks) - mean(judge, people's tasks))`. The estimate is right and its
interval valid however good the judge is, because a judge only ever enters as this difference, if people's tasks and
further tasks are alike. Where a judge's votes show that they aren't, people's votes stand alone.

Sources: Angelopoulos, Duchi and Zrnic (2023), PPI++: Efficient prediction-powered inference (arXiv 2311.01453), for the
estimate and the weight with the smallest variance; Zrnic and Candès (2024), Cross-prediction-powered inference, for
weights estimated on other data than they are applied to. The variance over raters and documents and the interval are
those of people's votes alone (`stats.crossed`).
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from sizewise.stats.crossed import Crossed, Estimate, Reading, crossed, imagined_documents, share_interval
from sizewise.stats.inference import MIN_CLUSTERS

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DOCUMENTS_PER_WEIGHT = 20
"""Documents with people's votes that each judge needs for a weight of its own; with fewer, all judges share one."""
SHIFT_LEVEL = 0.01
"""People's votes stand alone if a judge's means on people's and on further tasks differ at this level."""
_ONE = np.ones((1, 1))
FOLDS = 100
"""Maximum number of folds of documents; each fold's weight comes from all others."""


class Judgments(NamedTuple):
    """Votes on one question: people's, and those of judges on the same tasks and on further ones."""

    shares: FloatArray
    """(votes,) people's votes, between 0 and 1."""
    raters: IntArray | None
    """(votes,) who voted; None if raters are not a sample."""
    documents: IntArray
    """(votes,) source document of each vote."""
    predictions: FloatArray
    """(votes, judges) vote of each judge on the task of each vote; NaN without one."""
    judged: FloatArray
    """(tasks, judges) votes of judges on tasks without people's votes; NaN without one."""
    judged_documents: IntArray
    """(tasks,) source document of each of these tasks, numbered like those of the votes."""
    strata: IntArray | None = None
    """(votes,) stratum of each vote, within which people's and further tasks are alike; None if there is only one."""
    judged_strata: IntArray | None = None
    """(tasks,) stratum of each further task."""


class Combined(NamedTuple):
    """A win rate from people's votes and those of judges."""

    estimate: Estimate
    """The combined win rate."""
    people: Estimate
    """The win rate from people's votes alone."""
    weights: FloatArray
    """(judges,) mean weight of each judge; 0 where it isn't used."""
    correlation: float
    """Correlation of people and judges over documents; NaN if it isn't known."""
    width_ratio: float
    """Standard error relative to that of people alone; 1 if judges don't reduce it."""
    shift_p: float = float("nan")
    """P-value that judges' means on people's tasks and on further tasks are equal; NaN if no judge can be used."""

    @property
    def floor(self) -> float:
        """Smallest ratio that any number of further judged tasks could reach, `sqrt(1 - correlation ** 2)`.

        1 if the correlation isn't known or is negative: such a judge gets no weight.
        """
        return sqrt(max(0.0, 1 - self.correlation**2)) if self.correlation > 0 else 1.0


def point_estimate(labels: FloatArray, predictions: FloatArray, judged: FloatArray, weight: float) -> float:
    """Compute the prediction-powered mean with a given weight.

    Args:
        labels: (n,) people's values.
        predictions: (n,) a judge's values on the same units.
        judged: (m,) its values on further units.
        weight: how much the judge counts, from 0 (not at all) to 1.
    """
    return float(labels.mean() + weight * (judged.mean() - predictions.mean()))


def standard_error(labels: FloatArray, predictions: FloatArray, judged: FloatArray, weight: float) -> float:
    """Compute the standard error of `point_estimate` for independent units, without a correction for small samples."""
    residual = labels - weight * predictions
    return sqrt(float(residual.var()) / len(labels) + weight**2 * float(judged.var()) / len(judged))


def combine(votes: Judgments, *, null: float = 0.5, reading: Reading = "once", weight: float | None = None) -> Combined:
    """Combine people's votes with those of judges, so that the result is no wider than people's alone.

    Each document's weight comes from the other documents, so that it can't favor the votes it is applied to, and the
    cost of estimating it is part of the variance. A weight is shrunk as far as noise may explain it, and people's votes
    alone are returned if judges don't make the interval narrower, or if a judge's means on people's tasks and on
    further tasks differ at SHIFT_LEVEL: then these tasks aren't alike, which the estimate assumes. Several judges share
    one weight, unless there are DOCUMENTS_PER_WEIGHT documents for each; no judge is chosen by its result. A judge is
    used if it voted on MIN_CLUSTERS documents with people's votes, and on as many further ones.

    Args:
        votes: people's and judges' votes.
        null: value that the p-value tests.
        reading: how often the estimate is read, see `crossed.Reading`.
        weight: weight of the judges; by default estimated.
    """
    design = _design(votes)
    count, own = design.votes, design.documents[: design.votes]
    shrunk, floor = imagined_documents(votes.shares, own)
    people = crossed(design.people[:, None], votes.raters, own, floor)
    alone = share_interval(float(votes.shares.mean()), shrunk, people, null=null, reading=reading)
    weights_used = np.zeros(votes.predictions.shape[1])
    if not design.used:
        return Combined(alone, alone, weights_used, float("nan"), 1.0)
    sums = design.sums
    correlation = _correlation(*sums)
    by_document = _weights_without_each(*sums) if weight is None else np.full_like(sums[1], weight)
    weights = by_document[own]
    # A vote of people counts minus its judges' distance from their mean on further tasks, each with its own weight.
    shifts = (weights * design.distances).sum(axis=1)
    value = float(votes.shares.mean() - shifts.mean())
    contributions = np.concatenate(
        [(votes.shares - shifts - value) / count, -design.judges[count:] @ weights.mean(axis=0)]
    )
    of_people = crossed(contributions[:count, None], votes.raters, own, floor)
    found = _with_judges(of_people, contributions, design.documents, count)
    ratio = sqrt(float(found.variance(_ONE)[0][0] / people.variance(_ONE)[0][0]))
    both = share_interval(float(np.clip(value, 0.0, 1.0)), shrunk, found, null=null, reading=reading)
    narrower = ratio < 1 and both.ci_high - both.ci_low < alone.ci_high - alone.ci_low
    shift_p = _shift_p(design)
    if weight is None and (not narrower or shift_p < SHIFT_LEVEL):
        return Combined(alone, alone, weights_used, correlation, 1.0, shift_p)
    weights_used[design.used] = weights.mean(axis=0) / (len(design.used) if weights.shape[1] == 1 else 1)
    return Combined(both, alone, weights_used, correlation, ratio, shift_p)


class _Design(NamedTuple):
    """How votes move the estimate: one row for each vote of people, then one for each task of judges alone."""

    documents: IntArray
    """(rows,) source document, from 0 without gaps."""
    votes: int
    """Number of votes of people."""
    people: FloatArray
    """(votes,) contribution of people's votes alone."""
    judges: FloatArray
    """(rows, weights) contribution of the mean on people's tasks minus the mean on further tasks."""
    distances: FloatArray
    """(votes, weights) distance of judges' votes on people's tasks from their mean on further tasks."""
    spread: FloatArray
    """(weights,) variance of the difference of the two means, if all tasks were alike and independent."""
    used: list[int]
    """Index of each judge that is used."""

    @property
    def sums(self) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
        """Contributions of people and of judges by document, and which documents have people's votes."""
        size = int(self.documents.max()) + 1
        people, judges = np.zeros(size), np.zeros((size, self.judges.shape[1]))
        np.add.at(people, self.documents[: self.votes], self.people)
        np.add.at(judges, self.documents, self.judges)
        return people, judges, np.isin(np.arange(size), self.documents[: self.votes])


def _design(votes: Judgments) -> _Design:
    """Compute the contributions of people and of every judge with enough votes."""
    count, rows = len(votes.shares), len(votes.shares) + len(votes.judged)
    documents = np.unique(np.concatenate([votes.documents, votes.judged_documents]), return_inverse=True)[1]
    judges, distances, spread, used = [], [], [], []
    strata = np.zeros(count, dtype=np.int64) if votes.strata is None else votes.strata
    judged_strata = np.zeros(rows - count, dtype=np.int64) if votes.judged_strata is None else votes.judged_strata
    for judge in range(votes.predictions.shape[1]):
        column, distance, documents_used, independent = np.zeros(rows), np.zeros(count), 0, 0.0
        for stratum in np.unique(strata):
            shared = (strata == stratum) & ~np.isnan(votes.predictions[:, judge])
            further = (judged_strata == stratum) & ~np.isnan(votes.judged[:, judge])
            if not shared.any() or len(np.unique(votes.judged_documents[further])) < MIN_CLUSTERS:
                continue
            documents_used += len(np.unique(votes.documents[shared]))
            size = (strata == stratum).sum() / count
            first, second = votes.predictions[shared, judge], votes.judged[further, judge]
            column[:count][shared] = size * (first - first.mean()) / len(first)
            column[count:][further] = -size * (second - second.mean()) / len(second)
            distance[shared] = size * (first - second.mean()) * count / len(first)
            independent += size**2 * float(np.r_[first, second].var()) * (1 / len(first) + 1 / len(second))
        if documents_used >= MIN_CLUSTERS:
            judges.append(column)
            distances.append(distance)
            spread.append(independent)
            used.append(judge)
    columns = np.array(judges).reshape(len(used), rows).T
    apart = np.array(distances).reshape(len(used), count).T
    if len(used) > 1 and len(np.unique(votes.documents)) < DOCUMENTS_PER_WEIGHT * len(used):
        columns, apart = columns.mean(axis=1, keepdims=True), apart.mean(axis=1, keepdims=True)
        spread = [max(spread) / len(used)]
    centered = (votes.shares - votes.shares.mean()) / count
    return _Design(documents.astype(np.int64), count, centered, columns, apart, np.array(spread), used)


def _shift_p(design: _Design) -> float:
    """Test whether judges' means on people's tasks equal those on further tasks; Bonferroni's correction over judges.

    A t test of the difference, whose variance is that between documents (Liang and Zeger, 1986) or, if larger, that of
    independent tasks around their common mean, so that a few votes of the same value are no proof.
    """
    rows = int(design.documents.max()) + 1
    documents = len(np.unique(design.documents[: design.votes]))
    p_values = []
    for number, spread in enumerate(design.spread):
        by_document = np.bincount(design.documents, design.judges[:, number], rows)
        variance = max(float(by_document @ by_document) * documents / (documents - 1), float(spread))
        difference = abs(float(design.distances[:, number].mean()))
        p_values.append(2 * float(student_t.sf(difference / sqrt(variance), documents - 1)) if variance else 1.0)
    return min(1.0, len(p_values) * min(p_values))


def _weights_without_each(people: FloatArray, judges: FloatArray, labeled: npt.NDArray[np.bool_]) -> FloatArray:
    """Compute the weights with the smallest variance, for each document from all others: (documents, weights).

    Args:
        people: (documents,) contributions of people's votes.
        judges: (documents, weights) contributions of judges' votes.
        labeled: (documents,) whether people voted on a document.
    """
    voted = np.flatnonzero(labeled)
    fold = np.arange(len(voted)) % FOLDS
    folds = int(fold.max()) + 1
    out = np.zeros((folds, len(voted)))
    out[fold, np.arange(len(voted))] = 1
    kept = len(voted) - out.sum(axis=1)
    first, second = people[voted], judges[voted]
    # Without a fold's documents, the means that contributions are taken from move as well: hence the last terms.
    one, other = out @ first, out @ second
    total = first @ first - out @ first**2 - one**2 / kept
    products = second.T @ first - out @ (second * first[:, None]) - other * one[:, None] / kept[:, None]
    outer = second[:, :, None] * second[:, None, :]
    squares = judges.T @ judges - np.tensordot(out, outer, axes=1)
    squares -= other[:, :, None] * other[:, None, :] / kept[:, None, None]
    weights = np.zeros_like(judges)
    weights[voted] = _shrunk_weights(total, products, squares, kept)[fold]
    return weights


def _shrunk_weights(total: FloatArray, products: FloatArray, squares: FloatArray, documents: FloatArray) -> FloatArray:
    """Solve for the weights of each fold, and shrink them by the share of their gain that noise may explain.

    The shrinkage is that of the adjusted R squared.
    """
    inverse = np.linalg.pinv(squares, hermitian=True)
    weights = np.clip(np.einsum("fij,fj->fi", inverse, products), 0.0, 1.0)
    explained = 2 * np.einsum("fi,fi->f", weights, products) - np.einsum("fi,fij,fj->f", weights, squares, weights)
    count = weights.shape[1]
    free = documents - 1 - count
    useful = (explained > 0) & (free > 0)
    noise = count * np.maximum(0.0, total - explained) / np.where(useful, free, 1.0)
    gain = np.where(useful, np.maximum(0.0, 1 - noise / np.where(useful, explained, 1.0)), 0.0)
    shrunk: FloatArray = weights * gain[:, None]
    return shrunk


def _correlation(people: FloatArray, judges: FloatArray, labeled: npt.NDArray[np.bool_]) -> float:
    """Compute the multiple correlation of people with judges over the documents on which people voted."""
    first, second = people[labeled], judges[labeled]
    total = float(first @ first)
    if not total or not second.any():
        return float("nan")
    fitted = second @ np.linalg.lstsq(second, first, rcond=None)[0]
    size = sqrt(float(fitted @ fitted) / total)
    return size if second.shape[1] > 1 or float(first @ second[:, 0]) >= 0 else -size


def _with_judges(people: Crossed, contributions: FloatArray, documents: IntArray, count: int) -> Crossed:
    """Add judges' votes on further tasks to the variance: they differ by document, but judges aren't a sample."""
    rows = int(documents.max()) + 1
    alone = np.bincount(documents[:count], contributions[:count], rows)
    both = np.bincount(documents, contributions, rows)
    more = np.array([[float(both @ both - alone @ alone)]])
    return people._replace(by_document=people.by_document + more, floor=people.floor + more)
