"""People's votes with those of judges: the published formula, valid and never wider than people alone."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from sizewise.stats import MIN_CLUSTERS
from sizewise.stats.crossed import estimate_share
from sizewise.stats.prediction_powered import Combined, Judgments, combine, point_estimate, standard_error

GOLDEN = Path(__file__).parent / "golden"
INPUTS = json.loads((GOLDEN / "inputs.json").read_text(encoding="utf-8"))
EXPECTED = json.loads((GOLDEN / "ppi-python.json").read_text(encoding="utf-8"))
LABELS, PREDICTIONS = np.array(INPUTS["labels"]), np.array(INPUTS["predictions"])
ON_LABELED, FURTHER = PREDICTIONS[: len(LABELS)], PREDICTIONS[len(LABELS) :]


def judgments(people: np.ndarray, on_people: np.ndarray, further: np.ndarray) -> Judgments:
    """Each vote and each further task of a document of its own, all raters as one."""
    documents = np.arange(len(people) + len(further))
    on_people, further = (part.reshape(len(part), -1) for part in (on_people, further))
    return Judgments(people, None, documents[: len(people)], on_people, further, documents[len(people) :])


def tuned_weight() -> float:
    """The weight of PPI++ (example 6.1), as ppi-python computes it."""
    covariance = np.cov(LABELS, ON_LABELED, ddof=0)[0, 1]
    return float(covariance / ((1 + len(LABELS) / len(FURTHER)) * PREDICTIONS.var(ddof=1)))


@pytest.mark.parametrize(("name", "weight"), [("classical", 0.0), ("plain", 1.0), ("tuned", tuned_weight())])
def test_estimate_and_standard_error_equal_ppi_python(name: str, weight: float) -> None:
    value = point_estimate(LABELS, ON_LABELED, FURTHER, weight)
    half = float(norm.ppf(0.975)) * standard_error(LABELS, ON_LABELED, FURTHER, weight)
    assert [value, value - half, value + half] == pytest.approx(EXPECTED[name], abs=1e-12)


@pytest.mark.parametrize("weight", [0.25, 1.0, tuned_weight()])
def test_with_a_given_weight_the_combination_is_the_published_formula(weight: float) -> None:
    found = combine(judgments(LABELS, ON_LABELED, FURTHER), weight=weight)
    n, m = len(LABELS), len(FURTHER)
    assert found.estimate.value == pytest.approx(point_estimate(LABELS, ON_LABELED, FURTHER, weight), abs=1e-12)
    residual, further = (LABELS - weight * ON_LABELED).var(ddof=1) / n, weight**2 * FURTHER.var() / m
    # Contributions are small-sample corrected for people (n / (n - 1)), and by document for the rest alike.
    expected = np.sqrt((residual + further) / (LABELS.var(ddof=1) / n))
    assert found.width_ratio == pytest.approx(expected, abs=1e-3)


def test_the_estimated_weight_is_close_to_the_best_one() -> None:
    found = combine(judgments(LABELS, ON_LABELED, FURTHER))
    assert found.weights[0] == pytest.approx(tuned_weight(), abs=0.1)
    best = combine(judgments(LABELS, ON_LABELED, FURTHER), weight=tuned_weight())
    assert found.estimate.value == pytest.approx(best.estimate.value, abs=0.002)


def test_without_a_judge_of_use_people_alone_decide() -> None:
    people, rng = LABELS[:60], np.random.default_rng(1)
    alone = estimate_share(people, None, np.arange(60))
    constant = combine(judgments(people, np.full(60, 0.5), np.full(500, 0.5)))
    opposite = combine(judgments(people, 1 - people, (rng.random(500) < 0.5).astype(float)))
    absent = combine(judgments(people, np.full(60, np.nan), np.full(500, np.nan)))
    few = combine(judgments(people, people, people[: MIN_CLUSTERS - 1]))
    for found in (constant, opposite, absent, few):
        assert found.estimate == found.people == alone
        assert found.width_ratio == 1
        assert not found.weights.any()


def draws(draw: Callable[[np.random.Generator], Judgments], times: int) -> list[Combined]:
    rng = np.random.default_rng(0)
    return [combine(draw(rng)) for _ in range(times)]


def widths(found: list[Combined]) -> np.ndarray:
    return np.array([(f.estimate.ci_high - f.estimate.ci_low) / (f.people.ci_high - f.people.ci_low) for f in found])


def coverage(found: list[Combined], truth: float) -> float:
    return float(np.mean([f.estimate.ci_low <= truth <= f.estimate.ci_high for f in found]))


@pytest.mark.parametrize("n", [30, 60])
def test_a_judge_of_correlation_080_makes_the_interval_030_narrower_and_it_still_covers(n: int) -> None:
    def draw(rng: np.random.Generator) -> Judgments:
        people = (rng.random(11 * n) < 0.5).astype(float)
        judge = np.where(rng.random(11 * n) < 0.9, people, 1 - people)  # correlation 0.8
        return judgments(people[:n], judge[:n], judge[n:])

    found = draws(draw, 250)
    assert widths(found).mean() <= 0.7
    assert widths(found).max() <= 1
    assert 0.93 <= coverage(found, 0.5) <= 0.98
    assert np.mean([f.estimate.p < 0.05 for f in found]) <= 0.07


def test_a_useless_judge_costs_nothing() -> None:
    def draw(rng: np.random.Generator) -> Judgments:
        judge = (rng.random((440, 1)) < 0.7).astype(float)
        return judgments((rng.random(40) < 0.6).astype(float), judge[:40], judge[40:])

    found = draws(draw, 250)
    assert widths(found).max() <= 1
    assert widths(found).mean() >= 0.99
    assert 0.92 <= coverage(found, 0.6) <= 0.98


def test_interval_and_p_value_agree() -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        people = (rng.random(330) < 0.62).astype(float)
        judge = np.where(rng.random(330) < 0.85, people, 1 - people)
        found = combine(judgments(people[:30], judge[:30], judge[30:])).estimate
        assert (found.p < 0.05) == (not found.ci_low <= 0.5 <= found.ci_high)


def test_several_judges_are_not_chosen_by_their_result() -> None:
    """With five useless judges, taking the most favorable one would raise false alarms."""

    def draw(rng: np.random.Generator) -> Judgments:
        judges = (rng.random((440, 5)) < 0.5).astype(float)
        return judgments((rng.random(40) < 0.5).astype(float), judges[:40], judges[40:])

    found = draws(draw, 250)
    assert np.mean([f.estimate.p < 0.05 for f in found]) <= 0.08
    assert widths(found).max() <= 1


def test_each_judge_has_its_own_weight_on_enough_documents() -> None:
    rng = np.random.default_rng(0)
    people = (rng.random(1_100) < 0.5).astype(float)
    good = np.where(rng.random(1_100) < 0.9, people, 1 - people)
    judges = np.column_stack([good, rng.random(1_100) < 0.5])
    many = combine(judgments(people[:100], judges[:100], judges[100:]))
    few = combine(judgments(people[:30], judges[:30], judges[30:]))
    assert many.weights[0] > 0.6
    assert many.weights[1] < 0.2
    assert few.weights[0] == few.weights[1] > 0
    assert many.width_ratio < 0.75


def test_clusters_of_several_tasks_and_crossed_raters_are_covered() -> None:
    """Six raters of different leniency, 30 documents with two tasks each."""
    logistic = norm.cdf
    truth = float(logistic(np.random.default_rng(9).normal(0, np.hypot(0.3, 1.0), 200_000)).mean())

    def draw(rng: np.random.Generator) -> Judgments:
        leniency, easy = rng.normal(0, 0.3, 6), rng.normal(0, 1.0, 230)
        documents = np.repeat(np.arange(30), 4)
        raters = np.concatenate([rng.permutation(6)[:4] for _ in range(30)])
        people = (rng.random(120) < logistic(leniency[raters] + easy[documents])).astype(float)
        judge = (rng.random(230) < logistic(1.5 * easy)).astype(float)[:, None]
        return Judgments(people, raters, documents, judge[documents], judge[30:], np.arange(30, 230))

    found = draws(draw, 200)
    assert coverage(found, truth) >= 0.92
    assert widths(found).max() <= 1
    assert widths(found).mean() < 0.99


def test_strata_keep_a_different_mix_of_opponents_from_biasing_the_result() -> None:
    """A judge that is always right voted mostly on tasks of the weak opponent, people on both alike."""
    rng = np.random.default_rng(0)
    strata = np.repeat([0, 1], 100)
    people = (rng.random(200) < np.where(strata, 0.9, 0.3)).astype(float)
    further = np.repeat([0, 1], [40, 960])
    truth = (rng.random(1_000) < np.where(further, 0.9, 0.3)).astype(float)
    both = judgments(people, people, truth)
    assert combine(both, weight=1.0).estimate.value > 0.7
    assert combine(both).estimate == combine(both).people
    assert combine(both._replace(strata=strata, judged_strata=further)).weights[0] > 0
    found = combine(both._replace(strata=strata, judged_strata=further)).estimate
    assert found.ci_low <= 0.6 <= found.ci_high


def test_people_alone_decide_if_a_judge_votes_differently_on_further_tasks() -> None:
    people = np.repeat([1.0, 0.0], [56, 44])
    found = combine(judgments(people, people, np.ones(1_000)))
    assert found.shift_p < 1e-6
    assert found.estimate == found.people
    assert not found.weights.any()
    first, second = np.ones((1_000, 2)), np.repeat([1.0, 0.0], [560, 440])
    first[:, 1] = second  # one of two judges is enough
    assert not combine(judgments(people, np.column_stack([people, people]), first)).weights.any()


@pytest.mark.parametrize(("rate", "size"), [(0.5, 1), (0.95, 1), (0.8, 5)])
def test_tasks_that_are_alike_are_seldom_taken_for_different(rate: float, size: int) -> None:
    """With documents of several tasks that share their answer, too."""

    def draw(rng: np.random.Generator) -> Judgments:
        judge = np.repeat((rng.random(220) < rate).astype(float), size)[:, None]
        people = np.where(rng.random(20 * size) < 0.9, judge[: 20 * size, 0], 1 - judge[: 20 * size, 0])
        documents = np.repeat(np.arange(220), size)
        count = 20 * size
        return Judgments(people, None, documents[:count], judge[:count], judge[count:], documents[count:])

    assert np.mean([found.shift_p < 0.01 for found in draws(draw, 250)]) <= 0.03


@pytest.mark.data
def test_on_llmfao_the_interval_covers_and_is_never_wider_than_with_people_alone() -> None:
    shares = {"left": 1.0, "right": 0.0, "tie": 0.5}
    rows = {}
    for name in ("crowd", "gpt4"):
        path = Path(os.environ["SIZEWISE_TEST_DATA"]) / "llmfao" / f"{name}-comparisons.csv"
        with path.open(encoding="utf-8", newline="") as file:
            rows[name] = list(csv.DictReader(file))
    judge = {row["id"]: shares[row["winner"]] for row in rows["gpt4"]}
    votes: dict[str, list[float]] = {}
    for row in rows["crowd"]:
        votes.setdefault(row["id"], []).append(shares[row["winner"]])
    tasks = list(votes)
    predictions = np.array([judge[task] for task in tasks])

    def draw(rng: np.random.Generator) -> Judgments:
        own, further = rng.integers(0, len(tasks), 100), rng.integers(0, len(tasks), 2_000)
        people = np.array([rng.choice(votes[tasks[task]]) for task in own])
        return judgments(people, predictions[own], predictions[further])

    found = draws(draw, 500)
    assert widths(found).max() <= 1.03
    assert widths(found).mean() < 0.985  # the floor is 0.967: GPT-4 and people correlate by 0.26
    assert 0.93 <= coverage(found, float(np.mean([np.mean(votes[task]) for task in tasks]))) <= 0.97


def test_looking_after_every_few_votes_raises_no_false_alarms() -> None:
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(80):
        people = (rng.random(400) < 0.5).astype(float)
        judge = np.where(rng.random(400) < 0.9, people, 1 - people)
        looks = (
            combine(judgments(people[:n], judge[:n], judge[n:]), reading="open").estimate.p for n in range(10, 101, 10)
        )
        alarms += any(p < 0.05 for p in looks)
    assert alarms <= 4
