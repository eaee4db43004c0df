"""Classical significance tests, for papers that require them. They treat items as independent.

Sources: Riezler and Maxwell (2005) and Post (2018, sacrebleu) for approximate randomization; Koehn (2004) for the
paired bootstrap; McNemar (1947) with the exact binomial. Rounds, seed and sampling match sacrebleu, and
so do the p-values, except where sacrebleu's are too small because it ignores ties: systems with equal values, and
systems that differ on a few items only (see `_smallest_p`).
"""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest

from sizewise.stats.inference import FloatArray, ValueOfSums

SACREBLEU_SEED = 12_345
RANDOMIZATION_ROUNDS, BOOTSTRAP_ROUNDS = 10_000, 1_000
DRAWS_PER_BATCH = 2**17  # items drawn per batch
_BITS_PER_WORD = 32  # random bits are drawn in words, so each batch must use whole words


def randomization_p(
    left: FloatArray, right: FloatArray, value: ValueOfSums, rounds: int = RANDOMIZATION_ROUNDS
) -> float:
    """Compute the p-value of approximate randomization: how often random swaps differ by more than observed.

    Args:
        left: (items, k) additive statistics of the first system.
        right: (items, k) additive statistics of the second system.
        value: turns sums (..., k) into values (...).
        rounds: number of random swaps.
    """
    random = np.random.default_rng(SACREBLEU_SEED)
    observed = float(abs(value(left.sum(axis=0)) - value(right.sum(axis=0))))
    if observed == 0 or (smallest := _smallest_p(left, right)) == 1:
        return 1.0
    items = len(left)
    batch = max(1, DRAWS_PER_BATCH // items // _BITS_PER_WORD) * _BITS_PER_WORD
    exceeding = 0
    for start in range(0, rounds, batch):
        size = min(batch, rounds - start)
        swapped = random.integers(2, size=(size, items), dtype=bool).astype(np.float64)
        first = swapped @ left + (1 - swapped) @ right
        second = swapped @ right + (1 - swapped) @ left
        exceeding += int(np.count_nonzero(np.abs(value(first) - value(second)) > observed))
    return max(smallest, (exceeding + 1) / (rounds + 1))


def bootstrap_p(left: FloatArray, right: FloatArray, value: ValueOfSums, rounds: int = BOOTSTRAP_ROUNDS) -> float:
    """Compute the p-value of sacrebleu's paired bootstrap; arguments as in `randomization_p`."""
    random = np.random.default_rng(SACREBLEU_SEED)
    observed = float(abs(value(left.sum(axis=0)) - value(right.sum(axis=0))))
    if observed == 0 or (smallest := _smallest_p(left, right)) == 1:
        return 1.0
    items = len(left)
    drawn = random.choice(items, size=(rounds, items), replace=True)
    differences = np.empty(rounds)
    for i, row in enumerate(drawn):
        weights = np.bincount(row, minlength=items).astype(np.float64)
        differences[i] = abs(value(weights @ left) - value(weights @ right))
    exceeding = int(np.count_nonzero(differences - differences.mean() > observed))
    return max(smallest, (exceeding + 1) / (rounds + 1))


def _smallest_p(left: FloatArray, right: FloatArray) -> float:
    """Return the smallest p-value that items which differ allow: 1 for one item, 0.5 for two, 0.25 for three.

    Swaps of k items have 2 ** k outcomes; at least two of them, no swap and all swaps, are as extreme as the observed
    one. From 15 items on this is less than any p-value of 10,000 rounds.
    """
    differing = int(np.count_nonzero((left != right).any(axis=1)))
    return min(1.0, 2.0 ** (1 - differing))


def mcnemar_p(left: FloatArray, right: FloatArray) -> float:
    """Compute McNemar's exact p-value for two systems' correct (1) and wrong (0) answers, (items,) each."""
    only_left = int(np.count_nonzero(left > right))
    only_right = int(np.count_nonzero(right > left))
    if only_left + only_right == 0:
        return 1.0
    return float(binomtest(only_left, only_left + only_right, 0.5).pvalue)
