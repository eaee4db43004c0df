"""Read documents and examples into a dataset: deduplicated, split, and checked for contamination."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sizewise.datasets.contamination import Text, contamination, summarize
from sizewise.datasets.deduplication import (
    Duplicate,
    describe_duplicates,
    duplicate_examples,
    with_shared_sources,
    without_duplicate_documents,
)
from sizewise.datasets.passages import PROXY_NOTE, derived_examples, passages
from sizewise.datasets.splits import all_in_test, split_sources
from sizewise.documents import DEMOS, MAX_REJECTS, Reading, ReadOptions, read_demo, read_paths
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import (
    SPLITS,
    ContaminationEntry,
    ContaminationReport,
    Dataset,
    Document,
    Example,
    RejectedRow,
    Split,
    SplitSize,
    fingerprint,
)
from sizewise.store import Saved, Store, offline

REJECTED = "rejected.jsonl"
CONTAMINATION = "leaks.jsonl"
DATASET_VERSION = 2
"""Incremented when splits, deduplication or contamination rules change; part of a dataset's id."""

Documents = Mapping[Split, tuple[Document, ...]]
Examples = Mapping[Split, tuple[Example, ...]]


@dataclass(frozen=True)
class DatasetContents:
    """A dataset in memory.

    Attributes:
        record: The record.
        documents: Split -> documents.
        examples: Split -> examples.
        contamination_entries: Id of a test item -> its overlap with the training split.
        rejected: Rows that could not be used.
    """

    record: Dataset
    documents: dict[Split, tuple[Document, ...]]
    examples: dict[Split, tuple[Example, ...]]
    contamination_entries: dict[str, ContaminationEntry]
    rejected: tuple[RejectedRow, ...] = ()


def read(
    sources: str | Path | Sequence[str | Path],
    *,
    store: Store | None = None,
    name: str | None = None,
    domain: str | None = None,
    seed: int = 0,
    all_test: bool = False,
    max_rejects: float = MAX_REJECTS,
) -> Saved[Dataset]:
    """Read documents and examples into a dataset and save it.

    Args:
        sources: A file, a folder or `demo:NAME`, or several of them.
        store: Where records are saved; SIZEWISE_HOME by default.
        name: Display name of the dataset.
        domain: Application domain.
        seed: Seed of the split.
        all_test: Put everything into the test split, for data that no model was trained on.
        max_rejects: Maximum share of unusable rows per file; rejected rows are kept in a file and noted.

    Returns:
        The dataset. Reading the same sources again returns the same id.

    Raises:
        SizewiseError: Nothing could be read, too many rows are unusable, or a split would be empty.
    """
    store = store or Store()
    sources = [sources] if isinstance(sources, str | Path) else list(sources) if isinstance(sources, Iterable) else ()
    if any(not isinstance(source, str | Path) or not str(source).strip() for source in sources):
        raise UsageError(f"The sources are {sources!r:.100}.", "paths or demo:NAME", "sizewise read demo:fhir")
    if not sources:
        raise UsageError("No files to read were given.", "a path or demo:NAME", "sizewise read demo:fhir")
    readings = []
    for source in sources:
        demo = str(source).removeprefix("demo:")
        if str(source).startswith("demo:"):
            readings.append(read_demo(demo, store.wheels_folder(), offline()))
            domain = domain or DEMOS[demo].split(":")[0]
        else:
            readings.append(read_paths([source], ReadOptions(max_rejects)))
    named = [str(source) for source in sources]
    contents = build(readings, named, name, domain or "general", seed, all_test=all_test)
    dataset_id = f"data-{contents.record.sha256[:10]}"
    if not store.exists("dataset", dataset_id):
        return save(store, dataset_id, contents)
    return store.get(Dataset, dataset_id)


