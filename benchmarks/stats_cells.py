"""Cells of the grid of benchmarks/stats.py: each simulates many comparisons of one kind and counts what was claimed.

Everything goes through sizewise.stats, as comparisons do.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import expit
from scipy.stats import norm

import reference_intervals
from simulated_items import KINDS, SHIFT, Design, draw, true_value, value_of
from sizewise.stats import PairedBet
from sizewise.stats.inference import MIN_CLUSTERS, Contrast, Interval, Systems, adjust_family, detectable, sum_groups

LEVEL = 0.05
VALID = 0.93
"""Minimum coverage of a reference method whose width ours is compared with."""
Part = Literal["pairs", "families", "peeking", "power", "votes"]


class Cell(NamedTuple):
    """One cell of the grid."""

    part: Part
    kind: str
    design: Design
    candidates: int = 2
    raters: int | None = None
    """Number of raters, where items are their votes and clusters the documents."""
    metrics: int = 1
    """Number of metrics that share the error rate."""

    @property
    def label(self) -> str:
        """Name the cell."""
        who = f"{self.candidates} candidates" if self.raters is None else f"{self.raters} raters"
        several = "" if self.metrics == 1 else f", {self.metrics} metrics"
        return f"{self.part} | {self.kind} | {self.design.label} | {who}{several}"

    @property
    def seed(self) -> int:
        """Seed of the cell, from its name."""
        return int.from_bytes(hashlib.sha256(self.label.encode()).digest()[:4], "big")


def simulate(cell: Cell, runs: int) -> dict[str, Any]:
    """Run a cell."""
    parts = {"pairs": pairs, "families": families, "peeking": peeking, "power": power, "votes": votes}
    begun = time.process_time()
    found = parts[cell.part](cell, runs)
    return described(cell) | {"runs": runs, "cpu_seconds": round(time.process_time() - begun, 1)} | found


def described(cell: Cell) -> dict[str, Any]:
    """Describe a cell, as in its result."""
    about = {"part": cell.part, "kind": cell.kind, **cell.design._asdict(), "candidates": cell.candidates}
    about |= {} if cell.raters is None else {"raters": cell.raters}
    return about | ({} if cell.metrics == 1 else {"metrics": cell.metrics})


# -- two candidates: false claims, coverage, widths ------------------------------------------------------


class Tally:
    """Counts covered intervals and collects their widths."""

    def __init__(self, truth: float) -> None:
        self.truth = truth
        self.covered: dict[str, int] = defaultdict(int)
        self.widths: dict[str, list[float]] = defaultdict(list)

    def add(self, method: str, ends: tuple[float, float]) -> None:
        """Add an interval."""
        low, high = ends
        tolerance = 1e-9 * max(1.0, abs(self.truth))
        self.covered[method] += bool(low - tolerance <= self.truth <= high + tolerance)
        self.widths[method].append(high - low)

    def coverage(self, method: str) -> float:
        """Return the share of runs in which a method's interval holds the truth; no interval doesn't."""
        return self.covered[method] / len(self.widths["sizewise"])

    def summary(self, also: Tally | None = None) -> dict[str, Any]:
        """Summarize coverage and median width of ours, and of the narrowest valid reference method.

        Args:
            also: a tally in which the reference method must be valid, too.
        """
        if "sizewise" not in self.widths:
            return {"covered": None, "n": 0}
        widths = {name: float(np.median(found)) for name, found in self.widths.items()}
        references = [name for name in widths if name != "sizewise"]
        valid = [name for name in references if all(one.coverage(name) >= VALID for one in (self, also or self))]
        best = min((name for name in valid if widths[name] > 0), key=lambda name: widths[name], default=None)
        return {
            "covered": self.covered["sizewise"],
            "n": len(self.widths["sizewise"]),
            "width": widths["sizewise"],
            "best": best,
            "ratio": widths["sizewise"] / widths[best] if best else None,
            "references": {name: round(self.coverage(name), 4) for name in references},
        }


def pairs(cell: Cell, runs: int) -> dict[str, Any]:
    """Compare two equal candidates and a better one: claims, coverage, widths, agreement of interval and p-value."""
    rng, kind, value = np.random.default_rng(cell.seed), KINDS[cell.kind], value_of(cell.kind)
    level = true_value(cell.kind)
    score, null, better = Tally(level), Tally(0.0), Tally(true_value(cell.kind, SHIFT) - level)
    weights = reference_intervals.resample_weights(cell.design.clusters, cell.seed)
    false_claims = too_few = disagreements = found_better = 0
    for _ in range(runs):
        stats, index = draw(cell.kind, cell.design, np.array([0.0, 0.0, SHIFT]), rng)
        systems = Systems(stats, (index, cell.design.clusters), value, kind.bounds)
        one, same, other = systems.score(0), systems.difference(0, 1), systems.difference(2, 0)
        disagreements += disagrees(same) + disagrees(other)
        if not np.isfinite(one.ci_low) or not np.isfinite(same.p):
            too_few += 1
            false_claims += claims(same)
            continue
        false_claims += claims(same)
        found_better += bool(claims(other) and other.value > 0)
        score.add("sizewise", ends_of(one))
        null.add("sizewise", ends_of(same))
        better.add("sizewise", ends_of(other))
        sums = sum_groups(stats, index)
        for tally, part in ((score, sums[:, 0]), (null, sums[:, :2]), (better, sums[:, [2, 0]])):
            for name, ends in reference_intervals.references(part, weights, value).items():
                tally.add(name, ends)
        if cell.kind.startswith("binary") and cell.design.items == cell.design.clusters:
            hits, n = stats[..., 0], cell.design.items
            for name, ends in reference_intervals.of_proportion(int(hits[:, 0].sum()), n).items():
                score.add(name, ends)
            for tally, left, right in ((null, 0, 1), (better, 2, 0)):
                won, lost = (int((hits[:, i] > hits[:, j]).sum()) for i, j in ((left, right), (right, left)))
                tally.add("adjusted Wald", reference_intervals.of_paired_proportions(won, lost, n))
    return {
        "false_claims": false_claims,
        "too_few": too_few,
        "disagreements": disagreements,
        "found_better": found_better,
        "score": score.summary(),
        "difference": null.summary(also=better),
        "true_difference": better.summary(),
    }


def ends_of(found: Interval | Contrast) -> tuple[float, float]:
    """Return the ends of an interval."""
    return found.ci_low, found.ci_high


def claims(found: Contrast) -> bool:
    """Return whether a difference counts as significant."""
    return bool(found.p < LEVEL)


def disagrees(found: Contrast) -> bool:
    """Return whether the interval and the p-value say different things."""
    if not np.isfinite(found.p):
        return bool(np.isfinite(found.ci_low) or np.isfinite(found.ci_high))
    if abs(found.p - LEVEL) < 1e-9 or min(abs(found.ci_low), abs(found.ci_high)) < 1e-12:
        return False  # on the border, rounding decides
    return bool(claims(found) == (found.ci_low <= 0 <= found.ci_high))


# -- many candidates -------------------------------------------------------------------------------------


class _Screened(Systems):
    """Leaves out the p-values of single pairs, which can only make an adjusted p-value larger."""

    def difference(self, left: int, right: int) -> Contrast:
        """Return a difference that is beyond doubt."""
        return Contrast(0.0, 0.0, 0.0, 0.0, 0.0)


def families(cell: Cell, runs: int) -> dict[str, Any]:
    """Compare many equal candidates: how often is any pair called different."""
    rng, kind, value = np.random.default_rng(cell.seed), KINDS[cell.kind], value_of(cell.kind)
    claimed = list(combinations(range(cell.candidates), 2))
    false_claims = too_few = 0
    for run in range(runs):
        stats, index = draw(cell.kind, cell.design, np.zeros(cell.candidates), rng)
        arguments = (stats, (index, cell.design.clusters), value, kind.bounds)
        screened = adjust_family([(_Screened(*arguments), claimed)], seed=run).p[0]
        if not np.isfinite(screened).any():
            too_few += 1
        elif np.nanmin(screened) < LEVEL:
            false_claims += bool(np.nanmin(adjust_family([(Systems(*arguments), claimed)], seed=run).p[0]) < LEVEL)
    return {"false_claims": false_claims, "too_few": too_few}


def peeking(cell: Cell, runs: int) -> dict[str, Any]:
    """Compare equal candidates after every document; a claim at any time counts."""
    rng = np.random.default_rng(cell.seed)
    level = LEVEL / (cell.candidates * (cell.candidates - 1) / 2)
    false_claims = 0
    for _ in range(runs):
        stats, index = draw(cell.kind, cell.design, np.zeros(cell.candidates), rng)
        means = sum_groups(stats[..., 0], index) / np.bincount(index)[:, None]
        for left, right in combinations(range(cell.candidates), 2):
            bet = PairedBet()
            bet.add((means[:, left] - means[:, right]).tolist())
            if bet.p <= level:
                false_claims += 1
                break
    return {"false_claims": false_claims, "too_few": 0}


# -- power -----------------------------------------------------------------------------------------------

PILOTS, STEPS = 200, 3


def power(cell: Cell, runs: int) -> dict[str, Any]:
    """Simulate a true difference of the size that comparisons of such data say they detect with 80% power.

    The first candidate is better than the second one by that much, in one metric. All other candidates equal the first
    one, and all candidates are equal in the other metrics.
    """
    rng = np.random.default_rng(cell.seed)
    pilots = min(PILOTS, runs)
    stated = shift = 0.0
    for _ in range(STEPS):  # what is detectable depends on the data, which depend on the difference
        found = [_compared(cell, shift, rng) for _ in range(pilots)]
        stated = float(np.median([detectable(one, cell.design.clusters, level) for one, _, level in found]))
        shift = shift_for(cell.kind, stated)
    detected = 0
    for _ in range(runs):
        one, p_adjusted, _ = _compared(cell, shift, rng)
        detected += bool(p_adjusted < LEVEL and one.value > 0)
    return {"stated": stated, "found": detected}


def _compared(cell: Cell, shift: float, rng: np.random.Generator) -> tuple[Contrast, float, float]:
    """Compare candidates of which one is worse: the difference, its adjusted p-value, and the level of one claim."""
    value, bounds = value_of(cell.kind), KINDS[cell.kind].bounds
    shifts = np.zeros(cell.candidates)
    shifts[1] = -shift
    drawn = [draw(cell.kind, cell.design, shifts * (metric == 0), rng) for metric in range(cell.metrics)]
    systems = [Systems(stats, (drawn[0][1], cell.design.clusters), value, bounds) for stats, _ in drawn]
    contrast = systems[0].difference(0, 1)
    if cell.candidates == 2 and cell.metrics == 1:
        return contrast, contrast.p, LEVEL
    claimed = list(combinations(range(cell.candidates), 2))
    family = adjust_family([(one, claimed) for one in systems], seed=int(rng.integers(2**31)))
    return contrast, family.p[0][0], family.level


def shift_for(kind: str, wanted: float) -> float:
    """Find how much worse a candidate must be for a difference of this size."""
    low, high = 0.0, 8.0
    for _ in range(16):
        middle = (low + high) / 2
        if true_value(kind) - true_value(kind, -middle) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


# -- votes -----------------------------------------------------------------------------------------------

PREFERENCES = {"win rate 50 %": 0.0, "win rate 65 %": 0.7, "win rate 90 %": 2.8}
"""Log odds that a typical rater prefers the left answer of a typical document."""
RATER_SPREAD, DOCUMENT_SPREAD = 0.8, 0.75
"""Standard deviations of raters (their leniency) and documents, in log odds."""


def votes(cell: Cell, runs: int) -> dict[str, Any]:
    """Estimate a win rate from raters of different leniency, who see some of the documents each."""
    from sizewise.stats.crossed import estimate_share

    rng, raters = np.random.default_rng(cell.seed), cell.raters or 0
    log_odds, documents, each = PREFERENCES[cell.kind], cell.design.clusters, cell.design.items // raters
    points = norm.ppf((np.arange(4_000) + 0.5) / 4_000) * np.hypot(RATER_SPREAD, DOCUMENT_SPREAD)
    rate = Tally(float(expit(log_odds + points).mean()))
    false_claims = disagreements = 0
    for _ in range(runs):
        by = np.repeat(np.arange(raters), each)
        about = np.concatenate([rng.permutation(documents)[:each] for _ in range(raters)])
        leaning = rng.normal(0, RATER_SPREAD, raters)[by] + rng.normal(0, DOCUMENT_SPREAD, documents)[about]
        won = (rng.random(len(by)) < expit(log_odds + leaning)).astype(np.float64)
        found = estimate_share(won, by, about)
        rate.add("sizewise", (found.ci_low, found.ci_high))
        rate.add("Wilson", reference_intervals.of_proportion(int(won.sum()), len(won))["Wilson"])
        false_claims += bool(found.p < LEVEL)
        disagreements += bool((found.p < LEVEL) == (found.ci_low <= 0.5 <= found.ci_high))
    null = {"false_claims": false_claims, "too_few": 0} if log_odds == 0 else {}
    return null | {"disagreements": disagreements, "rate": rate.summary()}


# -- the grid --------------------------------------------------------------------------------------------


def designs() -> list[Design]:
    """List the designs of comparisons of two candidates, for every kind of data."""
    independent = [Design(n, n, 0.0, True) for n in (2, 3, 5, 7, MIN_CLUSTERS, 10, 12, 20, 50, 200)]
    clustered = [
        Design(items, clusters, icc, equal)
        for items, clusters in ((10, 2), (50, 5), (40, 8), (100, 10), (60, 20))
        for icc, equal in ((0.1, True), (0.5, True), (0.3, False))
    ]
    return [*independent, *clustered, Design(300, 30, 0.3, False), Design(1_000, 100, 0.3, False)]


LARGE = (
    ("binary 98 %", Design(10_000, 1_000, 0.3, False)),
    ("binary 98 %", Design(10_000, 10, 0.3, True)),
    ("skewed", Design(1_000, 1_000, 0.0, True)),
    ("token F1", Design(10_000, 10, 0.3, True)),
    ("BLEU", Design(10_000, 1_000, 0.3, False)),
)
"""Designs for some kinds of data only, because they take long."""


def grid() -> list[Cell]:
    """List all cells, the slow ones first."""
    cells = [Cell("pairs", kind, design) for kind, design in LARGE]
    alone, clustered, large = Design(10, 10, 0.0, True), Design(100, 20, 0.3, False), Design(1_000, 200, 0.3, False)
    cells += [Cell("families", kind, clustered, 50) for kind in ("binary 50 %", "BLEU")]
    cells += [Cell("families", "binary 98 %", alone, 50)]
    cells += [
        Cell("families", kind, design, candidates)
        for candidates in (23, 10, 5)
        for kind in ("binary 50 %", "binary 98 %", "BLEU")
        for design in (Design(5, 5, 0.0, True), Design(8, 8, 0.0, True), alone, clustered, large)
    ]
    cells += [Cell("pairs", kind, design) for design in designs()[::-1] for kind in KINDS]
    cells += [
        Cell("peeking", kind, design, candidates)
        for kind in ("binary 50 %", "binary 98 %", "token F1")
        for design in (Design(20, 20, 0.0, True), Design(300, 100, 0.3, False), Design(1_000, 1_000, 0.0, True))
        for candidates in (2, 5)
    ]
    cells += [
        Cell("power", kind, design)
        for kind in ("binary 50 %", "binary 85 %", "normal", "token F1", "BLEU")
        for design in (Design(20, 20, 0.0, True), Design(180, 60, 0.3, False), Design(200, 200, 0.0, True))
    ]
    cells += [
        Cell("power", kind, Design(180, 60, 0.3, True), candidates, metrics=metrics)
        for kind in ("binary 85 %", "token F1")
        for candidates, metrics in ((3, 1), (5, 1), (10, 1), (2, 3), (5, 3))
    ]
    cells += [
        Cell("votes", kind, Design(raters * min(documents, most), documents, 0.0, True), raters=raters)
        for kind in PREFERENCES
        for raters in (3, 4, 5, 6, 10, 50)
        for documents, most in ((20, 20), (60, 20), (200, 60))
    ]
    return cells


def slice_of_grid() -> list[Cell]:
    """List the cells of the short run: every part and every kind, few clusters."""
    kinds = ("binary 50 %", "binary 98 %", "normal", "skewed", "token F1", "BLEU")
    cells = [Cell("pairs", kind, Design(n, n, 0.0, True)) for kind in kinds for n in (5, 8, 12)]
    cells += [Cell("pairs", kind, Design(100, 10, 0.3, False)) for kind in ("binary 85 %", "BLEU")]
    cells += [Cell("families", "binary 50 %", Design(10, 10, 0.0, True), 23)]
    cells += [Cell("peeking", "token F1", Design(60, 20, 0.3, True), 2)]
    cells += [Cell("power", "binary 85 %", Design(12, 12, 0.0, True))]
    cells += [Cell("votes", kind, Design(200, 60, 0.0, True), raters=10) for kind in PREFERENCES]
    return cells
