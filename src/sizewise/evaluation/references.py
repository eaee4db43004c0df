"""What the reference answers of a test set are: labels of a classification, and in which language."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import TypeVar

from sizewise.datasets import DatasetContents
from sizewise.datasets.questions import MIN_LABELED_SHARE, is_labeled
from sizewise.metrics import ReferenceSet
from sizewise.records import Document, Example, Split
from sizewise.records.tool_calls import scored_references
from sizewise.text import main_language

MAX_TRAINING_EXAMPLES = 20_000  # of which the labels are collected
LANGUAGE_SAMPLE = 200  # rows that the language is identified from
SHOWN_CHARACTERS = 2_000

Row = TypeVar("Row", Document, Example)


def reference_set(contents: DatasetContents) -> ReferenceSet:
    """Collect the reference answers of the test split, the labels of all splits, and the language of the test split.

    The data declares labels if nearly all test examples have a label that is a reference answer, too. A label that
    isn't one, such as the category of a ticket with a written reply, only stratifies the splits.
    """
    test = list(contents.examples["test"])
    others = chain(contents.examples["validation"], contents.examples["train"])
    training = list(islice(others, MAX_TRAINING_EXAMPLES))
    return ReferenceSet(
        [scored_references(example) for example in test if example.references],
        labels=_declared_labels(test, training),
        training=[example.references for example in training if example.references],
        language=example_language(test),
        several=any(example.labels for example in test),
    )


def example_language(examples: Sequence[Example]) -> str:
    """Identify the language of most examples, by their last prompt and reference answer; empty if unknown."""
    return main_language([_example_text(example) for example in _spread(examples)])


def data_language(contents: DatasetContents, split: Split) -> str:
    """Identify the language of most documents and examples of a split; empty if unknown."""
    texts = _document_texts(contents.documents[split])
    return main_language(texts + [_example_text(example) for example in _spread(contents.examples[split])])


def document_language(documents: Sequence[Document]) -> str:
    """Identify the language of most documents; empty if unknown."""
    return main_language(_document_texts(documents))


def _document_texts(documents: Sequence[Document]) -> list[str]:
    return [document.text[:SHOWN_CHARACTERS] for document in _spread(documents)]


def _example_text(example: Example) -> str:
    return " \n".join((example.prompt[:SHOWN_CHARACTERS], *example.references[:1]))


def _spread(rows: Sequence[Row]) -> list[Row]:
    """Sample rows at equal distances."""
    step = max(1, len(rows) // LANGUAGE_SAMPLE)
    return [rows[i] for i in range(0, len(rows), step)][:LANGUAGE_SAMPLE]


def _declared_labels(test: list[Example], training: list[Example]) -> tuple[str, ...]:
    answered = [example for example in test if example.references]
    labeled = sum(is_labeled(example) for example in answered)
    if not answered or labeled < MIN_LABELED_SHARE * len(answered):
        return ()
    return tuple(sorted({example.label for example in (*training, *answered) if is_labeled(example)}))
