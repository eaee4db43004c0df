"""Load documents and examples into a dataset: split by document, repetitions removed, contamination reported."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.datasets.contamination import Text, contamination, contamination_sums
from sizewise.datasets.repeats import (
    Repeat,
    repeated_examples,
    told,
    with_shared_sources,
    without_repeated_documents,
)
from sizewise.documents import DEMOS, MAX_REJECTS, Reading, read_demo, read_paths
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import (
    SPLITS,
    ContaminationEntry,
    ContaminationReport,
    Dataset,
    Document,
    Example,
    Message,
    RejectedRow,
    Split,
    SplitSize,
    fingerprint,
)
from sizewise.store import Saved, Store, offline
from sizewise.text import pieces_of

REJECTED = "rejected.jsonl"
RULES = 2  # what counts as a duplicate and as contaminated: a change makes other datasets
LEAST_SOURCES = 3
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.06
MIN_DERIVED_WORDS = 40
DERIVED_PER_DOCUMENT = 6
PROXY_NOTE = (
    "No examples of the job were given: answers are compared with the second half of held-out passages. "
    "That measures familiarity with the text, not a job."
)


class Passage(NamedTuple):
    """A paragraph of a document, as a span of its text."""

    item: str
    """Id: document id, `#`, number."""
    start: int
    """First character."""
    end: int
    """One past the last character, the blank line after it included, so that spans cover the text."""


@dataclass(frozen=True)
class DatasetContents:
    """A dataset in memory.

    Attributes:
        record: the record.
        documents: split -> documents.
        examples: split -> examples.
        leaks: item id -> what it shares with training, for the test split.
        rejected: rows that could not be used.
    """

    record: Dataset
    documents: dict[Split, tuple[Document, ...]]
    examples: dict[Split, tuple[Example, ...]]
    contamination_entries: dict[str, ContaminationEntry]
    rejected: tuple[RejectedRow, ...] = ()


def passages(document: Document) -> list[Passage]:
    """Cut a document at its blank lines; the spans cover all of its text."""
    spans: list[Passage] = []
    start = 0
    text = document.text
    while start < len(text):
        blank = text.find("\n\n", start)
        end = len(text) if blank < 0 else blank + 2
        spans.append(Passage(f"{document.id}#{len(spans)}", start, end))
        start = end
    return spans


def read(
    sources: Sequence[str | Path],
    *,
    store: Store | None = None,
    name: str | None = None,
    domain: str | None = None,
    seed: int = 0,
    all_test: bool = False,
    max_rejects: float = MAX_REJECTS,
) -> Saved[Dataset]:
    """Read documents and examples into a dataset and write it to the store.

    Args:
        sources: files, folders, or `demo:NAME`.
        store: where records live; by default SIZEWISE_HOME.
        name: what a person would call the dataset.
        domain: field of work.
        seed: seed of the split.
        all_test: put everything into the test split, for text that nothing was trained on.
        max_rejects: share of the rows of a file that may be unusable; they are set aside and told.

    Returns:
        The dataset. Reading the same again gives the same id.

    Raises:
        SizewiseError: nothing could be read, too many rows cannot be used, or a split would have no document.
    """
    store = store or Store()
    if not sources:
        raise UsageError("Nothing to read was named.", "a path or demo:NAME", "sizewise read demo:fhir")
    readings = []
    for source in sources:
        demo = str(source).removeprefix("demo:")
        if str(source).startswith("demo:"):
            readings.append(read_demo(demo, store.wheels_folder(), offline()))
            domain = domain or DEMOS[demo].split(":")[0]
        else:
            readings.append(read_paths([source], max_rejects))
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
    """Build a dataset of readings: a pure function of its arguments."""
    notes = [note for reading in readings for note in reading.notes]
    readings = _with_unique_ids(readings, notes)
    documents, repeated = without_repeated_documents([d for r in readings for d in r.documents])
    given, removed = _once([example for r in readings for example in r.examples], repeated, all_test, notes)
    split_of = _all_test(documents, given) if all_test else _split(documents, given, seed)
    by_split = {split: tuple(d for d in documents if split_of[d.id] == split) for split in SPLITS}
    derived = not given
    if derived:
        given = [example for document in documents for example in _derived(document)]
        twice = {one.item for one in repeated_examples(given)}  # the same passage in several documents
        given, removed = [example for example in given if example.id not in twice], removed + len(twice)
        notes.append(PROXY_NOTE)
    kept = {split: tuple(e for e in given if split_of.get(e.source, "train") == split) for split in SPLITS}
    if not by_split["test"] and not kept["test"]:
        raise SizewiseError(
            "The test split is empty: no document and no example is left for it.",
            "documents or examples that differ from each other, and not all of them named for training",
            "add documents or examples; then run the same command again",
        )
    contamination_entries, sums = _compared(by_split, kept, derived, removed, notes)
    sizes = {
        split: SplitSize(
            documents=len(by_split[split]),
            characters=sum(len(d.text) for d in by_split[split]),
            examples=len(kept[split]),
        )
        for split in SPLITS
    }
    not_read: Counter[str] = Counter()
    forms: Counter[str] = Counter()
    for reading in readings:
        not_read.update(reading.not_read)
        forms.update(reading.forms)
    rejected = tuple(row for reading in readings for row in reading.rejected)
    record = Dataset(
        name=name or ", ".join(sources),
        domain=domain,
        sources=tuple(sources),
        seed=seed,
        splits=sizes,
        contamination=sums,
        licenses=dict(Counter(d.license for d in documents)),
        not_read=dict(not_read),
        derived=derived,
        notes=tuple(notes),
        forms=dict(forms),
        rejected=len(rejected),
        sha256=_content_hash(
            by_split, kept, [RULES, seed, dict(not_read), notes, sorted({d.license for d in documents})]
        ),
    )
    return DatasetContents(record, by_split, kept, {entry.item: entry for entry in contamination_entries}, rejected)


def _compared(
    documents: Mapping[Split, tuple[Document, ...]],
    examples: Mapping[Split, tuple[Example, ...]],
    derived: bool,
    removed: int,
    notes: list[str],
) -> tuple[list[ContaminationEntry], ContaminationReport]:
    """Compare the test split with the training split; note where most prompts of the test were seen."""
    texts = [Text(p.item, d.text[p.start : p.end]) for d in documents["test"] for p in passages(d)]
    contamination_entries = contamination(documents["train"], texts, examples, derived)
    sums = contamination_sums(contamination_entries, removed)
    if sums.prompts > sums.examples / 2:
        notes.append(
            f"the prompts of {sums.prompts:,} of {sums.examples:,} test examples stand in the training text, whole or "
            "a long passage of them: give with each example the document that it was made from, as 'source'"
        )
    return contamination_entries, sums


def save(store: Store, dataset_id: str, contents: DatasetContents) -> Saved[Dataset]:
    """Write a dataset's texts, then its record."""
    folder = store.folder("dataset", dataset_id)
    for split in SPLITS:
        store.write_rows(folder, f"{split}.documents.jsonl", contents.documents[split])
        store.write_rows(folder, f"{split}.examples.jsonl", contents.examples[split])
    store.write_rows(folder, "leaks.jsonl", contents.contamination_entries.values())
    if contents.rejected:
        store.write_rows(folder, REJECTED, contents.rejected)
    return store.write(dataset_id, contents.record)


