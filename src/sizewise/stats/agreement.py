"""Chance-corrected agreement between raters; each coefficient models chance differently.

Source: Krippendorff (2011), Computing Krippendorff's alpha-reliability; Cohen (1960); Fleiss (1971); Gwet (2008). All
are functions of sums over items, so that leaving an item or a rater out is a subtraction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

FloatArray = npt.NDArray[np.float64]
Level = Literal["nominal", "ordinal", "interval"]
IMAGINED = 1.0
"""Weight of all imagined items of an interval together."""


def alpha_sums(counts: FloatArray) -> FloatArray:
    """Compute the coincidence matrices behind alpha: (items, labels) rating counts -> (items, labels, labels).

    Items with fewer than two ratings contribute nothing.
    """
    ratings = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :]
    labels = np.arange(counts.shape[1])
    pairs[:, labels, labels] -= counts
    divided: FloatArray = pairs / np.where(ratings > 1, ratings - 1, 1)[:, None, None]
    divided[ratings < 2] = 0
    return divided


def alpha(coincidences: FloatArray, level: Level, values: FloatArray) -> FloatArray:
    """Compute Krippendorff's alpha from summed coincidences, (..., labels, labels) -> (...).

    Args:
        coincidences: sums of `alpha_sums` over items.
        level: scale of measurement of the labels.
        values: (labels,) numeric values of the labels, for interval data.
    """
    sizes = coincidences.sum(axis=-1)
    total = sizes.sum(axis=-1)
    distance = _distance(sizes, level, values)
    observed = (coincidences * distance).sum(axis=(-1, -2))
    expected = (sizes[..., :, None] * sizes[..., None, :] * distance).sum(axis=(-1, -2))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: FloatArray = 1 - (total - 1) * observed / expected
    return found


def _distance(sizes: FloatArray, level: Level, values: FloatArray) -> FloatArray:
    labels = sizes.shape[-1]
    if level == "nominal":
        return np.broadcast_to(1 - np.eye(labels), (*sizes.shape, labels))
    if level == "interval":
        # Alpha doesn't depend on the unit, and squares of large values would overflow.
        scaled = values / max(float(np.abs(values).max()), np.finfo(np.float64).tiny)
        scaled = (scaled - scaled.min()) / max(float(np.ptp(scaled)), np.finfo(np.float64).tiny)
        return np.broadcast_to((scaled[:, None] - scaled[None, :]) ** 2, (*sizes.shape, labels))
    up_to = sizes.cumsum(axis=-1)
    middle = up_to - sizes / 2  # ratings below a label, plus half of the label's
    found: FloatArray = (middle[..., :, None] - middle[..., None, :]) ** 2
    return found


def fleiss_sums(counts: FloatArray) -> FloatArray:
    """Compute the sums behind Fleiss' kappa and Gwet's AC1.

    Returns:
        (items, 3 + labels): agreement, whether it is defined, whether the item was rated, label shares.
    """
    ratings = counts.sum(axis=1)
    several = ratings > 1
    agreed = np.zeros(len(counts))
    agreed[several] = (counts * (counts - 1)).sum(axis=1)[several] / (ratings * (ratings - 1))[several]
    rated = ratings > 0
    shares = np.where(rated[:, None], counts / np.where(rated, ratings, 1)[:, None], 0.0)
    return np.column_stack([agreed, several, rated, shares])


def fleiss(sums: FloatArray) -> FloatArray:
    """Compute Fleiss' kappa for a varying number of ratings per item: (..., 3 + labels) -> (...)."""
    observed, shares = _observed(sums)
    return _chance_corrected(observed, (shares**2).sum(axis=-1))


def gwet(sums: FloatArray) -> FloatArray:
    """Compute Gwet's AC1, which is robust to rare labels: (..., 3 + labels) -> (...)."""
    observed, shares = _observed(sums)
    return _chance_corrected(observed, (shares * (1 - shares)).sum(axis=-1) / max(1, shares.shape[-1] - 1))


