"""Features of a prompt: hashed character n-grams, and similarity to a set of known prompts."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from sizewise.errors import SizewiseError
from sizewise.routing.labeled import MIN_PROMPTS, Array, normalize_prompt

VOCABULARY = 2**12
NGRAM_SIZES = (3, 4)
MAX_CHARACTERS = 4_000


def hashed_ngrams(prompt: str) -> dict[int, float]:
    """Count hashed character n-grams with log damping and L2 normalization; the last feature is the prompt's length."""
    text = normalize_prompt(prompt)[:MAX_CHARACTERS]
    counts: Counter[int] = Counter()
    for size in NGRAM_SIZES:
        for start in range(len(text) - size + 1):
            counts[zlib.crc32(text[start : start + size].encode("utf-8", "replace")) % VOCABULARY] += 1
    damped = {i: 1 + math.log(n) for i, n in counts.items()}
    norm = math.sqrt(sum(value**2 for value in damped.values())) or 1.0
    return {i: value / norm for i, value in damped.items()} | {VOCABULARY: math.log1p(len(text)) / 5}


def feature_matrix(prompts: Sequence[str]) -> csr_matrix:
    """Build the sparse feature matrix: (prompts, VOCABULARY + 1)."""
    rows, columns, values = [], [], []
    for row, prompt in enumerate(prompts):
        for column, value in hashed_ngrams(prompt).items():
            rows.append(row)
            columns.append(column)
            values.append(value)
    return csr_matrix((values, (rows, columns)), shape=(len(prompts), VOCABULARY + 1))


class PromptDistribution(NamedTuple):
    """Center of a set of prompts, and how similar the prompts are to it."""

    center: Mapping[int, float]
    """Feature -> component of the mean direction."""
    mean: float
    """Mean cosine similarity of each prompt to the center of the others."""
    spread: float
    """Standard deviation of that similarity."""
    prompts: int

    def similarity(self, prompt: str) -> float:
        """Compute the cosine similarity of a prompt to the center."""
        return float(sum(self.center.get(i, 0.0) * value for i, value in hashed_ngrams(prompt).items()))


def fit_distribution(prompts: Sequence[str]) -> PromptDistribution:
    """Fit the distribution of a set of prompts.

    Raises:
        SizewiseError: there are too few prompts.
    """
    if len(prompts) < MIN_PROMPTS:
        raise SizewiseError(f"{len(prompts)} prompts are too few to detect drift.", f"at least {MIN_PROMPTS}", "")
    center, similarity = center_of(feature_matrix(prompts))
    nonzero = {int(i): float(center[i]) for i in np.flatnonzero(center)}
    return PromptDistribution(nonzero, float(similarity.mean()), float(similarity.std(ddof=1)), len(prompts))


def center_of(matrix: csr_matrix) -> tuple[Array, Array]:
    """Compute the mean direction of prompts, and the cosine similarity of each prompt to the center of the others."""
    ngrams = matrix[:, :VOCABULARY]
    total = np.asarray(ngrams.sum(axis=0)).ravel()
    norm = float(np.linalg.norm(total))
    squared = np.asarray(ngrams.multiply(ngrams).sum(axis=1)).ravel()  # 1, or 0 for a prompt without n-grams
    projection = ngrams @ total
    others = np.sqrt(np.maximum(norm**2 - 2 * projection + squared, 1e-12))
    return total / (norm or 1.0), (projection - squared) / others
