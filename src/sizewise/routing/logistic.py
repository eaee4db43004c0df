"""Cross-fitted logistic models of text features."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit, logit

from sizewise.routing.labeled import Array, IntArray

FOLDS = 5
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1_000.0)
MAX_SLOPE = 20.0


def fit_logistic(matrix: csr_matrix | Array, labels: Array, penalty: float, start: Array | None = None) -> Array:
    """Fit an L2-regularized logistic regression; the last weight is the intercept.

    Args:
        matrix: (rows, features) features.
        labels: (rows,) 1 or 0.
        penalty: strength of the regularization.
        start: weights from which the search starts; None: zeros.
    """

    def loss(weights: Array) -> tuple[float, Array]:
        scores = matrix @ weights[:-1] + weights[-1]
        signed = np.where(labels > 0, scores, -scores)
        value = float(np.logaddexp(0, -signed).sum() + 0.5 * penalty * (weights[:-1] ** 2).sum())
        residual = expit(scores) - labels
        return value, np.append(matrix.T @ residual + penalty * weights[:-1], residual.sum())

    weights: Array = minimize(
        loss, np.zeros(matrix.shape[1] + 1) if start is None else start, jac=True, method="L-BFGS-B"
    ).x
    return weights


def predict(matrix: csr_matrix | Array, weights: Array) -> Array:
    """Compute the probabilities of rows: (rows,)."""
    probabilities: Array = expit(matrix @ weights[:-1] + weights[-1])
    return probabilities


def assign_folds(group: IntArray, seed: int) -> IntArray:
    """Assign a fold to each row: (rows,), the same for duplicates."""
    folds: IntArray = np.random.default_rng(seed).permutation(int(group.max()) + 1) % FOLDS
    return folds[group]


def cross_fit(matrix: csr_matrix, labels: Array, group: IntArray, seed: int) -> tuple[Array, Array]:
    """Predict each prompt with a model that has not seen it, and fit the final model on all prompts."""
    count = len(labels)
    if len(set(labels)) == 1:
        constant = np.zeros(matrix.shape[1] + 1)
        constant[-1] = math.log((labels.sum() + 1) / (count - labels.sum() + 1))
        return np.full(count, float(expit(constant[-1]))), constant
    fold = assign_folds(group, seed)
    by_penalty = {penalty: np.zeros(count) for penalty in PENALTIES}
    for held_out in range(FOLDS):
        train, weights = fold != held_out, None
        seen, unseen = matrix[train], matrix[~train]
        for penalty in sorted(PENALTIES, reverse=True):
            weights = fit_logistic(seen, labels[train], penalty, weights)
            by_penalty[penalty][~train] = predict(unseen, weights)

    def log_loss(probabilities: Array) -> float:
        clipped = np.clip(probabilities, 1e-6, 1 - 1e-6)
        return float(-np.where(labels > 0, np.log(clipped), np.log(1 - clipped)).mean())

    best = min(PENALTIES, key=lambda penalty: log_loss(by_penalty[penalty]))
    slope, offset = _platt_scale(by_penalty[best], labels)
    weights = fit_logistic(matrix, labels, best) * slope
    weights[-1] += offset
    return expit(slope * logit_of(by_penalty[best]) + offset), weights


def logit_of(probabilities: Array) -> Array:
    """Compute the logits of probabilities, bounded for 0 and 1."""
    scores: Array = logit(np.clip(probabilities, 1e-6, 1 - 1e-6))
    return scores


def _platt_scale(probabilities: Array, labels: Array) -> tuple[float, float]:
    """Fit Platt scaling (1999) with a slope of at most 1: it corrects overconfidence only."""
    scores = logit_of(probabilities)
    signs = 2 * labels - 1

    def loss(parameters: Array) -> float:
        slope, offset = parameters
        return float(np.logaddexp(0, -signs * (slope * scores + offset)).sum() + 0.5 * (slope - 1) ** 2)

    slope, offset = minimize(loss, np.array([1.0, 0.0]), bounds=[(0, 1), (None, None)]).x
    return float(slope), float(offset)


def fit_comparison(advantage: Array, labels: Array) -> tuple[float, float]:
    """Fit the probability of an answer as good as the large model's to the difference of both models' probabilities.

    Args:
        advantage: (prompts,) probability of a good small answer minus that of a good large answer.
        labels: (prompts,) 1 where the small model's answer was as good.

    Returns:
        Slope, which is never negative, and intercept of a logistic function.
    """
    if len(set(labels)) == 1:
        return 0.0, math.log((labels.sum() + 1) / (len(labels) - labels.sum() + 1))
    signs = 2 * labels - 1

    def loss(parameters: Array) -> float:
        return float(np.logaddexp(0, -signs * (parameters[0] * advantage + parameters[1])).sum())

    slope, intercept = minimize(loss, np.array([4.0, 0.0]), bounds=[(0, MAX_SLOPE), (None, None)]).x
    return float(slope), float(intercept)
