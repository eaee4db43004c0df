"""Sample the items of a test split that are evaluated under a limit."""

from __future__ import annotations

import random
from collections.abc import Sequence

from sizewise.datasets.passages import passages
from sizewise.records import Document, Example


def sample_examples(examples: Sequence[Example], size: int | None, seed: int) -> list[Example]:
    """Sample examples without replacement; return all of them if there are no more than `size`."""
    if size is None or len(examples) <= size:
        return list(examples)
    return random.Random(seed).sample(list(examples), size)


def sample_documents(documents: Sequence[Document], limit: int | None, seed: int) -> tuple[list[Document], int | None]:
    """Shorten every document to its first passages, so that a limit drops passages rather than documents.

    Confidence intervals depend on the number of documents.

    Returns:
        The shortened documents, and the number of passages kept of each; None if all were kept.
    """
    if limit is None or not documents:
        return list(documents), None
    per_document = -(-limit // len(documents))
    if per_document == 1:
        documents = random.Random(seed).sample(list(documents), min(len(documents), limit))
    shortened = []
    for document in documents:
        end = passages(document)[:per_document][-1].end
        shortened.append(document.model_copy(update={"text": document.text[:end]}))
    return shortened, per_document