def build(
    readings: Sequence[Reading],
    sources: Sequence[str],
    name: str | None,
    domain: str,
    seed: int,
    *,
    all_test: bool = False,
) -> DatasetContents:
    """Build a dataset from readings; the result depends on the arguments only."""
    notes = [note for reading in readings for note in reading.notes]
    readings = _with_unique_ids(readings, notes)
    documents, duplicates = without_duplicate_documents([d for r in readings for d in r.documents])
    given, removed = _deduplicate([e for r in readings for e in r.examples], duplicates, all_test, notes)
    split_of = all_in_test(documents, given) if all_test else split_sources(documents, given, seed)
    by_split = {split: tuple(d for d in documents if split_of[d.id] == split) for split in SPLITS}
    derived = not given
    if derived:
        given = [example for document in documents for example in derived_examples(document)]
        repeated = {duplicate.item for duplicate in duplicate_examples(given)}  # a passage shared by documents
        given, removed = [example for example in given if example.id not in repeated], removed + len(repeated)
        notes.append(PROXY_NOTE)
    kept = {split: tuple(e for e in given if split_of.get(e.source, "train") == split) for split in SPLITS}
    if not by_split["test"] and not kept["test"]:
        raise SizewiseError(
            "The test split is empty: no documents or examples are left for it.",
            "distinct documents or examples, some of which aren't assigned to training",
            "add documents or examples; then run the same command again",
        )
    entries, report = _check_contamination(by_split, kept, derived, removed, notes)
    not_read: Counter[str] = Counter()
    forms: Counter[str] = Counter()
    for reading in readings:
        not_read.update(reading.not_read)
        forms.update(reading.forms)
    rejected = tuple(row for reading in readings for row in reading.rejected)
    licenses = Counter(d.license for d in documents)
    record = Dataset(
        name=name or ", ".join(sources),
        domain=domain,
        sources=tuple(sources),
        seed=seed,
        splits=_sizes(by_split, kept),
        contamination=report,
        licenses=dict(licenses),
        not_read=dict(not_read),
        derived=derived,
        notes=tuple(notes),
        forms=dict(forms),
        rejected=len(rejected),
        sha256=_content_hash(by_split, kept, [DATASET_VERSION, seed, sum(not_read.values()), sorted(licenses)]),
    )
    return DatasetContents(record, by_split, kept, {entry.item: entry for entry in entries}, rejected)


def _sizes(documents: Documents, examples: Examples) -> dict[Split, SplitSize]:
    return {
        split: SplitSize(
            documents=len(documents[split]),
            characters=sum(len(d.text) for d in documents[split]),
            examples=len(examples[split]),
        )
        for split in SPLITS
    }


def _check_contamination(
    documents: Documents, examples: Examples, derived: bool, removed: int, notes: list[str]
) -> tuple[list[ContaminationEntry], ContaminationReport]:
    """Compare the test split with the training split; add a note if most test prompts occur in training."""
    texts = [Text(p.item, d.text[p.start : p.end]) for d in documents["test"] for p in passages(d)]
    entries = contamination(documents["train"], texts, examples, derived)
    report = summarize(entries, removed)
    if report.prompts > report.examples / 2:
        notes.append(
            f"The prompts of {report.prompts:,} of {report.examples:,} test examples occur in the training text, in "
            "full or as a long passage. If examples were made from documents, name each one's document as 'source'."
        )
    return entries, report


def save(store: Store, dataset_id: str, contents: DatasetContents) -> Saved[Dataset]:
    """Write a dataset's texts, then its record."""
    folder = store.folder("dataset", dataset_id)
    for split in SPLITS:
        store.write_rows(folder, f"{split}.documents.jsonl", contents.documents[split])
        store.write_rows(folder, f"{split}.examples.jsonl", contents.examples[split])
    store.write_rows(folder, CONTAMINATION, contents.contamination_entries.values())
    if contents.rejected:
        store.write_rows(folder, REJECTED, contents.rejected)
    return store.write(dataset_id, contents.record)


