"""Anytime-valid sequential tests: check results as they arrive without inflating the error rate.

If there is no difference, the wealth of a gambler who bets on a difference isn't expected to grow. Once it reaches
1 / level times the initial wealth, the difference is significant, no matter when the check happens (Ville, 1939).
Source: Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting; the stake follows their
aGRAPA.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, log1p

MAX_STAKE = 0.75
PRIOR_VARIANCE = 0.25


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
