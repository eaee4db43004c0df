"""Detect a column `source` that names collections instead of the documents of examples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Container, Iterable

from sizewise.records import Example

MIN_ROWS = 20
"""Rows for each name, on average, from which on plain words are taken for collections."""
MIN_SOURCES = 3
_PLACE = re.compile(
    r".*\.(?=\d*[a-z])[a-z0-9]{1,5}(?:#.*)?|[a-z][a-z0-9+.-]*://.*|.*[\w.-]{2}[/\\][\w. -]{2}.*|[/\\].+",
    re.IGNORECASE | re.DOTALL,
)
"""A file, an address or a path."""
_CODE = re.compile(r"[\W\d_]*\d[\W\d_]*|(?=.*\d)(?=.*-|.{12})[0-9a-f-]{8,}", re.IGNORECASE)
"""A whole number, a date, a UUID or a hash."""
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*|(?<=[\s_-])(?:[a-z]|[ivxlc]+)\Z", re.IGNORECASE)
_NUMBERED = re.compile(r"(?<![^\W\d_])\d+(?![^\W\d_])|\d\Z")
_LISTED = 3


def find_collections(rows: Iterable[tuple[str, str]], documents: Container[str]) -> frozenset[str]:
    """Return the values of the column `source` that name collections, such as a help desk or a website.

    A source is the document of its examples unless it is clearly something else: the names are few for many rows, and
    they are plain words. Names that look like documents are documents, however few they are.

    Args:
        rows: (id, source) of each example; a source that equals the id was not given.
        documents: Ids of the documents.
    """
    given = _given(rows, documents)
    if not given or look_like_documents(given):
        return frozenset()
    return frozenset(given) if _few(given) else frozenset()


def look_like_documents(names: Collection[str]) -> bool:
    """Check whether names are those of documents: files, addresses, numbers, dates, or numbered like contract-0.

    A single name with a number among other words may be that of a collection, such as a version; if most names have
    one, they number documents.
    """
    if any(_PLACE.fullmatch(name) or _CODE.fullmatch(name) for name in names):
        return True
    stems = Counter(_NUMBER.sub("#", name.casefold()) for name in {name.casefold() for name in names})
    if any(count > 1 for stem, count in stems.items() if "#" in stem):
        return True
    return 2 * sum(1 for name in names if _NUMBERED.search(name)) > len(names)


def without_collection(example: Example, collections: Container[str]) -> Example:
    """Return an example by itself if its source is a collection, whose name becomes a tag."""
    if example.source not in collections or example.source_is_document:
        return example
    tags = example.tags if example.source in example.tags else (*example.tags, example.source)
    return example.model_copy(update={"source": example.id, "tags": tags})


def describe_collections(collections: frozenset[str]) -> str:
    """Return a caution on the collections."""
    count = f"{len(collections)} collections" if len(collections) > 1 else "a collection"
    return (
        f"each example counts as its own document, because the column 'source' names {count} "
        f"({_some(collections)}), which became tags; add a column 'document' if several examples come from one document"
    )


def describe_few(rows: Iterable[tuple[str, str]], documents: Container[str]) -> str:
    """Return a note on names that are few for many rows and yet taken for documents; empty if there are none."""
    given = _given(rows, documents)
    if not given or not _few(given):
        return ""
    count = f"{len(given)} documents" if len(given) > 1 else "one document"
    return (
        f"the column 'source' names {count} ({_some(given)}), whose examples count together; if it names collections, "
        "rename it to 'tags'"
    )


def _given(rows: Iterable[tuple[str, str]], documents: Container[str]) -> Counter[str]:
    return Counter(source for row, source in rows if source not in (row, "") and source not in documents)


def _few(given: Counter[str]) -> bool:
    return len(given) < MIN_SOURCES <= given.total() or given.total() >= MIN_ROWS * len(given)


def _some(names: Collection[str]) -> str:
    some = ", ".join(f"'{name}'" for name in sorted(names)[:_LISTED])
    return some + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
