from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from sizewise.stats.calibration import calibration_error, decompose_brier, equal_mass_bins, reliability_bins
from sizewise.stats.inference import MIN_CLUSTERS


def names(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def test_calibrated_probabilities_have_no_significant_error_at_200() -> None:
    rng = np.random.default_rng(0)
    found = []
    for repeat in range(40):
        stated = expit(rng.normal(2, 1.5, 200))
        found.append(calibration_error(stated, (rng.random(200) < stated).astype(float), names(200), seed=repeat))
    assert sum(one.ci_low > 0 for one in found) <= 4  # 2.5% of 40 are 1
    assert np.mean([one.plain for one in found]) > 3 * np.mean([one.value for one in found])


def test_overconfidence_is_found_and_within_the_interval() -> None:
    rng = np.random.default_rng(1)
    stated = rng.uniform(0.5, 1, 2_000)
    true = expit(logit(stated) / 2.5)
    found = calibration_error(stated, (rng.random(2_000) < true).astype(float), names(2_000))
    assert 0 < found.ci_low <= np.abs(stated - true).mean() <= found.ci_high
    assert found.p < 0.001


def test_few_documents_have_no_interval() -> None:
    found = calibration_error(np.full(40, 0.9), np.ones(40), ["a", "b"] * 20)
    assert np.isnan(found.ci_low)
    assert np.isnan(found.p)
    assert found.value == pytest.approx(0.1)
    assert MIN_CLUSTERS > 2


def test_dependent_items_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    stated = np.full(400, 0.7)
    hits = (rng.random(100) < 0.55).astype(float).repeat(4)
    apart = calibration_error(stated, hits, names(400), count=1)
    together = calibration_error(stated, hits, [str(i // 4) for i in range(400)], count=1)
    assert together.ci_low < apart.ci_low


def test_equal_probabilities_share_a_bin_and_many_have_one_of_their_own() -> None:
    stated = np.array([1.0] * 80 + [0.6, 0.65, 0.7, 0.75, 0.8] * 4)
    bins = equal_mass_bins(stated, 5)
    assert len(set(bins[:80])) == 1
    assert not set(bins[:80]) & set(bins[80:])
    found = reliability_bins(stated, np.ones(100), names(100), 5)
    assert sum(one.n for one in found) == 100
    assert [one.lower for one in found] == sorted(one.lower for one in found)


def test_parts_of_the_brier_score_add_up() -> None:
    rng = np.random.default_rng(3)
    chances = rng.dirichlet([1, 1, 1], 3_000)
    labels = np.array([rng.choice(3, p=row) for row in chances])
    found = decompose_brier(chances, labels, names(3_000))
    assert found.brier.value == pytest.approx(found.reliability - found.resolution + found.uncertainty, abs=0.01)
    assert abs(found.reliability) < 0.005


@pytest.mark.filterwarnings("error")
def test_one_document_has_an_error_without_an_interval_and_without_a_warning() -> None:
    found = calibration_error(np.array([0.9, 0.6]), np.array([1.0, 0.0]), ["a", "a"])
    assert found.value == pytest.approx(0.25)
    assert np.isnan(found.ci_high)
