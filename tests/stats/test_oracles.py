"""Our statistics against the packages of the field: installed ones directly, others through golden/*.json.

Exact p-values are equal to the last digit that floats hold, closed forms within CLOSED, iterative fits within FITTED.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import evalica
import krippendorff
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, permutation_test
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_confint

from sizewise.stats import detectable_difference, estimate, holm, length_controlled_rate, wilson
from sizewise.stats.agreement import alpha, alpha_sums, cohen, cohen_sums, fleiss, fleiss_sums, gwet
from sizewise.stats.classical_tests import mcnemar_p
from sizewise.stats.inference import Systems
from sizewise.stats.multiplicity import false_discovery
from sizewise.stats.ranking import Votes, bradley_terry, fit_strengths, win_matrix

CLOSED, FITTED = 1e-12, 1e-6
LEVELS = ("nominal", "ordinal", "interval")


def golden(name: str) -> Any:
    return json.loads((Path(__file__).parent / "golden" / f"{name}.json").read_text(encoding="utf-8"))


INPUTS = golden("inputs")
RATINGS = np.array(INPUTS["ratings"], dtype=float)
LABELS = np.arange(1.0, 5.0)
COUNTS = np.stack([(label == RATINGS).sum(axis=0) for label in LABELS], axis=1).astype(float)


def votes() -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """(names, left index, right index, share of the left one)."""
    names = sorted({vote[0] for vote in INPUTS["votes"]})
    left, right = (np.array([names.index(vote[side]) for vote in INPUTS["votes"]]) for side in (0, 1))
    share = np.array([{"left": 1.0, "right": 0.0, "tie": 0.5}[vote[2]] for vote in INPUTS["votes"]])
    return names, left, right, share


# -- agreement -------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.sampled_from([1, 2, 3, 4, np.nan]), min_size=6, max_size=6), min_size=2, max_size=5))
@settings(deadline=None)
def test_alpha_equals_krippendorff(rows: list[list[float]]) -> None:
    table = np.array(rows)
    paired = table[:, (~np.isnan(table)).sum(axis=0) >= 2]
    assume(len(np.unique(paired[~np.isnan(paired)])) > 1)
    counts = np.stack([(table == label).sum(axis=0) for label in LABELS], axis=1).astype(float)
    for level in LEVELS:
        expected = krippendorff.alpha(table, level_of_measurement=level)
        assert alpha(alpha_sums(counts).sum(axis=0), level, LABELS) == pytest.approx(expected, rel=CLOSED, abs=CLOSED)


def test_agreement_equals_irrcac() -> None:
    expected = golden("irrCAC")
    sums = fleiss_sums(COUNTS).sum(axis=0)
    assert fleiss(sums) == pytest.approx(expected["fleiss_kappa"], abs=CLOSED)
    assert gwet(sums) == pytest.approx(expected["gwet_ac1"], abs=CLOSED)
    coincidences = alpha_sums(COUNTS).sum(axis=0)
    for level in ("nominal", "interval"):
        found = alpha(coincidences, level, LABELS)
        assert found == pytest.approx(expected[f"krippendorff_alpha|{level}"], abs=CLOSED), level
    both = ~np.isnan(RATINGS[:2]).any(axis=0)
    first, second = (RATINGS[rater, both].astype(np.int64) - 1 for rater in (0, 1))
    assert cohen(cohen_sums(first, second, 4).sum(axis=0)) == pytest.approx(expected["cohen_kappa"], abs=CLOSED)


# -- ranking ---------------------------------------------------------------------------------------------


def test_strengths_equal_evalica() -> None:
    names, left, right, share = votes()
    winner = {1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}
    fitted = evalica.bradley_terry(
        [names[i] for i in left], [names[i] for i in right], [winner[s] for s in share], tolerance=1e-14, limit=100_000
    )
    expected = fitted.scores[names].to_numpy()
    found = bradley_terry(win_matrix(left, right, share, len(names)))
    assert found == pytest.approx(expected / expected.sum(), abs=FITTED)


def test_strengths_and_their_errors_equal_arena_rank() -> None:
    expected = golden("arena-rank")
    names, left, right, share = votes()
    assert names == expected["names"]
    found = fit_strengths(Votes(left, right, share, None, np.arange(len(left))), len(names))
    logs = np.log(found.strengths)
    ratings = np.array(expected["ratings"])
    assert logs - logs.mean() == pytest.approx(ratings - ratings.mean(), abs=FITTED)
    # Theirs lack the factor n / (n - 1) of a sample and the imagined votes: 0.4 % less here.
    assert found.standard_errors == pytest.approx(expected["standard_errors"], rel=0.005)


def test_length_control_equals_a_fractional_logit(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the ridge, which keeps the slope finite if length alone decides.
    monkeypatch.setattr("sizewise.stats.length_control.RIDGE", 0.0)
    random = np.random.default_rng(0)
    longer_by = random.normal(0, 40, 300)
    share = (random.random(300) < 1 / (1 + np.exp(-0.4 - longer_by / 60))).astype(float)
    share[::9] = 0.5
    slope = np.tanh(longer_by / np.std(longer_by))
    fit = GLM(share, np.column_stack([np.ones(300), slope]), family=Binomial()).fit(tol=1e-12)
    found = length_controlled_rate(share, longer_by, np.arange(300))
    assert found.value == pytest.approx(1 / (1 + np.exp(-fit.params[0])), abs=FITTED)
    low, high = 1 / (1 + np.exp(-fit.conf_int()[0]))
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high), abs=0.02)


# -- proportions, multiplicity, power, intervals ---------------------------------------------------------


@given(st.integers(1, 5_000), st.floats(0, 1), st.sampled_from([0.9, 0.95, 0.99]))
def test_wilson_equals_statsmodels(n: int, rate: float, level: float) -> None:
    successes = round(rate * n)
    expected = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    found = wilson(successes, n, level)
    assert found == pytest.approx(expected, abs=CLOSED)
    assert found[0] <= successes / n <= found[1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(deadline=None, max_examples=10)
def test_holm_equals_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist(), abs=CLOSED)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_false_discovery_equals_statsmodels(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="fdr_bh")[1]
    assert false_discovery(np.array(p_values)) == pytest.approx(expected, abs=CLOSED)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_equals_statsmodels(answers: list[tuple[bool, bool]]) -> None:
    left, right = np.array(answers, dtype=float).T
    table = [[float(((left == a) & (right == b)).sum()) for b in (1, 0)] for a in (1, 0)]
    assert mcnemar_p(left, right) == pytest.approx(min(1.0, mcnemar(table, exact=True).pvalue), abs=CLOSED)


def mean(sums: np.ndarray) -> np.ndarray:
    return np.asarray(sums[..., 0] / sums[..., 1])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=12))
@settings(deadline=None, max_examples=50)
def test_sign_flips_of_single_answers_equal_the_sign_test(answers: list[tuple[bool, bool]]) -> None:
    left, right = (np.column_stack([side, np.ones(len(answers))]) for side in np.array(answers, dtype=float).T)
    differing = int((left[:, 0] != right[:, 0]).sum())
    expected = binomtest(int((left[:, 0] > right[:, 0]).sum()), differing).pvalue if differing else 1.0
    assert subset_p(left, right) == pytest.approx(expected, abs=CLOSED)


def subset_p(left: np.ndarray, right: np.ndarray) -> float:
    """The exact part of the p-value of a difference."""
    systems = Systems(np.stack([left, right], axis=1), (np.arange(len(left)), len(left)), mean)
    return systems._swap_p(0, 1)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=2, max_size=9))
@settings(deadline=None, max_examples=50)
def test_sign_flips_of_clusters_equal_the_exact_permutation_test_of_scipy(totals: list[tuple[int, int]]) -> None:
    left, right = (np.column_stack([side, np.full(len(totals), 20.0)]) for side in np.array(totals, dtype=float).T)
    expected = permutation_test(
        (left[:, 0], right[:, 0]),
        lambda a, b, axis: (a - b).sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue
    assert subset_p(left, right) == pytest.approx(expected, abs=CLOSED)


@pytest.mark.parametrize(("level", "power"), [(0.05, 0.8), (0.05, 0.9), (0.01, 0.8)])
def test_the_detectable_difference_equals_statsmodels(level: float, power: float) -> None:
    # For a standard deviation of 1 the difference is the effect size. Ours ignores the tail on the other side.
    n = 200
    half = -float(norm.ppf(level / 2)) / n**0.5
    expected = NormalIndPower().solve_power(nobs1=n, alpha=level / 2, power=power, ratio=0, alternative="larger")
    assert detectable_difference(-half, half, level, power) == pytest.approx(expected, rel=FITTED)


def test_the_interval_of_a_mean_equals_the_classical_one_of_ppi_python() -> None:
    value, low, high = golden("ppi-python")["classical"]
    labels = np.array(INPUTS["labels"])
    stats = np.column_stack([labels, np.ones(len(labels))])
    found = estimate(stats, [str(i) for i in range(len(labels))], lambda sums: sums[..., 0] / sums[..., 1])
    assert found.value == pytest.approx(value, abs=CLOSED)
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high), abs=0.005)
