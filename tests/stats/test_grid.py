"""The simulations behind docs/explanation/statistics.md: their own parts, and a short run of all of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, ttest_1samp

ROOT = Path(__file__).parents[2]
BENCHMARKS, SCRIPTS = ROOT / "benchmarks", ROOT / "scripts"
# Promises that a short run can check; widths and power need the full one.
PROMISED = (
    "false claims above 5 %",
    "coverage of the score below 93 %",
    "coverage of the difference below 93 %",
    "coverage of the true difference below 93 %",
    "coverage of the win rate below 93 %",
    "interval and p-value disagree",
    "claims or intervals below 8 clusters",
)


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a script by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield lambda name: __import__(name)
    for name in ("stats", "stats_cells", "simulated_items", "reference_intervals", "stats_tables"):
        sys.modules.pop(name, None)


def test_reference_methods_equal_scipy(modules: Any) -> None:
    references = modules("reference_intervals")
    values = np.random.default_rng(0).gamma(2, 1, 30)
    sums = np.column_stack([values, np.ones(30)])
    found = references.references(sums, references.resample_weights(30, 0), lambda s: s[..., 0] / s[..., 1])
    expected = ttest_1samp(values, 0).confidence_interval()
    assert found["t"] == pytest.approx((expected.low, expected.high))
    for name, method in (("percentile bootstrap", "percentile"), ("BCa", "BCa")):
        interval = bootstrap((values,), np.mean, method=method, n_resamples=9_999, rng=0).confidence_interval
        assert found[name] == pytest.approx((interval.low, interval.high), abs=0.1)


@pytest.mark.parametrize(("successes", "n"), [(0, 8), (3, 10), (8, 8), (90, 1_000)])
def test_reference_intervals_of_shares_equal_scipy(modules: Any, successes: int, n: int) -> None:
    found = modules("reference_intervals").of_proportion(successes, n)
    for name, method in (("Wilson", "wilson"), ("Clopper-Pearson", "exact")):
        expected = binomtest(successes, n).proportion_ci(method=method)
        assert found[name] == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_cells_that_are_simulated_again_replace_those_of_a_result(modules: Any, tmp_path: Path) -> None:
    stats = modules("stats")
    cells = [cell for cell in stats.slice_of_grid() if cell.part == "pairs"][:2]
    path, kept = tmp_path / "result.json", tmp_path / "cells.jsonl"
    first = stats.run_cells(cells, 3, 1, kept)
    stats.write(stats.summary(first, 3, 60), path)
    again = {**first[1], "false_claims": 3}
    result = stats.merged(cells, [again], path)
    assert [row["false_claims"] for row in result["cells"]] == [first[0]["false_claims"], 3]
    assert ["commit" in row for row in result["cells"]] == [False, True]
    assert result["seconds"] == 60


def test_simulated_items_have_the_values_they_claim(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = modules("simulated_items")
    monkeypatch.setattr(simulated, "_LARGE", 200_000)
    rng = np.random.default_rng(0)
    for kind in simulated.KINDS:
        design = simulated.Design(30_000, 10_000, 0.3, False)
        stats, index = simulated.draw(kind, design, np.array([0.0, simulated.SHIFT]), rng)
        assert len(np.unique(index)) == design.clusters
        values = simulated.value_of(kind)(stats.sum(axis=0))
        spread = 1.5 if kind == "BLEU" else 0.04
        expected = [simulated.true_value(kind), simulated.true_value(kind, simulated.SHIFT)]
        assert values == pytest.approx(expected, abs=spread), kind


def test_missed_promises_are_found(modules: Any) -> None:
    stats = modules("stats")
    good = {"covered": 1_900, "n": 2_000, "ratio": 1.1}
    row = {
        **{"part": "pairs", "kind": "normal", "items": 10, "clusters": 10, "icc": 0.0, "equal": True},
        **{"candidates": 2, "runs": 2_000, "false_claims": 100, "too_few": 0, "disagreements": 0},
        **{"score": good, "difference": good, "true_difference": good},
    }
    assert not any(stats.verdicts([row]).values())
    bad = {
        "false claims above 5 %": {"false_claims": 140},
        "coverage of the score below 93 %": {"score": {**good, "covered": 1_800}},
        "coverage of the difference above 97 %": {"difference": {**good, "covered": 1_990}},
        "score wider than 1.3 times the best valid method": {"score": {**good, "ratio": 1.4}},
        "interval and p-value disagree": {"disagreements": 1},
        "claims or intervals below 8 clusters": {"clusters": 7},
    }
    for promise, change in bad.items():
        missed = stats.verdicts([row, row | change])
        assert [name for name, found in missed.items() if found] == [promise]
    assert stats.verdicts([row | {"part": "power", "found": 1_500}])["power below 80 % at the stated difference"]


def test_finished_cells_are_kept(modules: Any, tmp_path: Path) -> None:
    stats = modules("stats")
    cells = [cell for cell in stats.slice_of_grid() if cell.part == "pairs"][:2]
    kept = tmp_path / "cells.jsonl"
    first = stats.run_cells(cells[:1], 3, 1, kept)
    assert len(kept.read_text(encoding="utf-8").splitlines()) == 1
    assert stats.run_cells(cells, 3, 1, kept)[0] == first[0]
    assert len(kept.read_text(encoding="utf-8").splitlines()) == 2


def test_the_tables_of_the_page_are_those_of_the_result(modules: Any) -> None:
    tables = modules("stats_tables")
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.updated(page, json.loads(tables.RESULT.read_text(encoding="utf-8"))) == page


@pytest.mark.slow
def test_a_short_run_keeps_every_promise(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "stats.py"), "--slice", "--cells", str(tmp_path / "cells.jsonl")],
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert {promise: result["missed"][promise] for promise in PROMISED} == {promise: [] for promise in PROMISED}
    assert result["value"] < 0.1
