"""Waves of test items: small samples first, and no further items for candidates that can't win any more."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sizewise.choice.evidence import Choice
from sizewise.choice.limits import check_limits
from sizewise.records import Comparison, Needs
from sizewise.stats import MIN_CLUSTERS

FIRST_ITEMS = 24
GROWTH = 3
STEP_ITEMS = 8
MAX_LOOKS = 5
STOP_LEVEL = 0.01 / MAX_LOOKS
"""Significance level at which a wave stops a candidate: 1% in all, over at most five waves."""


def wave_sizes(items: int) -> list[int]:
    """Return the sample sizes of the waves, the last one of all items.

    Args:
        items: test items that may be asked.
    """
    sizes: list[int] = []
    size = FIRST_ITEMS
    while size < items and len(sizes) < MAX_LOOKS - 1:
        sizes.append(size)
        size *= GROWTH
    return [*sizes, items]


def affordable_size(size: int, measured: int, seconds: float, item_s: float) -> int:
    """Return the largest sample that fits into a time; `measured` if a larger one isn't worth its overhead.

    Args:
        size: wanted sample.
        measured: items that were measured already.
        seconds: time for all candidates.
        item_s: seconds for one item of all candidates.
    """
    fitting = measured + int(seconds / max(item_s, 1e-9))
    if fitting >= size:
        return size
    rounded = fitting // STEP_ITEMS * STEP_ITEMS
    return rounded if rounded >= 1.25 * measured else measured


def beaten(comparison: Comparison, needs: Needs, quality: str, live: Collection[str]) -> dict[str, str]:
    """Find candidates that can't win any more: a smaller or equally small one is shown to be better at a strict level.

    Without a minimum quality, size doesn't matter. With an incumbent to replace, nothing is stopped, because worse
    candidates may be good enough.

    Args:
        comparison: the comparison of this wave.
        needs: the requirements.
        quality: quality metric.
        live: candidates that aren't stopped yet.

    Returns:
        Candidate -> why it is stopped.
    """
    if needs.incumbent is not None:
        return {}
    choice = Choice(comparison, needs.model_copy(update={"quality": quality}))
    # A model that can't be picked, such as one that was shut down or that text may not reach, is only a yardstick.
    live = [name for name in live if name not in choice.names or check_limits(choice, name).missed is None]
    found: dict[str, str] = {}
    for difference in comparison.differences:
        winner = difference.better
        if difference.metric != quality or winner is None or winner not in live:
            continue
        loser = difference.left if winner == difference.right else difference.right
        certain = difference.p_adjusted is not None and difference.p_adjusted <= STOP_LEVEL
        if loser not in live or not certain or difference.clusters < MIN_CLUSTERS:
            continue
        if needs.min_quality is None or _is_no_larger(comparison, winner, loser):
            found[loser] = (
                f"stopped after {difference.n} items: {winner} is better (adjusted p = {difference.p_adjusted:.2g})"
            )
    return found


def _is_no_larger(comparison: Comparison, name: str, other: str) -> bool:
    size, other_size = (comparison.models[each].memory_bytes for each in (name, other))
    return size is not None and other_size is not None and size <= other_size


def ranked(comparison: Comparison, quality: str, names: Sequence[str]) -> list[str]:
    """Sort candidates by quality, best first, and those without a score after them."""
    scores = comparison.scores.get(quality, {})
    sign = -1 if comparison.better.get(quality) == "higher" else 1
    values = {name: score.value for name in names if (score := scores.get(name)) and score.value is not None}
    return sorted(names, key=lambda name: (name not in values, sign * values.get(name, 0.0)))
