from __future__ import annotations

import numpy as np
import pytest

from sizewise.stats.decision_curves import (
    average_precision,
    class_figures,
    precision_recall_curve,
    roc_area,
    roc_area_interval,
    roc_curve,
)


def cases(count: int = 300) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    stated = np.round(rng.random(count), 2)  # with ties
    return stated, (rng.random(count) < stated).astype(np.int64), [str(i // 2) for i in range(count)]


def test_areas_equal_those_of_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    stated, hits, clusters = cases()
    assert roc_area(stated, hits) == pytest.approx(roc_auc_score(hits, stated))
    assert average_precision(stated, hits) == pytest.approx(average_precision_score(hits, stated))
    curve = roc_curve(stated, hits, clusters)
    assert curve is not None
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(curve.area.value, abs=0.01)
    assert curve.area.ci_low < curve.area.value < curve.area.ci_high
    other = precision_recall_curve(stated, hits, clusters)
    assert other is not None
    assert other.area.ci_low < other.area.value < other.area.ci_high


def test_a_perfect_area_has_an_interval_and_one_class_has_none() -> None:
    stated, hits = np.array([0.1, 0.2] * 10 + [0.9] * 10), np.array([0] * 20 + [1] * 10)
    found = roc_area_interval(stated, hits, [str(i) for i in range(30)])
    assert (found.value, found.ci_high) == (1.0, 1.0)
    assert found.ci_low < 0.95
    assert roc_curve(stated, np.ones(30, dtype=np.int64), [str(i) for i in range(30)]) is None


def test_figures_of_labels_equal_those_of_scikit_learn() -> None:
    from sklearn.metrics import precision_recall_fscore_support

    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 200)
    decided = np.where(rng.random(200) < 0.8, labels, rng.integers(0, 3, 200))
    expected = precision_recall_fscore_support(labels, decided)
    for number, found in enumerate(class_figures(decided, labels, [str(i) for i in range(200)], 4)[:3]):
        for ours, theirs in zip((found.precision, found.recall, found.f1), expected, strict=False):
            assert ours is not None
            assert ours.value == pytest.approx(theirs[number])
            assert ours.ci_low <= ours.value <= ours.ci_high
    absent = class_figures(decided, labels, [str(i) for i in range(200)], 4)[3]
    assert (absent.n, absent.predicted, absent.precision, absent.recall, absent.f1) == (0, 0, None, None, None)
