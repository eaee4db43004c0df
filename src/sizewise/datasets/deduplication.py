"""Find duplicates: documents with the same words, and examples with the same prompt and references."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from sizewise.records import Document, Example, Split
from sizewise.text import normalize_text, words_of

_LISTED = 5
# A prompt shared by most examples is a template; keeping them all in one split would leave nothing to divide.
TEMPLATE_SHARE, MIN_TEMPLATE_COUNT = 0.1, 3
_RANK: Mapping[Split | None, int] = {"test": 0, "validation": 1, "train": 2, None: 2}


class Duplicate(NamedTuple):
    """A document or example that repeats another one."""

    item: str
    """Id of the duplicate."""
    original: str
    """Id of the item that it repeats."""


def min_template_count(count: int) -> int:
    """Return how many of `count` items must share something before it counts as a template."""
    return max(MIN_TEMPLATE_COUNT, math.ceil(count * TEMPLATE_SHARE))


def describe_duplicates(duplicates: Sequence[Duplicate]) -> str:
    """List the first duplicates in words."""
    some = ", ".join(f"'{duplicate.item}' repeats '{duplicate.original}'" for duplicate in duplicates[:_LISTED])
    return some + (f" and {len(duplicates) - _LISTED} more" if len(duplicates) > _LISTED else "")


def without_duplicate_documents(documents: Iterable[Document]) -> tuple[list[Document], list[Duplicate]]:
    """Keep the first of the documents that have the same words."""
    seen: dict[str, str] = {}
    kept: list[Document] = []
    duplicates: list[Duplicate] = []
    for document in documents:
        key = " ".join(words_of(document.text)) or document.text.strip()
        if key in seen:
            duplicates.append(Duplicate(document.id, seen[key]))
            continue
        seen[key] = document.id
        kept.append(document)
    return kept, duplicates


def prompt_key(example: Example) -> str:
    """Return a comparison key of the prompt: all turns and images, with white space and Unicode normalized."""
    return json.dumps(
        [[message.role, normalize_text(message.content), *message.images] for message in example.messages]
    )


def example_key(example: Example) -> Hashable:
    """Return a comparison key of the prompt and its references; equal keys make two examples duplicates."""
    return prompt_key(example), tuple(normalize_text(reference) for reference in example.references), example.choices


def duplicate_examples(examples: Sequence[Example]) -> list[Duplicate]:
    """Find examples that repeat the prompt and references of another one.

    If duplicates name different splits, the original is the one in the test split.
    """
    by_key: dict[Hashable, list[Example]] = defaultdict(list)
    for example in examples:
        by_key[example_key(example)].append(example)
    originals = {key: min(same, key=lambda example: _RANK[example.split]) for key, same in by_key.items()}
    return [
        Duplicate(example.id, originals[key].id)
        for example in examples
        if (key := example_key(example)) in originals and example is not originals[key]
    ]


def with_shared_sources(examples: Sequence[Example]) -> list[Example]:
    """Assign standalone examples with the same prompt to one source, so that they end up in the same split.

    A prompt shared by a large share of the examples is a template; those examples may go to different splits.
    """
    standalone = [example for example in examples if example.source == example.id]
    by_prompt: dict[str, list[Example]] = defaultdict(list)
    for example in standalone:
        by_prompt[prompt_key(example)].append(example)
    max_count = min_template_count(len(standalone))
    shared = {
        example.id: same[0].id
        for same in by_prompt.values()
        if 1 < len(same) <= max_count and len({example.split for example in same}) == 1
        for example in same
    }
    return [
        example.model_copy(update={"source": shared[example.id]}) if example.id in shared else example
        for example in examples
    ]
