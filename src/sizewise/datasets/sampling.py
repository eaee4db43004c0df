"""Sample the items of a test split that are evaluated under a limit."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from sizewise.datasets.passages import passages
from sizewise.records import Document, Example

SAMPLE_VERSION = 2
"""Version of the sampling; part of the ids of evaluations under a limit."""
T = TypeVar("T")


def sample_examples(examples: Sequence[Example], size: int | None, seed: int) -> list[Example]:
    """Sample examples without replacement; return all of them if there are no more than `size`.

    A larger sample with the same seed contains every smaller one.
    """
    return list(examples) if size is None or len(examples) <= size else _first_of(examples, size, seed)


def in_order_of_samples(examples: Sequence[T], seed: int) -> list[T]:
    """Order all examples so that any first ones are the sample of that size."""
    return _first_of(examples, len(examples), seed)


def _first_of(population: Sequence[T], size: int, seed: int) -> list[T]:
    order = list(population)
    random.Random(seed).shuffle(order)
    return order[:size]


def sample_documents(documents: Sequence[Document], limit: int | None, seed: int) -> tuple[list[Document], int | None]:
    """Shorten every document to its first passages, so that a limit drops passages rather than documents.

    Confidence intervals depend on the number of documents. A larger limit with the same seed only adds passages and
    documents.

    Returns:
        The shortened documents, and the number of passages kept of each; None if all were kept.
    """
    if limit is None or not documents:
        return list(documents), None
    per_document = -(-limit // len(documents))
    if per_document == 1:
        documents = _first_of(documents, limit, seed)
    shortened = []
    for document in documents:
        end = passages(document)[:per_document][-1].end
        shortened.append(document.model_copy(update={"text": document.text[:end]}))
    return shortened, per_document