def load(store: Store, dataset_id: str) -> DatasetContents:
    """Load a dataset with its texts.

    Raises:
        SizewiseError: The dataset doesn't exist or is damaged.
    """
    record = store.read(Dataset, dataset_id)
    folder = store.folder("dataset", dataset_id)
    entries = store.read_rows(folder, CONTAMINATION, ContaminationEntry)
    return DatasetContents(
        record,
        {s: tuple(store.read_rows(folder, f"{s}.documents.jsonl", Document)) for s in SPLITS},
        {s: tuple(store.read_rows(folder, f"{s}.examples.jsonl", Example)) for s in SPLITS},
        {entry.item: entry for entry in entries},
        tuple(store.read_rows(folder, REJECTED, RejectedRow)) if record.rejected else (),
    )


def _with_unique_ids(readings: Sequence[Reading], notes: list[str]) -> list[Reading]:
    """Number ids that occur more than once, within or across sources; an example follows the document of its source."""
    used: set[str] = set()
    renamed: list[str] = []

    def unique(name: str) -> str:
        number, new = 1, name
        while new in used:
            number, new = number + 1, f"{name}~{number + 1}"
        used.add(new)
        return new

    result = []
    for reading in readings:
        names: dict[str, str] = {}
        documents = []
        for document in reading.documents:
            new = unique(document.id)
            names.setdefault(document.id, new)
            documents.append(document.model_copy(update={"id": new}))
        examples = []
        for example in reading.examples:
            new = unique(example.id)
            if new != example.id:
                renamed.append(f"'{new}' was '{example.id}'")
            standalone = example.source == example.id
            source = new if standalone else names.get(example.source, example.source)
            examples.append(example.model_copy(update={"id": new, "source": source}))
        result.append(replace(reading, documents=documents, examples=examples))
    if renamed:
        count = f"{len(renamed):,} examples had duplicate ids" if len(renamed) > 1 else "1 example had a duplicate id"
        notes.append(f"{count} and got a new one: {', '.join(renamed[:3])}")
    return result


def _deduplicate(
    examples: Sequence[Example], duplicate_documents: Sequence[Duplicate], all_test: bool, notes: list[str]
) -> tuple[list[Example], int]:
    """Remove duplicate examples and add a note on them; a test file keeps all of its rows.

    Duplicates in a test file share one source, because they aren't independent evidence.

    Args:
        examples: The examples as read.
        duplicate_documents: Documents that were removed; their examples move to the original document.
        all_test: Whether the examples are a test file.
        notes: The list to which notes are added.

    Returns:
        The remaining examples, and the number of documents and examples removed.
    """
    if duplicate_documents:
        count = len(duplicate_documents)
        subject = (
            f"{count:,} documents with the same text as another were"
            if count > 1
            else ("1 document with the same text as another was")
        )
        notes.append(f"{subject} removed: {describe_duplicates(duplicate_documents)}")
    originals = {duplicate.item: duplicate.original for duplicate in duplicate_documents}
    examples = [e.model_copy(update={"source": originals[e.source]}) if e.source in originals else e for e in examples]
    duplicates = duplicate_examples(examples)
    if duplicates:
        count = len(duplicates)
        subject = f"{count:,} examples repeat" if count > 1 else "1 example repeats"
        outcome = "kept, because this is a test file" if all_test else "removed"
        notes.append(
            f"{subject} the prompt and answer of another example ({outcome}): {describe_duplicates(duplicates)}"
        )
    original_of = {duplicate.item: duplicate.original for duplicate in duplicates}
    if not all_test:
        kept = [example for example in examples if example.id not in original_of]
        return with_shared_sources(kept), len(duplicate_documents) + len(duplicates)
    kept = with_shared_sources(examples)
    source = {example.id: example.source for example in kept}
    kept = [e.model_copy(update={"source": source[original_of[e.id]]}) if e.id in original_of else e for e in kept]
    return kept, len(duplicate_documents)


def _content_hash(documents: Documents, examples: Examples, rest: list[Any]) -> str:
    content = {
        split: [
            [[d.id, d.sha256] for d in documents[split]],
            [e.model_dump(mode="json") for e in examples[split]],
        ]
        for split in SPLITS
    }
    return fingerprint([rest, content], 64)
