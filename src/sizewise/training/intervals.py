"""Intervals of what is measured around training: bits per byte, changes of them, and exposure of secrets."""

from __future__ import annotations

from collections.abc import Sequence

from sizewise.metrics import Mean, total
from sizewise.records import ItemRow, Score


class _Ratio(Mean):
    def __init__(self, name: str, unit: str, signature: str) -> None:
        self.name, self.title, self.unit, self._signature = name, name, unit, signature

    def signature(self) -> str:
        """Return how the amounts were measured."""
        return self._signature


def ratio_score(
    name: str,
    amounts: Sequence[float],
    sizes: Sequence[float],
    *,
    unit: str,
    signature: str,
    clusters: Sequence[str] | None = None,
) -> Score:
    """Score the sum of amounts divided by the sum of sizes, with an interval over independent texts.

    Args:
        name: name of the score.
        amounts: bits, changes in bits, or any other amount of each text.
        sizes: bytes, tokens or 1 for each text.
        unit: unit of the ratio.
        signature: how the amounts were measured.
        clusters: source of each text; by default every text is independent.
    """
    sources = list(clusters) if clusters is not None else [str(i) for i in range(len(amounts))]
    rows = [
        ItemRow(item=str(i), kind="passage", cluster=source, uncontaminated=True, stats={name: (amount, float(size))})
        for i, (amount, size, source) in enumerate(zip(amounts, sizes, sources, strict=True))
    ]
    return total(_Ratio(name, unit, signature), rows, name=name, signature="")
