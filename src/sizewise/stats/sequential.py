"""Looking at results as they come, without paying for each look.

The wealth of a bettor against "there is no difference" cannot grow in the long run if that is true; once it is
1 / level times what it was, the difference is shown, at whatever moment one looked (Ville, 1939). Source:
Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting; the stake is their aGRAPA.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, log1p

MOST_STAKE = 0.75
PRIOR_VARIANCE = 0.25


class PairedBet:
    """Evidence that two systems differ, from the differences of their items one after the other.

    Each difference lies in [-1, 1]; half of the wealth bets that left is better, half that right is.
    """

    def __init__(self) -> None:
        self.n = 0
        self._sum = 0.0
        self._squares = PRIOR_VARIANCE
        self._log_left = self._log_right = 0.0
        self._most = 1.0

    def add(self, differences: Iterable[float]) -> None:
        """Add differences left minus right, in random order.

        Raises:
            ValueError: one lies outside [-1, 1].
        """
        for x in differences:
            if not -1 <= x <= 1:
                raise ValueError(f"a difference of {x} lies outside [-1, 1]")
            mean = self._sum / (self.n + 1)
            variance = self._squares / (self.n + 1)
            stake = mean / (variance + mean * mean)
            # The stake rests on what came before alone, so the game is fair if there is no difference.
            self._log_left += log1p(min(MOST_STAKE, max(0.0, stake)) * x)
            self._log_right += log1p(-min(MOST_STAKE, max(0.0, -stake)) * x)
            self.n += 1
            self._sum += x
            self._squares += (x - self._sum / (self.n + 1)) ** 2
            self._most = max(self._most, self.wealth)

    @property
    def wealth(self) -> float:
        """What one unit of money became by now: the e-value of a difference."""
        return (exp(min(700.0, self._log_left)) + exp(min(700.0, self._log_right))) / 2

    @property
    def p(self) -> float:
        """The p-value, valid at any moment: one over the greatest wealth so far."""
        return 1 / self._most

    @property
    def mean(self) -> float:
        """Mean difference so far."""
        return self._sum / self.n if self.n else 0.0
