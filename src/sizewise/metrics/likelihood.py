"""How well a model predicts text: bits per byte, perplexity per token, word and byte, and min-k%."""

from __future__ import annotations

from math import log

import numpy as np

from sizewise.metrics.base import Better, FloatArray, LikelihoodItem, Mean, Needs

LEAST_LIKELY_SHARE = 0.2
"""Share of the tokens of a passage that min-k% looks at; the authors recommend 20%."""


class _Likelihood(Mean):
    needs: Needs = "likelihood"
    better: Better = "lower"

    def measure(self, item: LikelihoodItem) -> tuple[float, ...]:
        """Return (nats, tokens, bytes)."""
        return item.nats, float(item.tokens), float(item.bytes)


class BitsPerByte(_Likelihood):
    """Bits per byte of UTF-8 text; comparable across tokenizers."""

    name, title, unit = "bits_per_byte", "Bits per byte", "bits/byte"
    description = (
        "How well the model predicts held-out text, whatever its tokenizer. Lower is better. It reflects knowledge of "
        "the text's language and content, not the quality of answers."
    )

    def value(self, sums: FloatArray) -> FloatArray:
        """Convert nats to bits and divide by bytes."""
        with np.errstate(divide="ignore", invalid="ignore"):
            result: FloatArray = sums[..., 0] / log(2) / sums[..., 2]
        return result


class Perplexity(_Likelihood):
    """Exponential of the mean nats per token; comparable only between models that share a tokenizer."""

    name, title, unit = "perplexity", "Perplexity", "per token"
    stands_for_quality = False
    description = (
        "How many equally likely tokens the model is choosing between, in effect. Lower is better. Comparable only "
        "between models with the same tokenizer."
    )

    def value(self, sums: FloatArray) -> FloatArray:
        """Exponentiate the mean nats per token."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            result: FloatArray = np.exp(sums[..., 0] / sums[..., 1])
        return result


class BytePerplexity(_Likelihood):
    """Exponential of the mean nats per byte, the form that lm-evaluation-harness reports."""

    name, title, unit = "byte_perplexity", "Byte perplexity", "per byte"
    description = (
        "Two to the power of bits per byte: the number of equally likely bytes the model chooses between. Lower is "
        "better. It carries the same information as bits per byte."
    )

    def value(self, sums: FloatArray) -> FloatArray:
        """Exponentiate the mean nats per byte."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            result: FloatArray = np.exp(sums[..., 0] / sums[..., 2])
        return result


class WordPerplexity(_Likelihood):
    """Exponential of the mean nats per word; comparable between models on the same text."""

    name, title, unit, version = "word_perplexity", "Word perplexity", "per word", 2
    description = (
        "How many equally likely words (in scripts without spaces, characters) the model is choosing between, in "
        "effect. Lower is better. Comparable between models on the same text, not between texts or languages."
    )

    def signature(self) -> str:
        """Describe how words are split."""
        return "word_perplexity|words:white space, characters in scripts without spaces"

    def measure(self, item: LikelihoodItem) -> tuple[float, ...]:
        """Return (nats, words)."""
        return item.nats, float(item.words)

    def value(self, sums: FloatArray) -> FloatArray:
        """Exponentiate the mean nats per word."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            result: FloatArray = np.exp(sums[..., 0] / sums[..., 1])
        return result


class MinKPercent(_Likelihood):
    """Mean log-probability of the 20% least likely tokens of a passage.

    Source: Shi et al. (2024), Detecting Pretraining Data from Large Language Models (Min-K% Prob).
    """

    name, title, unit = "min_k_percent", "Min-20% log-probability", "nats/token"
    stands_for_quality = False
    description = (
        "Mean log-probability of the 20% least likely tokens of a passage. A text that the model saw in training has "
        "fewer very unlikely tokens, so a value closer to 0 is a hint of contamination. The value alone shows nothing: "
        "easy text scores high, too. Compare it with similar text that the model can't have seen, for example written "
        "after its release."
    )

    def signature(self) -> str:
        """Describe which tokens count."""
        return f"min_k_percent|k:{100 * LEAST_LIKELY_SHARE:.0f}|mean over passages"

    def measure(self, item: LikelihoodItem) -> tuple[float, ...]:
        """Return (mean log-probability of the least likely tokens, 1); (0, 0) for a passage without tokens."""
        return (item.min_k_logprob, 1.0) if np.isfinite(item.min_k_logprob) else (0.0, 0.0)