def load(store: Store, dataset_id: str) -> DatasetContents:
    """Load a dataset with its texts.

    Raises:
        SizewiseError: it does not exist or is damaged.
    """
    record = store.read(Dataset, dataset_id)
    folder = store.folder("dataset", dataset_id)
    contamination_entries = store.read_rows(folder, "leaks.jsonl", ContaminationEntry)
    return DatasetContents(
        record,
        {s: tuple(store.read_rows(folder, f"{s}.documents.jsonl", Document)) for s in SPLITS},
        {s: tuple(store.read_rows(folder, f"{s}.examples.jsonl", Example)) for s in SPLITS},
        {entry.item: entry for entry in contamination_entries},
        tuple(store.read_rows(folder, REJECTED, RejectedRow)) if record.rejected else (),
    )


def _with_unique_ids(readings: Sequence[Reading], notes: list[str]) -> list[Reading]:
    """Give ids that occur twice, in one source or in several, a number; an example follows its own document."""
    used: set[str] = set()
    twice: list[str] = []

    def unique(name: str) -> str:
        number, new = 1, name
        while new in used:
            number, new = number + 1, f"{name}~{number + 1}"
        used.add(new)
        return new

    found = []
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
                twice.append(f"'{new}' was '{example.id}'")
            own = example.source == example.id
            source = new if own else names.get(example.source, example.source)
            examples.append(example.model_copy(update={"id": new, "source": source}))
        found.append(replace(reading, documents=tuple(documents), examples=tuple(examples)))
    if twice:
        count = f"{len(twice):,} examples have ids" if len(twice) > 1 else "1 example has an id"
        notes.append(f"{count} that stood before and got a number: {', '.join(twice[:3])}")
    return found


