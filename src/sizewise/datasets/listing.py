"""List what was read, with unique ids and without duplicates. Texts are streamed; a few numbers of each are kept."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from sizewise.datasets.keys import (
    conversation_hashes,
    example_key,
    folded_prompt,
    key_hash,
    min_template_count,
    prompt_text,
)
from sizewise.datasets.similarity import Signatures, document_shingles, prompt_shingles, without_giants
from sizewise.datasets.sources import describe_collections, describe_few, find_collections, without_collection
from sizewise.datasets.spool import Spool, repeated
from sizewise.documents import Reading
from sizewise.records import Document, Example, Split
from sizewise.text.ngrams import NGRAM, NO_HASHES, Hashes, hash_words, left_out, ngrams

DOCUMENT_SIMILARITY, PROMPT_SIMILARITY, STRICT_SIMILARITY = 0.5, 0.7, 0.9
MIN_PROMPT_WORDS = 5  # a shorter prompt is like another only if it is the same
_RANK = {"test": 0, "validation": 1}
_LISTED = 5


class Duplicate(NamedTuple):
    """A document or example that repeats another one."""

    item: str
    """Id of the duplicate."""
    original: str
    """Id of the item that it repeats."""


def describe_duplicates(duplicates: Sequence[Duplicate]) -> str:
    """List the first duplicates in words."""
    some = ", ".join(f"'{duplicate.item}' repeats '{duplicate.original}'" for duplicate in duplicates[:_LISTED])
    return some + (f" and {len(duplicates) - _LISTED} more" if len(duplicates) > _LISTED else "")


@dataclass
class Listed:
    """What is kept of the documents or examples in memory, one entry each."""

    ids: list[str] = field(default_factory=list)
    """Unique id."""
    sources: list[str] = field(default_factory=list)
    """Id of the source (documents: their own id)."""
    keys: array[int] = field(default_factory=lambda: array("Q"))
    """Hash of what makes a duplicate."""
    prompts: array[int] = field(default_factory=lambda: array("Q"))
    """Hash of the prompt without case and punctuation."""
    named: list[Split | None] = field(default_factory=list)
    """Split that the data name."""
    labels: list[str] = field(default_factory=list)
    """Class."""
    groups: list[str] = field(default_factory=list)
    """What stays together."""
    times: list[str] = field(default_factory=list)
    """When it arose."""
    original: list[int] = field(default_factory=list)
    """Index of the first duplicate, or its own."""
    like: list[int] = field(default_factory=list)
    """Index of the first near-duplicate, or its own."""
    continued: list[tuple[int, int]] = field(default_factory=list)
    """(conversation, later conversation that begins with it and its answer), by index."""

    def __len__(self) -> int:
        return len(self.ids)

    def kept(self) -> Iterator[int]:
        """Yield the indices of all that are no duplicates."""
        return (i for i, original in enumerate(self.original) if i == original)

    def is_standalone(self, i: int) -> bool:
        """Check whether an example has no source besides itself."""
        return self.sources[i] == self.ids[i]


class _Hashed:
    """Hashes with the index of the example that each is from."""

    def __init__(self) -> None:
        self.hashes, self.indices = array("Q"), array("Q")

    def add(self, hashes: Sequence[int], index: int) -> None:
        self.hashes.extend(hashes)
        self.indices.extend([index] * len(hashes))


def _continued(wholes: _Hashed, parts: _Hashed) -> list[tuple[int, int]]:
    """Return the pairs of indices of which a whole conversation is a part of another."""
    if not parts.hashes or not wholes.hashes:
        return []
    first = dict.fromkeys(np.intersect1d(wholes.hashes, parts.hashes).tolist(), -1)
    for found, index in zip(wholes.hashes, wholes.indices, strict=True):
        if first.get(found, 0) == -1:
            first[found] = index
    pairs = zip(parts.hashes, parts.indices, strict=True)
    return [(first[found], index) for found, index in pairs if first.get(found, index) != index]


class Listing:
    """Documents and examples of all readings, listed.

    Args:
        readings: The readings; they are iterated several times.
        keep_duplicates: Keep repeated examples, as a test file does.
        folder: Folder for working files; the system's own by default.
    """

    def __init__(self, readings: Sequence[Reading], keep_duplicates: bool = False, folder: Path | None = None) -> None:
        self.readings = readings
        self.documents, self.examples = Listed(), Listed()
        self.notes: list[str] = []
        self.cautions: list[str] = []
        self.duplicates = 0
        self._repeated: list[int] | None = None
        self._used: set[str] = set()
        with TemporaryDirectory(dir=folder, prefix=".listing-") as working:
            self._list_documents(Path(working))
            self._list_examples(Path(working))
        self._drop_documents()
        self._drop_examples(keep_duplicates)
        self._share_sources(keep_duplicates)
        self.near_duplicates = {
            "document": _like(self.documents),
            "example": _like(self.examples),
        }

    def note_near_duplicates(self, documents: Mapping[int, Split], examples: Mapping[int, Split]) -> None:
        """Note the near-duplicates and whether they are in one split.

        Args:
            documents: Index -> split.
            examples: Index -> split.
        """
        together: list[Duplicate] = []
        apart: list[Duplicate] = []
        for listed, splits, pairs in (
            (self.documents, documents, self.near_duplicates["document"]),
            (self.examples, examples, self.near_duplicates["example"]),
        ):
            for i, first in pairs:
                pair = Duplicate(listed.ids[i], listed.ids[first])
                (together if splits[i] == splits[first] else apart).append(pair)
        self.near_duplicate_count = len(together) + len(apart)
        for some, one, several in (
            (together, "stays in the split of what it resembles", "stay in the split of what they resemble"),
            (apart, "is in another split than what it resembles", "are in another split than what they resemble"),
        ):
            if some:
                listed_pairs = ", ".join(f"'{item}' resembles '{original}'" for item, original in some[:_LISTED])
                more = f" and {len(some) - _LISTED:,} more" if len(some) > _LISTED else ""
                subject = f"{len(some):,} near-duplicates {several}" if len(some) > 1 else f"1 near-duplicate {one}"
                self.notes.append(f"{subject}: {listed_pairs}{more}")

    def kept_documents(self) -> Iterator[tuple[int, Document]]:
        """Yield (index, document) with its final id, without duplicates."""
        listed = self.documents
        for i, document in enumerate(d for reading in self.readings for d in reading.documents):
            if listed.original[i] == i:
                yield i, document if document.id == listed.ids[i] else document.model_copy(update={"id": listed.ids[i]})

    def kept_examples(self) -> Iterator[tuple[int, Example]]:
        """Yield (index, example) with its final id and source, without duplicates."""
        listed = self.examples
        for i, example in enumerate(e for reading in self.readings for e in reading.examples):
            if listed.original[i] == i:
                example = without_collection(example, self._collections)
                changed = {"id": listed.ids[i], "source": listed.sources[i], "source_is_document": False}
                same = all(getattr(example, name) == value for name, value in changed.items())
                yield i, example if same else example.model_copy(update=changed)

    def _list_documents(self, folder: Path) -> None:
        listed, signatures = self.documents, Signatures(folder / "documents")
        self._names: list[dict[str, str]] = []
        renamed: list[str] = []
        for reading in self.readings:
            names: dict[str, str] = {}
            for document in reading.documents:
                new = self._unique(document.id, renamed)
                names.setdefault(document.id, new)
                words = hash_words(document.text)
                signatures.add(document_shingles(words))
                listed.ids.append(new)
                listed.sources.append(new)
                listed.keys.append(words.whole() if len(words) else key_hash(document.text.strip()))
                listed.named.append(None)
                listed.labels.append("")
                listed.groups.append(document.group)
                listed.times.append(document.time)
            self._names.append(names)
        if renamed:
            self.notes.append(_renamed(renamed, "document"))
        listed.like = _clusters(signatures, DOCUMENT_SIMILARITY)

    def _list_examples(self, folder: Path) -> None:
        listed, signatures = self.examples, Signatures(folder / "examples")
        template = _template(self.readings, folder)
        renamed: list[str] = []
        wholes, parts = _Hashed(), _Hashed()
        named_documents = set(self.documents.ids)
        for reading, names in zip(self.readings, self._names, strict=True):
            for example in reading.examples:
                whole, part = conversation_hashes(example)
                wholes.add(whole, len(listed))
                parts.add(part, len(listed))
                new = self._unique(example.id, renamed)
                standalone = example.source in (example.id, "")
                words = hash_words(prompt_text(example))
                long = len(words) >= MIN_PROMPT_WORDS
                signatures.add(prompt_shingles(words, left_out(words, template)) if long else NO_HASHES)
                listed.ids.append(new)
                listed.sources.append(new if standalone else names.get(example.source, example.source))
                if example.source_is_document:
                    named_documents.add(listed.sources[-1])
                listed.keys.append(key_hash(repr(example_key(example))))
                listed.prompts.append(key_hash(folded_prompt(example)))
                listed.named.append(example.split)
                listed.labels.append(example.label)
                listed.groups.append(example.group)
                listed.times.append(example.time)
        if renamed:
            self.notes.append(_renamed(renamed, "example"))
        self._set_collections_apart(named_documents)
        listed.like = _clusters(signatures, PROMPT_SIMILARITY)
        listed.continued = _continued(wholes, parts)

    def _set_collections_apart(self, documents: set[str]) -> None:
        """Make each example of a collection its own source, and note what the column `source` was taken for."""
        listed = self.examples
        self._collections = find_collections(zip(listed.ids, listed.sources, strict=True), documents)
        named = list(zip(listed.ids, listed.sources, strict=True))
        if self._collections:
            self.cautions.append(describe_collections(self._collections))
            listed.sources = [own if source in self._collections else source for own, source in named]
        elif few := describe_few(named, documents):
            self.notes.append(few)
        self.notes += self.cautions

    def _unique(self, name: str, renamed: list[str]) -> str:
        number, new = 1, name
        while new in self._used:
            number, new = number + 1, f"{name}~{number + 1}"
        self._used.add(new)
        if new != name:
            renamed.append(f"'{new}' was '{name}'")
        return new

    def _drop_documents(self) -> None:
        """Drop documents with the same words as an earlier one; their examples move to that one."""
        duplicates = _find_duplicates(self.documents, range(len(self.documents)))
        if not duplicates:
            return
        count = len(duplicates)
        subject = (
            f"{count:,} documents with the same text as another were"
            if count > 1
            else "1 document with the same text as another was"
        )
        self.notes.append(f"{subject} removed: {describe_duplicates(duplicates)}")
        self.duplicates += count
        originals = {duplicate.item: duplicate.original for duplicate in duplicates}
        self.examples.sources = [originals.get(source, source) for source in self.examples.sources]

    def _drop_examples(self, keep: bool) -> None:
        """Drop examples that repeat prompt and references; of several, the one named for the test split stays."""
        listed = self.examples
        order = sorted(range(len(listed)), key=lambda i: _RANK.get(str(listed.named[i]), 2))
        duplicates = _find_duplicates(listed, order)
        if not duplicates:
            return
        count = len(duplicates)
        subject = f"{count:,} examples repeat" if count > 1 else "1 example repeats"
        outcome = "kept, because this is a test file" if keep else "removed"
        self.notes.append(
            f"{subject} the prompt and answer of another example ({outcome}): {describe_duplicates(duplicates)}"
        )
        self._repeated = list(listed.original)
        if keep:
            listed.original = list(range(len(listed)))
        else:
            self.duplicates += count

    def _share_sources(self, keep_duplicates: bool) -> None:
        """Assign standalone examples with the same or nearly the same prompt to one source.

        They end up in the same split and don't count as independent evidence. A prompt that a large share of the
        examples has in common is a template; those examples may go to different splits.
        """
        listed = self.examples
        alone = [i for i in listed.kept() if listed.is_standalone(i)]
        first_of: dict[int, int] = {}
        same = {i: first_of.setdefault(listed.prompts[i], i) for i in alone}
        members = Counter(same.values())
        giants = {i for i, count in members.items() if count > max(1, min_template_count(len(alone)))}
        joined = list(range(len(listed)))
        for i in alone:
            one = i if same[i] in giants else same[i]
            joined[i] = one
        for i in alone:
            other = listed.like[i]
            if other != i and same[i] not in giants and other in same:
                _join(joined, i, other)
        sizes = Counter(_root_of(joined, i) for i in alone)
        for i in alone:
            root = _root_of(joined, i)
            if sizes[root] <= max(1, min_template_count(len(alone))):
                splits = {listed.named[k] for k in (i, root)}
                if len(splits) == 1:
                    listed.sources[i] = listed.ids[root]
            elif same[i] not in giants:
                listed.sources[i] = listed.ids[same[i]]
        if keep_duplicates and self._repeated is not None:
            listed.sources = [listed.sources[original] for original in self._repeated]


def _join(joined: list[int], one: int, other: int) -> None:
    a, b = _root_of(joined, one), _root_of(joined, other)
    joined[max(a, b)] = min(a, b)


def _root_of(joined: list[int], i: int) -> int:
    while joined[i] != i:
        joined[i] = joined[joined[i]]
        i = joined[i]
    return i


def _clusters(signatures: Signatures, similarity: float) -> list[int]:
    """Cluster near-duplicates; a cluster of more than a tenth of all items is divided more strictly, or dissolved."""
    loose = signatures.clusters(similarity)
    max_size = min_template_count(len(loose))
    sizes = np.bincount(loose, minlength=len(loose)) if len(loose) else loose
    giant = sizes[loose] > max_size if len(loose) else np.zeros(0, np.bool_)
    if giant.any():
        strict = without_giants(signatures.clusters(STRICT_SIMILARITY), max_size)
        loose = np.where(giant, strict, loose)
    return [int(i) for i in loose]


def _template(readings: Sequence[Reading], folder: Path) -> Hashes:
    """Return the 13-grams that a tenth of all prompts share."""
    spool, count = Spool(folder, "template", 1), 0
    for reading in readings:
        for example in reading.examples:
            spool.add(np.unique(ngrams(hash_words(prompt_text(example)), NGRAM).hashes))
            count += 1
    return repeated(spool, min_template_count(count))


def _find_duplicates(listed: Listed, order: Sequence[int]) -> list[Duplicate]:
    """Set `original` of each entry, and return the duplicates; of several, the first in `order` is the original."""
    first: dict[int, int] = {}
    listed.original = list(range(len(listed)))
    for i in order:
        listed.original[i] = first.setdefault(listed.keys[i], i)
    return [
        Duplicate(listed.ids[i], listed.ids[original]) for i, original in enumerate(listed.original) if i != original
    ]


def _like(listed: Listed) -> list[tuple[int, int]]:
    """Return the near-duplicates, each with the first of its cluster that was kept, by index."""
    first: dict[int, int] = {}
    pairs = [(i, first.setdefault(listed.like[i], i)) for i in listed.kept()]
    return [(i, original) for i, original in pairs if i != original]


def _renamed(renamed: list[str], kind: str) -> str:
    count = f"{len(renamed):,} {kind}s had duplicate ids" if len(renamed) > 1 else f"1 {kind} had a duplicate id"
    return f"{count} and got a new one: {', '.join(renamed[:3])}"
