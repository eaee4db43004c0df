"""Embedding similarity: its bounds, its references, and the encoder that it needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sizewise.errors import MissingExtraError
from sizewise.metrics import AnswerItem, embedding, find_metric
from sizewise.metrics.embedding import EmbeddingSimilarity

VECTORS = {"north": (1.0, 0.0), "north-east": (0.6, 0.8), "east": (0.0, 1.0), "south": (-1.0, 0.0)}


class Encoder:
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([VECTORS[text] for text in texts], dtype=np.float32)


@pytest.fixture(autouse=True)
def _clear() -> None:
    embedding._vector.cache_clear()


@pytest.mark.parametrize(
    ("answer", "references", "expected"),
    [
        ("north", ("north",), 1.0),
        ("north", ("north-east",), 0.6),
        ("north", ("east",), 0.0),
        ("north", ("south",), 0.0),  # opposite isn't less than unrelated
        ("north", ("east", "north-east"), 0.6),  # the best reference counts
        ("", ("north",), 0.0),
        ("  ", ("north",), 0.0),
        ("east", ("north-east",), 0.8),
    ],
)
def test_the_similarity_is_the_cosine_with_the_best_reference(
    answer: str, references: tuple[str, ...], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_encoder", Encoder)
    assert EmbeddingSimilarity().measure(AnswerItem(answer, references)) == pytest.approx((expected, 1.0))


def test_it_is_found_by_name_and_stands_for_nothing() -> None:
    assert not find_metric("embedding_similarity").stands_for_quality


def test_without_the_encoder_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Encoder:
        raise MissingExtraError("onnxruntime", "study")

    monkeypatch.setattr(embedding, "_encoder", absent)
    with pytest.raises(MissingExtraError, match="pip install"):
        find_metric("embedding_similarity").prepared([("a",)])
