"""The learning rate over a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sizewise.lm.plan import Plan, Point

WARMUP_SHARE = 0.05
FINAL_RATE_SHARE = 0.05
COOL_FROM, COOL_SHARE, COOL_RATE = 0.3, 0.5, 0.3
"""Share of the peak above which a learning rate is still high; tokens over which it comes down, as a share of those
that the best weights have seen; and where it begins, as a share of their rate (from all of it, they end no better)."""


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
    """Token budget of the run with it."""
    peak: float
    """Learning rate from which it comes down."""

    @classmethod
    def after(cls, points: Sequence[Point], step: int, plan: Plan) -> Cooling | None:
        """Plan it after a number of steps; None if the rate was low already, or nothing was measured.

        Args:
            points: the curve; later points are ignored.
            step: steps done.
            plan: the plan of the run before it.
        """
        measured = [point for point in points[:step] if point.bits_per_byte is not None]
        if not measured:
            return None
        best, now = min(measured, key=lambda point: point.bits_per_byte or 0.0), points[step - 1].tokens
        end = min(plan.tokens, now + round(COOL_SHARE * best.tokens))
        if best.learning_rate < COOL_FROM * plan.learning_rate or end <= now:
            return None
        return cls(now, end, COOL_RATE * best.learning_rate)

    def rate(self, tokens: int) -> float:
        """Compute the learning rate after a number of tokens, with a short warm-up of the optimizer's averages."""
        return rate_at((tokens - self.start) / (self.end - self.start), self.peak)
