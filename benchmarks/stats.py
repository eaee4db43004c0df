"""Do the statistics keep their promises? False claims, coverage, widths and power over a grid of test sets.

The grid crosses kinds of data (right or wrong answers, easy and hard; normal, beta, skewed; token F1 with many zeros;
BLEU from n-gram counts) with 2 to 10,000 items in 2 to 1,000 clusters, equal and unequal, and 2 to 50 candidates:

- pairs: equal candidates are compared, and a better one; coverage of scores and differences, widths beside the
  narrowest valid method of a textbook, agreement of interval and p-value.
- families: all pairs of many equal candidates.
- peeking: a test after every document.
- power: whether a difference of the size that is called detectable is found.
- votes: win rates from 3 to 50 raters of different leniency.

Cells that are done are kept in build/bench-stats.jsonl, so that a stopped run goes on where it was.

`python benchmarks/stats.py` ends stdout with one JSON line and writes it to benchmarks/results/stats.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE)]

from scipy.stats import binom  # noqa: E402

from sizewise.stats import holm  # noqa: E402
from sizewise.stats.inference import MIN_CLUSTERS  # noqa: E402
from stats_cells import LEVEL, Cell, described, grid, simulate, slice_of_grid  # noqa: E402

KEPT = HERE.parent / "build" / "bench-stats.jsonl"
SIMULATION_LEVEL = 0.01
MIN_COVERAGE, MAX_COVERAGE, MIN_POWER, MAX_WIDTH = 0.93, 0.97, 0.8, 1.3


def code_version() -> str:
    """Fingerprint the simulated code, so that cells of other code aren't kept."""
    folder = HERE.parent / "src" / "sizewise" / "stats"
    files = [folder / name for name in ("inference.py", "t_tests.py", "crossed.py", "sequential.py", "power.py")]
    files += [HERE / name for name in ("stats_cells.py", "simulated_items.py", "reference_intervals.py")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files if path.exists())).hexdigest()[:10]


def run_cells(cells: Sequence[Cell], runs: int, jobs: int, kept: Path) -> list[dict[str, Any]]:
    """Run the cells that aren't kept yet, in several processes; return all in the order of the grid."""
    version, done = code_version(), {}
    if kept.exists():
        for line in kept.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["version"] == version and row["result"]["runs"] == runs:
                done[row["label"]] = row["result"]
    todo = [cell for cell in cells if cell.label not in done]
    kept.parent.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with ProcessPoolExecutor(jobs) as pool, kept.open("a", encoding="utf-8") as file:
        futures = {pool.submit(simulate, cell, runs): cell for cell in todo}
        for count, future in enumerate(as_completed(futures), 1):
            cell, result = futures[future], future.result()
            done[cell.label] = result
            file.write(json.dumps({"version": version, "label": cell.label, "result": result}) + "\n")
            file.flush()
            left = (time.monotonic() - begun) / count * (len(todo) - count) / 60
            print(f"{count} of {len(todo)} cells, about {left:.0f} min left: {cell.label}", file=sys.stderr, flush=True)
    return [done[cell.label] for cell in cells]


def exceeding(rows: Sequence[dict[str, Any]], p_of: Callable[[dict[str, Any]], float | None]) -> list[dict[str, Any]]:
    """List the rows that miss a promise beyond the simulation's own 99% bound, corrected over all rows (Holm)."""
    known = [(row, p) for row in rows if (p := p_of(row)) is not None]
    adjusted = holm([p for _, p in known])
    return [row for (row, _), p in zip(known, adjusted, strict=True) if p < SIMULATION_LEVEL]


def too_many_claims(row: dict[str, Any]) -> float | None:
    """Test whether false claims exceed 5%."""
    return float(binom.sf(row["false_claims"] - 1, row["runs"], LEVEL)) if "false_claims" in row else None


def low_coverage(name: str) -> Callable[[dict[str, Any]], float | None]:
    """Test whether coverage is below its minimum."""
    return lambda row: (
        float(binom.cdf(row[name]["covered"], row[name]["n"], MIN_COVERAGE)) if row.get(name, {}).get("n") else None
    )


def high_coverage(name: str) -> Callable[[dict[str, Any]], float | None]:
    """Test whether coverage of continuous data exceeds its maximum."""
    return lambda row: (
        float(binom.sf(row[name]["covered"] - 1, row[name]["n"], MAX_COVERAGE))
        if row.get(name, {}).get("n") and not row["kind"].startswith("binary")
        else None
    )


def low_power(row: dict[str, Any]) -> float | None:
    """Test whether a difference of the stated size is found too rarely."""
    return float(binom.cdf(row["found"], row["runs"], MIN_POWER)) if "found" in row else None


INTERVALS = ("score", "difference", "true_difference")


