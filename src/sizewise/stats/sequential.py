"""Anytime-valid sequential tests: check results as they arrive without inflating the error rate.

If there is no difference, the wealth of a gambler who bets on a difference isn't expected to grow. Once it reaches
1 / level times the initial wealth, the difference is significant, no matter when the check happens (Ville, 1939).
Source: Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting; the stake of
`PairedBet` follows their aGRAPA. Votes of several raters are bet on with fixed stakes instead, see `vote_evidence`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from math import exp, log1p
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import logsumexp

FloatArray = npt.NDArray[np.float64]
T = TypeVar("T")
MAX_STAKE = 0.75
PRIOR_VARIANCE = 0.25
_LARGE, _SMALL = np.array([0.9, 0.5, 0.3, 0.15]), np.array([0.08, 0.04, 0.02, 0.01, 0.005])
STAKES = np.concatenate([_LARGE, _SMALL, -_LARGE, -_SMALL])
"""Stakes on votes: most of the wealth bets on a preference of about 65 %, some on smaller and larger ones, and a little
on preferences that only very many votes can show. A stake gains if the mean exceeds half of it, so the smallest
preference that an open round can establish is a win rate of 50.13 %."""
_WEIGHTS = np.concatenate([np.array([0.1, 0.1, 0.2, 0.1]) * 0.95, np.full(len(_SMALL), 0.025 / len(_SMALL))])
LOG_WEIGHTS = np.log(np.concatenate([_WEIGHTS, _WEIGHTS]))


class PairedBet:
    """Accumulates evidence that two systems differ, one item difference at a time.

    Each difference lies in [-1, 1]. Half of the wealth bets that left is better, half that right is.
    """

    def __init__(self) -> None:
        self.n = 0
        self._sum = 0.0
        self._squares = PRIOR_VARIANCE
        self._log_left = self._log_right = 0.0
        self._max_wealth = 1.0

    def add(self, differences: Iterable[float]) -> None:
        """Add differences (left minus right), in random order.

        Raises:
            ValueError: a difference lies outside [-1, 1].
        """
        for x in differences:
            if not -1 <= x <= 1:
                raise ValueError(f"difference {x} lies outside [-1, 1]")
            mean = self._sum / (self.n + 1)
            variance = self._squares / (self.n + 1)
            stake = mean / (variance + mean * mean)
            # The stake depends only on earlier items, so the game is fair if there is no difference.
            self._log_left += log1p(min(MAX_STAKE, max(0.0, stake)) * x)
            self._log_right += log1p(-min(MAX_STAKE, max(0.0, -stake)) * x)
            self.n += 1
            self._sum += x
            self._squares += (x - self._sum / (self.n + 1)) ** 2
            self._max_wealth = max(self._max_wealth, self.wealth)

    @property
    def wealth(self) -> float:
        """Current wealth from an initial 1: the e-value of a difference."""
        return (exp(min(700.0, self._log_left)) + exp(min(700.0, self._log_right))) / 2

    @property
    def favors_left(self) -> bool:
        """Whether the bet that left is better has won more than the bet that right is."""
        return self._log_left > self._log_right

    @property
    def p(self) -> float:
        """Anytime-valid p-value: one over the maximum wealth so far."""
        return 1 / self._max_wealth

    @property
    def mean(self) -> float:
        """Mean difference so far."""
        return self._sum / self.n if self.n else 0.0


def balanced(votes: Iterable[tuple[Hashable, T]]) -> list[T]:
    """Return equally many votes of each rater, the first ones, from as many votes in all as possible.

    Which raters and votes take part depends on how many votes each has cast, never on which. A rater with few votes is
    left out if the others have more in all without that rater.

    Args:
        votes: (rater, vote) in the order in which they arrived.
    """
    cast: dict[Hashable, list[T]] = {}
    for rater, vote in votes:
        cast.setdefault(rater, []).append(vote)
    counts = sorted((len(mine) for mine in cast.values()), reverse=True)
    each = max(((raters * count, raters, count) for raters, count in enumerate(counts, start=1)), default=(0, 0, 0))[2]
    return [vote for mine in cast.values() if len(mine) >= each for vote in mine[:each]]


class Evidence(NamedTuple):
    """Anytime-valid evidence about a mean."""

    p: float
    """Inverse of the present wealth against a mean of zero, at most 1; valid whenever the bets are stopped."""
    ci_low: float
    ci_high: float


def vote_evidence(differences: Sequence[float], level: float = 0.05) -> Evidence:
    """Bet on votes, and return the p-value of an even preference with the interval of the means not ruled out.

    The wealth is a mixture over fixed stakes. If all raters have equally many votes, on different documents, it isn't
    expected to grow as long as the raters' preferences average zero, even if each has a strong one: the product of
    their expected factors is at most what it would be if all had the average preference (inequality of arithmetic and
    geometric means). So the error rate holds for the hypothesis that these raters have no preference in all; for raters
    in general the crossed interval (`stats.crossed`) must agree.

    Args:
        differences: votes between -1 (all for right) and 1 (all for left), see `balanced`.
        level: one minus the confidence.
    """
    if not len(differences):
        return Evidence(1.0, -1.0, 1.0)
    values, counts = np.unique(np.asarray(differences, dtype=np.float64), return_counts=True)
    if values[0] < -1 or values[-1] > 1:
        raise ValueError(f"differences from {values[0]} to {values[-1]}; they must lie between -1 and 1")

    def log_wealth(mean: float) -> float:
        factors = np.log1p(STAKES[:, None] * (values - mean) / (1 + abs(mean)))
        return float(logsumexp(factors @ counts + LOG_WEIGHTS))

    def end(side: float) -> float:
        excess = -np.log(level)
        if log_wealth(side) <= excess:
            return side
        return float(brentq(lambda mean: log_wealth(mean) - excess, center, side, xtol=1e-12))

    center = float(values @ counts / counts.sum())
    return Evidence(exp(-min(700.0, max(0.0, log_wealth(0.0)))), end(-1.0), end(1.0))
