"""Vectors of passages: how close each one is in meaning to a question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sizewise.retrieval.fusion import WORDS_SHARE
from sizewise.retrieval.passages import Passage

BLOCK = 256
"""Passages that are encoded at once; after each block a build can be stopped and go on later."""

Vectors = npt.NDArray[np.float32]


class TextEncoder(Protocol):
    """What encodes texts, such as `Encoder`."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of everything that decides the vectors."""
        ...

    @property
    def width(self) -> int:
        """Width of the vectors."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return (texts, width) unit vectors."""
        ...

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Return (texts, width) unit vectors of passages that texts are compared with."""
        ...


class Meaning:
    """Passages by meaning.

    Args:
        encoder: encodes questions; the one that made the vectors.
        vectors: (passages, width) unit vectors, in memory or mapped from disk.
        words_share: weight of the words when passages are ranked by words and meaning.
    """

    def __init__(self, encoder: TextEncoder, vectors: Vectors, words_share: float = WORDS_SHARE) -> None:
        self.encoder, self.vectors, self.words_share = encoder, vectors, words_share

    def similarities(self, question: str) -> npt.NDArray[np.float64]:
        """Return the (passages,) cosine similarities to a question."""
        return np.asarray(self.vectors @ self.encoder.encode([question])[0], dtype=np.float64)


def text_to_encode(passage: Passage) -> str:
    """Return a passage as it is encoded: title and heading first, because an encoder cuts the end off."""
    title = passage.title if passage.title.casefold() != passage.document.casefold() else ""
    return "\n".join(part for part in (title, passage.heading, passage.text) if part)


def encode_passages(
    encoder: TextEncoder, passages: Sequence[Passage], done: Callable[[int, int], None] | None = None
) -> Vectors:
    """Encode passages; `done` is called after each block with the number of encoded passages and of all."""
    vectors = np.empty((len(passages), encoder.width), dtype=np.float32)
    for start in range(0, len(passages), BLOCK):
        block = passages[start : start + BLOCK]
        vectors[start : start + len(block)] = encoder.encode_passages([text_to_encode(passage) for passage in block])
        if done is not None:
            done(start + len(block), len(passages))
    return vectors
