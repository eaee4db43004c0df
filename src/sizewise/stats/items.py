"""Item analysis: which items are hard, which separate the candidates, and which contradict all others.

Sources: Lord and Novick (1968), Statistical Theories of Mental Test Scores (difficulty and item-rest correlation);
Phipson and Smyth (2010), Permutation p-values should never be zero; Polo et al. (2024), tinyBenchmarks, for anchor
items and their error on candidates left out.
"""

from __future__ import annotations

from itertools import permutations
from math import ceil, comb, pi, sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MIN_CANDIDATES = 3
"""Minimum number of candidates for a discrimination: with two, every correlation is 1 or -1."""
MIN_HELD_OUT = 4
"""Minimum number of candidates to measure the error of anchor items on candidates left out."""
EXACT_CANDIDATES = 7
"""Maximum number of candidates for which all orders are enumerated (5,040 of them)."""
STAGES = ((199, 20), (9_999, 10), (199_999, 0))
"""Random orders per stage; items with at most this many exceedances go on to the next stage."""
MAX_FOLDS = 10
_CELLS = 2**22  # numbers per batch


class Anchors(NamedTuple):
    """A few items that stand for all."""

    items: IntArray
    """Indices of the items, ascending."""
    weights: FloatArray
    """Weight of each item; the weights sum to one."""


class AnchorError(NamedTuple):
    """Error of the estimated mean score of candidates that had no part in choosing the anchors."""

    mean: float
    """Mean absolute error."""
    largest: float
    """Largest absolute error."""
    random: float
    """Expected absolute error of equally many random items."""


def discrimination(scores: FloatArray) -> FloatArray:
    """Compute each item's correlation, over candidates, with the mean of all other items.

    Args:
        scores: (items, candidates) scores, higher is better.

    Returns:
        (items,): NaN if all candidates have the same score on an item, or on all others, or there are too few.
    """
    if scores.shape[1] < MIN_CANDIDATES or len(scores) < 2:
        return np.full(len(scores), np.nan)
    rest = scores.sum(axis=0) - scores
    rest -= rest.mean(axis=1, keepdims=True)
    centered = scores - scores.mean(axis=1, keepdims=True)
    scale = np.sqrt(np.square(rest).sum(axis=1) * np.square(centered).sum(axis=1))
    varies = (np.ptp(scores, axis=1) > 0) & (np.sqrt(np.square(rest).sum(axis=1)) > 1e-9 * len(scores))
    found = np.full(len(scores), np.nan)
    found[varies] = (rest * centered).sum(axis=1)[varies] / scale[varies]
    return found


def reversal_p(scores: FloatArray, seed: int = 0) -> FloatArray:
    """Compute one-sided p-values of a negative discrimination, by permuting each item's scores over the candidates.

    All orders are enumerated for up to EXACT_CANDIDATES candidates. With more, random orders are drawn in stages, so
    that items far from chance get many and others few. Items whose discrimination isn't negative get 1.

    Args:
        scores: (items, candidates) scores, higher is better.
        seed: seed of the draws.
    """
    found = np.ones(len(scores))
    todo = np.flatnonzero(discrimination(scores) < 0)
    rest = scores.sum(axis=0) - scores
    rest = rest - rest.mean(axis=1, keepdims=True)
    candidates = scores.shape[1]
    if candidates <= EXACT_CANDIDATES:
        orders = np.array(list(permutations(range(candidates))))
        found[todo] = _as_reversed(scores[todo], rest[todo], orders) / len(orders)
        return found
    random = np.random.default_rng(seed)
    for rounds, few in STAGES:
        exceeding = np.zeros(len(todo), dtype=np.int64)
        size = max(1, _CELLS // max(1, candidates * min(len(todo), 64)))
        for start in range(0, rounds if len(todo) else 0, size):
            shape = (min(size, rounds - start), candidates)
            exceeding += _as_reversed(scores[todo], rest[todo], random.random(shape).argsort(axis=1))
        found[todo] = (exceeding + 1) / (rounds + 1)
        todo = todo[exceeding <= few]
    return found


def _as_reversed(scores: FloatArray, rest: FloatArray, orders: IntArray) -> IntArray:
    """Count the orders of each item's scores that are at least as reversed as the observed one."""
    found = np.zeros(len(scores), dtype=np.int64)
    batch = max(1, _CELLS // orders.size)
    for start in range(0, len(scores), batch):
        part, around = scores[start : start + batch], rest[start : start + batch]
        observed = (part * around).sum(axis=1)
        tolerance = 1e-9 * np.abs(part * around).sum(axis=1)
        permuted = np.einsum("irc,ic->ir", part[:, orders], around)
        found[start : start + batch] = (permuted <= (observed + tolerance)[:, None]).sum(axis=1)
    return found


def smallest_p(candidates: int) -> float:
    """Compute the smallest p-value that a right-or-wrong item can have: one order of half the candidates."""
    return 1 / comb(candidates, candidates // 2)


def choose_anchors(scores: FloatArray, count: int, seed: int = 0) -> Anchors:
    """Choose items whose weighted mean stands for the mean over all items.

    Items are sorted by difficulty and cut into equal strata. Each stratum is represented by the item closest to its
    mean scores, weighted by the size of the stratum.

    Args:
        scores: (items, candidates) scores.
        count: number of anchors, at most the number of items.
        seed: seed of the order among equally hard items.

    Raises:
        ValueError: the count isn't between 1 and the number of items.
    """
    if not 1 <= count <= len(scores):
        raise ValueError(f"choose_anchors takes 1 to {len(scores)} anchors, not {count}")
    order = np.lexsort((np.random.default_rng(seed).permutation(len(scores)), scores.mean(axis=1)))
    chosen, weights = [], []
    for stratum in np.array_split(order, count):
        distance = np.square(scores[stratum] - scores[stratum].mean(axis=0)).sum(axis=1)
        chosen.append(int(stratum[distance.argmin()]))
        weights.append(len(stratum) / len(scores))
    by_index = np.argsort(chosen)
    return Anchors(np.array(chosen)[by_index], np.array(weights)[by_index])


def anchor_error(scores: FloatArray, count: int, seed: int = 0) -> AnchorError:
    """Measure how well anchors predict the mean score of candidates that were left out when choosing them.

    Args:
        scores: (items, candidates) scores, at least MIN_HELD_OUT candidates.
        count: number of anchors.
        seed: seed of `choose_anchors`.

    Raises:
        ValueError: there are too few candidates.
    """
    candidates = scores.shape[1]
    if candidates < MIN_HELD_OUT:
        raise ValueError(f"anchor_error takes at least {MIN_HELD_OUT} candidates, not {candidates}")
    errors = []
    for held_out in np.array_split(np.arange(candidates), min(MAX_FOLDS, candidates)):
        anchors = choose_anchors(np.delete(scores, held_out, axis=1), count, seed)
        estimated = anchors.weights @ scores[anchors.items][:, held_out]
        errors.extend(np.abs(estimated - scores[:, held_out].mean(axis=0)))
    sampling = scores.std(axis=0, ddof=1) * sqrt((1 - count / len(scores)) / count)
    return AnchorError(float(np.mean(errors)), float(np.max(errors)), float(sqrt(2 / pi) * sampling.mean()))


def anchor_count(items: int) -> int:
    """Return how many anchors to choose: a quarter of the items, between 10 and 100; 0 if that saves nothing."""
    return min(100, max(10, ceil(items / 4))) if items > 20 else 0
