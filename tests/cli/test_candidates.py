"""The table of candidates has five columns, or all with --wide."""

from __future__ import annotations

import pytest

from sizewise.cli.candidates import candidates_table, default_quality
from sizewise.comparison import compare
from sizewise.evaluation import evaluate
from sizewise.records import Comparison, CostLine, Dataset, LoadLevel, Range, Score
from sizewise.store import Saved, Store


@pytest.fixture
def comparison(dataset: Saved[Dataset], store: Store) -> Comparison:
    ids = [evaluate(uri, dataset.id, ["bleu", "chrf"], store=store).id for uri in ("fake:echo", "fake:copy")]
    return compare(ids, store=store).record


def level(users: int, seconds: float) -> LoadLevel:
    score = Score(metric="p95_latency_s", value=seconds, ci_low=None, ci_high=None, n=8, unit="s", signature="test")
    return LoadLevel(
        concurrent_users=users, rate=None, requests=8, errors={}, seconds=1.0, scores={"p95_latency_s": score}
    )


def test_five_columns_by_default_and_every_metric_when_wide(comparison: Comparison) -> None:
    quality = default_quality(comparison)
    assert quality == "chrf"
    table = candidates_table(comparison, quality)
    assert table.headings == ["candidate", "chrF", "p50 latency (s)", "memory (GB)", "USD/1,000"]
    assert sorted(row[0] for row in table.rows) == sorted(comparison.models)
    assert all(len(row) == 5 for row in table.rows)
    wide = candidates_table(comparison, quality, wide=True)
    assert {"BLEU", "chrF", "Memory (GB)"} <= set(wide.headings)


def test_latency_is_p95_under_the_highest_common_load(comparison: Comparison) -> None:
    first, second = comparison.models
    loaded = comparison.model_copy(
        update={
            "load_levels": {
                first: (level(1, 0.5), level(8, 2.0), level(32, 9.0)),
                second: (level(1, 0.25), level(8, 1.0)),
            }
        }
    )
    table = candidates_table(loaded, "bleu")
    assert table.headings[2] == "p95 latency (s), 8 users"
    assert {row[0]: row[2] for row in table.rows} == {first: "2", second: "1"}


def test_costs_are_shown_with_their_bounds(comparison: Comparison) -> None:
    first, second = comparison.models
    costs = [
        CostLine(name=first, usd_per_1000=Range(expected=1.0, lower=0.5, upper=2.0), usd_per_month=None, machines=None),
        CostLine(name=second, usd_per_1000=None, usd_per_month=None, machines=None),
    ]
    table = candidates_table(comparison, "bleu", costs)
    assert {row[0]: row[4] for row in table.rows} == {first: "1 [0.5, 2]", second: "-"}
