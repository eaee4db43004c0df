"""Pools of two classifiers: an encoder, which knows what words mean, and TF-IDF, which sees the exact words.

Their mistakes differ, so that together they make fewer. The pool is log-linear (Heskes, 1998, Selecting weighting
factors in logarithmic opinion pools), with shares chosen on texts that neither was fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit, logsumexp

from sizewise.decisions import linear
from sizewise.decisions.calibrators import clipped, log_loss
from sizewise.decisions.linear import LinearScorer, probabilities_of
from sizewise.decisions.scorers import FloatArray
from sizewise.records import Question

if TYPE_CHECKING:
    from sizewise.decisions.onnx_classifier import ProbabilityGraph

SHARES = tuple(round(share / 10, 1) for share in range(9))
"""Shares of the linear model that are tried."""
MIN_VALIDATION = 50
"""Validation texts with which shares and settings are chosen; fewer choose by chance."""
FOLDER = "linear"


class WordPool(NamedTuple):
    """The linear model of a pool, and its share."""

    words: LinearScorer | None
    """TF-IDF features and a linear model; None without a share."""
    share: float
    """Share of the linear model, from 0 to 1."""
    independent: bool
    """Whether each option has a probability of its own."""

    @property
    def parameters(self) -> int:
        """Number of parameters of the linear model."""
        return self.words.parameters if self.words else 0

    @property
    def memory_bytes(self) -> int:
        """Memory of the linear model's weights."""
        return self.words.memory_bytes if self.words else 0

    def add_to(self, own: FloatArray, texts: Sequence[str]) -> FloatArray:
        """Pool the encoder's probabilities of texts with the linear model's."""
        return own if self.words is None else pool(own, self.words.probabilities(texts), self.share, self.independent)

    def add_to_graph(self, graph: ProbabilityGraph, own: str) -> str:
        """Pool the encoder's probabilities in an ONNX graph with the linear model's."""
        return own if self.words is None else graph.pooled(own, self.words.add_to_graph(graph), self.share)

    def save(self, folder: Path) -> None:
        """Write the linear model into a folder of its own, if it has a share."""
        if self.words is not None:
            (folder / FOLDER).mkdir(parents=True, exist_ok=True)
            self.words.save(folder / FOLDER)


def make_pool(words: LinearScorer, share: float, independent: bool) -> WordPool:
    """Keep a linear model if it has a share."""
    return WordPool(words if share else None, share, independent)


def load_pool(folder: Path, question: Question, share: float, independent: bool) -> WordPool:
    """Load the linear model that `WordPool.save` wrote."""
    words = linear.load(folder / FOLDER, question, None) if share else None
    return WordPool(words, share, independent)


def pool(first: FloatArray, second: FloatArray, share: float, independent: bool) -> FloatArray:
    """Pool two predictions log-linearly.

    Args:
        first: (texts, options) probabilities.
        second: probabilities of the same shape.
        share: share of the second; the first has the rest.
        independent: whether each option has a probability of its own.
    """
    if independent:
        found: FloatArray = expit((1 - share) * logit(clipped(first)) + share * logit(clipped(second)))
        return found
    logits = (1 - share) * np.log(clipped(first)) + share * np.log(clipped(second))
    shared: FloatArray = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    return shared


def choose_share(
    own: FloatArray, words: FloatArray, targets: FloatArray, independent: bool
) -> tuple[float, dict[float, float]]:
    """Choose the linear model's share in the pool: the least log loss, each at its best temperature.

    Args:
        own: (texts, options) probabilities of the encoder.
        words: those of the linear model.
        targets: (texts, options) shares.
        independent: whether each option has a probability of its own.

    Returns:
        The share, and the log loss of each share that was tried.
    """
    losses = {share: scaled_loss(pool(own, words, share, independent), targets, independent) for share in SHARES}
    return min(losses, key=lambda share: losses[share]), losses


def scaled_loss(probabilities: FloatArray, targets: FloatArray, independent: bool) -> float:
    """Compute the log loss at the best temperature: calibration comes later and doesn't decide here."""
    logits = logit(clipped(probabilities)) if independent else np.log(clipped(probabilities))

    def loss(log_scale: float) -> float:
        return log_loss(probabilities_of(logits * np.exp(log_scale), independent), targets, independent)

    return float(minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded", options={"xatol": 1e-2}).fun)
