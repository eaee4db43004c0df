"""Consensus of raters: accuracy is estimated from agreement, and what people settled stays."""

from __future__ import annotations

import numpy as np
import pytest

from sizewise.stats.consensus import choose_batch, estimate_labels, with_stated


def committee(accuracies: list[float], items: int = 600, labels: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    true = rng.integers(0, labels, items)
    votes = [np.where(rng.random(items) < a, true, rng.integers(0, labels, items)) for a in accuracies]
    return np.stack(votes, axis=1), true


def test_estimated_accuracies_are_those_of_the_raters() -> None:
    votes, true = committee([0.9, 0.7, 0.4])
    found = estimate_labels(votes, 6)
    shares = (votes == true[:, None]).mean(axis=0)
    assert found.accuracies == pytest.approx(shares, abs=0.05)


def test_one_good_rater_outvotes_two_bad_ones() -> None:
    votes, true = committee([0.95, 0.95, 0.3, 0.3, 0.3])
    right = {m: (estimate_labels(votes, 6, m).probabilities.argmax(1) == true).mean() for m in ("vote", "accuracy")}
    assert right["accuracy"] > right["vote"] + 0.01


def test_dawid_and_skene_learn_a_systematic_confusion() -> None:
    rng = np.random.default_rng(4)
    true = rng.integers(0, 2, 800)
    inverted = np.where(rng.random(800) < 0.9, 1 - true, true)
    others = [np.where(rng.random(800) < 0.85, true, 1 - true) for _ in range(3)]
    votes = np.stack([inverted, *others], axis=1)
    right = {m: (estimate_labels(votes, 2, m).probabilities.argmax(1) == true).mean() for m in ("vote", "confusion")}
    assert right["confusion"] > right["vote"] + 0.01


def test_settled_labels_stay_and_absent_votes_do_not_count() -> None:
    votes = np.array([[0, 0], [1, -1], [-1, -1]])
    found = estimate_labels(votes, 2, known=np.array([1, -1, -1]))
    assert found.probabilities[0].tolist() == [0, 1]
    assert found.probabilities[1, 1] > 0.5
    combined = with_stated(found, np.array([[1, 0], [0.01, 0.99], [0, 0]], float), np.array([1, -1, -1]))
    assert combined.probabilities[0].tolist() == [0, 1]
    assert combined.probabilities[1, 1] > found.probabilities[1, 1]


def test_a_batch_has_no_two_copies() -> None:
    similar = np.eye(4)
    similar[0, 1] = similar[1, 0] = 1
    assert choose_batch(np.array([0.9, 0.8, 0.3, 0.0]), similar, 3) == [0, 2]
