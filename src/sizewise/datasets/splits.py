"""Assign documents and examples to the train, validation and test splits."""

from __future__ import annotations

import random
from collections.abc import Sequence

from sizewise.errors import SizewiseError
from sizewise.records import Document, Example, Split

MIN_SOURCES = 3
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.06


def split_sources(documents: Sequence[Document], examples: Sequence[Example], seed: int) -> dict[str, Split]:
    """Assign each source (a document, or an example without a document) to a split.

    Documents and standalone examples are split separately. If there are too few of one kind, all of them go to
    training. Splits that examples name are kept; no other source of that kind joins a named test or validation split.

    Raises:
        SizewiseError: There are too few sources for three splits, or examples of one source name different splits.
    """
    named = named_splits(examples)
    known = [document.id for document in documents]
    standalone = sorted({example.source for example in examples} - set(known))
    if max(len(known), len(standalone)) < MIN_SOURCES:
        raise _too_few(known, standalone, len(examples))
    split_of: dict[str, Split] = {}
    for sources in (known, standalone):
        given = {source: named[source] for source in sources if source in named}
        shuffled = [source for source in sources if source not in given]
        split_of |= given
        if len(shuffled) < MIN_SOURCES:
            split_of |= dict.fromkeys(shuffled, "train")
            continue
        random.Random(seed).shuffle(shuffled)
        test, validation = (
            0 if split in given.values() else max(1, round(len(shuffled) * share))
            for split, share in (("test", TEST_SHARE), ("validation", VALIDATION_SHARE))
        )
        for i, source in enumerate(shuffled):
            split_of[source] = "test" if i < test else "validation" if i < test + validation else "train"
    return split_of


def named_splits(examples: Sequence[Example]) -> dict[str, Split]:
    """Return the split of each source whose examples name one.

    Raises:
        SizewiseError: Examples of one source name different splits.
    """
    named: dict[str, Split] = {}
    for example in examples:
        if example.split and named.setdefault(example.source, example.split) != example.split:
            raise SizewiseError(
                f"Examples of '{example.source}' are assigned to both {named[example.source]} and {example.split}.",
                "one split for all examples of a source, because they share its text",
                f"correct the split of example '{example.id}'",
            )
    return named


def all_in_test(documents: Sequence[Document], examples: Sequence[Example]) -> dict[str, Split]:
    """Assign every source to the test split."""
    return dict.fromkeys([d.id for d in documents] + [e.source for e in examples], "test")


def _too_few(documents: Sequence[str], standalone: Sequence[str], examples: int) -> SizewiseError:
    """Explain that there are too few sources to split, and that a column `source` may name something else."""
    sources = [*documents, *standalone]
    named = ", ".join(f"'{source}'" for source in sources)
    what = f"{len(documents)} document{'s' * (len(documents) != 1)} and {examples} example{'s' * (examples != 1)}"
    next_step = "add documents, or split a long file into several; then run the same command again"
    if examples > len(standalone) > 0:
        next_step = (
            "if the column 'source' names a collection, remove or rename it: it is taken for the document that an "
            "example was made from; otherwise add documents"
        )
    return SizewiseError(
        f"{what} come from {len(sources)} source{'s' * (len(sources) != 1)} ({named}), "
        "too few to leave any for testing.",
        f"at least {MIN_SOURCES} sources, so that training, validation and test get one each",
        next_step,
    )
