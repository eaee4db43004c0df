"""Which items of a test split are measured under a limit."""

from __future__ import annotations

import random
from collections.abc import Sequence

from sizewise.datasets.building import passages
from sizewise.records import Document, Example


def sample_examples(examples: Sequence[Example], size: int | None, seed: int) -> list[Example]:
    """Draw examples without replacement; all of them where there are no more."""
    if size is None or len(examples) <= size:
        return list(examples)
    return random.Random(seed).sample(list(examples), size)


def sample_documents(documents: Sequence[Document], limit: int | None, seed: int) -> tuple[list[Document], int | None]:
    """Take the beginning of every document, so that a limit costs passages and not documents.

    Intervals rest on the number of documents.

    Returns:
        The shortened documents, and how many passages of each were kept; None if all were.
    """
    if limit is None or not documents:
        return list(documents), None
    each = -(-limit // len(documents))
    if each == 1:
        documents = random.Random(seed).sample(list(documents), min(len(documents), limit))
    shortened = []
    for document in documents:
        end = passages(document)[:each][-1].end
        shortened.append(document.model_copy(update={"text": document.text[:end]}))
    return shortened, each
