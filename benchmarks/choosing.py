"""Comparison and choice: speed with many models, and accuracy in simulations with a known best model.

1. Time to compare and choose among 20 models x 5,000 items x 10,000 resamples.
2. 2,000 simulations: how often the pick is within the tolerance of the best model, and how often one of two equally
   good models is picked as if it were better.
3. The report page of a study with 20 recorded models and 5,000 items in a real browser (PyQt6-WebEngine, if
   installed): first paint, time to interactive, and the response to a moved slider.

`python benchmarks/choosing.py` ends stdout with one JSON line and writes it to benchmarks/results/choose.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np

from sizewise.choice import decide
from sizewise.comparison import differences
from sizewise.comparison.tables import ItemTable
from sizewise.records import Comparison, ItemRow, ModelDescription, Needs, Score

HERE = Path(__file__).parent
TOLERANCE = 0.02


def rows_of(right: np.ndarray, each: int) -> list[ItemRow]:
    """Build the item rows of a model: exact match, `each` items per document."""
    return [
        ItemRow(
            item=str(i),
            kind="example",
            cluster=str(i // each),
            uncontaminated=True,
            stats={"exact_match": (float(one), 1.0)},
        )
        for i, one in enumerate(right)
    ]


def compared(rights: dict[str, np.ndarray], each: int, seed: int) -> Comparison:
    """Compare like `sizewise compare`, without a store."""
    rows = {name: rows_of(right, each) for name, right in rights.items()}
    records: Any = {
        name: SimpleNamespace(metrics=("exact_match",), model=SimpleNamespace(role="candidate")) for name in rights
    }
    found = differences(records, {name: ItemTable.of(some) for name, some in rows.items()}, seed)
    names = list(rights)
    scores = {
        name: Score(
            metric="exact_match", value=float(right.mean()), ci_low=float(right.mean()), ci_high=float(right.mean()),
            n=len(right), unit="share", signature="simulated",
        )
        for name, right in rights.items()
    }  # fmt: skip
    return Comparison(
        data="data-simulated",
        evaluations={name: f"eval-{name}" for name in names},
        models={
            name: ModelDescription(uri=name, origin="x", license="x", engine="simulated", precision="none")
            for name in names
        },
        scores={"exact_match": scores},
        better={"exact_match": "higher"},
        differences=tuple(found.differences),
        spread=found.spread,
        language_modeling_proxy=False,
        seed=seed,
    )


def speed(runs: int) -> dict[str, float]:
    """Time 20 models, 5,000 items and 10,000 resamples, in CPU time and wall time."""
    rng = np.random.default_rng(0)
    rights = {f"m{i}": (rng.random(5_000) < 0.5 + 0.01 * i).astype(float) for i in range(20)}
    cores, clock, alone = [], [], []
    for _ in range(runs):
        begun, wall = time.process_time(), time.perf_counter()
        comparison = compared(rights, 1, 0)
        cores.append(time.process_time() - begun)
        clock.append(time.perf_counter() - wall)
        begun = time.perf_counter()
        decide(comparison, "c", Needs(quality="exact_match"))
        alone.append(time.perf_counter() - begun)
    found = {"compare_cpu_s": median(cores), "compare_s": median(clock), "decide_s": median(alone)}
    print(f"20 models x 5,000 items x 10,000 resamples: {found}")
    return found


def worlds(times: int) -> dict[str, float]:
    """Simulate comparisons with known qualities, and count correct picks."""
    picks, good, none, same, wrong = 0, 0, 0, 0, 0
    for seed in range(times):
        rng = np.random.default_rng(seed)
        count, documents, each = int(rng.integers(2, 6)), int(rng.integers(20, 120)), 3
        truth = np.clip(rng.normal(0.55, 0.08, count), 0.05, 0.95)
        if seed % 4 == 0:
            truth[1] = truth[0] = max(truth)
        lean = np.repeat(rng.normal(0, 0.1, documents), each)
        rights = {
            f"m{i}": (rng.random(documents * each) < np.clip(one + lean, 0, 1)).astype(float)
            for i, one in enumerate(truth)
        }
        found = decide(compared(rights, each, seed), "c", Needs(quality="exact_match"))
        if found.pick is None:
            none += 1
        else:
            picks += 1
            good += truth[int(found.pick[1:])] >= truth.max() - TOLERANCE
        if seed % 4 == 0:
            same += 1
            wrong += found.pick is not None and found.decisive
    result = {
        "worlds": times,
        "picks": picks,
        "within_tolerance": good / max(1, picks),
        "inconclusive": none / times,
        "decisive_pick_of_two_equal": wrong / max(1, same),
    }
    print(f"simulated worlds: {result}")
    return result


PAINTED = """(() => {
    const paint = performance.getEntriesByName("first-contentful-paint")[0];
    const seen = performance.getEntriesByType("navigation")[0];
    return {paint_ms: paint ? paint.startTime : null, interactive_ms: seen.domInteractive, bytes: seen.decodedBodySize};
})()"""
MOVED = """(() => {
    const input = document.querySelector("[name=min_quality]");
    const begun = performance.now();
    window.moved = null;
    new MutationObserver((_, seer) => { window.moved = performance.now() - begun; seer.disconnect(); })
        .observe(document.getElementById("answer"), {childList: true, subtree: true});
    input.value = 50; input.dispatchEvent(new Event("input"));
    return 1;
})()"""


def page(runs: int) -> dict[str, float]:
    """Time the report page of a large study in a browser."""
    sys.path.insert(0, str(HERE.parent))
    from tests.browser.conftest import Browser

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = [
            {"id": f"e{i}", "prompt": f"Question {i} of the test?", "references": [f"the answer {i}"], "split": "test"}
            for i in range(5_000)
        ] + [{"id": f"t{i}", "prompt": f"Training {i}?", "references": [f"something {i}"]} for i in range(40)]
        (folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        text = '[study]\nname = "large"\n[data]\nexamples = "examples.jsonl"\nmetrics = ["exact_match", "chrf"]\n'
        for number in range(20):
            right = rng.random(5_000) < 0.5 + 0.01 * number
            answers = [{"id": f"e{i}", "completion": f"the answer {i if right[i] else -i}"} for i in range(5_000)]
            name = f"m{number}"
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers), encoding="utf-8")
            text += f'[[candidates]]\nname = "{name}"\nmodel = "recorded:{name}.jsonl"\n'
        (folder / "study.toml").write_text(text + '[needs]\nquality = "exact_match"\n', encoding="utf-8")
        os.environ["SIZEWISE_HOME"] = str(folder / "home")
        program = [sys.executable, "-m", "sizewise"]
        begun = time.perf_counter()
        made = subprocess.run(
            [*program, "study", str(folder / "study.toml"), "--json"], check=True, stdout=subprocess.PIPE, text=True
        )
        took = time.perf_counter() - begun
        command = [*program, "serve", "--study", json.loads(made.stdout)["id"], "--port", "0"]
        begun = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        address = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
        ready = time.perf_counter() - begun
        browser = Browser(folder)
        seen, moves = [], []
        try:
            for _ in range(runs):
                browser.open(address)
                seen.append(browser.until(f"(({PAINTED}).paint_ms ? {PAINTED} : null)"))
                browser.js(MOVED)
                moves.append(browser.until("window.moved"))
        finally:
            browser.close()
            process.terminate()
            process.wait(30)
    found = {name: median(one[name] for one in seen) for name in seen[0]}
    result = found | {"move_ms": median(moves), "study_s": took, "served_after_s": ready}
    print(f"page of 20 models x 5,000 items: {result}")
    return result


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=2_000)
    args = parser.parse_args()
    parts = {"speed": speed(3), "worlds": worlds(args.worlds)}
    if importlib.util.find_spec("PyQt6"):
        parts["page"] = page(5)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result = {
        "name": "choose",
        "ratio": None,
        "peer": "no other tool makes this choice",
        "value": parts["speed"]["compare_s"],
        "unit": "s for 20 models x 5,000 items x 10,000 resamples",
        "runs": 3,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": parts,
    }
    (HERE / "results" / "choose.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
