"""Simulated items with known true values: kinds of data x clusters x systems, for the grid of benchmarks/stats.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, norm

FloatArray = npt.NDArray[np.float64]
SHIFT = 0.3
"""How much better the last system is in a comparison with a true difference, in standard deviations of the latent
quality."""
_GRID = np.linspace(-6, 6, 4_001)
_LARGE = 400_000  # items behind the true value of BLEU


class Kind(NamedTuple):
    """A kind of data: how a standard normal quality of an item turns into additive statistics."""

    stats: Callable[[FloatArray, np.random.Generator], FloatArray]
    """Quality (items, systems) -> statistics (items, systems, k)."""
    bounds: tuple[float, float]
    """Smallest and largest possible value."""
    continuous: bool
    """Whether coverage must not exceed its upper limit, which rates near 0 and 1 may."""
    common: float = 0.5
    """Share of the quality of an item that all systems have in common: its difficulty."""


def mean(sums: FloatArray) -> FloatArray:
    """Divide the amount by the count."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def bleu(sums: FloatArray) -> FloatArray:
    """Compute corpus BLEU."""
    from sizewise.metrics.overlap import Bleu

    return Bleu().value(sums)


def _amounts(amounts: FloatArray) -> FloatArray:
    return np.stack([amounts, np.ones_like(amounts)], axis=-1)


def _binary(rate: float) -> Kind:
    threshold = float(norm.isf(rate))
    return Kind(lambda quality, _: _amounts((quality > threshold).astype(np.float64)), (0.0, 1.0), False)


def _continuous(quantile: Callable[[FloatArray], FloatArray], bounds: tuple[float, float]) -> Kind:
    table = quantile(np.asarray(norm.cdf(_GRID)))
    return Kind(lambda quality, _: _amounts(np.interp(quality, _GRID, table)), bounds, True)


def _token_f1(share: FloatArray) -> FloatArray:
    """Three in ten answers share no word with the reference, one in ten equals it."""
    return np.asarray(np.where(share < 0.3, 0.0, np.where(share > 0.9, 1.0, beta.ppf((share - 0.3) / 0.6, 2, 3))))


def _bleu_counts(quality: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw n-gram counts of answers: length of answer and reference, matches and totals by order.

    References have 22 words on average (log-normal, 50 % spread); a word of the answer matches with a probability that
    depends on the quality, and a longer n-gram matches if its parts do, more often than by chance alone.
    """
    items = len(quality)
    reference = np.maximum(4, np.round(np.exp(rng.normal(3.0, 0.45, (items, 1)))))
    answer = np.maximum(1, np.round(reference * np.exp(rng.normal(0, 0.15, quality.shape))))
    matching = norm.cdf(quality) * 0.8 + 0.1
    found = [answer, np.broadcast_to(reference, answer.shape)]
    matches, totals = [], []
    previous, total = answer, answer
    for order in range(1, 5):
        total = np.maximum(answer - order + 1, 0)
        probability = matching if order == 1 else np.sqrt(matching)
        previous = rng.binomial(np.minimum(previous, total).astype(np.int64), probability).astype(np.float64)
        matches.append(previous)
        totals.append(total)
    return np.stack([*found, *matches, *totals], axis=-1)


KINDS: dict[str, Kind] = {
    "binary 50 %": _binary(0.5),
    "binary 85 %": _binary(0.85),
    "binary 2 %": _binary(0.02),
    "binary 98 %": _binary(0.98),
    "normal": Kind(lambda quality, _: _amounts(quality), (-np.inf, np.inf), True),
    "beta": _continuous(lambda share: np.asarray(beta.ppf(share, 2, 5)), (0.0, 1.0)),
    "skewed": _continuous(lambda share: np.asarray(-np.log1p(-np.minimum(share, 1 - 1e-9))), (0.0, np.inf)),
    "token F1": _continuous(_token_f1, (0.0, 1.0)),
    "BLEU": Kind(_bleu_counts, (0.0, 100.0), True),
}


def value_of(kind: str) -> Callable[[FloatArray], FloatArray]:
    """Return the function that turns sums of statistics into a value."""
    return bleu if kind == "BLEU" else mean


@cache
def true_value(kind: str, shift: float = 0.0) -> float:
    """Compute the value of a kind of data over infinitely many items."""
    rng = np.random.default_rng(7)
    if kind == "BLEU":
        total = np.zeros(10)
        for _ in range(20):
            total += KINDS[kind].stats(rng.normal(shift, 1, (_LARGE // 20, 1)), rng)[:, 0].sum(axis=0)
        return float(bleu(total))
    points = np.asarray(norm.ppf((np.arange(400_000) + 0.5) / 400_000))
    return float(KINDS[kind].stats((points + shift)[:, None], rng)[:, 0, 0].mean())


class Design(NamedTuple):
    """How items lie in clusters."""

    items: int
    clusters: int
    icc: float
    """Share of the latent variance that the items of a cluster have in common."""
    equal: bool
    """Whether clusters have equal sizes; if not, sizes are geometric: a few clusters hold most items."""

    @property
    def label(self) -> str:
        """Name the design."""
        sizes = "" if self.items == self.clusters else ", equal sizes" if self.equal else ", unequal sizes"
        return f"{self.items:,} items in {self.clusters:,} clusters, ICC {self.icc:g}{sizes}"


def cluster_index(design: Design, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Assign items to clusters; each has at least one item."""
    if design.equal:
        return np.sort(np.arange(design.items) % design.clusters).astype(np.int64)
    weights = rng.gamma(1.0, 1.0, design.clusters)
    extra = rng.multinomial(design.items - design.clusters, weights / weights.sum())
    return np.repeat(np.arange(design.clusters), extra + 1).astype(np.int64)


def draw(
    kind: str, design: Design, shifts: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Draw the statistics of systems on the same items.

    Args:
        kind: kind of data.
        design: items and clusters.
        shifts: (systems,) how much better each system is.
        rng: source of randomness.

    Returns:
        (items, systems, k) statistics and the cluster of each item.
    """
    index = cluster_index(design, rng)
    chosen, systems = KINDS[kind], len(shifts)
    common, own = np.sqrt(chosen.common), np.sqrt(1 - chosen.common)
    clusters = common * rng.normal(size=(design.clusters, 1)) + own * rng.normal(size=(design.clusters, systems))
    items = common * rng.normal(size=(design.items, 1)) + own * rng.normal(size=(design.items, systems))
    quality = np.sqrt(design.icc) * clusters[index] + np.sqrt(1 - design.icc) * items + shifts
    return chosen.stats(quality, rng), index
