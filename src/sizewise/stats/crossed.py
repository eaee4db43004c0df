"""Inference on votes, which are clustered in two crossed ways: by rater and by item.

Votes of one rater share that rater's taste, and votes on one source document its difficulty. The variance of a mean is
V(raters) + V(documents) - V(cells), where a cell is one rater on one document (Cameron, Gelbach and Miller, 2011,
Robust inference with multiway clustering), and never less than the larger of the first two. Its degrees of freedom
follow Satterthwaite (1946), An approximate distribution of estimates of variance components: a few raters that differ
widely count as few, however many votes they cast. Unequal clusters count as fewer (Carter, Schnepel and Steigerwald,
2017, Asymptotic behavior of a t-test robust to cluster heterogeneity).
"""

from __future__ import annotations

from math import log, sqrt
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import ndtri, stdtr, stdtrit

from sizewise.stats.inference import LEVEL

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Reading = Literal["once", "open", "with bets"]
"""How often an estimate is read: once; after every vote; or after every vote, but only with bets (`stats.sequential`)
that control the looks."""

MIN_RATERS = 3
"""Minimum number of raters for a statement about raters in general; with fewer, only the items are a sample."""
BETS_LEVEL = 0.015
"""Level of the crossed test where bets control the looks at an open round. In simulated rounds without a preference,
looked at after every few votes, raters that differ by 0.4 to 0.8 logits then cause a claim in at most 5 %."""
OPEN_RATERS = 6
"""Number of raters below which an open round trusts no estimate of how much they differ: df = raters - 1."""
PSEUDO = 0.5
"""Weight of one imagined document at each end of the scale; keeps the variance of unanimous votes above zero."""
OPEN_DOCUMENTS = 100
"""Number of documents at which the intervals of an open round are narrowest."""
_ROUNDING = 1e-9


