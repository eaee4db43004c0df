"""How much an answer shares with the reference: BLEU, chrF and TER, by sacrebleu's own statistics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from sizewise.errors import MissingExtraError
from sizewise.metrics.base import AnswerItem, Better, CannotMeasure, FloatArray, Mean, Metric

ORDER = 4  # longest n-gram of BLEU


def _sacrebleu() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise MissingExtraError("sacrebleu", "study") from error
    return metrics


class _Overlap(Mean):
    unit = "0-100"

    scorer = ""
    """Name of sacrebleu's class."""

    @cached_property
    def _scorer(self) -> Any:
        return getattr(_sacrebleu(), self.scorer)()

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Give sacrebleu's own statistics of one answer."""
        references = [[reference] for reference in item.references]
        stats = self._scorer._extract_corpus_statistics([item.completion], references)[0]
        return tuple(float(number) for number in stats)


class Bleu(_Overlap):
    """BLEU over all answers, 0 to 100.

    Source: Papineni et al. (2002); settings and signature after Post (2018), sacrebleu's defaults
    (13a tokens, exponential smoothing).
    """

    name, title, scorer = "bleu", "BLEU", "BLEU"
    description = (
        "Share of word sequences an answer has in common with the right one, 0 to 100. Higher is better. "
        "It counts other wording as wrong and does not know whether an answer is true."
    )

    def signature(self) -> str:
        """Give sacrebleu's signature; the number of references stands in the data."""
        from sacrebleu import __version__

        return f"bleu|case:mixed|eff:no|tok:13a|smooth:exp|version:{__version__}"

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Give the metric itself.

        Raises:
            CannotMeasure: all right answers are so short that the right ones themselves would have 0.
        """
        right = (reference for item in references for reference in item)
        if references and not any(self.measure(AnswerItem(one, (one,)))[1 + 2 * ORDER] for one in right):
            raise CannotMeasure(f"no right answer has the {ORDER} words in a row that BLEU counts")
        return self

    def value(self, sums: FloatArray) -> FloatArray:
        """Compute BLEU from (answer length, reference length, matches by order, totals by order)."""
        answer, reference = sums[..., 0], sums[..., 1]
        matches, totals = sums[..., 2 : 2 + ORDER], sums[..., 2 + ORDER : 2 + 2 * ORDER]
        smoothing = np.cumprod(np.where((matches == 0) & (totals > 0), 2.0, 1.0), axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.where(matches > 0, matches, 1 / smoothing) / totals
            logs = np.where(totals > 0, np.log(precision), -np.inf).mean(axis=-1)
            brevity = np.where(answer < reference, 1 - reference / answer, 0.0)
            result: FloatArray = np.where((matches.sum(axis=-1) > 0) & (answer > 0), 100 * np.exp(logs + brevity), 0.0)
        return result


class Chrf(_Overlap):
    """ChrF2 over all answers, 0 to 100.

    Source: Popovic (2015); sacrebleu's defaults (character 6-grams, no word n-grams, beta 2).
    """

    name, title, scorer = "chrf", "chrF", "CHRF"
    description = (
        "Share of letter sequences an answer has in common with the right one, 0 to 100: kinder to other word forms "
        "than BLEU. Higher is better. It does not know whether an answer is true."
    )
    beta = 2

    def signature(self) -> str:
        """Give sacrebleu's signature."""
        from sacrebleu import __version__

        return f"chrF2|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{__version__}"

    def value(self, sums: FloatArray) -> FloatArray:
        """Compute chrF from (answer n-grams, reference n-grams, matches) of each order."""
        answer, reference, matches = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
        counted = (answer > 0) & (reference > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.where(counted, matches / answer, 0.0)
            recall = np.where(counted, matches / reference, 0.0)
            orders = np.maximum(counted.sum(axis=-1), 1)
            precision, recall = precision.sum(axis=-1) / orders, recall.sum(axis=-1) / orders
            square = self.beta**2
            score = (1 + square) * precision * recall / (square * precision + recall)
        result: FloatArray = np.where(precision + recall > 0, 100 * score, 0.0)
        return result


class Ter(_Overlap):
    """Translation edit rate over all answers, 0 upwards.

    Source: Snover et al. (2006); sacrebleu's defaults (lower case, tercom tokens).
    """

    name, title, scorer = "ter", "TER", "TER"
    unit = "edits/100 words"
    better: Better = "lower"
    description = (
        "Words to insert, delete, replace or move until an answer is the right one, for 100 of its words. Lower is "
        "better. It counts other wording as wrong."
    )

    def signature(self) -> str:
        """Give sacrebleu's signature."""
        from sacrebleu import __version__

        return f"ter|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:{__version__}"

    def value(self, sums: FloatArray) -> FloatArray:
        """Compute TER from (edits, words of the reference)."""
        edits, words = sums[..., 0], sums[..., 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            result: FloatArray = np.where(words > 0, 100 * edits / words, np.where(edits > 0, 100.0, 0.0))
        return result