def _once(
    examples: Sequence[Example], repeated: Sequence[Repeat], all_test: bool, notes: list[str]
) -> tuple[list[Example], int]:
    """Remove examples that repeat another one, and note how many; a test file keeps all of its rows.

    Rows that repeat each other in a test file count as one source, for they are no evidence of their own.

    Args:
        examples: as they were read.
        repeated: documents that were removed; their examples follow the document that is kept.
        all_test: whether the examples are a test file.
        notes: grows by what was found.

    Returns:
        The examples, and how many documents and examples were removed.
    """
    if repeated:
        count = f"{len(repeated):,} documents with" if len(repeated) > 1 else "1 document with"
        notes.append(f"{count} the text of another document removed: {told(repeated)}")
    kept_as = {one.item: one.first for one in repeated}
    examples = [e.model_copy(update={"source": kept_as[e.source]}) if e.source in kept_as else e for e in examples]
    same = repeated_examples(examples)
    if same:
        count = f"{len(same):,} examples have" if len(same) > 1 else "1 example has"
        done = "kept, for this is a test file" if all_test else "removed"
        notes.append(f"{count} the prompt and the answer of another example, {done}: {told(same)}")
    first = {one.item: one.first for one in same}
    if not all_test:
        kept = [example for example in examples if example.id not in first]
        return with_shared_sources(kept), len(repeated) + len(same)
    kept = with_shared_sources(examples)
    source = {example.id: example.source for example in kept}
    kept = [e.model_copy(update={"source": source[first[e.id]]}) if e.id in first else e for e in kept]
    return kept, len(repeated)


def _split(documents: Sequence[Document], examples: Sequence[Example], seed: int) -> dict[str, Split]:
    """Assign each source (document, or example without a document) to a split.

    Where there are too few of one kind to split, they go to training. Where examples name their split it is kept, and
    nothing else of that kind of source is put into a test or validation split that was named.
    """
    named = _named_splits(examples)
    known = [document.id for document in documents]
    loose = sorted({example.source for example in examples} - set(known))
    if max(len(known), len(loose)) < LEAST_SOURCES:
        raise SizewiseError(
            f"With {len(known)} document(s) and {len(loose)} further example source(s) the split leaves none for "
            "testing.",
            f"at least {LEAST_SOURCES} documents or examples, so that training, validation and test have one each",
            "add documents, or cut one long file into several; then run the same command again",
        )
    split_of: dict[str, Split] = {}
    for sources in (known, loose):
        given = {source: named[source] for source in sources if source in named}
        shuffled = [source for source in sources if source not in given]
        split_of |= given
        if len(shuffled) < LEAST_SOURCES:
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


def _named_splits(examples: Sequence[Example]) -> dict[str, Split]:
    """Give the split of each source whose examples name one.

    Raises:
        SizewiseError: examples of one source name two.
    """
    named: dict[str, Split] = {}
    for example in examples:
        if example.split and named.setdefault(example.source, example.split) != example.split:
            raise SizewiseError(
                f"Examples of '{example.source}' are to be in {named[example.source]} and in {example.split}.",
                "one split for all examples of a source: they share its text",
                f"mend the split of example '{example.id}'",
            )
    return named


def _all_test(documents: Sequence[Document], examples: Sequence[Example]) -> dict[str, Split]:
    return dict.fromkeys([d.id for d in documents] + [e.source for e in examples], "test")


def _derived(document: Document) -> list[Example]:
    examples = []
    for passage in passages(document):
        text = document.text[passage.start : passage.end].strip()
        pieces = pieces_of(text)
        if len(pieces) < MIN_DERIVED_WORDS:
            continue
        half = min(len(pieces) // 2, 100)
        first, second = (" ".join("".join(part).split()) for part in (pieces[:half], pieces[half : half + 60]))
        examples.append(
            Example(
                id=f"{passage.item}/half",
                messages=(Message(role="user", content=f"Continue this passage:\n\n{first}"),),
                references=(second,),
                tags=("derived",),
                source=document.id,
                copy_text=first,
            )
        )
        if len(examples) == DERIVED_PER_DOCUMENT:
            break
    return examples


def _content_hash(
    documents: dict[Split, tuple[Document, ...]], examples: dict[Split, tuple[Example, ...]], rest: list[Any]
) -> str:
    content = {
        split: [
            [[d.id, d.sha256] for d in documents[split]],
            [e.model_dump(mode="json") for e in examples[split]],
        ]
        for split in SPLITS
    }
    return fingerprint([rest, content], 64)
