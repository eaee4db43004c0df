"""How much an answer shares with the reference: BLEU and chrF, by sacrebleu's own statistics."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np

from sizewise.errors import MissingExtraError
from sizewise.metrics.base import AnswerItem, FloatArray, LikelihoodItem

ORDER = 4  # longest n-gram of BLEU


def _sacrebleu() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise MissingExtraError("sacrebleu", "study") from error
    return metrics


class _Overlap:
    needs: Literal["answers", "likelihood"] = "answers"
    better: Literal["higher", "lower"] = "higher"
    name = ""

    scorer = ""
    """Name of sacrebleu's class."""

    @cached_property
    def _scorer(self) -> Any:
        return getattr(_sacrebleu(), self.scorer)()

    def measure_answer(self, item: AnswerItem) -> tuple[float, ...]:
        """Give sacrebleu's own statistics of one answer."""
        references = [[reference] for reference in item.references]
        stats = self._scorer._extract_corpus_statistics([item.completion], references)[0]
        return tuple(float(number) for number in stats)

    def measure_likelihood(self, item: LikelihoodItem) -> tuple[float, ...]:
        """Refuse: this metric is about answers, not text."""
        raise TypeError(f"{self.name} needs answers")


class Bleu(_Overlap):
    """BLEU over all answers, 0 to 100.

    Source: Papineni et al. (2002); settings and signature after Post (2018), sacrebleu's defaults
    (13a tokens, exponential smoothing).
    """

    name = "bleu"
    scorer = "BLEU"
    unit = "0-100"
    sentence = (
        "Share of word sequences that an answer has in common with the reference; higher is better; "
        "other wording counts as wrong."
    )

    def signature(self) -> str:
        """Give sacrebleu's signature; the number of references stands in the data."""
        from sacrebleu import __version__

        return f"bleu|case:mixed|eff:no|tok:13a|smooth:exp|version:{__version__}"

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

    name = "chrf"
    scorer = "CHRF"
    unit = "0-100"
    sentence = (
        "Share of letter sequences in common with the reference, kinder to other word forms than BLEU; "
        "higher is better."
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
