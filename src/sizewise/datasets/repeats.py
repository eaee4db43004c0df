"""Find what stands more than once: documents with the same text, examples with the same prompt and the same answer."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from sizewise.records import Document, Example, Split
from sizewise.text import normalize_text, words_of

_NAMED = 5
# A set of examples that all repeat is not a reason to keep their prompts together: nothing would be left to split.
COMMON_SHARE, COMMON_LEAST = 0.1, 3
_RANK: Mapping[Split | None, int] = {"test": 0, "validation": 1, "train": 2, None: 2}


class Repeat(NamedTuple):
    """Something that says the same as something else."""

    item: str
    """Id of the repetition."""
    first: str
    """Id of what it repeats."""


def common_from(count: int) -> int:
    """Return how many of `count` items must share something before it counts as common to them (a template)."""
    return max(COMMON_LEAST, math.ceil(count * COMMON_SHARE))


def told(repeats: Sequence[Repeat]) -> str:
    """Return the first repetitions in words."""
    some = ", ".join(f"'{one.item}' repeats '{one.first}'" for one in repeats[:_NAMED])
    return some + (f" and {len(repeats) - _NAMED} more" if len(repeats) > _NAMED else "")


def without_repeated_documents(documents: Iterable[Document]) -> tuple[list[Document], list[Repeat]]:
    """Keep the first of the documents whose words are the same."""
    seen: dict[str, str] = {}
    kept: list[Document] = []
    repeats: list[Repeat] = []
    for document in documents:
        key = " ".join(words_of(document.text)) or document.text.strip()
        if key in seen:
            repeats.append(Repeat(document.id, seen[key]))
            continue
        seen[key] = document.id
        kept.append(document)
    return kept, repeats


def prompt_key(example: Example) -> str:
    """Return what is asked, every turn and picture of it; only white space and forms of Unicode are evened out."""
    return json.dumps(
        [[message.role, normalize_text(message.content), *message.images] for message in example.messages]
    )


def example_key(example: Example) -> Hashable:
    """Return what makes two examples the same: the same prompt and the same answers."""
    return prompt_key(example), tuple(normalize_text(reference) for reference in example.references), example.choices


def repeated_examples(examples: Sequence[Example]) -> list[Repeat]:
    """Find the examples that repeat another one, prompt and answer; of a named test split the test example is kept."""
    by_key: dict[Hashable, list[Example]] = defaultdict(list)
    for example in examples:
        by_key[example_key(example)].append(example)
    first = {key: min(same, key=lambda one: _RANK[one.split]) for key, same in by_key.items()}
    return [
        Repeat(example.id, first[key].id)
        for example in examples
        if (key := example_key(example)) in first and example is not first[key]
    ]


def with_shared_sources(examples: Sequence[Example]) -> list[Example]:
    """Give examples that ask the same, and come from no document, one source: a split must not cut through them.

    A prompt that a large share of the examples has is a template and says nothing of what they have in common.
    """
    loose = [example for example in examples if example.source == example.id]
    asking: dict[str, list[Example]] = defaultdict(list)
    for example in loose:
        asking[prompt_key(example)].append(example)
    least = common_from(len(loose))
    shared = {
        example.id: same[0].id
        for same in asking.values()
        if 1 < len(same) <= least and len({example.split for example in same}) == 1
        for example in same
    }
    return [
        example.model_copy(update={"source": shared[example.id]}) if example.id in shared else example
        for example in examples
    ]
