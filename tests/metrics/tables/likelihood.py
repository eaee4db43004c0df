"""How well text is predicted; lm-evaluation-harness has the same bits_per_byte, byte and word perplexity."""

from __future__ import annotations

import math

from tests.metrics.tables.cases import LN2, Case, t

CASES = {
    "bits_per_byte": [
        Case([t(8 * LN2, 1, 1)], 8, "uniform over bytes"),
        Case([t(8 * LN2, 4, 4)], 2, "8 bits on 4 bytes"),
        Case([t(0, 3, 3)], 0, "certain"),
        Case([t(LN2, 1, 1), t(3 * LN2, 1, 3)], 1, "4 bits on 4 bytes, not the mean of 1 and 1"),
        Case([t(LN2, 1, 1), t(9 * LN2, 1, 3)], 2.5, "10 bits on 4 bytes, not the mean of 1 and 3"),
        Case([t(0, 0, 0)], None, "no text"),
        Case([t(2 * LN2, 1, 4)], 0.5, "an emoji has 4 bytes"),
        Case([t(10, 2, 5)], 10 / LN2 / 5, "by hand"),
    ],
    "perplexity": [
        Case([t(math.log(50), 1, 1)], 50, "uniform over 50 tokens"),
        Case([t(2 * math.log(50), 2, 9)], 50, "the same per token"),
        Case([t(0, 5, 5)], 1, "certain"),
        Case([t(math.log(2), 1, 1), t(3 * math.log(8), 3, 1)], math.exp((LN2 + 9 * LN2) / 4), "pooled over tokens"),
        Case([t(0, 0, 0)], None, "no tokens"),
        Case([t(1, 1, 100)], math.e, "bytes don't count"),
        Case([t(5, 10, 1)], math.exp(0.5), "by hand"),
        Case([t(4 * LN2, 2, 1), t(0, 2, 1)], 2, "4 bits on 4 tokens"),
    ],
    "byte_perplexity": [
        Case([t(8 * LN2, 1, 1)], 256, "uniform over bytes"),
        Case([t(8 * LN2, 4, 4)], 4, "2 bits per byte"),
        Case([t(0, 1, 1)], 1, "certain"),
        Case([t(LN2, 9, 1), t(9 * LN2, 9, 3)], 2**2.5, "pooled over bytes"),
        Case([t(0, 0, 0)], None, "no text"),
        Case([t(1, 7, 1)], math.e, "tokens don't count"),
        Case([t(3, 1, 6)], math.exp(0.5), "by hand"),
        Case([t(16 * LN2, 1, 2)], 256, "two bytes"),
    ],
    "word_perplexity": [
        Case([t(math.log(100), 3, 5, 1)], 100, "one word"),
        Case([t(2 * math.log(100), 3, 5, 2)], 100, "two words"),
        Case([t(0, 3, 5, 2)], 1, "certain"),
        Case([t(LN2, 1, 1, 1), t(9 * LN2, 1, 1, 3)], 2**2.5, "pooled over words"),
        Case([t(0, 0, 0, 0)], None, "no words"),
        Case([t(1, 99, 99, 2)], math.exp(0.5), "neither tokens nor bytes count"),
        Case([t(6, 1, 1, 3)], math.exp(2), "by hand"),
        Case([t(4, 1, 1, 4), t(4, 1, 1, 4)], math.e, "two passages"),
    ],
    "min_k_percent": [
        Case([t(1, 1, 1, 1, -2)], -2, "one passage"),
        Case([t(1, 1, 1, 1, -2), t(1, 1, 1, 1, -4)], -3, "mean over passages"),
        Case([t(1, 9, 1, 1, -2), t(1, 1, 1, 1, -4)], -3, "not over tokens"),
        Case([t(1, 1, 1)], None, "a passage without tokens"),
        Case([t(1, 1, 1), t(1, 1, 1, 1, -4)], -4, "which is left out"),
        Case([t(1, 1, 1, 1, 0)], 0, "certain"),
        Case([t(1, 1, 1, 1, -0.5)] * 4, -0.5, "equal passages"),
        Case([t(1, 1, 1, 1, -math.inf)], None, "an impossible token"),
    ],
}
