"""Similarity of an answer and its reference as vectors of a sentence encoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from sizewise.metrics.base import AnswerItem, Mean, Metric

EMBEDDING_SIMILARITY = "embedding_similarity"
ENCODER = "pkg:minilm"


@cache
def _encoder() -> Any:
    from sizewise.retrieval import open_encoder

    return open_encoder(ENCODER)


@lru_cache(maxsize=4_096)
def _vector(text: str) -> Any:
    return _encoder().encode([text])[0]


class EmbeddingSimilarity(Mean):
    """Cosine similarity of an answer and the most similar reference, as a sentence encoder sees them."""

    name, title = EMBEDDING_SIMILARITY, "Embedding similarity"
    stands_for_quality = False
    description = (
        "Cosine of the vectors that a sentence encoder (all-MiniLM-L6-v2, English, first 256 tokens) has of an answer "
        "and of the most similar reference, at least 0. Higher is closer in topic. It can't see whether a number, a "
        "name or a negation is right, so it decides nothing by itself; where people graded some answers, it makes "
        "their estimate more precise."
    )
    languages = ("en",)

    def signature(self) -> str:
        """Describe the encoder."""
        return f"embedding_similarity|encoder:{ENCODER}"

    def prepared(self, references: Sequence[tuple[str, ...]]) -> Metric:
        """Open the encoder, which is fetched on first use.

        Raises:
            MissingExtraError: onnxruntime or tokenizers aren't installed.
            SizewiseError: the encoder can't be fetched.
        """
        _encoder()
        return self

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (similarity, 1); an empty answer has none."""
        if not item.completion.strip():
            return 0.0, 1.0
        answer = _vector(item.completion)
        best = max((float(answer @ _vector(reference)) for reference in item.references), default=0.0)
        return min(1.0, max(0.0, best)), 1.0
