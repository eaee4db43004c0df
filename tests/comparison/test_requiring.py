"""The gate for CI."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from sizewise.cli.main import app
from sizewise.comparison import as_junit, as_markdown, check_requirements, compare, differences_on_all
from sizewise.errors import UsageError
from sizewise.evaluation import evaluate
from sizewise.records import Comparison, Difference, Score
from sizewise.stats import Systems
from sizewise.store import Store


@pytest.fixture
def ids(store: Store, tmp_path: Path) -> list[str]:
    path = tmp_path / "job.jsonl"
    rows = [{"prompt": f"say {i}", "references": f"say {i}"} for i in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return [evaluate(model, path, ["exact_match"], store=store).id for model in ("fake:silent", "fake:echo")]


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ("exact_match >= old - 0.5", False),
        ("exact_match >= old - 1", True),
        ("exact_match<old", True),
        ("exact_match >= 0.1", False),
        ("exact_match <= 0", True),
        ("exact_match > -1", True),
    ],
)
def test_conditions_are_checked(store: Store, ids: list[str], expression: str, kept: bool) -> None:
    comparison = compare(ids, store=store).record
    (found,) = check_requirements(comparison, "fake:silent", "fake:echo", [expression])
    assert found.kept == kept


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("exact_match", "Can't parse the condition"),
        ("__import__('os') >= 1", "Can't parse the condition"),
        ("bleu > 1", "wasn't measured"),
        ("exact_match >= old - 2", "ranges from 0 to 1"),
        ("exact_match >= 80", "ranges from 0 to 1"),
    ],
)
def test_what_is_no_condition_is_refused(store: Store, ids: list[str], expression: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_requirements(compare(ids, store=store).record, "fake:silent", "fake:echo", [expression])


def test_what_is_missed_is_written_down(store: Store, ids: list[str]) -> None:
    comparison = compare(ids, store=store).record
    asked = ["exact_match >= old", "exact_match >= 0"]
    found = check_requirements(comparison, "fake:silent", "fake:echo", asked)
    suite = ElementTree.fromstring(as_junit(found, "new<&", "old"))
    assert (suite.get("tests"), suite.get("failures"), suite.get("name")) == ("2", "1", "new<& vs. old")
    assert suite[0].find("failure") is not None
    table = as_markdown(found, "new", "old")
    assert "| `exact_match >= old` | **no** | exact_match is 0, threshold 1; value minus threshold -1 [-1" in table


def test_the_command_ends_with_3(store: Store, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZEWISE_HOME", str(store.home))
    report = tmp_path / "gate.xml"
    missed = CliRunner().invoke(app, ["compare", *ids, "--require", "exact_match >= old", "--junit", str(report)])
    assert missed.exit_code == 3
    assert "MISSED" in missed.output
    assert 'failures="1"' in report.read_text(encoding="utf-8")
    kept = CliRunner().invoke(app, ["compare", *reversed(ids), "--require", "exact_match >= old"])
    assert kept.exit_code == 0


def compared(rows: np.ndarray, metric: str = "exact_match") -> Comparison:
    """Compare two systems with right and wrong answers, one document for each."""
    stats = np.stack([rows, np.ones_like(rows)], axis=2)
    systems = Systems(stats, [str(i) for i in range(len(rows))], lambda sums: sums[..., 0] / sums[..., 1], (0.0, 1.0))
    contrast = systems.difference(0, 1)
    scores = {}
    for number, name in enumerate(("new", "old")):
        found = systems.score(number)
        scores[name] = Score(
            metric=metric,
            value=found.value,
            ci_low=found.ci_low,
            ci_high=found.ci_high,
            n=len(rows),
            unit="share",
            signature="",
        )
    difference = Difference(
        metric=metric,
        left="new",
        right="old",
        value=contrast.value,
        ci_low=contrast.ci_low,
        ci_high=contrast.ci_high,
        p=contrast.p,
        n=len(rows),
        clusters=len(rows),
        unit="share",
        better=None,
    )
    return Comparison.model_construct(scores={metric: scores}, differences=(difference,))


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_two_equal_models_miss_a_gate_in_at_most_5_percent_of_runs(share: float) -> None:
    random = np.random.default_rng(3)
    outcomes = {"exact_match >= old": 0, "exact_match > old": 0, "exact_match >= old * 1.02": 0}
    missed_by_points = 0
    for _ in range(150):
        comparison = compared((random.random((60, 2)) < share).astype(float))
        missed_by_points += comparison.differences[0].value < 0
        for found in check_requirements(comparison, "new", "old", list(outcomes)[:1]):
            outcomes[found.expression] += not found.kept
    assert outcomes["exact_match >= old"] <= 0.05 * 150
    assert missed_by_points > 0.3 * 150  # what comparing points would do


def test_a_model_that_is_much_worse_misses_its_gate() -> None:
    random = np.random.default_rng(4)
    found = [
        check_requirements(
            compared((random.random((200, 2)) < (0.5, 0.8)).astype(float)), "new", "old", ["exact_match >= old - .05"]
        )[0].outcome
        for _ in range(20)
    ]
    assert found.count("missed") >= 18


def of_scores(**ends: tuple[float, float, float]) -> Comparison:
    scores = {
        name: Score(metric="m", value=value, ci_low=low, ci_high=high, n=100, unit="s", signature="")
        for name, (value, low, high) in ends.items()
    }
    metrics = ("latency_s", "lm-eval:arc_easy:acc,none", "accuracy#women over 60", "accuracy@all")
    return Comparison.model_construct(scores=dict.fromkeys(metrics, scores), differences=())


@pytest.mark.parametrize(
    ("expression", "outcome"),
    [
        ("latency_s <= old * 1.5", "met"),
        ("latency_s <= 1.5 * old", "met"),
        ("latency_s <= old", "missed"),
        ("latency_s <= old * 1.2", "undecided"),
        ("latency_s <= old / 0.5", "met"),
        ("latency_s<=old*1.1+.4", "met"),
        ("latency_s >= .5", "met"),
        ("latency_s < 1e-1", "missed"),
        ("lm-eval:arc_easy:acc,none >= old", "met"),
        ("accuracy#women over 60 >= old - .1", "met"),
        ("accuracy@all > +1.15", "undecided"),
    ],
)
def test_the_grammar_knows_factors_groups_and_names_of_the_harness(expression: str, outcome: str) -> None:
    comparison = of_scores(new=(1.2, 1.1, 1.3), old=(1.0, 0.95, 1.05))
    assert check_requirements(comparison, "new", "old", [expression])[0].outcome == outcome


def test_a_condition_on_a_group_that_was_not_measured_names_the_groups() -> None:
    comparison = of_scores(new=(1.2, 1.1, 1.3), old=(1.0, 0.95, 1.05))
    with pytest.raises(UsageError) as caught:
        check_requirements(comparison, "new", "old", ["accuracy#men >= old"])
    assert "accuracy#women over 60" in str(caught.value)
    with pytest.raises(UsageError, match="divides by zero"):
        check_requirements(comparison, "new", "old", ["latency_s <= old / 0"])


def test_all_items_are_paired_too(store: Store, ids: list[str]) -> None:
    comparison = compare(ids, store=store).record
    on_all = differences_on_all(comparison, store)
    found = check_requirements(comparison, "fake:silent", "fake:echo", ["exact_match@all >= old - .8"], on_all=on_all)
    unpaired = check_requirements(comparison, "fake:silent", "fake:echo", ["exact_match@all >= old - .8"])
    assert [one.outcome for one in (*found, *unpaired)] == ["missed", "missed"]
    assert found[0].details != unpaired[0].details


def test_too_few_documents_decide_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "small.jsonl"
    rows = [{"prompt": f"say {i}", "references": f"say {i}"} for i in range(5)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    ids = [evaluate(model, path, ["exact_match"], store=store).id for model in ("fake:silent", "fake:echo")]
    comparison = compare(ids, store=store).record
    (found,) = check_requirements(comparison, "fake:silent", "fake:echo", ["exact_match >= old"])
    assert (found.outcome, found.kept) == ("undecided", True)
    assert "too few documents" in found.details
    assert 'skipped="1"' in as_junit([found], "new", "old")
    monkeypatch.setenv("SIZEWISE_HOME", str(store.home))
    asked = ["compare", *ids, "--require", "exact_match >= old"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    assert CliRunner().invoke(app, [*asked, "--strict"]).exit_code == 3