def label(row: dict[str, Any]) -> str:
    """Name a row."""
    sizes = "" if row["items"] == row["clusters"] else ", equal" if row["equal"] else ", unequal"
    named = f"{row['kind']}, {row['items']:,} items in {row['clusters']:,} clusters{sizes}, ICC {row['icc']:g}"
    who = f"{row['raters']} raters" if "raters" in row else f"{row['candidates']} candidates"
    several = f", {row['metrics']} metrics" if "metrics" in row else ""
    return f"{row['part']}: {named}, {who}{several}"


def verdicts(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """List the cells that miss each promise."""
    pairs = [row for row in rows if row["part"] == "pairs"]
    missed = {"false claims above 5 %": exceeding(rows, too_many_claims)}
    for name in INTERVALS:
        missed[f"coverage of the {name.replace('_', ' ')} below 93 %"] = exceeding(pairs, low_coverage(name))
        missed[f"coverage of the {name.replace('_', ' ')} above 97 %"] = exceeding(pairs, high_coverage(name))
    missed["coverage of the win rate below 93 %"] = exceeding(rows, low_coverage("rate"))
    missed["coverage of the win rate above 97 %"] = exceeding(rows, high_coverage("rate"))
    for name in INTERVALS[:2]:
        missed[f"{name} wider than {MAX_WIDTH} times the best valid method"] = [
            row for row in pairs if row[name].get("ratio") and row[name]["ratio"] > MAX_WIDTH
        ]
    missed["interval and p-value disagree"] = [row for row in rows if row.get("disagreements")]
    missed[f"claims or intervals below {MIN_CLUSTERS} clusters"] = [
        row
        for row in rows
        if row["part"] in ("pairs", "families") and row["clusters"] < MIN_CLUSTERS and row["too_few"] < row["runs"]
    ]
    missed["power below 80 % at the stated difference"] = exceeding(rows, low_power)
    return {promise: [label(row) for row in found] for promise, found in missed.items()}


def summary(rows: Sequence[dict[str, Any]], runs: int, seconds: float) -> dict[str, Any]:
    """Build the result."""
    decided = [row for row in rows if "false_claims" in row and row.get("too_few", 0) < row["runs"]]
    ratios = sorted(row[name]["ratio"] for row in rows for name in INTERVALS[:2] if row.get(name, {}).get("ratio"))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "name": "stats",
        "ratio": ratios[len(ratios) // 2] if ratios else None,
        "peer": "median width of the narrowest interval of t, Wilson, Clopper-Pearson, adjusted Wald, percentile "
        "bootstrap and BCa that covers at least 93 %",
        "value": max((row["false_claims"] / row["runs"] for row in decided), default=None),
        "unit": f"false claims in the worst of {len(decided)} cells (5 % promised)",
        "runs": runs,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds),
        "missed": verdicts(rows),
        "cells": list(rows),
    }


def merged(cells: Sequence[Cell], rows: Sequence[dict[str, Any]], path: Path) -> dict[str, Any]:
    """Replace cells of a result that were simulated again; each names its commit and date."""
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    before = {label(row): row for row in result["cells"]}
    again = summary(rows, result["runs"], 0)
    found = {label(row): row | {"commit": again["commit"], "when": again["when"]} for row in rows}
    known = before | found
    order = [label(described(cell)) for cell in cells]
    new = summary([known[name] for name in order if name in known], result["runs"], result["seconds"])
    return new | {key: result[key] for key in ("commit", "when", "machine")}


def write(result: dict[str, Any], path: Path) -> None:
    """Write a result, one line for each cell."""
    cells_text = ",\n".join(json.dumps(row) for row in result["cells"])
    head = json.dumps({key: result[key] for key in result if key != "cells"}, indent=1)[:-2]
    path.write_text(f'{head},\n "cells": [\n{cells_text}\n]}}\n', encoding="utf-8")


def main() -> None:
    """Run the grid, or its short form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true", help="a short run over a few cells; the result isn't written")
    parser.add_argument("--runs", type=int, default=0, help="comparisons per cell: 2,000, in the short run 400")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument(
        "--only", default="", metavar="REGEX", help="cells whose name matches; the result isn't written"
    )
    parser.add_argument("--merge", action="store_true", help="with --only: replace these cells of the result")
    parser.add_argument("--cells", type=Path, default=KEPT, help="where finished cells are kept")
    args = parser.parse_args()
    runs = args.runs or (400 if args.slice else 2_000)
    cells = [cell for cell in (slice_of_grid() if args.slice else grid()) if re.search(args.only, cell.label)]
    begun = time.monotonic()
    rows = run_cells(cells, runs, args.jobs, args.cells)
    result = summary(rows, runs, time.monotonic() - begun)
    for promise, found in result["missed"].items():
        print(f"{promise}: {len(found) or 'no'} cell{'s' * (len(found) != 1)}")
        for line in found:
            print(f"  {line}")
    path = HERE / "results" / "stats.json"
    if args.merge and rows:
        write(merged(grid(), rows, path), path)
    elif not args.slice and not args.only:
        write(result, path)
    print(json.dumps(result if args.slice or args.only else {key: result[key] for key in result if key != "cells"}))


if __name__ == "__main__":
    main()
