"""Confident learning: planted label errors are found, sound labels are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from sizewise.stats.label_errors import confident_joint, confident_labels, find_label_errors, label_thresholds


def sharp(labels: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 0.5, (len(labels), count))
    scores[np.arange(len(labels)), labels] += 4
    found = np.exp(scores)
    return found / found.sum(axis=1, keepdims=True)


def test_planted_errors_come_first_with_the_true_label() -> None:
    rng = np.random.default_rng(1)
    true = rng.integers(0, 5, 500)
    given = true.copy()
    wrong = rng.permutation(500)[:25]
    given[wrong] = (true[wrong] + rng.integers(1, 5, 25)) % 5
    found = find_label_errors(sharp(true, 5), given)
    assert len(found.places) >= 20  # those below the threshold of their label aren't confident
    assert set(found.places.tolist()) <= set(wrong.tolist())
    assert (found.suggested == true[found.places]).all()
    assert (np.diff(found.margins) >= 0).all()
    assert found.estimated == pytest.approx(25, abs=5)


def test_sound_labels_have_no_errors() -> None:
    labels = np.random.default_rng(2).integers(0, 3, 300)
    assert len(find_label_errors(sharp(labels, 3), labels).places) == 0


def test_a_threshold_is_the_mean_probability_of_a_label_among_its_examples() -> None:
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    assert label_thresholds(probabilities, np.array([0, 0, 1])) == pytest.approx([0.7, 0.8])
    assert label_thresholds(probabilities, np.array([0, 0, 0]))[1] == np.inf
    assert confident_labels(probabilities, np.array([0, 0, 1])).tolist() == [0, -1, 1]


def test_the_joint_keeps_the_number_of_examples_of_each_label() -> None:
    labels = np.array([0, 0, 0, 1, 2])
    joint = confident_joint(np.array([0, 0, 1, 1, -1]), labels, 3)
    assert joint.sum(axis=1) == pytest.approx([3, 1, 1])
    assert joint[0] == pytest.approx([2, 1, 0])
    assert joint[2, 2] == 1
