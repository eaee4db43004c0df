"""Calibration: probabilities become honest, and are refused for other options."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sizewise.decisions.calibrators import apply_calibrator, fit_calibrator, log_loss
from sizewise.decisions.folds import make_folds
from sizewise.errors import SizewiseError
from sizewise.records import Calibrator

LABELS = ("ham", "maybe", "spam")


def overconfident(n: int, seed: int, sharpness: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Draw labels from true probabilities, and return probabilities that are too extreme, with the labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3)) * 1.2
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in true])
    sharp = np.exp(sharpness * logits)
    return sharp / sharp.sum(axis=1, keepdims=True), np.eye(3)[labels]


def folds_of(n: int) -> np.ndarray:
    return np.arange(n) % 5


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic", "auto"])
def test_overconfident_probabilities_are_repaired(method: str) -> None:
    probabilities, targets = overconfident(3_000, 0)
    fitted, held_out = fit_calibrator(probabilities, targets, LABELS, folds_of(3_000), method=method)  # type: ignore[arg-type]
    fresh, truth = overconfident(3_000, 1)
    before, after = log_loss(fresh, truth), log_loss(apply_calibrator(fitted, fresh, LABELS), truth)
    assert after < before - 0.2
    assert log_loss(held_out, targets) == pytest.approx(after, abs=0.06)  # held-out folds don't flatter
    assert np.allclose(held_out.sum(axis=1), 1)


def test_temperature_finds_the_factor_that_was_applied() -> None:
    probabilities, targets = overconfident(8_000, 2, sharpness=2.5)
    fitted, _ = fit_calibrator(probabilities, targets, LABELS, folds_of(8_000), method="temperature")
    assert fitted.temperature == pytest.approx(2.5, rel=0.1)


def test_honest_probabilities_stay_as_they_are() -> None:
    probabilities, targets = overconfident(2_000, 3, sharpness=1.0)
    fitted, _ = fit_calibrator(probabilities, targets, LABELS, folds_of(2_000))
    after = apply_calibrator(fitted, probabilities, LABELS)
    assert np.abs(after - probabilities).max() < 0.08


def test_few_examples_allow_only_simple_methods() -> None:
    probabilities, targets = overconfident(9, 4)
    fitted, _ = fit_calibrator(probabilities, targets, LABELS, folds_of(9))
    assert fitted.method == "none"
    none, held_out = fit_calibrator(np.zeros((0, 3)), np.zeros((0, 3)), LABELS, np.zeros(0, dtype=int))
    assert none.method == "none"
    assert held_out.shape == (0, 3)


def test_other_options_are_refused() -> None:
    fitted = Calibrator(method="temperature", labels=LABELS, temperature=2.0)
    with pytest.raises(SizewiseError, match="other options"):
        apply_calibrator(fitted, np.ones((1, 3)) / 3, ("spam", "ham", "maybe"))
    with pytest.raises(SizewiseError, match="virus"):
        apply_calibrator(fitted, np.ones((1, 3)) / 3, ("ham", "maybe", "virus"))


def test_independent_options_keep_probabilities_of_their_own() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(2_000, 3))
    targets = (rng.random((2_000, 3)) < 1 / (1 + np.exp(-logits))).astype(float)
    sharp = 1 / (1 + np.exp(-4 * logits))
    for method in ("temperature", "platt", "isotonic"):
        fitted, found = fit_calibrator(sharp, targets, LABELS, folds_of(2_000), method=method, independent=True)  # type: ignore[arg-type]
        assert fitted.independent
        assert log_loss(found, targets, True) < log_loss(sharp, targets, True) - 0.3
        assert found.sum(axis=1).std() > 0.1


@settings(max_examples=30, deadline=None)
@given(st.floats(0.2, 6.0), st.lists(st.floats(0.01, 0.99), min_size=3, max_size=3))
def test_a_temperature_never_changes_the_order_of_options(temperature: float, row: list[float]) -> None:
    probabilities = np.array([row]) / sum(row)
    fitted = Calibrator(method="temperature", labels=LABELS, temperature=temperature)
    after = apply_calibrator(fitted, probabilities, LABELS)
    assert after.sum() == pytest.approx(1)
    order = np.argsort(probabilities[0], kind="stable")
    assert (np.diff(after[0][order]) >= -1e-12).all()


def test_folds_keep_sources_together_and_spread_labels() -> None:
    labels = np.array([0] * 60 + [1] * 20)
    clusters = [f"c{i // 2}" for i in range(80)]
    folds = make_folds(labels, clusters, 5, 0)
    for i in range(0, 80, 2):
        assert folds[i] == folds[i + 1]
    assert [int((labels[folds == fold] == 1).sum()) for fold in range(5)] == [4] * 5
    assert make_folds(labels, ["one"] * 80, 5, 0).tolist() == [0] * 80
    assert (make_folds(labels, clusters, 5, 1) != folds).any()


@pytest.mark.parametrize(
    "parameters",
    [
        {"method": "platt"},
        {"method": "platt", "slopes": (1.0,), "offsets": (0.0,)},
        {"method": "platt", "slopes": (-1.0,) * len(LABELS), "offsets": (0.0,) * len(LABELS)},
        {"method": "platt", "slopes": (math.inf,) * len(LABELS), "offsets": (0.0,) * len(LABELS)},
        {"method": "isotonic", "knots": (((0.0, 1.0), (0.0, 1.0)),)},
        {"method": "isotonic", "knots": (((0.0, 1.0), (0.0,)),) * len(LABELS)},
        {"method": "isotonic", "knots": (((0.0, 1.0), (0.0, 7.0)),) * len(LABELS)},
        {"method": "temperature", "temperature": 0.0},
    ],
)
def test_a_calibrator_whose_parameters_dont_fit_its_options_is_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Calibrator(labels=LABELS, **parameters)


def test_few_texts_without_a_mistake_dont_make_certain() -> None:
    labels = np.arange(12) % 2
    certain = np.where(np.eye(2)[labels] > 0, 1 - 1e-9, 1e-9)
    found, _ = fit_calibrator(certain, np.eye(2)[labels], ("a", "b"), np.arange(12) % 4)
    assert found.method == "temperature"
    assert apply_calibrator(found, certain, ("a", "b")).max() < 0.99


def test_an_option_without_validation_examples_keeps_a_chance() -> None:
    rng = np.random.default_rng(4)
    probabilities = rng.dirichlet([1.0, 1.0, 1.0], 1_500)
    shares = probabilities[:, :2] / probabilities[:, :2].sum(axis=1, keepdims=True)
    targets = np.eye(3)[(rng.random(1_500) > shares[:, 0]).astype(int)]  # spam is the correct option of no text
    certain = np.array([[0.005, 0.005, 0.99]])
    fitted, _ = fit_calibrator(probabilities, targets, LABELS, folds_of(1_500), method="isotonic")
    assert apply_calibrator(fitted, certain, LABELS)[0, 2] > 0.9
    automatic, _ = fit_calibrator(probabilities, targets, LABELS, folds_of(1_500))
    assert "isotonic" not in automatic.log_loss
    several, truth = overconfident(1_500, 3)
    assert "isotonic" in fit_calibrator(several, truth, LABELS, folds_of(1_500))[0].log_loss
