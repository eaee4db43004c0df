"""Read documents and examples into a dataset: deduplicated, split, and checked for contamination."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from sizewise.datasets.contamination import Tally, Text, contamination
from sizewise.datasets.keys import example_key, key_hash
from sizewise.datasets.label_report import LABEL_ERRORS, LabelTally, label_notes
from sizewise.datasets.labels import with_labels
from sizewise.datasets.listing import Listing
from sizewise.datasets.passages import NO_EXAMPLES_NOTE, PROXY_NOTE, derived_examples, passages
from sizewise.datasets.splits import Assignment, assign_splits
from sizewise.datasets.staging import StagedReading, staged
from sizewise.datasets.studied import STUDIED, with_verbatim_answers
from sizewise.documents import DEMOS, Inventory, PersonalDataChoice, Reading, ReadOptions, read_demo, read_paths
from sizewise.documents.chapters import chapters_of
from sizewise.documents.personal_data import Tokens
from sizewise.documents.reading import Rows
from sizewise.errors import SizewiseError, UsageError, shown_path
from sizewise.records import (
    SPLITS,
    ContaminationEntry,
    ContaminationReport,
    Dataset,
    Document,
    Example,
    LabelError,
    LabelReport,
    Record,
    RejectedRow,
    Split,
    SplitSize,
    fingerprint,
)
from sizewise.store import RowFile, Saved, Store, make_folder, offline

REJECTED = "rejected.jsonl"
CONTAMINATION = "leaks.jsonl"
DATASET_VERSION = 7
"""Incremented when splits, deduplication, contamination or label rules change; part of a dataset's id."""

MIN_DOCUMENTS = 10
"""With fewer documents, long ones are cut into chapters."""
TEST: Split = "test"
R = TypeVar("R", bound=Record)
Documents = Mapping[Split, Sequence[Document]]
Examples = Mapping[Split, Sequence[Example]]


@dataclass(frozen=True)
class DatasetContents:
    """A dataset whose texts stay on disk: the sequences parse a row when it is asked for.

    Attributes:
        record: The record.
        documents: Split -> documents.
        examples: Split -> examples.
        rejected: Rows that could not be used.
        entries: Overlap of each test item with the training split.
        label_errors: Examples whose label is doubtful.
    """

    record: Dataset
    documents: Documents
    examples: Examples
    rejected: Sequence[RejectedRow] = ()
    entries: Sequence[ContaminationEntry] = ()
    label_errors: Sequence[LabelError] = ()

    @cached_property
    def contamination_entries(self) -> dict[str, ContaminationEntry]:
        """Id of a test item -> its overlap with the training split."""
        return {entry.item: entry for entry in self.entries}


