"""Metrics of the bias suites, from statistics of items; ICAT values are those that StereoSet's authors published."""

from __future__ import annotations

from tests.metrics.tables.cases import Case

SHARES = [
    Case([(1, 1)], 1, "one of one"),
    Case([(0, 1)], 0, "none of one"),
    Case([(1, 1), (0, 1)], 0.5, "one of two"),
    Case([(0.5, 1)], 0.5, "a tie is half"),
    Case([(0.25, 0.25), (0, 0.25), (0.5, 0.5)], 0.75, "weighted by target term: 0.5 and 1"),
    Case([(1, 2), (2, 2)], 0.75, "two comparisons per item"),
    Case([(3, 4), (0, 1), (1, 1)], 4 / 6, "pooled"),
    Case([(0, 0)], None, "no items"),
]
MEANS = [
    Case([(0.2, 1)], 0.2, "one item"),
    Case([(-0.2, 1)], -0.2, "negative"),
    Case([(0.2, 1), (-0.2, 1)], 0, "gaps that cancel"),
    Case([(0.5, 1), (0, 1), (0, 1), (0.1, 1)], 0.15, "mean"),
    Case([(0, 1)] * 3, 0, "no gap"),
    Case([(1, 1)] * 3, 1, "always"),
    Case([(0.3, 2), (0.3, 1)], 0.2, "pooled"),
    Case([(0, 0)], None, "no items"),
]
GAPS = [
    Case([(1, 1, 0, 0), (0, 0, 1, 1)], 0, "both right"),
    Case([(1, 1, 0, 0), (0, 0, 0, 1)], 1, "the largest gap"),
    Case([(0, 1, 0, 0), (0, 0, 1, 1)], -1, "the other way"),
    Case([(3, 4, 0, 0), (0, 0, 1, 4)], 0.5, "0.75 and 0.25"),
    Case([(0.5, 1, 0, 0), (0, 0, 0.5, 1)], 0, "ties"),
    Case([(1, 1, 0, 0)], None, "one group alone"),
    Case([(7, 10, 7, 10)], 0, "even"),
    Case([(7, 10, 6, 10)], 0.1, "by hand"),
]


def _published(lms: float, ss: float, icat: float) -> Case:
    return Case([(ss, 100, lms, 100)], icat, "published by the authors of StereoSet")


CASES = {
    **dict.fromkeys(("stereotype_score", "language_modeling_score", "coreference_accuracy"), SHARES),
    **dict.fromkeys(("bbq_ambiguous", "bbq_disambiguated", "language_nuance", "counterfactual_flip"), SHARES),
    **dict.fromkeys(
        ("choice_control", "choice_refusal", "general_knowledge", "arithmetic", "reasoning", "code"), SHARES
    ),
    **{
        f"counterfactual_{name}": MEANS
        for name in (
            *("likelihood", "quality", "refusal", "sentiment", "shift", "probability", "gap"),
            *("rouge_l", "bleu"),
            *("likelihood_gap", "quality_gap", "refusal_gap", "sentiment_gap"),
        )
    },
    "bold_sentiment": MEANS,
    "counterfactual_sentiment_bias": [
        Case([(1, 1)], 0, "the same for both groups"),
        Case([(1, -1)], 2, "the largest distance"),
        Case([(0.5, 0)], 0.5, "one question"),
        Case([(1, 0), (0, 1)], 0, "the same distribution in another order"),
        Case([(1, 0), (0, 0)], 0.5, "sorted: 0 and 0, 1 and 0"),
        Case([(1, 0, 0)], 2 / 3, "three pairs of groups: 1, 1, 0"),
        Case([(1, 0.5, 0)], 2 / 3, "three pairs of groups: 0.5, 1, 0.5"),
        Case([(0, 1), (1, 1), (-1, 1)], 1, "-1, 0 and 1 against 1, 1 and 1"),
    ],
    "coreference_gap": GAPS,
    "icat": [
        _published(83.65206453498922, 57.03077944935812, 71.8892802104096),
        _published(93.27790824312564, 62.66777425473077, 69.64543855157751),
        _published(88.91747413402561, 61.86045699338027, 67.82543657549334),
        _published(95.31597162901512, 65.29146280450628, 66.1655589322059),
        _published(85.77180212754598, 59.555742005152865, 69.37953787858896),
        _published(82.50328729241772, 61.48204661682922, 63.55715547775384),
        _published(78.03321039087021, 54.352355361058194, 71.24064515916449),
        _published(74.15920794181665, 53.994467529250144, 68.23467697944672),
        _published(90.72888267380054, 61.99765050576931, 68.9582141718164),
        _published(95.18847875152224, 64.18149129453478, 68.1901870964278),
        Case([(50, 100, 100, 100)], 100, "the ideal model"),
        Case([(50, 100, 50, 100)], 50, "the random model"),
        Case([(100, 100, 100, 100)], 0, "the stereotyped model"),
        Case([(0, 100, 100, 100)], 0, "the opposite"),
        Case([(0, 0, 0, 0)], None, "no items"),
    ],
    "bbq_bias": [
        Case([(1, 1)], 1, "always biased"),
        Case([(0, 1)], -1, "always against"),
        Case([(1, 1), (0, 1)], 0, "even"),
        Case([(1, 1), (0, 0)], 1, "an unknown answer doesn't count"),
        Case([(3, 4)], 0.5, "2 * 3/4 - 1"),
        Case([(0, 0)], None, "nobody named"),
        Case([(330, 670)], 2 * 330 / 670 - 1, "by hand"),
        Case([(1, 1), (1, 1), (0, 1), (0, 0)], 1 / 3, "two of three"),
    ],
    "bbq_bias_ambiguous": [
        Case([(1, 1, 0, 1)], 1, "always biased"),
        Case([(0, 1, 0, 1)], -1, "always against"),
        Case([(0, 0, 1, 1)], 0, "always unknown"),
        Case([(1, 1, 0, 1), (0, 0, 1, 1)], 0.5, "accuracy one half"),
        Case([(1, 1, 0, 1), (0, 1, 0, 1)], 0, "even"),
        Case([(3, 4, 6, 10)], 0.2, "0.4 * 0.5"),
        Case([(0, 0, 0, 0)], 0, "no items"),
        Case([(1, 1, 0, 1), (1, 1, 0, 1), (0, 1, 0, 1), (0, 0, 1, 1)], 0.25, "3/4 * 1/3"),
    ],
}
