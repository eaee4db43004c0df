"""Log loss and Brier score as in scikit-learn (whose multiclass Brier score is half of this one), and calibration."""

from __future__ import annotations

import math

from tests.metrics.tables.cases import NOT_MEASURED, Case, a

AB = ("a", "b")


def d(right: str, **p: float) -> object:
    """Make a decision with the probability of each option."""
    return a(max(p, key=p.__getitem__), right, p=p)


THREE = {"a": 0.5, "b": 0.3, "c": 0.2}
ABC = ("a", "b", "c")
CASES = {
    "log_loss": [
        Case([d("a", a=0.9, b=0.1)], -math.log(0.9), "right", AB),
        Case([d("b", a=0.9, b=0.1)], -math.log(0.1), "wrong", AB),
        Case([d("a", a=0.5, b=0.5)], math.log(2), "even", AB),
        Case([d("a", a=1.0, b=0.0)], 0, "certain and right", AB),
        Case([d("b", a=1.0, b=0.0)], -math.log(1e-6), "certain and wrong: clipped", AB),
        Case([d("c", **THREE)], -math.log(0.2), "of three", ABC),
        Case([d("a", a=0.9, b=0.1), d("b", a=0.9, b=0.1)], -(math.log(0.9) + math.log(0.1)) / 2, "scikit-learn", AB),
        Case([a("a", "a")], NOT_MEASURED, "no probabilities", AB),
        Case([d("a", a=0.9, b=0.9)], NOT_MEASURED, "they don't sum to 1", AB),
        Case([d("A", a=0.9, b=0.1)], -math.log(0.9), "case doesn't count", AB),
        Case([a("a", "z", p={"a": 0.5, "b": 0.5})], -math.log(1e-6), "the truth isn't an option", (*AB, "z")),
        Case([a("a", "a", "b", p=THREE)], -math.log(0.8), "either is accepted", ABC),
        Case([d("a", a=0.334, b=0.333, c=0.333)], -math.log(0.334), "nearly even", ABC),
    ],
    "brier": [
        Case([d("a", a=0.9, b=0.1)], 0.02, "0.1 and 0.1 squared", AB),
        Case([d("b", a=0.9, b=0.1)], 1.62, "0.9 and 0.9 squared", AB),
        Case([d("a", a=0.5, b=0.5)], 0.5, "even", AB),
        Case([d("a", a=1.0, b=0.0)], 0, "certain and right", AB),
        Case([d("b", a=1.0, b=0.0)], 2, "certain and wrong: the largest value", AB),
        Case([d("a", **THREE)], 0.38, "0.25 + 0.09 + 0.04", ABC),
        Case([d("c", **THREE)], 0.98, "0.25 + 0.09 + 0.64", ABC),
        Case([d("a", a=0.9, b=0.1), d("b", a=0.9, b=0.1)], 0.82, "mean", AB),
        Case([a("a", "a")], NOT_MEASURED, "no probabilities", AB),
        Case([a("a", "z", p={"a": 0.5, "b": 0.5})], 1.5, "the truth isn't an option: 0.25 + 0.25 + 1", (*AB, "z")),
        Case([a("a", "a", "b", p=THREE)], 0.08, "either is accepted, half each: 0 + 0.04 + 0.04", ABC),
    ],
    "ece": [
        Case([d("a", a=0.9, b=0.1)] * 9 + [d("b", a=0.9, b=0.1)], 0, "calibrated: 9 of 10 at 0.9", AB),
        Case([d("a", a=0.5, b=0.5), d("b", a=0.5, b=0.5)] * 10, 0, "calibrated: half of 20 at 0.5", AB),
        Case([d("a", a=1.0, b=0.0)] * 20, 0, "certain and right", AB),
        Case([d("b", a=1.0, b=0.0)] * 20, 1, "certain and wrong", AB),
        Case([a("a", "a")], NOT_MEASURED, "no probabilities", AB),
        Case([d("a", a=0.9, b=0.9)], NOT_MEASURED, "they don't sum to 1", AB),
        Case([d("a", a=0.75, b=0.25)] * 15 + [d("b", a=0.75, b=0.25)] * 5, 0, "calibrated: 15 of 20 at 0.75", AB),
        Case([d("b", a=0.8, b=0.2)] * 40, 0.8, "always wrong at 0.8, but for the correction", AB, tolerance=0.01),
        Case([d("a", a=0.6, b=0.4)] * 40, 0.4, "always right at 0.6, but for the correction", AB, tolerance=0.01),
    ],
}
