"""Combine the ranking by words with the ranking by meaning: a convex combination (Bruch, Gai and Ingber, 2023)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CANDIDATES = 60
"""Best passages of each ranking that are combined."""
WORDS_SHARE = 0.3
"""Weight of the words where the encoder understands the documents; `benchmarks/knowledge.py` measures it, beside
reciprocal rank fusion. `suitability` chooses it for other documents."""
MIN_SIMILARITY = 0.25
"""Least cosine similarity of a passage that has no word of the question."""

Array = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]


def best_first(scores: Array, limit: int) -> Positions:
    """Return the positions of the largest scores, the largest first; of equal ones the first."""
    limit = min(limit, len(scores))
    if limit == 0:
        return np.zeros(0, np.int64)
    least = np.partition(scores, len(scores) - limit)[len(scores) - limit]
    above, equal = np.flatnonzero(scores > least), np.flatnonzero(scores == least)
    chosen = np.sort(np.concatenate([above, equal[: limit - len(above)]]))
    return chosen[np.argsort(-scores[chosen], kind="stable")]


def fuse(words: Array, similarities: Array | None, share: float = WORDS_SHARE) -> tuple[Positions, Array]:
    """Rank passages.

    Both scores are scaled to the range from 0 to 1 among the candidates of either ranking.

    Args:
        words: (passages,) BM25 scores; 0 without a word of the question.
        similarities: (passages,) cosine similarities; None to rank by words only.
        share: weight of the words.

    Returns:
        The positions of the best passages, best first, and their scores: BM25 by words only, else from 0 to 1.
    """
    by_words = best_first(words, CANDIDATES)
    by_words = by_words[words[by_words] > 0]
    if similarities is None:
        return by_words, words[by_words]
    by_meaning = best_first(similarities, CANDIDATES)
    by_meaning = by_meaning[(similarities[by_meaning] >= MIN_SIMILARITY) | (words[by_meaning] > 0)]
    found = np.union1d(by_words, by_meaning)
    if not len(found):
        return found, np.zeros(0)
    combined = share * _scaled(words[found], 0.0) + (1 - share) * _scaled(similarities[found], None)
    order = np.argsort(-combined, kind="stable")
    return found[order], combined[order]


def _scaled(scores: Array, least: float | None) -> Array:
    least = float(scores.min()) if least is None else least
    most = float(scores.max())
    return (scores - least) / (most - least) if most > least else np.zeros(len(scores))
