"""How well a model predicts text: perplexity of tokens, words and bytes, and bits per byte."""

from __future__ import annotations

from math import log

import numpy as np

from sizewise.metrics.base import Better, FloatArray, LikelihoodItem, Mean, Needs


class _Likelihood(Mean):
    needs: Needs = "likelihood"
    better: Better = "lower"

    def measure(self, item: LikelihoodItem) -> tuple[float, ...]:
        """Give (nats, tokens, bytes)."""
        return item.nats, float(item.tokens), float(item.bytes)


class BitsPerByte(_Likelihood):
    """Bits needed for a byte of UTF-8: comparable between models whatever their tokenizer."""

    name, title, unit = "bits_per_byte", "Bits per byte", "bits/byte"
    description = (
        "How surprised the model is by held-out text. Lower is better. It shows knowledge of the text's "
        "language and content; it says nothing about answers."
    )

    def value(self, sums: FloatArray) -> FloatArray:
        """Divide bits by bytes."""
        with np.errstate(divide="ignore", invalid="ignore"):
            result: FloatArray = sums[..., 0] / log(2) / sums[..., 2]
        return result


class Perplexity(_Likelihood):
    """Exponential of the mean nats a token: only comparable between models with one tokenizer."""

    name, title, unit = "perplexity", "Perplexity", "per token"
    stands_for_quality = False
    description = (
        "As how many equally likely tokens the next one feels. Lower is better. Only models with the same "
        "tokenizer can be compared."
    )

    def value(self, sums: FloatArray) -> FloatArray:
        """Exponentiate the mean nats a token."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            result: FloatArray = np.exp(sums[..., 0] / sums[..., 1])
        return result


class BytePerplexity(_Likelihood):
    """Exponential of the mean nats a byte: bits per byte in the form that lm-evaluation-harness prints."""

    name, title, unit = "byte_perplexity", "Perplexity a byte", "per byte"
    description = (
        "As how many equally likely bytes the next one feels: two to the power of bits per byte. Lower is better. "
        "It tells no more than bits per byte does."
    )

    def value(self, sums: FloatArray) -> FloatArray:
        """Exponentiate the mean nats a byte."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            result: FloatArray = np.exp(sums[..., 0] / sums[..., 2])
        return result


class WordPerplexity(_Likelihood):
    """Exponential of the mean nats a word: comparable between models, on one text."""

    name, title, unit = "word_perplexity", "Perplexity a word", "per word"
    description = (
        "As how many equally likely words the next one feels. Lower is better. Comparable between models on one "
        "text, not between texts or languages."
    )

    def signature(self) -> str:
        """Say what a word is."""
        return "word_perplexity|words:white space"

    def measure(self, item: LikelihoodItem) -> tuple[float, ...]:
        """Give (nats, words)."""
        return item.nats, float(item.words)

    def value(self, sums: FloatArray) -> FloatArray:
        """Exponentiate the mean nats a word."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            result: FloatArray = np.exp(sums[..., 0] / sums[..., 1])
        return result
