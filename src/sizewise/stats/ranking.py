"""Bradley-Terry ranking from pairwise votes.

Source: Bradley and Terry (1952); the fixed-point iteration of Newman (2023), Efficient computation of rankings from
pairwise comparisons; intervals by the pigeonhole bootstrap of Owen (2007): raters and items are resampled.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
MAX_ITERATIONS, TOLERANCE = 10_000, 1e-12
RESAMPLED_TOLERANCE = 1e-6
PRIOR = 0.01  # weight of a tie with every other item, so that items without a win in a resample get a score


def win_matrix(left: IntArray, right: IntArray, share: FloatArray, weights: FloatArray, items: int) -> FloatArray:
    """Sum votes into win matrices.

    Args:
        left: (votes,) index of the left item.
        right: (votes,) index of the right item.
        share: (votes,) 1 if left won, 0 if right won, 0.5 for a tie.
        weights: (..., votes) weight of each vote.
        items: number of ranked items.

    Returns:
        (..., items, items): how often the row won against the column.
    """
    flat = np.zeros((*weights.shape[:-1], items * items))
    pairs = np.zeros((len(left), 2), dtype=np.int64)
    pairs[:, 0], pairs[:, 1] = left * items + right, right * items + left
    if weights.ndim == 1:
        flat += np.bincount(pairs[:, 0], weights * share, items * items)
        flat += np.bincount(pairs[:, 1], weights * (1 - share), items * items)
    else:
        for row in range(len(weights)):
            flat[row] += np.bincount(pairs[:, 0], weights[row] * share, items * items)
            flat[row] += np.bincount(pairs[:, 1], weights[row] * (1 - share), items * items)
    return flat.reshape(*weights.shape[:-1], items, items)


def bradley_terry(wins: FloatArray, tolerance: float = TOLERANCE) -> FloatArray:
    """Fit maximum-likelihood strengths that sum to one, (..., items, items) -> (..., items).

    The probability that i beats j is its share of their combined strength. An item without a win has strength zero.
    """
    items = wins.shape[-1]
    strengths = np.full((*wins.shape[:-2], items), 1.0 / items)
    lost = wins.swapaxes(-1, -2)
    unbeaten = (lost.sum(axis=-1) == 0) & (wins.sum(axis=-1) > 0)
    for _ in range(MAX_ITERATIONS):
        pairwise = strengths[..., :, None] + strengths[..., None, :]
        with np.errstate(divide="ignore", invalid="ignore"):
            above = np.nansum(np.where(wins > 0, wins * strengths[..., None, :] / pairwise, 0.0), axis=-1)
            below = np.nansum(np.where(lost > 0, lost / pairwise, 0.0), axis=-1)
            # Geometric damping: without it the iteration can oscillate between two states.
            new = np.sqrt(strengths * np.where(below > 0, above / below, strengths))
        new = np.where(unbeaten, strengths.max(axis=-1, keepdims=True), new)
        new /= new.sum(axis=-1, keepdims=True)
        if np.abs(new - strengths).max() < tolerance:
            return np.asarray(new, dtype=np.float64)
        strengths = new
    return strengths


def resampled_strengths(
    left: IntArray,
    right: IntArray,
    share: FloatArray,
    groups: tuple[IntArray, ...],
    items: int,
    rounds: int,
    seed: int,
) -> FloatArray:
    """Fit strengths on resampled votes, (rounds, items).

    Votes clustered in two ways (by rater and by prompt) vary along both. Resampling both at once double-counts the
    residual variance (its 95% intervals covered the truth in 99.9% of simulated rounds). Instead, the wider of the two
    distributions is scaled in log space to the two-way variance V(raters) + V(prompts) - V(votes) (Cameron, Gelbach and
    Miller, 2011, Robust inference with multiway clustering).

    Args:
        left: (votes,) index of the left item.
        right: (votes,) index of the right item.
        share: (votes,) share of the vote that went to the left item.
        groups: group of each vote, for each clustering (raters, prompts); if empty, single votes are resampled.
        items: number of ranked items.
        rounds: number of resamples.
        seed: seed of the resampling.
    """

    def drawn(group: IntArray) -> FloatArray:
        random = np.random.default_rng(seed)
        count = int(group.max()) + 1
        weights = random.multinomial(count, np.full(count, 1 / count), size=rounds)[:, group].astype(np.float64)
        wins = win_matrix(left, right, share, weights, items)
        wins += PRIOR * (1 - np.eye(items))
        return bradley_terry(wins, RESAMPLED_TOLERANCE)

    votes = np.arange(len(left))
    if len(groups) < 2:
        return drawn(groups[0] if groups else votes)
    first, second, single = (np.log(drawn(group)) for group in (*groups[:2], votes))
    variances = np.stack([first.var(axis=0), second.var(axis=0)])
    two_way = np.maximum(variances.max(axis=0), variances.sum(axis=0) - single.var(axis=0))
    wider = int(variances.sum(axis=1).argmax())
    logs, variance = (first, second)[wider], variances[wider]
    center = np.median(logs, axis=0)
    scale = np.sqrt(np.where(variance > 0, two_way / np.where(variance > 0, variance, 1), 1))
    strengths: FloatArray = softmax(center + (logs - center) * scale, axis=1)
    return strengths


def ranks_of(strengths: FloatArray) -> FloatArray:
    """Rank items by strength, starting at 1 for the strongest: (..., items)."""
    return np.asarray((-strengths).argsort(axis=-1).argsort(axis=-1) + 1, dtype=np.float64)
