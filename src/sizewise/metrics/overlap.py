"""N-gram overlap with the reference answer: BLEU, chrF and TER, from sacrebleu's statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from sizewise.errors import MissingExtraError
from sizewise.metrics.base import AnswerItem, Better, CannotMeasure, FloatArray, Mean, Metric
from sizewise.text import visible_text
from sizewise.text.scripts import Writing, writing_of

ORDER = 4  # longest n-gram of BLEU
BLEU_TOKENIZERS: dict[Writing, str] = {"spaced": "13a", "chinese": "zh", "unspaced": "char"}
"""Tokenizers of sacrebleu for each way of writing; none depends on other packages, as ja-mecab would."""


def _sacrebleu() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise MissingExtraError("sacrebleu", "study") from error
    return metrics


class _SacrebleuMetric(Mean):
    unit = "0-100"
    version = 2

    scorer = ""
    """Name of the sacrebleu class."""
    settings: Mapping[str, Any] = {}
    """Arguments of the sacrebleu class."""

    @cached_property
    def _scorer(self) -> Any:
        return getattr(_sacrebleu(), self.scorer)(**self.settings)

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return sacrebleu's statistics of one answer; both texts are in NFC and without invisible characters."""
        references = [[visible_text(reference)] for reference in item.references]
        stats = self._scorer._extract_corpus_statistics([visible_text(item.completion)], references)[0]
        return tuple(float(number) for number in stats)


class Bleu(_SacrebleuMetric):
    """Corpus BLEU, 0 to 100.

    Source: Papineni et al. (2002); settings and signature after Post (2018), sacrebleu's defaults
    (exponential smoothing; 13a tokens, zh tokens for Chinese and char tokens for other scripts without spaces).
    """

    name, title, scorer = "bleu", "BLEU", "BLEU"
    description = (
        "Overlap in word sequences between the answers and the reference answers, from 0 to 100. Higher is better. It "
        "penalizes different wording and doesn't know whether an answer is true. Scores with different tokenizers "
        "(tok: in the signature) aren't comparable."
    )
    tokenizer = "13a"

    def signature(self) -> str:
        """Return sacrebleu's signature, without the number of references (a property of the data)."""
        from sacrebleu import __version__

        return f"bleu|case:mixed|eff:no|tok:{self.tokenizer}|smooth:exp|version:{__version__}"

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Choose the tokenizer by the script of the reference answers.

        Raises:
            CannotMeasure: the reference answers are so short that even they would score 0.
        """
        texts = [reference for item in references for reference in item]
        metric = self
        if (tokenizer := BLEU_TOKENIZERS[writing_of(texts)]) != self.tokenizer:
            metric = type(self)()
            metric.tokenizer, metric.settings = tokenizer, {"tokenize": tokenizer}
        if texts and not any(metric.measure(AnswerItem(text, (text,)))[1 + 2 * ORDER] for text in texts):
            raise CannotMeasure(f"every reference answer is shorter than the {ORDER} words in a row that BLEU needs")
        return metric

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


class Chrf(_SacrebleuMetric):
    """Corpus chrF2, 0 to 100.

    Source: Popovic (2015); sacrebleu's defaults (character 6-grams, no word n-grams, beta 2).
    """

    name, title, scorer = "chrf", "chrF", "CHRF"
    description = (
        "Overlap in character sequences between the answers and the reference answers, from 0 to 100. Higher is "
        "better. It tolerates other word forms better than BLEU, but doesn't know whether an answer is true."
    )
    beta = 2

    def signature(self) -> str:
        """Return sacrebleu's signature."""
        from sacrebleu import __version__

        return f"chrF2|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{__version__}"

    def value(self, sums: FloatArray) -> FloatArray:
        """Compute chrF from (answer n-grams, reference n-grams, matches) per order."""
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


class Ter(_SacrebleuMetric):
    """Corpus translation edit rate, 0 upwards.

    Source: Snover et al. (2006); sacrebleu's defaults (lowercase, tercom tokens), normalized with Asian support for
    Chinese.
    """

    name, title, scorer = "ter", "TER", "TER"
    unit = "edits/100 words"
    better: Better = "lower"
    description = (
        "Word edits (insert, delete, replace, move) needed to turn the answer into the reference answer, per 100 "
        "reference words. Lower is better. It penalizes different wording."
    )

    def signature(self) -> str:
        """Return sacrebleu's signature."""
        from sacrebleu import __version__

        chinese = "yes" if self.settings else "no"
        return f"ter|case:lc|tok:tercom|norm:{chinese}|punct:yes|asian:{chinese}|version:{__version__}"

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Split Chinese into characters.

        Raises:
            CannotMeasure: the reference answers are in another script without spaces, which tercom can't split.
        """
        writing = writing_of(reference for item in references for reference in item)
        if writing == "unspaced":
            raise CannotMeasure("TER counts the words between spaces; the reference answers have no spaces")
        if writing == "spaced":
            return self
        metric = type(self)()
        metric.settings = {"normalized": True, "asian_support": True}
        return metric

    def value(self, sums: FloatArray) -> FloatArray:
        """Compute TER from (edits, reference words)."""
        edits, words = sums[..., 0], sums[..., 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            result: FloatArray = np.where(words > 0, 100 * edits / words, np.where(edits > 0, 100.0, 0.0))
        return result
