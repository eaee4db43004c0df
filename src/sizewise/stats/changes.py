"""Tests whether answers changed between two days, where a service's answers also vary within a day."""

from __future__ import annotations

from scipy.stats import binom


def p_of_change(moved: int, unstable: int) -> float:
    """Compute the p-value of answers that moved, against those that vary anyway.

    An item is asked once before and twice now. If nothing changed, its three answers are exchangeable: where exactly
    one of them is different, it is the one from before with probability 1/3.

    Args:
        moved: items whose two answers now agree with each other, but not with the one before.
        unstable: items of which one answer now agrees with the one before, and the other doesn't.
    """
    return float(binom.sf(moved - 1, moved + unstable, 1 / 3)) if moved else 1.0
