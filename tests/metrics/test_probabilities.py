"""Log loss, Brier score and calibration error against scikit-learn, and under perfect calibration."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from sizewise.metrics import AnswerItem, CannotMeasure, ReferenceSet, find_metric
from sizewise.metrics.base import bounds_of, total
from sizewise.metrics.display import number
from sizewise.records import ItemRow, Score
from sizewise.stats.calibration import calibration_error

LABELS = ("a", "b", "c")


def items(n: int, seed: int, honest: bool = True) -> tuple[list[AnswerItem], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.dirichlet([1.0, 0.7, 0.5], n)
    drawn = np.array([rng.choice(3, p=row) for row in true])
    said = true if honest else true**3 / (true**3).sum(axis=1, keepdims=True)
    answers = [
        AnswerItem(
            LABELS[int(row.argmax())], (LABELS[label],), probabilities=dict(zip(LABELS, row.tolist(), strict=True))
        )
        for row, label in zip(said, drawn, strict=True)
    ]
    return answers, said, drawn


def value(name: str, answers: list[AnswerItem]) -> float:
    metric = find_metric(name).prepared([item.references for item in answers])
    sums = np.array([metric.measure(item) for item in answers]).sum(axis=0)
    return float(metric.value(sums))


def score(name: str, answers: list[AnswerItem]) -> Score:
    metric = find_metric(name).prepared([item.references for item in answers])
    rows = [
        ItemRow(item=str(i), kind="example", cluster=str(i), uncontaminated=True, stats={name: metric.measure(item)})
        for i, item in enumerate(answers)
    ]
    return total(metric, rows, name=name, signature="")


def test_log_loss_and_brier_equal_scikit_learn() -> None:
    answers, said, drawn = items(400, 0)
    names = [LABELS[label] for label in drawn]
    assert value("log_loss", answers) == pytest.approx(log_loss(names, said, labels=list(LABELS)), abs=1e-12)
    expected = brier_score_loss(names, said, labels=list(LABELS), scale_by_half=False)
    assert value("brier", answers) == pytest.approx(expected, abs=1e-12)


def test_the_calibration_error_of_an_honest_model_is_near_zero_and_of_a_boastful_one_is_not() -> None:
    honest = [score("ece", items(1_000, seed)[0]) for seed in range(8)]
    boastful = [score("ece", items(1_000, seed, honest=False)[0]) for seed in range(8)]
    assert np.mean([one.value for one in honest]) < 0.02
    assert np.mean([one.value for one in boastful]) > 0.08
    assert all(one.ci_low is not None and one.ci_low > 0.02 for one in boastful)
    assert sum(one.ci_low == 0 for one in honest) >= 7


def test_the_calibration_error_is_the_one_that_the_analysis_of_decisions_shows() -> None:
    answers, said, drawn = items(600, 5, honest=False)
    found = score("ece", answers)
    top = said.argmax(axis=1)
    expected = calibration_error(said.max(axis=1), (top == drawn).astype(float), [str(i) for i in range(600)])
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx(expected[:3])


def test_answers_without_probabilities_are_not_measured() -> None:
    metric = find_metric("log_loss").prepared([("a",), ("b",)] * 5)
    with pytest.raises(CannotMeasure, match="no probabilities"):
        metric.measure(AnswerItem("a", ("a",)))


def test_certain_mistakes_cost_a_finite_amount_and_case_does_not_matter() -> None:
    wrong = AnswerItem("a", ("B",), probabilities={"a": 1.0, "b": 0.0, "c": 0.0})
    assert value("log_loss", [wrong] * 4 + [AnswerItem("b", ("b",), probabilities={"a": 0.0, "b": 1.0})] * 4) < 14
    assert value("brier", [AnswerItem("b", ("B",), probabilities={"a": 0.0, "b": 1.0})] * 4) == 0


def test_tiny_values_are_shown_as_such() -> None:
    assert number(9.6e-8) == "<0.000001"
    assert number(-9.6e-8) == ">-0.000001"
    assert number(2.5e-5) == "0.000025"
    assert number(0) == "0"


def test_options_that_differ_in_case_alone_are_different() -> None:
    chances = {"a": 0.1, "A": 0.7, "b": 0.2}
    wrong = AnswerItem("A", ("a",), probabilities=chances)
    assert value("log_loss", [wrong, wrong]) == pytest.approx(-np.log(0.1))
    assert value("accuracy", [wrong, wrong]) == 0
    right = AnswerItem("A", ("A",), probabilities=chances)
    assert value("accuracy", [right, right]) == 1
    spelled = AnswerItem("A", ("a",), probabilities={"A": 0.8, "b": 0.2})
    assert value("accuracy", [spelled, spelled]) == 1


def test_probabilities_of_several_labels_are_not_measured_where_they_sum_to_1_by_chance() -> None:
    references = ReferenceSet([("a",), ("b",), ("a",), ("b",)], labels=("a", "b"), several=True)
    for name in ("log_loss", "brier", "ece"):
        with pytest.raises(CannotMeasure, match="one correct option"):
            find_metric(name).prepared(references)


def test_the_interval_of_a_log_loss_is_never_negative() -> None:
    metric = find_metric("log_loss")
    assert bounds_of(metric) == (0.0, float("inf"))
