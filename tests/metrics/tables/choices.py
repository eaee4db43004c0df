"""Multiple choice by likelihood. lm-evaluation-harness calls the first two acc and acc_norm."""

from __future__ import annotations

import math

from tests.metrics.tables.cases import Case, c

HALF = (math.log(2), math.log(2))
SURE = (-math.log(0.9), -math.log(0.1))  # confidence 0.9 in the first choice
CASES = {
    "choice_accuracy": [
        Case([c((1, 2))], 1, "the likeliest is the first"),
        Case([c((2, 1))], 0, "the likeliest is the second"),
        Case([c((2, 1), 1)], 1, "and it is correct"),
        Case([c((5, 4, 3, 2), 3)], 1, "of four"),
        Case([c((1, 2)), c((2, 1))], 0.5, "mean"),
        Case([c((10, 9), 0, (100, 1))], 0, "length doesn't count: acc of the harness"),
        Case([c((1e9, 1e9 + 1))], 1, "large numbers"),
        Case([c((1, 1), 1)], 0.5, "a tie is half a hit: it is nobody's choice"),
        Case([c((1, 1, 1), 0)], 1 / 3, "a tie of three"),
        Case([c((1, 1, 2), 2)], 0, "the correct one isn't among the tied"),
        Case([c((math.inf, 1), 1)], 1, "an impossible choice"),
    ],
    "choice_accuracy_by_byte": [
        Case([c((10, 9), 0, (10, 3))], 1, "1 and 3 nats a byte"),
        Case([c((10, 9), 0, (3, 10))], 0, "3.3 and 0.9 nats a byte"),
        Case([c((4, 4), 1, (2, 4))], 1, "the longer one"),
        Case([c((0, 3), 0, (0, 3))], 1, "an empty choice has one byte"),
        Case([c((6, 4, 9), 2, (2, 2, 9))], 1, "3, 2 and 1"),
        Case([c((2, 4), 0, (1, 2))], 0.5, "a tie is half a hit"),
        Case([c((2, 4), 1, (1, 2))], 0.5, "whichever is correct"),
        Case([c((1, 2), 0, (5, 5)), c((2, 1), 0, (5, 5))], 0.5, "mean"),
        Case([c((0.1 + 0.2, 0.3), 1, (1, 1))], 0.5, "equal but for rounding"),
    ],
    "choice_calibration": [
        Case([c(SURE), c(SURE)], 0.01, "both right: gaps 0.1 and 0.1, one pair"),
        Case([c(SURE, 1), c(SURE, 1)], 0.81, "both wrong: 0.9 squared"),
        Case([c(SURE), c(SURE, 1)], -0.09, "one of each: 0.9 times -0.1"),
        Case([c(SURE)], None, "one question has no pair"),
        Case([c(HALF), c(HALF, 1)], -0.25, "0.5 times -0.5"),
        Case([c(HALF), c(HALF)], 0.25, "-0.5 squared"),
        Case([c(SURE), c(SURE), c(HALF)], 0.02 / 3, "a bin with one question adds nothing; weights by questions"),
        Case([c((0, math.inf)), c((0, math.inf))], 0, "certain and right"),
        Case([c((0, math.inf), 1), c((0, math.inf), 1)], 1, "certain and wrong"),
        Case([c(SURE)] * 9 + [c(SURE, 1)], (0 - (9 * 0.01 + 0.81)) / 9 / 10, "calibrated: the sum of gaps is 0"),
    ],
}
