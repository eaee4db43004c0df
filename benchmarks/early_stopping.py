"""False decisive picks of a study that asks test items in waves and stops candidates, where all are equally good.

Equal candidates answer 300 items of 300 documents in the waves of a study. After each wave, candidates that are beaten
at the strict level get no more items; at the end, the remaining items decide at 5%. A run is false if one candidate
counts as better than every other one, whether it was compared with them at the end or when they were stopped.

`python benchmarks/early_stopping.py` ends stdout with one JSON line and writes it to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np

from sizewise.models.machine import describe_machine
from sizewise.stats import LEVEL, Systems, adjust_family
from sizewise.stats.proportions import wilson
from sizewise.studies.waves import STOP_LEVEL, wave_sizes

ITEMS = 300
CELLS = {
    "2 candidates, 60% right": (2, 0.6, 0.5),
    "5 candidates, 60% right": (5, 0.6, 0.5),
    "10 candidates, 60% right": (10, 0.6, 0.5),
    "5 candidates, 95% right": (5, 0.95, 0.3),
}
RESULT = Path(__file__).parent / "results" / "early_stopping.json"


def mean(stats: np.ndarray) -> float:
    """Return the share of right answers of summed statistics."""
    return stats[..., 0] / stats[..., 1]


def answers(candidates: int, right: float, shared: float, rng: np.random.Generator) -> np.ndarray:
    """Draw right (1) and wrong (0) answers, (items, candidates); `shared` of the items all answer alike."""
    alike = rng.random(ITEMS) < shared
    own = rng.random((ITEMS, candidates)) < right
    return np.where(alike[:, None], own[:, :1], own).astype(float)


def is_false(candidates: int, right: float, shared: float, seed: int) -> tuple[bool, bool]:
    """Run one study of equal candidates; return whether one won falsely, and whether any was stopped."""
    drawn = answers(candidates, right, shared, np.random.default_rng(seed))
    live, beaten = set(range(candidates)), dict[int, int]()
    better: set[tuple[int, int]] = set()
    for size in wave_sizes(ITEMS):
        names = sorted(live)
        stats = np.stack([drawn[:size, names], np.ones((size, len(names)))], axis=-1)
        systems = Systems(stats, np.arange(size), mean, (0.0, 1.0), seed)
        pairs = list(combinations(range(len(names)), 2))
        if not pairs:
            break
        last = size == ITEMS
        level = LEVEL if last else STOP_LEVEL
        for (i, j), p in zip(pairs, adjust_family([(systems, pairs)], seed).p[0], strict=True):
            if p < level:
                winner, loser = (i, j) if systems.values[i] > systems.values[j] else (j, i)
                better.add((names[winner], names[loser]))
                if not last:
                    beaten[names[loser]] = size
        live -= beaten.keys()
    won = any(all((one, other) in better for other in range(candidates) if other != one) for one in range(candidates))
    return won, bool(beaten)


def main() -> None:
    """Run all cells and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000, help="studies per cell: 1,000")
    options = parser.parse_args()
    found = {}
    with ProcessPoolExecutor(2) as pool:
        for name, cell in CELLS.items():
            runs = list(pool.map(partial(is_false, *cell), range(options.runs), chunksize=20))
            false, stopped = (sum(each) for each in zip(*runs, strict=True))
            found[name] = {
                "false": false / options.runs,
                "interval": list(wilson(false, options.runs)),
                "stopped": stopped / options.runs,
            }
            print(f"{name}: {found[name]}", flush=True)
    worst = max(cell["false"] for cell in found.values())
    line = {"name": "early_stopping", "value": worst, "unit": "share of false decisive picks", "peer": "5%"}
    line |= {"ratio": worst / LEVEL, "runs": options.runs, "machine": describe_machine(), "cells": found}
    RESULT.write_text(json.dumps(line, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
