"""Calibration: fit a map from probabilities to calibrated ones on the validation split, and apply it anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit, logsumexp

from sizewise.decisions.scorers import FloatArray, IntArray
from sizewise.errors import SizewiseError
from sizewise.records import CalibrationMethod, Calibrator

Fitted = Literal["none", "temperature", "platt", "isotonic"]
EPSILON = 1e-6
"""Smallest probability: certainty would make one mistake infinitely bad."""
FOLDS = 5
MIN_EXAMPLES: tuple[tuple[Fitted, int, int], ...] = (
    ("none", 0, 0),
    ("temperature", 10, 0),
    ("platt", 50, 10),
    ("isotonic", 1_000, 50),
)
"""Method, and the validation examples that it needs in all and for each option; with fewer, it fits noise
(Niculescu-Mizil and Caruana, 2005, Predicting good probabilities with supervised learning)."""
MIN_SEEN = 10
"""Validation examples that each option needs for isotonic calibration, which gives an option that it saw nowhere no
probability anywhere."""
RIDGE = 1e-2
"""Penalty on Platt's factors and offsets, which keeps those of classes with few examples near 1 and 0."""
MAX_KNOTS = 200


def apply_calibrator(calibrator: Calibrator, probabilities: FloatArray, labels: Sequence[str]) -> FloatArray:
    """Calibrate probabilities.

    Args:
        calibrator: the fitted map.
        probabilities: (texts, options) of the uncalibrated model.
        labels: the options, in the order of the columns.

    Raises:
        SizewiseError: it was fitted for other options.
    """
    if tuple(labels) != calibrator.labels:
        odd = sorted(set(labels).symmetric_difference(calibrator.labels)) or ["their order"]
        raise SizewiseError(
            f"This calibration was fitted for other options; they differ in {', '.join(odd[:3])}.",
            f"the options {', '.join(calibrator.labels[:5])}",
            "calibrate on the validation split of the same data: sizewise train",
        )
    if calibrator.method == "none" or not len(probabilities):
        return probabilities
    return _APPLY[calibrator.method](calibrator, clipped(probabilities))


def clipped(probabilities: FloatArray) -> FloatArray:
    """Keep probabilities away from 0 and 1."""
    found: FloatArray = np.clip(probabilities, EPSILON, 1 - EPSILON)
    return found


def _with_temperature(calibrator: Calibrator, probabilities: FloatArray) -> FloatArray:
    if calibrator.independent:
        found: FloatArray = expit(logit(probabilities) / calibrator.temperature)
        return found
    return _softmax(np.log(probabilities) / calibrator.temperature)


def _with_platt(calibrator: Calibrator, probabilities: FloatArray) -> FloatArray:
    slopes, offsets = np.array(calibrator.slopes), np.array(calibrator.offsets)
    if calibrator.independent:
        found: FloatArray = expit(slopes * logit(probabilities) + offsets)
        return found
    return _softmax(slopes * np.log(probabilities) + offsets)


def _with_isotonic(calibrator: Calibrator, probabilities: FloatArray) -> FloatArray:
    columns = [np.interp(probabilities[:, i], xs, ys) for i, (xs, ys) in enumerate(calibrator.knots)]
    each = clipped(np.stack(columns, axis=1))
    return each if calibrator.independent else each / each.sum(axis=1, keepdims=True)


_APPLY: dict[str, Callable[[Calibrator, FloatArray], FloatArray]] = {
    "temperature": _with_temperature,
    "platt": _with_platt,
    "isotonic": _with_isotonic,
}


def _softmax(logits: FloatArray) -> FloatArray:
    found: FloatArray = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    return found


def log_loss(probabilities: FloatArray, targets: FloatArray, independent: bool = False) -> float:
    """Compute the mean negative log-likelihood of the correct options, in nats.

    Args:
        probabilities: (texts, options).
        targets: (texts, options) 1 or a share where the option is correct.
        independent: whether each option has a probability of its own.
    """
    safe = clipped(probabilities)
    each = -targets * np.log(safe)
    if independent:
        each = each - (1 - targets) * np.log(1 - safe)
    return float(each.sum(axis=1).mean())


def smoothed(targets: FloatArray, independent: bool) -> FloatArray:
    """Add one example that speaks for no option: few texts without a mistake don't show that there are none.

    Args:
        targets: (texts, options) 1 or a share where the option is correct.
        independent: whether each option has a probability of its own.
    """
    n, count = targets.shape
    even = 0.5 if independent else targets.sum(axis=1, keepdims=True) / count
    found: FloatArray = (n * targets + even) / (n + 1)
    return found


