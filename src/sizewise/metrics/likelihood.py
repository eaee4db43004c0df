"""How well a model predicts text: perplexity and bits per byte."""

from __future__ import annotations

from math import log
from typing import Literal

import numpy as np

from sizewise.metrics.base import AnswerItem, FloatArray, LikelihoodItem


class _Likelihood:
    needs: Literal["answers", "likelihood"] = "likelihood"
    better: Literal["higher", "lower"] = "lower"
    name = ""

    def signature(self) -> str:
        """Name the metric; the model says the rest."""
        return self.name

    def measure_answer(self, item: AnswerItem) -> tuple[float, ...]:
        """Refuse: this metric is about text, not answers."""
        raise TypeError(f"{self.name} needs likelihoods")

    def measure_likelihood(self, item: LikelihoodItem) -> tuple[float, ...]:
        """Give (nats, tokens, bytes)."""
        return item.nats, float(item.tokens), float(item.bytes)


class BitsPerByte(_Likelihood):
    """Bits needed for a byte of UTF-8: comparable between models whatever their tokenizer."""

    name = "bits_per_byte"
    unit = "bits/byte"
    sentence = "How surprised the model is by held-out text; lower is better; it says nothing about answers."

    def value(self, sums: FloatArray) -> FloatArray:
        """Divide bits by bytes."""
        with np.errstate(divide="ignore", invalid="ignore"):
            result: FloatArray = sums[..., 0] / log(2) / sums[..., 2]
        return result


class Perplexity(_Likelihood):
    """Exponential of the mean nats a token: only comparable between models with one tokenizer."""

    name = "perplexity"
    unit = "per token"
    sentence = "As how many equally likely tokens the next one feels; compare only models with the same tokenizer."

    def value(self, sums: FloatArray) -> FloatArray:
        """Exponentiate the mean nats a token."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            result: FloatArray = np.exp(sums[..., 0] / sums[..., 1])
        return result