def read(
    sources: str | Path | Sequence[str | Path],
    *,
    store: Store | None = None,
    name: str | None = None,
    domain: str | None = None,
    seed: int = 0,
    split: str = "documents",
    all_test: bool = False,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> Saved[Dataset]:
    """Read documents and examples into a dataset and save it.

    Args:
        sources: A file, a folder or `demo:NAME`, or several of them.
        store: Where records are saved; SIZEWISE_HOME by default.
        name: Display name of the dataset.
        domain: Application domain.
        seed: Seed of the split.
        split: What is held out: documents, questions, prompts, time, group or given; see `assign_splits`.
        all_test: Put everything into the test split, for data that no model was trained on.
        options: How to read the files: column names, and the share of unusable rows that is accepted.

    Returns:
        The dataset. Reading the same sources again returns the same id; another name, domain, file name, seed or split,
        or other rows that cannot be used, make another dataset. The folder that files lie in makes no difference.

    Raises:
        SizewiseError: Nothing could be read, too many rows are unusable, or a split would be empty.
    """
    store, sources = store or Store(), _checked(sources)
    demos = [str(source).removeprefix("demo:") for source in sources if str(source).startswith("demo:")]
    if domain is None and demos and demos[0] in DEMOS:
        domain = DEMOS[demos[0]].split(":")[0]
    with staged(store, sources, options, DATASET_VERSION) as folder:
        tokens = Tokens()
        readings = [_read_source(number, sources, store, options, folder, tokens) for number in range(len(sources))]
        contents = build(
            readings,
            [reading.personal.words(shown_path(source)) for reading, source in zip(readings, sources, strict=True)],
            name,
            domain or "general",
            seed,
            split=TEST if all_test else split,
            folder=folder,
            personal_data=options.personal_data,
        )
        for rows in _files(contents):
            _close(rows)
        return save(store, folder, contents)


def _checked(sources: str | Path | Iterable[str | Path]) -> list[str | Path]:
    listed = [sources] if isinstance(sources, str | Path) else list(sources) if isinstance(sources, Iterable) else []
    if any(not isinstance(source, str | Path) or not str(source).strip() for source in listed):
        raise UsageError(f"The sources are {listed!r:.100}.", "paths or demo:NAME", "sizewise read demo:fhir")
    if not listed:
        raise UsageError("No files to read were given.", "a path or demo:NAME", "sizewise read demo:fhir")
    return listed


def _read_source(
    number: int, sources: Sequence[str | Path], store: Store, options: ReadOptions, folder: Path, tokens: Tokens
) -> Reading:
    source = sources[number]
    if str(source).startswith("demo:"):
        return read_demo(str(source).removeprefix("demo:"), store.wheels_folder(), offline())
    reading = StagedReading(folder, number, tokens)
    reading.question = options.question
    if reading.is_complete:
        return reading
    reading.excluded = (store.home,)
    others = [other for other in sources if other != source and not str(other).startswith("demo:")]
    read_paths([source], options, reading, others)
    reading.complete()
    return reading


def build(
    readings: Sequence[Reading],
    sources: Sequence[str],
    name: str | None,
    domain: str,
    seed: int,
    *,
    split: str = "documents",
    folder: Path | None = None,
    personal_data: PersonalDataChoice = "keep",
) -> DatasetContents:
    """Build a dataset from readings; the result depends on the arguments only.

    Args:
        readings: What was read of each source.
        sources: Names of the sources.
        name: Display name of the dataset.
        domain: Application domain.
        seed: Seed of the split.
        split: What is held out, see `assign_splits`; `test` puts everything into the test split.
        folder: Folder for the rows; without one they are held in memory.
        personal_data: What became of personal data when the files were read.
    """
    question = next((reading.question for reading in readings if reading.question), None)
    readings, notes = (list(readings), []) if split == TEST else _with_chapters(readings)
    notes = [note for reading in readings for note in reading.notes] + notes
    readings, table = with_labels(readings, question)
    notes += table.notes
    listing = Listing(readings, split == TEST, folder)
    writer = _Writer(folder, LabelTally(table, listing.examples))
    _write_splits(listing, split, seed, writer, notes)
    labels = _label_report(writer, listing, notes)
    derived = not any(len(reading.examples) for reading in readings)
    if derived:
        listing.duplicates += writer.derive()
        notes.append(PROXY_NOTE if len(writer.examples["test"]) else NO_EXAMPLES_NOTE)
    _check_test(writer)
    report = _contamination_report(writer, listing, derived, split, notes)
    notes += [*_repeated_prompts(report), *writer.inventory.notes(personal_data)]
    stated: list[Any] = [question.model_dump()] if question else []
    facts = [seed, split, domain, personal_data, name or "", *map(_last_part, sources), *stated]
    record = Dataset(
        name=name or ", ".join(sources),
        domain=domain,
        sources=tuple(sources),
        seed=seed,
        contamination=report,
        derived=derived,
        notes=tuple(notes),
        cautions=tuple(listing.cautions),
        split_by=split,
        near_duplicates=listing.near_duplicate_count,
        personal_data_choice=personal_data,
        question=table.question,
        labels=labels,
        **writer.counts(readings, facts),
    )
    kept = (writer.documents, writer.examples, writer.rejected, writer.entries, writer.label_errors)
    return DatasetContents(record, *kept)


def _contamination_report(
    writer: _Writer, listing: Listing, derived: bool, split: str, notes: list[str]
) -> ContaminationReport:
    """Compare the test split with training, and count answers that stand in studied documents."""
    # A model that is to know the documents has seen them: only other questions and answers can give a test item away.
    report = writer.check_contamination(derived, split in STUDIED).report(listing.duplicates)
    if split not in STUDIED:
        return report
    return with_verbatim_answers(report, writer.documents["train"], writer.examples["test"], notes)


def _label_report(writer: _Writer, listing: Listing, notes: list[str]) -> LabelReport | None:
    """Report on the labels, if the examples have any, and note what is doubtful."""
    labels = writer.labels.report(writer.examples, listing.near_duplicates["example"], writer.label_errors)
    notes += [*label_notes(labels), *writer.labels.notes()] if labels else []
    return labels


def _check_test(writer: _Writer) -> None:
    """Check that the test split has documents or examples."""
    if not len(writer.documents["test"]) and not len(writer.examples["test"]):
        raise SizewiseError(
            "The test split is empty: no documents or examples are left for it.",
            "distinct documents or examples, some of which aren't assigned to training",
            "add documents or examples; then run the same command again",
        )


def _repeated_prompts(report: ContaminationReport) -> list[str]:
    """Note that most prompts occur in the training text."""
    if report.prompts <= report.examples / 2:
        return []
    return [
        f"The prompts of {report.prompts:,} of {report.examples:,} test examples occur in the training text, in full "
        "or as a long passage. If examples were made from documents, name each one's document in a column 'document'."
    ]


def _last_part(source: str) -> str:
    """Return the name of a file or folder, or an address as it is: a folder that moved keeps the id of its dataset."""
    return source if "://" in source else Path(source).expanduser().resolve().name


def _with_chapters(readings: Sequence[Reading]) -> tuple[list[Reading], list[str]]:
    """Cut long documents into chapters if there are too few documents to hold any out; also return a note.

    A document that an example names as its source stays whole.
    """
    if sum(len(reading.documents) for reading in readings) >= MIN_DOCUMENTS:
        return list(readings), []
    named = {example.source for reading in readings for example in reading.examples}
    found, notes = [], []
    for reading in readings:
        documents: list[Document] = []
        for document in reading.documents:
            chapters = [document] if document.id in named else chapters_of(document)
            documents += chapters
            if len(chapters) > 1:
                notes.append(
                    f"{document.id} was cut into {len(chapters)} chapters, which are split like documents of their own"
                )
        found.append(_with_documents(reading, documents))
    return (found, notes) if notes else (list(readings), [])


def _with_documents(reading: Reading, documents: list[Document]) -> Reading:
    """Return a reading with other documents."""
    return Reading(
        documents, reading.examples, reading.not_read, reading.notes, reading.forms, rejected=reading.rejected
    )


def _write_splits(listing: Listing, split: str, seed: int, writer: _Writer, notes: list[str]) -> None:
    """Write every document and example to its split."""
    documents, examples = listing.documents, listing.examples
    if split == TEST:
        assigned = Assignment(dict.fromkeys(documents.kept(), TEST), dict.fromkeys(examples.kept(), TEST), [])
    else:
        assigned = assign_splits(documents, examples, split, seed)
    listing.note_near_duplicates(assigned.documents, assigned.examples)
    notes += listing.notes + assigned.notes
    for i, document in listing.kept_documents():
        writer.add_document(document, assigned.documents[i])
    for i, example in listing.kept_examples():
        writer.add_example(example, assigned.examples[i])
        writer.labels.add(i, example, assigned.examples[i])


class _Writer:
    """Writes rows to their split, and counts and hashes them on the way."""

    def __init__(self, folder: Path | None, labels: LabelTally) -> None:
        self._folder, self.labels = folder, labels
        self.documents: dict[Split, Any] = {s: self._rows(f"{s}.documents.jsonl", Document) for s in SPLITS}
        self.examples: dict[Split, Any] = {s: self._rows(f"{s}.examples.jsonl", Example) for s in SPLITS}
        self.rejected: Any = self._rows(REJECTED, RejectedRow)
        self.entries: Any = self._rows(CONTAMINATION, ContaminationEntry)
        self.label_errors: Any = self._rows(LABEL_ERRORS, LabelError)
        self.inventory = Inventory()
        self._characters: Counter[str] = Counter()
        self.groups: dict[str, Counter[str]] = {}
        self._hash = hashlib.sha256()

    def _rows(self, name: str, row_type: type[R]) -> Any:
        return [] if self._folder is None else RowFile(self._folder / name, row_type, new=True)

    def add_document(self, document: Document, split: Split) -> None:
        """Write a document."""
        self.documents[split].append(document)
        self.inventory.add(document)
        self._characters[split] += len(document.text)
        facts = document.model_dump_json(exclude={"text", "origin"})
        self._hash.update(f"{split}\0{facts}\n".encode())

    def add_example(self, example: Example, split: Split) -> None:
        """Write an example that was read."""
        self.inventory.add(example)
        self._write_example(example, split)

    def _write_example(self, example: Example, split: Split) -> None:
        self.examples[split].append(example)
        for column, group in example.attributes.items() if split == "test" else ():
            self.groups.setdefault(column, Counter())[group] += 1
        self._hash.update(f"{split}\0{example.model_dump_json()}\n".encode())

    def derive(self) -> int:
        """Make examples from the documents; return how many were left out because documents share a passage."""
        known: set[int] = set()
        repeated = 0
        for split in SPLITS:
            for document in self.documents[split]:
                for example in derived_examples(document):
                    key = key_hash(repr(example_key(example)))
                    if key in known:
                        repeated += 1
                    else:
                        known.add(key)
                        self._write_example(example, split)
        return repeated

    def check_contamination(self, derived: bool, studied: bool) -> Tally:
        """Compare the test split with the training split; with its examples only, if its documents are studied."""
        documents = () if studied else self.documents["train"]
        tally = Tally()
        passages_of_test = _Passages(self.documents["test"])
        for entry in contamination(documents, passages_of_test, self.examples, derived, self._folder, studied):
            self.entries.append(tally.add(entry))
        return tally

    def sizes(self) -> dict[Split, SplitSize]:
        """Return the size of each split."""
        return {
            split: SplitSize(
                documents=len(self.documents[split]),
                characters=self._characters[split],
                examples=len(self.examples[split]),
            )
            for split in SPLITS
        }

    def counts(self, readings: Iterable[Reading], facts: list[Any]) -> dict[str, Any]:
        """Return the fields of the record that are counted, and the hash of all rows and of how they were read."""
        not_read: Counter[str] = Counter()
        forms: Counter[str] = Counter()
        for reading in readings:
            not_read.update(reading.not_read)
            forms.update(reading.forms)
            for row in reading.rejected:
                self.rejected.append(row)
                self._hash.update(f"rejected\0{row.model_dump_json()}\n".encode())
        content = self._hash.hexdigest()
        return {
            "splits": self.sizes(),
            "not_read": dict(not_read),
            "forms": dict(forms),
            "rejected": len(self.rejected),
            "groups": {column: dict(sorted(counts.items())) for column, counts in self.groups.items()},
            "sha256": fingerprint(
                [[DATASET_VERSION, *facts], sorted(not_read.items()), sorted(forms.items()), content], 64
            ),
            **self.inventory.counts(),
        }


class _Passages:
    """The passages of documents, anew at each iteration."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._documents = documents

    def __iter__(self) -> Iterator[Text]:
        for document in self._documents:
            for passage in passages(document):
                yield Text(passage.item, document.text[passage.start : passage.end])


def save(store: Store, folder: Path, contents: DatasetContents) -> Saved[Dataset]:
    """Move a dataset's texts to where they stay, and write its record; one that exists is returned as it is."""
    dataset_id = f"data-{contents.record.sha256[:10]}"
    if store.exists("dataset", dataset_id):
        return store.get(Dataset, dataset_id)
    target = folder / "dataset"
    make_folder(target)
    for rows in _files(contents):
        assert isinstance(rows, RowFile)
        rows.path.rename(target / rows.path.name)
    store.adopt("dataset", dataset_id, target)
    return store.write(dataset_id, contents.record)


def _files(contents: DatasetContents) -> list[Sequence[Any]]:
    """Return the rows of a dataset that lie in files."""
    return [
        *contents.documents.values(),
        *contents.examples.values(),
        contents.rejected,
        contents.entries,
        contents.label_errors,
    ]


def load(store: Store, dataset_id: str) -> DatasetContents:
    """Open a dataset; its texts are read when they are asked for.

    Raises:
        SizewiseError: The dataset doesn't exist or is damaged.
    """
    record = store.read(Dataset, dataset_id)
    folder = store.folder("dataset", dataset_id)
    return DatasetContents(
        record,
        {split: store.rows(folder, f"{split}.documents.jsonl", Document) for split in SPLITS},
        {split: store.rows(folder, f"{split}.examples.jsonl", Example) for split in SPLITS},
        store.rows(folder, REJECTED, RejectedRow) if record.rejected else (),
        store.rows(folder, CONTAMINATION, ContaminationEntry),
        store.rows(folder, LABEL_ERRORS, LabelError) if record.labels else (),
    )


def _close(rows: Rows[Any] | Sequence[Any]) -> None:
    if isinstance(rows, RowFile):
        rows.flush()
        rows.close()
