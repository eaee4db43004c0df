"""Tests that the field is used to, for those who must state them. They take items for independent.

Sources: Riezler and Maxwell (2005) and Post (2018, sacrebleu) for approximate randomisation; Koehn (2004) for the
paired bootstrap; McNemar (1947) with the exact binomial. Rounds, seed and way of drawing are sacrebleu's, and so are
the p-values, but for systems of equal value: sacrebleu's count leaves out ties, and calls those different.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest

from sizewise.stats.bootstrap import DRAWS, FloatArray, ValueOfSums

SACREBLEU_SEED = 12_345
RANDOMISATION_ROUNDS, BOOTSTRAP_ROUNDS = 10_000, 1_000
_WHOLE_WORDS = 32  # random bits are drawn in words: a part of the rounds must use whole ones


def randomisation_p(
    left: FloatArray, right: FloatArray, value: ValueOfSums, rounds: int = RANDOMISATION_ROUNDS
) -> float:
    """Give the p-value of approximate randomisation: how often swapping items at random differs by more.

    Args:
        left: (items, k) additive statistics of the first system.
        right: the same of the second.
        value: turns sums (..., k) into values (...).
        rounds: how often items are swapped.
    """
    random = np.random.default_rng(SACREBLEU_SEED)
    apart = float(abs(value(left.sum(axis=0)) - value(right.sum(axis=0))))
    if apart == 0:
        return 1.0
    items = len(left)
    at_once = max(1, DRAWS // items // _WHOLE_WORDS) * _WHOLE_WORDS
    further = 0
    for start in range(0, rounds, at_once):
        some = min(at_once, rounds - start)
        swapped = random.integers(2, size=(some, items), dtype=bool).astype(np.float64)
        first = swapped @ left + (1 - swapped) @ right
        second = swapped @ right + (1 - swapped) @ left
        further += int(np.count_nonzero(np.abs(value(first) - value(second)) > apart))
    return (further + 1) / (rounds + 1)


def bootstrap_p(left: FloatArray, right: FloatArray, value: ValueOfSums, rounds: int = BOOTSTRAP_ROUNDS) -> float:
    """Give the p-value of sacrebleu's paired bootstrap; arguments as for `randomisation_p`."""
    random = np.random.default_rng(SACREBLEU_SEED)
    apart = float(abs(value(left.sum(axis=0)) - value(right.sum(axis=0))))
    if apart == 0:
        return 1.0
    items = len(left)
    drawn = random.choice(items, size=(rounds, items), replace=True)
    differences = np.empty(rounds)
    for i, row in enumerate(drawn):
        weights = np.bincount(row, minlength=items).astype(np.float64)
        differences[i] = abs(value(weights @ left) - value(weights @ right))
    further = int(np.count_nonzero(differences - differences.mean() > apart))
    return (further + 1) / (rounds + 1)


def mcnemar_p(left: FloatArray, right: FloatArray) -> float:
    """Give McNemar's exact p-value of two systems that are right (1) or wrong (0), (items,) each."""
    only_left = int(np.count_nonzero(left > right))
    only_right = int(np.count_nonzero(right > left))
    if only_left + only_right == 0:
        return 1.0
    return float(binomtest(only_left, only_left + only_right, 0.5).pvalue)
