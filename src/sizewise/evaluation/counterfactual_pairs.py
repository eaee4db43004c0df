"""How alike the answers for two groups are: the counterfactual measures of LangFair, over all pairs of groups.

Source: Bouchard (2024), An actionable framework for assessing bias and fairness in large language model use cases; the
sentiment bias is that of Huang et al. (2020), Reducing sentiment bias in language models via counterfactual evaluation.
Words that name the group are masked first. Of LangFair's settings, stemming for ROUGE-L and NLTK's tokens for BLEU are
left out: words are Unicode words in lower case.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from math import isfinite

import numpy as np

from sizewise.evaluation.swapping import Attribute, group_words
from sizewise.metrics import AnswerItem, find_metric
from sizewise.records import ItemRow, Score
from sizewise.stats.inference import UNBOUNDED
from sizewise.stats.paired_gaps import WorstGap, worst_gap
from sizewise.text import words_of

PAIR_METRICS = ("counterfactual_rouge_l", "counterfactual_bleu", "counterfactual_sentiment_bias")
"""Metrics of the answers for pairs of groups, averaged over all pairs."""
GAPS = {
    "counterfactual_likelihood": UNBOUNDED,
    "counterfactual_quality": (-100.0, 100.0),
    "counterfactual_refusal": (-1.0, 1.0),
    "counterfactual_sentiment": (-2.0, 2.0),
}
"""Metric of each group -> smallest and largest difference of two groups. `METRIC_gap` is the largest one."""
MASK = "MASK"
_ORDER = 4
_EPSILON = 0.1  # added to a count of zero: smoothing method 1 of Chen and Cherry (2014)


def masked(text: str, attribute: Attribute) -> str:
    """Replace the words that name a group of an attribute."""
    words = group_words(attribute)
    if not words:
        return text
    listed = "|".join(sorted(map(re.escape, words), key=len, reverse=True))
    return re.sub(rf"(?<![\w'])(?:{listed})(?![\w'])", MASK, text, flags=re.IGNORECASE)


def pair_stats(
    attribute: Attribute, answers: Sequence[str], sentiments: Sequence[float]
) -> dict[str, tuple[float, ...]]:
    """Compute the mean similarity of the answers to one question over all pairs of groups; sentiments are kept as such.

    Args:
        attribute: the protected attribute.
        answers: one answer for each group.
        sentiments: sentiment of each answer.
    """
    pairs = list(combinations([masked(answer, attribute) for answer in answers], 2))
    alike = [rouge_l(one, other) for one, other in pairs], [bleu(words_of(a), words_of(b)) for a, b in pairs]
    means = [(sum(values) / len(pairs), 1.0) for values in alike]
    return {
        f"{name}#{attribute.name}": stats for name, stats in zip(PAIR_METRICS, (*means, tuple(sentiments)), strict=True)
    }


def rouge_l(one: str, other: str) -> float:
    """Compute the F1 of the longest common subsequence of words; two texts without words are the same."""
    if not words_of(one) and not words_of(other):
        return 1.0
    return find_metric("rouge_l").measure(AnswerItem(one, (other,)))[0]


def bleu(one: Sequence[str], other: Sequence[str]) -> float:
    """Compute the smaller of the BLEU scores (0 to 1) of each text against the other one; the same texts have 1.

    Args:
        one: words.
        other: words.
    """
    if list(one) == list(other):
        return 1.0
    return min(_bleu(one, other), _bleu(other, one))


def _bleu(answer: Sequence[str], reference: Sequence[str]) -> float:
    """Compute sentence BLEU with four orders, of which an absent one counts as one n-gram, as NLTK does."""
    precisions = []
    for order in range(1, _ORDER + 1):
        said, known = (
            Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1)) for words in (answer, reference)
        )
        precisions.append((sum((said & known).values()), max(1, said.total())))
    if not precisions[0][0]:
        return 0.0
    logs = [math.log((hits or _EPSILON) / count) for hits, count in precisions]
    brevity = 1.0 if len(answer) > len(reference) else math.exp(1 - len(reference) / len(answer))
    return brevity * math.exp(sum(logs) / _ORDER)


def group_values(base: str, attribute: Attribute, rows: Sequence[ItemRow]) -> tuple[np.ndarray, list[str]]:
    """Collect the values of all groups where a metric measured them: (items, groups), and the items' documents."""
    keys = [f"{base}#{attribute.name}: {group}" for group in attribute.groups]
    part = [row for row in rows if all(key in row.stats for key in keys)]
    values = np.array([[row.stats[key][0] for key in keys] for row in part], dtype=np.float64)
    return values.reshape(len(part), len(keys)), [row.cluster for row in part]


def gap_of_groups(base: str, attribute: Attribute, rows: Sequence[ItemRow], signature: str) -> Score | None:
    """Compute the largest gap between two groups, with an interval for all pairs together; None without items.

    Args:
        base: metric of each group.
        attribute: the protected attribute.
        rows: items.
        signature: how the items were measured.
    """
    values, clusters = group_values(base, attribute, rows)
    if not len(values):
        return None
    found: WorstGap = worst_gap(values, clusters, GAPS[base])
    lower, upper = found.interval()
    known, name = isfinite(lower), f"{base}_gap#{attribute.name}"
    return Score(
        metric=name,
        value=found.value,
        ci_low=lower if known else None,
        ci_high=upper if known else None,
        ci_missing_reason="" if known else "too few source documents",
        n=len(values),
        unit=find_metric(f"{base}_gap").unit,
        signature=f"{signature}|largest of {len(found.pairs)} pairs",
        clusters=found.clusters,
    )