def fit_calibrator(
    probabilities: FloatArray,
    targets: FloatArray,
    labels: Sequence[str],
    folds: IntArray,
    *,
    method: CalibrationMethod = "auto",
    independent: bool = False,
) -> tuple[Calibrator, FloatArray]:
    """Fit a calibration on the validation split.

    With `auto`, the method with the least log loss on held-out folds is taken, as if one more text had been uncertain:
    certainty isn't right because few texts had no mistake. Simpler methods win ties.

    Args:
        probabilities: (texts, options) of the uncalibrated model.
        targets: (texts, options) 1 or a share where the option is correct.
        labels: the options.
        folds: fold of each text; texts of one source are in one fold.
        method: the method, or auto.
        independent: whether each option has a probability of its own (multi).

    Returns:
        The calibrator fitted on all texts, and (texts, options) probabilities calibrated on the other folds.
    """
    n = len(probabilities)
    enough: list[Fitted] = [one for one, least, each in MIN_EXAMPLES if n >= max(least, each * len(labels))]
    if "isotonic" in enough and targets.sum(axis=0).min() < MIN_SEEN:
        enough.remove("isotonic")
    candidates: list[Fitted] = enough if method == "auto" else [method if n else "none"]
    held_out = {one: _held_out(one, probabilities, targets, labels, folds, independent) for one in candidates}
    losses = {one: log_loss(found, targets, independent) for one, found in held_out.items()} if n else {}
    likely = smoothed(targets, independent)
    chosen_by = {one: log_loss(found, likely, independent) for one, found in held_out.items()} if n else {}
    best: Fitted = min(candidates, key=lambda one: (round(chosen_by[one], 4), candidates.index(one))) if n else "none"
    fitted = _fit(best, probabilities, targets, labels, independent)
    return fitted.model_copy(update={"log_loss": dict(losses)}), held_out[best] if n else probabilities


def _held_out(
    method: Fitted,
    probabilities: FloatArray,
    targets: FloatArray,
    labels: Sequence[str],
    folds: IntArray,
    independent: bool,
) -> FloatArray:
    found = probabilities.copy()
    for fold in np.unique(folds):
        part = folds == fold
        if part.all():
            return found
        fitted = _fit(method, probabilities[~part], targets[~part], labels, independent)
        found[part] = apply_calibrator(fitted, probabilities[part], labels)
    return found


def _fit(
    method: Fitted, probabilities: FloatArray, targets: FloatArray, labels: Sequence[str], independent: bool
) -> Calibrator:
    known = Calibrator(method="none", labels=tuple(labels), independent=independent, n=len(probabilities))
    if method == "none" or not len(probabilities):
        return known
    return known.model_copy(update={"method": method, **_FIT[method](known, clipped(probabilities), targets)})


def _fit_temperature(known: Calibrator, probabilities: FloatArray, targets: FloatArray) -> dict[str, object]:
    likely = smoothed(targets, known.independent)

    def loss(log_temperature: float) -> float:
        tried = known.model_copy(update={"temperature": float(np.exp(log_temperature))})
        return log_loss(_with_temperature(tried, probabilities), likely, known.independent)

    found = minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded", options={"xatol": 1e-4})
    return {"temperature": float(np.exp(found.x))}


def _fit_platt(known: Calibrator, probabilities: FloatArray, targets: FloatArray) -> dict[str, object]:
    """Fit a factor and an offset for each option by penalized maximum likelihood."""
    count = probabilities.shape[1]
    scores = logit(probabilities) if known.independent else np.log(probabilities)

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        slopes, offsets = parameters[:count], parameters[count:]
        logits = slopes * scores + offsets
        found = expit(logits) if known.independent else _softmax(logits)
        total = log_loss(found, targets, known.independent)
        shares = targets if known.independent else targets.sum(axis=1, keepdims=True) * found
        error = (found - targets) if known.independent else (shares - targets)
        penalty = RIDGE * (((slopes - 1) ** 2).sum() + (offsets**2).sum()) / count
        slope_gradient = (error * scores).mean(axis=0) + 2 * RIDGE * (slopes - 1) / count
        offset_gradient = error.mean(axis=0) + 2 * RIDGE * offsets / count
        return total + float(penalty), np.concatenate([slope_gradient, offset_gradient])

    start = np.concatenate([np.ones(count), np.zeros(count)])
    bounds = [(0.0, None)] * count + [(None, None)] * count  # a factor below 0 would turn the order around
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500}).x
    return {"slopes": tuple(found[:count].tolist()), "offsets": tuple(found[count:].tolist())}


def _fit_isotonic(known: Calibrator, probabilities: FloatArray, targets: FloatArray) -> dict[str, object]:
    from scipy.optimize import isotonic_regression

    knots: list[tuple[tuple[float, ...], tuple[float, ...]]] = []
    for column in range(probabilities.shape[1]):
        if not targets[:, column].any():  # without examples there is nothing to fit
            knots.append(((0.0, 1.0), (0.0, 1.0)))
            continue
        order = np.argsort(probabilities[:, column], kind="stable")
        xs, ys = probabilities[order, column], isotonic_regression(targets[order, column]).x
        distinct, first = np.unique(xs, return_index=True)
        means = np.add.reduceat(ys, first) / np.diff(np.append(first, len(xs)))
        knots.append(_thinned(distinct, means))
    return {"knots": tuple(knots)}


def _thinned(xs: FloatArray, ys: FloatArray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Keep the ends of every step, or equally spaced quantiles if there are many."""
    steps = np.flatnonzero(np.diff(ys) != 0)
    kept = np.unique(np.concatenate([[0, len(xs) - 1], steps, steps + 1]))
    if len(kept) > MAX_KNOTS:
        kept = kept[np.unique(np.linspace(0, len(kept) - 1, MAX_KNOTS).astype(int))]
    return tuple(xs[kept].tolist()), tuple(ys[kept].tolist())


_FIT: dict[str, Callable[[Calibrator, FloatArray, FloatArray], dict[str, object]]] = {
    "temperature": _fit_temperature,
    "platt": _fit_platt,
    "isotonic": _fit_isotonic,
}
