"""Documents that models study while questions about them are held out: which question a score answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from sizewise.records import ContaminationReport, Dataset, Document, Example
from sizewise.text.ngrams import Hashes, hash_words, isin_sorted

STUDIED = ("questions", "prompts")
"""Splits in which models study all documents, and questions about them are held out."""
SEED_WORDS = 4
"""Words of an answer that are looked up; where they are found, the whole answer is compared."""


def count_verbatim(documents: Iterable[Document], examples: Sequence[Example]) -> int:
    """Count examples with a reference answer that stands in a document word for word.

    Case, punctuation and line breaks don't count. An answer may run over several paragraphs.

    Args:
        documents: The documents that models study.
        examples: The test examples.
    """
    wanted: dict[int, dict[int, list[tuple[int, Hashes]]]] = defaultdict(lambda: defaultdict(list))
    for number, example in enumerate(examples):
        for answer in example.references:
            hashes = hash_words(answer).hashes
            if len(hashes):
                size = min(SEED_WORDS, len(hashes))
                wanted[size][int(_seeds(hashes[:size], size)[0])].append((number, hashes))
    known = {size: np.array(sorted(of_size), np.uint64) for size, of_size in wanted.items()}
    found: set[int] = set()
    for document in documents:
        hashes = hash_words(document.text).hashes
        for size, seeds in known.items():
            of_document = _seeds(hashes, size)
            for start in np.flatnonzero(isin_sorted(of_document, seeds)).tolist():
                for number, words in wanted[size][int(of_document[start])]:
                    if number not in found and np.array_equal(hashes[start : start + len(words)], words):
                        found.add(number)
    return len(found)


def _seeds(hashes: Hashes, size: int) -> Hashes:
    """Return one number for each run of `size` words."""
    count = len(hashes) - size + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    seeds = np.zeros(count, np.uint64)
    for place in range(size):
        seeds = seeds * np.uint64(0x9E3779B97F4A7C15) + hashes[place : place + count]
    return seeds


def with_verbatim_answers(
    report: ContaminationReport, documents: Iterable[Document], examples: Sequence[Example], notes: list[str]
) -> ContaminationReport:
    """Add to a report how many reference answers stand in the studied documents; a note says that they count."""
    count = count_verbatim(documents, examples)
    if count:
        notes.append(
            f"{count:,} of {len(examples):,} reference answers of the test split ({count / len(examples):.0%}) stand "
            "word for word in the documents that models study. They count: the split asks what models learn from them."
        )
    return report.model_copy(update={"verbatim_answers": count})


def question_of(data: Dataset) -> str:
    """Return which question scores on a dataset answer, in a sentence or two."""
    count = data.contamination.examples
    if data.derived or not count:
        return ""
    if data.split_by in STUDIED:
        text = (
            "This study asks unseen questions about documents that trained candidates have studied; documents that "
            "they haven't studied are not measured."
        )
        verbatim = data.contamination.verbatim_answers
        if verbatim is not None:
            text += f" {verbatim:,} of {count:,} reference answers ({verbatim / count:.0%}) stand there word for word."
        return text
    held_out = {
        "documents": "documents that were held out from training",
        "time": "the latest rows, after those that candidates were trained on",
        "group": "groups that were held out from training",
        "given": "the test examples that the data name",
        "test": "test examples only",
    }.get(data.split_by)
    return f"This study asks about {held_out}." if held_out else ""