class Crossed(NamedTuple):
    """Sums of squared contributions by each way of clustering, (k, k) each."""

    by_rater: FloatArray
    by_document: FloatArray
    by_cell: FloatArray
    floor: FloatArray
    """Minimum of the variance: contributions by document and a few imagined ones."""
    raters: float
    """Effective number of raters; 0 if raters are not a sample."""
    documents: float
    """Effective number of source documents."""

    def variance(self, contrasts: FloatArray, documents: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Compute the variance and degrees of freedom of each contrast, (m, k) -> (m,), (m,).

        Args:
            contrasts: (m, k) weights of the estimates.
            documents: (m,) effective number of source documents behind each; by default that behind all votes.
        """
        rater, document, cell, floor = (
            np.maximum(0.0, np.einsum("mk,mk->m", contrasts @ part, contrasts))
            for part in (self.by_rater, self.by_document, self.by_cell, self.floor)
        )
        total = np.maximum.reduce([rater, document, rater + document - cell, floor])
        behind = np.full(len(total), self.documents) if documents is None else np.minimum(documents, self.documents)
        of_documents = np.maximum(1.0, behind - 1)
        if self.raters == 0:
            return total, of_documents
        squares = rater**2 / max(1.0, self.raters - 1) + (total - rater) ** 2 / of_documents
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = np.where(squares > 0, total**2 / squares, of_documents)
        return total, np.minimum(freedom, of_documents)


class Estimate(NamedTuple):
    """A mean of votes with its interval and the p-value of one null value, all from one test."""

    value: float
    ci_low: float
    ci_high: float
    p: float
    """Two-sided p-value of the null value; the interval excludes that value if and only if it is below the level."""


def crossed(
    contributions: Any, raters: IntArray | None, documents: IntArray, floor: FloatArray | None = None
) -> Crossed:
    """Sum the votes' contributions to an estimate by rater, document and cell.

    Args:
        contributions: (votes, k) dense or sparse, influence of each vote on an estimate; they sum to zero.
        raters: (votes,) rater of each vote; None if raters are not a sample.
        documents: (votes,) source document of each vote.
        floor: (k, k) added to the contributions by document for their minimum.
    """
    by_document, effective, count = _squares(contributions, documents)
    lower = by_document if floor is None else by_document + floor
    corrected = by_document * (count / (count - 1) if count > 1 else 1.0)
    nothing = np.zeros_like(by_document)
    if raters is None or len(np.unique(raters)) < MIN_RATERS:
        return Crossed(nothing, corrected, corrected, lower, 0.0, effective)
    by_rater, effective_raters, rater_count = _squares(contributions, raters, without=True)
    cells = np.unique(raters * (int(documents.max()) + 1) + documents, return_inverse=True)[1]
    by_cell, _, cell_count = _squares(contributions, cells)
    return Crossed(
        by_rater * rater_count / (rater_count - 1),
        corrected,
        by_cell * cell_count / (cell_count - 1),
        lower,
        effective_raters,
        effective,
    )


def _squares(contributions: Any, groups: IntArray, *, without: bool = False) -> tuple[FloatArray, float, int]:
    """Sum contributions by group; return the sum of their outer products, and the effective and true group counts.

    Args:
        contributions: (votes, k) dense or sparse.
        groups: (votes,) group of each vote.
        without: whether a group counts by what the estimate would be without it (the jackknife; MacKinnon, Nielsen and
            Webb, 2023, Fast and reliable jackknife and bootstrap methods for cluster-robust inference). For groups of
            one size that is the same; a group with most of the votes pulls the estimate to itself, so its
            contribution looks small.
    """
    index, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    votes = len(groups)
    weights = (len(sizes) - 1) / len(sizes) / (1 - sizes / votes) if without and len(sizes) > 1 else np.ones(len(sizes))
    indicator = csr_array((weights[index], (index, np.arange(votes))), shape=(len(sizes), votes))
    sums = indicator @ contributions
    products = sums.T @ sums
    dense: FloatArray = np.asarray(products.todense() if hasattr(products, "todense") else products, dtype=np.float64)
    return dense, float(votes**2 / np.square(sizes.astype(np.float64)).sum()), len(sizes)


class Quantile(NamedTuple):
    """How many standard errors an interval extends on each side, and what multiplies its p-values."""

    freedom: FloatArray
    errors: FloatArray
    widening: float = 1.0
    """Part of `errors` that is due to further votes coming in."""
    p_factor: float = 1.0


def quantile(found: Crossed, freedom: FloatArray, reading: Reading = "once") -> Quantile:
    """Compute the quantile of an interval, which depends on how often it is read.

    The interval of an estimate that is read after every vote is a confidence sequence (Waudby-Smith, Arbour, Sinha,
    Kennedy and Ramdas, 2024, Time-uniform central limit theory and asymptotic confidence sequences), about half as wide
    again. Where bets already control the looks, a smaller level covers differences between raters.

    Args:
        found: the votes.
        freedom: degrees of freedom of the estimates, (m,).
        reading: how often the estimate is read, see `Reading`.
    """
    normal = float(ndtri(1 - LEVEL / 2))
    if reading == "once" or (reading == "with bets" and found.raters == 0):
        return Quantile(freedom, np.asarray(stdtrit(freedom, 1 - LEVEL / 2), dtype=np.float64))
    if 0 < found.raters < OPEN_RATERS:
        freedom = np.minimum(freedom, max(1.0, found.raters - 1))
    if reading == "with bets":
        errors = np.asarray(stdtrit(freedom, 1 - BETS_LEVEL / 2), dtype=np.float64)
        return Quantile(freedom, errors, p_factor=LEVEL / BETS_LEVEL)
    tuning = (-2 * log(LEVEL) + log(-2 * log(LEVEL) + 1)) / OPEN_DOCUMENTS * found.documents
    widening = sqrt((tuning + 1) / tuning * log((tuning + 1) / LEVEL**2)) / normal
    return Quantile(freedom, np.asarray(stdtrit(freedom, 1 - LEVEL / 2) * widening, dtype=np.float64), widening)


def estimate_share(
    shares: FloatArray,
    raters: IntArray | None,
    documents: IntArray,
    *,
    null: float = 0.5,
    reading: Reading = "once",
) -> Estimate:
    """Estimate a mean of values between 0 and 1 over raters and documents.

    The interval is Wilson's, with the effective number of votes that the crossed variance implies and the quantile of
    Student's t (as Korn and Graubard, 1998, Confidence intervals for proportions with small expected number of positive
    counts estimated from survey data, do for the exact interval). So it stays within 0 and 1, and unanimous votes have
    an interval like any others.

    Args:
        shares: (votes,) values between 0 and 1.
        raters: (votes,) rater of each vote; None if raters are not a sample.
        documents: (votes,) source document of each vote.
        null: value that the p-value tests.
        reading: how often the estimate is read, see `Reading`.

    Raises:
        ValueError: there are no values, or one isn't between 0 and 1.
    """
    if not len(shares) or not np.all((shares >= -_ROUNDING) & (shares <= 1 + _ROUNDING)):
        raise ValueError(f"{len(shares)} values, not all of them between 0 and 1")
    value = min(1.0, max(0.0, float(shares.mean())))
    shrunk, floor = imagined_documents(shares, documents)
    found = crossed(((shares - value) / len(shares))[:, None], raters, documents, floor)
    return share_interval(value, shrunk, found, null=null, reading=reading)


def imagined_documents(shares: FloatArray, documents: IntArray) -> tuple[float, FloatArray]:
    """Add imagined documents at both ends of the scale: the mean with them, and what they add to the variance.

    All votes on an imagined document agree. Where those on real documents don't, it adds less: the sums by document,
    with the imagined ones, relative to what they would be if the votes on each document agreed.
    """
    votes = len(shares)
    index, sizes = np.unique(documents, return_inverse=True, return_counts=True)[1:]
    typical = votes / len(sizes)  # votes on a document
    shrunk = float((shares.sum() + PSEUDO * typical) / (votes + 2 * PSEUDO * typical))
    added = PSEUDO * typical**2 * (shrunk**2 + (1 - shrunk) ** 2)
    deviations = shares - shares.mean()
    by_document = np.bincount(index, deviations)
    agreeing = float(np.square(sizes.astype(np.float64)).sum()) * float(np.square(deviations).mean())
    alike = min(1.0, (float(by_document @ by_document) + added) / (agreeing + added))
    return shrunk, np.array([[alike * added / votes**2]])


def share_interval(
    value: float, shrunk: float, found: Crossed, *, null: float = 0.5, reading: Reading = "once"
) -> Estimate:
    """Compute the interval and p-value of an estimated share, see `estimate_share`.

    Args:
        value: the estimate, between 0 and 1.
        shrunk: the estimate with imagined documents, see `imagined_documents`.
        found: contributions of the votes to the estimate.
        null: value that the p-value tests.
        reading: how often the estimate is read, see `Reading`.

    Raises:
        ValueError: the null value isn't between 0 and 1.
    """
    if not 0 < null < 1:
        raise ValueError(f"null value {null}; it must lie between 0 and 1")
    variance, freedom = found.variance(np.ones((1, 1)))
    effective = shrunk * (1 - shrunk) / float(variance[0])
    by = quantile(found, freedom, reading)
    size = float(by.errors[0]) ** 2 / effective
    center = (value + size / 2) / (1 + size)
    half = sqrt(size) / (1 + size) * sqrt(max(0.0, value * (1 - value)) + size / 4)
    distance = abs(value - null) / sqrt(null * (1 - null) / effective) / by.widening
    p = min(1.0, float(2 * stdtr(by.freedom[0], -distance)) * by.p_factor)
    return Estimate(value, max(0.0, min(value, center - half)), min(1.0, max(value, center + half)), p)
