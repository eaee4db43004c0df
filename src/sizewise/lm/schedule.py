"""The learning rate over a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sizewise.lm.plan import Plan, Point

WARMUP_SHARE = 0.05
FINAL_RATE_SHARE = 0.05
COOL_FROM, COOL_SHARE, COOL_RATE, COOL_STEPS = 0.3, 0.5, 0.3, 6
"""Share of the peak above which a learning rate is still high; tokens over which it comes down, as a share of those
that the best weights have seen; where it begins, as a share of their rate (from all of it, they end no better); and the
fewest steps that this takes."""


def rate_at(done: float, peak: float) -> float:
    """Compute the learning rate after a share of the budget: linear warm-up, then cosine decay to a small rest."""
    if done < WARMUP_SHARE:
        return peak * max(done / WARMUP_SHARE, 0.1)
    decayed = min(1.0, (done - WARMUP_SHARE) / (1 - WARMUP_SHARE))
    return peak * (FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * 0.5 * (1 + math.cos(math.pi * decayed)))


class Cooling(NamedTuple):
    """The end of a run whose validation stopped improving while its learning rate was high.

    From the best weights, the rate comes down over some more tokens, as it would have in a run of the right length.
    """

    start: int
    """Tokens seen before it."""
    end: int
    """Tokens seen after it."""
    peak: float
    """Learning rate from which it comes down."""
    rollbacks: int
    """Rollbacks before it, which `peak` counts."""

    @classmethod
    def after(cls, points: Sequence[Point], best_step: int, plan: Plan, rollbacks: Sequence[int]) -> Cooling | None:
        """Plan it after the last point of a curve.

        Args:
            points: the curve.
            best_step: step of the best weights.
            plan: the plan of the run.
            rollbacks: steps at which the run went back to its best weights and halved the rate.

        Returns:
            None if the rate was low already, no weights were better than the first ones, or too little budget is left.
        """
        best = next((point for point in points if point.step == best_step), None)
        if best is None:
            return None
        earlier = sum(step <= best_step for step in rollbacks)
        peak, now = plan.learning_rate * 0.5**earlier, points[-1].tokens
        shortest = COOL_STEPS * now // len(points)
        end = min(plan.tokens, now + max(shortest, round(COOL_SHARE * best.tokens)))
        if best.learning_rate < COOL_FROM * peak or end - now < shortest:
            return None
        rate = COOL_RATE * best.learning_rate * 0.5 ** (len(rollbacks) - earlier)
        return cls(now, end, rate, len(rollbacks))

    def rate(self, tokens: int, rollbacks: int) -> float:
        """Compute the learning rate after a number of tokens and rollbacks, with a short warm-up."""
        done = (tokens - self.start) / max(1, self.end - self.start)
        return rate_at(done, self.peak) * 0.5 ** (rollbacks - self.rollbacks)

    def describe(self, tokens: int) -> str:
        """Describe it after a number of tokens, as a note of the run's record."""
        return (
            f"validation stopped improving at a high learning rate, so after {self.start:,} tokens the run went back "
            f"to its best weights and brought the rate down over {tokens - self.start:,} more"
        )
