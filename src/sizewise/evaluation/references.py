"""What the reference answers of a test set are: labels of a classification, and in which language."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from sizewise.datasets import DatasetContents
from sizewise.metrics import ReferenceSet
from sizewise.records import Example
from sizewise.text import fold_text, main_language

MAX_TRAINING_EXAMPLES = 20_000  # of which the labels are collected
MIN_LABELED_SHARE = 0.95


def reference_set(contents: DatasetContents) -> ReferenceSet:
    """Collect the reference answers of the test split, the labels of all splits, and the language of the test split.

    The data declares labels if nearly all test examples have a label that is a reference answer, too. A label that
    isn't one, such as the category of a ticket with a written reply, only stratifies the splits.
    """
    test = list(contents.examples["test"])
    training = list(islice(contents.examples["train"], MAX_TRAINING_EXAMPLES))
    return ReferenceSet(
        [example.references for example in test if example.references],
        labels=_declared_labels(test, training),
        training=[example.references for example in training if example.references],
        language=example_language(test),
    )


def example_language(examples: Iterable[Example]) -> str:
    """Identify the language of most examples, by their last prompt and reference answer; empty if unknown."""
    return main_language([" \n".join((example.prompt, *example.references[:1])) for example in examples])


def _declared_labels(test: list[Example], training: list[Example]) -> tuple[str, ...]:
    answered = [example for example in test if example.references]
    labeled = sum(_is_labeled(example) for example in answered)
    if not answered or labeled < MIN_LABELED_SHARE * len(answered):
        return ()
    return tuple(sorted({example.label for example in (*training, *answered) if _is_labeled(example)}))


def _is_labeled(example: Example) -> bool:
    return bool(example.label) and fold_text(example.label) in map(fold_text, example.references)
