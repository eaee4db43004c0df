"""Detect a column `source` that names collections instead of the documents of examples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable

from sizewise.records import Example

MIN_ROWS = 20
"""Rows for each name, on average, from which on names that no document has are taken for collections."""
MIN_SOURCES = 3
_FILE_OR_ADDRESS = re.compile(r".*\.[A-Za-z0-9]{1,5}(?:#.*)?|[a-z][a-z0-9+.-]*://.*", re.DOTALL)
_LISTED = 3


def find_collections(rows: Iterable[tuple[str, str]], documents: Container[str]) -> frozenset[str]:
    """Return the values of the column `source` that name collections, such as a help desk or a website.

    They are few for many rows, and none of them is the id of a document or looks like a file or an address. Fewer than
    three names are always too few to be the documents of examples.

    Args:
        rows: (id, source) of each example; a source that equals the id was not given.
        documents: Ids of the documents.
    """
    given = Counter(source for row, source in rows if source not in (row, "") and source not in documents)
    if not given or any(_FILE_OR_ADDRESS.fullmatch(source) for source in given):
        return frozenset()
    few = len(given) < MIN_SOURCES <= given.total()
    return frozenset(given) if few or given.total() >= MIN_ROWS * len(given) else frozenset()


def without_collection(example: Example, collections: Container[str]) -> Example:
    """Return an example by itself if its source is a collection, whose name becomes a tag."""
    if example.source not in collections:
        return example
    tags = example.tags if example.source in example.tags else (*example.tags, example.source)
    return example.model_copy(update={"source": example.id, "tags": tags})


def describe_collections(collections: frozenset[str]) -> str:
    """Return a note on the collections."""
    names = sorted(collections)
    some = ", ".join(f"'{name}'" for name in names[:_LISTED])
    some += f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (
        f"The column 'source' names collections ({some}), not documents: each example is a source of its own, and the "
        "name became a tag"
    )