def _observed(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[..., 0] / sums[..., 1], sums[..., 3:] / sums[..., 2:3]


def _chance_corrected(observed: FloatArray, expected: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: FloatArray = (observed - expected) / (1 - expected)
    return found


def cohen_sums(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], labels: int) -> FloatArray:
    """Compute one-hot confusion tables of two raters: (items, labels, labels)."""
    found = np.zeros((len(first), labels, labels))
    found[np.arange(len(first)), first, second] = 1
    return found


def cohen(table: FloatArray) -> FloatArray:
    """Compute Cohen's kappa from confusion tables of two raters, (..., labels, labels) -> (...)."""
    total = table.sum(axis=(-1, -2))
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = np.trace(table, axis1=-2, axis2=-1) / total
        expected = (table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1) / total**2
    return _chance_corrected(observed, expected)


def imagined_counts(counts: FloatArray) -> FloatArray:
    """Return the rating counts of two imagined items, (2, labels): raters agree on a rarer label, or are split.

    They keep the variance of an agreement above zero where no item shows disagreement, or only one a rare label.
    """
    ratings = counts.sum(axis=1).max()
    common, rarer = np.argsort(-counts.sum(axis=0), kind="stable")[:2]
    found = np.zeros((2, counts.shape[1]))
    found[0, rarer] = ratings
    found[1, [common, rarer]] = ratings / 2
    return found


def imagined_tables(tables: FloatArray) -> FloatArray:
    """Return the confusion tables of two imagined items, (2, labels, labels); see `imagined_counts`."""
    sizes = tables.sum(axis=0)
    common, rarer = np.argsort(-(sizes.sum(axis=0) + sizes.sum(axis=1)), kind="stable")[:2]
    found = np.zeros((2, *sizes.shape))
    found[0, rarer, rarer] = 1
    found[1, common, rarer] = found[1, rarer, common] = 0.5
    return found


def agreement_interval(
    sums: FloatArray,
    imagined: FloatArray,
    value: Callable[[FloatArray], FloatArray],
    without: FloatArray | None = None,
    raters: float = 0.0,
) -> tuple[float, float]:
    """Compute the 95% interval of a coefficient over further items and, where they are a sample, further raters.

    Delete-one jackknife over items, to which two imagined ones are added, and over raters; the variances are added and
    Satterthwaite's formula gives the degrees of freedom of Student's t. Without the imagined items, 10 items with a
    label of 90 % prevalence would be covered in 60 % of cases. Gwet (2008), Computing inter-rater reliability and its
    variance in the presence of high agreement, adds the variance over raters likewise.

    Args:
        sums: (items, ...) statistics of each independent item.
        imagined: (2, ...) statistics of imagined items.
        value: turns sums (..., ...) into values (...).
        without: (raters, ...) what each rater's ratings add to the sums; None if raters are not a sample.
        raters: effective number of raters.
    """
    items, weight = len(sums), IMAGINED / len(imagined)
    total = sums.sum(axis=0)
    whole = total + weight * imagined.sum(axis=0)
    by_item = np.concatenate(
        [value(whole) - value(whole - sums), (value(whole) - value(whole - weight * imagined)) / weight]
    )
    weights = np.concatenate([np.ones(items), np.full(len(imagined), weight)])
    center = float(weights @ by_item / weights.sum())
    variance = of_items = float(weights @ (by_item - center) ** 2) * items / (items - 1)
    freedom = items - 1.0
    if without is not None:
        by_rater = value(whole - without)
        of_raters = float(np.square(by_rater - by_rater.mean()).sum()) * (len(without) - 1) / len(without)
        variance = of_items + of_raters
        freedom = min(freedom, variance**2 / (of_raters**2 / max(1.0, raters - 1) + of_items**2 / freedom))
    half = float(student_t.ppf(0.975, freedom)) * float(np.sqrt(variance))
    point = float(value(total))
    return max(-1.0, point - half), min(1.0, point + half)
