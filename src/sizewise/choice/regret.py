"""How likely each candidate is the best, and what a pick is expected to lose, given how documents vary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sizewise.choice.evidence import Choice
from sizewise.stats import MIN_CLUSTERS

DRAWS = 4_000
_TIE = 1e-9


def estimate_regret(choice: Choice, eligible: Sequence[str], pick: str | None) -> tuple[dict[str, float], float | None]:
    """Compute the probability that each eligible candidate is the best, and the expected regret of a pick.

    True values are drawn around the measured ones with their jackknife covariance, which leaves out what other
    documents, prompts or training seeds would change. They follow Student's t distribution, because few documents
    don't tell how much documents vary.

    Args:
        choice: the decision.
        eligible: candidates to compare.
        pick: candidate whose regret to compute, if any.

    Returns:
        Candidate -> probability (empty if unknown), and the expected loss in the quality metric's unit (None if
        unknown).
    """
    spread = choice.comparison.spread.get(choice.quality)
    names = [name for name in eligible if spread and name in spread.names]
    if spread is None or len(names) < max(2, len(eligible)) or len(spread.values) < len(spread.names):
        return {}, None
    index = [spread.names.index(name) for name in names]
    covariance = np.array(spread.covariance)[np.ix_(index, index)]
    values = np.array(spread.values)[index]
    sign = 1.0 if choice.higher else -1.0
    sizes, directions = np.linalg.eigh(covariance)
    random = np.random.default_rng(0)
    apart = random.standard_normal((DRAWS, len(names))) @ (directions * np.sqrt(np.maximum(sizes, 0))).T
    df = _clusters(choice, names) - 1
    drawn = sign * (values + apart * np.sqrt(df / random.chisquare(df, (DRAWS, 1))))
    best = drawn.max(axis=1, keepdims=True)
    leading = drawn >= best - _TIE * np.maximum(1.0, np.abs(best))
    shares = (leading / leading.sum(axis=1, keepdims=True)).mean(axis=0)
    regret = float((best[:, 0] - drawn[:, names.index(pick)]).mean()) if pick in names else None
    return dict(zip(names, map(float, shares), strict=True)), regret


def _clusters(choice: Choice, names: Sequence[str]) -> int:
    """Return the independent documents behind the differences of these candidates."""
    pairs = (one for one in choice.comparison.differences if one.metric == choice.quality)
    return min((one.clusters for one in pairs if {one.left, one.right} <= set(names)), default=MIN_CLUSTERS)
