"""Simulations of the statistics behind decisions: gaps between groups, and the debiased calibration error.

Gaps: how often one is found where none was planted, and how often a planted one of 5 points, against the stated power.
Calibration: bias and coverage for calibrated, overconfident and underconfident probabilities, against the plain error,
one step of the bootstrap (Kumar, Liang and Ma, 2019) and monotone bins (Roelofs et al., 2022).

`python benchmarks/fair_decisions.py [--repeats N]` ends stdout with one JSON line and writes it to
benchmarks/results/fair_decisions.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit

from sizewise.stats.calibration import calibration_error, equal_mass_bins
from sizewise.stats.group_gaps import compare_groups, gap_power

Array = np.ndarray[Any, np.dtype[np.float64]]
RESULT = Path(__file__).parent / "results" / "fair_decisions.json"
GAP = 0.05
CASES = (
    # negatives per group, false-positive rates, items per source document, whether a document holds several groups
    ((300, 300), (0.05, 0.05), 1, False),
    ((1_000, 100), (0.03, 0.03), 1, False),
    ((500, 200, 100, 60), (0.1, 0.1, 0.1, 0.1), 1, False),
    ((600, 600), (0.1, 0.1), 4, False),
    ((600, 600), (0.1, 0.1), 4, True),
    ((435, 435), (0.05, 0.10), 1, False),
    ((685, 685), (0.10, 0.15), 1, False),
    ((1_000, 300), (0.05, 0.10), 1, False),
    ((685, 685, 685), (0.10, 0.10, 0.15), 1, False),
)
TEMPERATURES = (1.0, 1.5, 2.5, 0.6)


def drawn_rates(rng: np.random.Generator, case: Any) -> tuple[Array, list[str], list[str]]:
    """Draw false positives of each group; items of one document share a rate of their own."""
    sizes, rates, per_document, mixed = case
    values: list[float] = []
    groups: list[str] = []
    documents: list[str] = []
    for group, (size, rate) in enumerate(zip(sizes, rates, strict=True)):
        count = size // per_document
        own = rng.beta(10 * rate, 10 * (1 - rate), count) if per_document > 1 else np.full(count, rate)
        hits = (rng.random((count, per_document)) < own[:, None]).astype(float).ravel()
        values += hits.tolist()
        groups += [f"group {group}"] * len(hits)
        documents += [f"{'' if mixed else group}:{i // per_document}" for i in range(len(hits))]
    return np.array(values), groups, documents


def simulate_gaps(case: Any, repeats: int) -> dict[str, Any]:
    """Measure how often a gap is found, and how often the interval of the largest gap holds the true one."""
    sizes, rates, per_document, mixed = case
    true, rng = max(rates) - min(rates), np.random.default_rng(len(sizes))
    found = covered = 0
    power: list[float] = []
    for repeat in range(repeats):
        result = compare_groups(*drawn_rates(rng, case), seed=repeat)
        interval = result.worst_interval
        assert interval is not None
        assert result.p is not None
        found += result.p < 0.05
        covered += interval.ci_low <= true <= interval.ci_high
        first, last = sizes[0], sizes[-1]
        power.append(gap_power(true, min(rates), (first, last), result.critical))
    return {
        "negatives": list(sizes), "rates": list(rates), "items_per_document": per_document, "mixed": mixed,
        "found": found / repeats, "stated_power": float(np.mean(power)) if true else None,
        "interval_coverage": covered / repeats, "repeats": repeats,
    }  # fmt: skip


def one_step(stated: Array, hits: Array, rng: np.random.Generator) -> float:
    """Compute the calibration error corrected by one step of the bootstrap."""
    bins = equal_mass_bins(stated, 10)
    sizes = np.bincount(bins)
    shares, means = np.bincount(bins, weights=hits) / sizes, np.bincount(bins, weights=stated) / sizes
    weights, spread = sizes / len(stated), np.sqrt(shares * (1 - shares) / sizes)
    again = np.abs(rng.normal(shares, spread, (300, len(sizes))) - means) @ weights
    return max(0.0, float(2 * (weights * np.abs(shares - means)).sum() - again.mean()))


def monotone_bins(stated: Array, hits: Array) -> float:
    """Compute the calibration error with as many bins as keep the shares of successes in order."""
    error = 0.0
    for count in range(1, len(stated) // 2):
        bins = equal_mass_bins(stated, count)
        sizes = np.bincount(bins)
        shares, means = np.bincount(bins, weights=hits) / sizes, np.bincount(bins, weights=stated) / sizes
        if (np.diff(shares) < 0).any():
            break
        error = float((sizes / len(stated) * np.abs(shares - means)).sum())
    return error


def simulate_calibration(name: str, temperature: float, n: int, repeats: int) -> dict[str, Any]:
    """Measure mean estimates and the coverage of the interval at one degree of miscalibration."""
    rng = np.random.default_rng(n)

    def draw(count: int) -> Array:
        if name == "confident":
            return np.asarray(expit(rng.normal(3, 1.5, count)), dtype=np.float64)
        return rng.uniform(0.5, 1, count)

    large = draw(400_000)
    true = float(np.abs(large - expit(logit(large) / temperature)).mean())
    documents = [str(i) for i in range(n)]
    rows = []
    for repeat in range(repeats):
        stated = draw(n)
        hits = (rng.random(n) < expit(logit(stated) / temperature)).astype(float)
        found = calibration_error(stated, hits, documents, seed=repeat)
        rows.append(
            (found.value, found.plain, one_step(stated, hits, rng), monotone_bins(stated, hits), found.ci_low > 0,
             found.ci_low <= true <= found.ci_high)
        )  # fmt: skip
    means = np.array(rows, dtype=float).mean(axis=0)
    names = ("estimate", "plain", "one_step", "monotone_bins", "above_zero", "interval_coverage")
    return {"confidence": name, "temperature": temperature, "n": n, "true": true, "repeats": repeats} | dict(
        zip(names, map(float, means), strict=True)
    )


def main() -> None:
    """Run all simulations; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=400)
    repeats = parser.parse_args().repeats
    gaps = []
    for case in CASES:
        gaps.append(simulate_gaps(case, repeats))
        print(json.dumps(gaps[-1]), flush=True)
    calibration = []
    for name in ("uniform", "confident"):
        for temperature in TEMPERATURES:
            for n in (200, 1_000):
                calibration.append(simulate_calibration(name, temperature, n, max(1, repeats // 2)))
                print(json.dumps(calibration[-1]), flush=True)
    even = [case["found"] for case in gaps if len(set(case["rates"])) == 1]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    output = {
        "name": "fair_decisions",
        "peer": "a level of 5 %",
        "ratio": max(even) / 0.05,
        "value": max(even),
        "unit": "share of false alarms, the worst of the cases without a gap",
        "runs": repeats,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "gaps": gaps,
        "calibration": calibration,
    }
    RESULT.write_text(json.dumps(output, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(output))


if __name__ == "__main__":
    main()
