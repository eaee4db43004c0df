"""Read files, archives and web pages into documents and examples."""

from __future__ import annotations

import re
import shlex
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from sizewise.documents import archives, containers, converting, crawling, row_files, spreadsheets
from sizewise.documents.cell_tables import CELL_KINDS
from sizewise.documents.cells import known_columns
from sizewise.documents.class_folders import InClass, find_classes, read_in_class
from sizewise.documents.converted import documents_of, read_converted
from sizewise.documents.decoding import MAX_FILE_BYTES, Unreadable, check_size, decode_file
from sizewise.documents.folders import named_files
from sizewise.documents.guessing import guess_columns
from sizewise.documents.parts import CannotConvert, Conversion, Part
from sizewise.documents.peeking import PEEKED
from sizewise.documents.personal_data import PersonalData, check_choice
from sizewise.documents.reading import FileRead, Reading, ReadOptions
from sizewise.documents.row_files import kind_of
from sizewise.documents.rows import RowSource, check_rejected, of_cells, read_rows
from sizewise.documents.sites import Sites
from sizewise.errors import SizewiseError, shown_path
from sizewise.records import Split

TEXT_KINDS = (".txt", ".md", ".markdown", ".text")
_LISTED = 5
_INSTALL = re.compile(r"needs (.*\bpip install .*)")
DEFAULTS = ReadOptions()


def read_paths(
    paths: Sequence[Path | str],
    options: ReadOptions = DEFAULTS,
    into: Reading | None = None,
    among: Sequence[Path | str] = (),
) -> Reading:
    """Read files and folders (recursively, without hidden files).

    Unsupported and binary files, and files whose encoding is unclear, are skipped and listed in the notes.

    Args:
        paths: Files and folders.
        options: How to read them.
        into: The reading that documents, examples and notes are added to; a new one by default.
        among: The other files and folders of the dataset: the file names train and test count if both are there.

    Returns:
        The reading.

    Raises:
        SizewiseError: A path doesn't exist, a file has too many unusable rows, or no text was found.
    """
    reading = into if into is not None else Reading()
    reading.personal = PersonalData(check_choice(options.personal_data), reading.removed, reading.tokens)
    commands: list[str] = []
    with _Sources(paths, options, reading) as sources:
        for file in _files_to_read(sources, among, options, reading):
            try:
                found = _read_file(file)
            except Unreadable as reason:
                reading.skip(file.name, str(reason))
                commands += [reason.command.replace("FILE", shlex.quote(str(file.path)))] if reason.command else []
                reading.finish(file.key)
                continue
            found.flush_to(reading)
            reading.forms.update(found.forms)
            reading.count_removed(found.removed)
            reading.notes += map(reading.personal.words, found.notes)
            reading.finish(file.key)
        for name, refused in sources.refused:
            reading.skip(name, refused)
    reading.note_removed()
    notes = [
        f"not read ({reason}): {', '.join(names)}"
        + (f" and {reading.not_read[reason] - len(names):,} more" if reading.not_read[reason] > len(names) else "")
        for reason, names in reading.skipped.items()
    ]
    if not len(reading.documents) + len(reading.examples):
        commands += [install[1] for reason in reading.skipped if (install := _INSTALL.search(reason))]
        details = "; ".join([*reading.notes[-_LISTED:], *notes]) or "the folder is empty"
        kinds = dict.fromkeys((*TEXT_KINDS, *row_files.KINDS, *converting.KINDS, *archives.ZIP_KINDS, ".tar.gz"))
        raise SizewiseError(
            f"No text was found in {', '.join(str(path) for path in paths)}: {details}.",
            f"files of type {', '.join(kinds)}, text in UTF-8",
            commands[0] if commands else "sizewise read PATH, with a folder of such files, or sizewise read demo:fhir",
        )
    reading.notes += notes
    return reading


class _Sources:
    """The files of paths and addresses, and the processes that convert them; temporary files are removed at the end."""

    def __init__(self, paths: Sequence[Path | str], options: ReadOptions, into: Reading) -> None:
        self._paths, self._options, self._into = paths, options, into
        self._not_taken: list[tuple[str, str]] = []

    def __enter__(self) -> _Sources:
        with ExitStack() as stack:
            self._downloads = stack.enter_context(
                crawling.Downloads(self._paths, self._options, folder=self._into.folder)
            )
            self._unpacked = stack.enter_context(archives.Unpacked(self._into.folder))
            self.converters = stack.enter_context(converting.Converters())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._stack.close()

    def named(self) -> list[tuple[Path, str]]:
        """Return (path, name) of each file; archives are unpacked and pages fetched."""
        files = named_files(self._downloads.paths, self._into.excluded, self._not_taken)
        return [(path, shown_path(name)) for path, name in self._unpacked.files(self._downloads.files(files))]

    @property
    def origins(self) -> dict[str, str]:
        """Path of a temporary file -> the archive member or address that it is from."""
        origins = self._unpacked.origins | self._downloads.origins
        return {shown_path(path): shown_path(origin) for path, origin in origins.items()}

    @property
    def refused(self) -> list[tuple[str, str]]:
        """(name, reason) of files, archives, members and pages that were not read."""
        return self._not_taken + self._downloads.refused + self._unpacked.refused


def _files_to_read(
    sources: _Sources, among: Sequence[Path | str], options: ReadOptions, into: Reading
) -> Iterator[File]:
    """Yield the files, without those that only describe a dataset or were read before."""
    named = [(path, name) for path, name in sources.named() if not row_files.is_dataset_file(path)]
    into.origins.update(sources.origins)
    sites = Sites(named, into.origins, sources.converters)
    splits = row_files.splits_in_names([*named, *named_files(among, into.excluded)])
    leftovers = [(path, name) for path, name in named if row_files.is_leftover(path)]
    notes = [f"{name}: not part of the saved dataset (state.json), not read" for _, name in leftovers]
    named = [file for file in named if file not in leftovers]
    cards = {name for path, name in named if row_files.is_dataset_card(path, named)}
    notes += [f"{name}: taken for the card of a dataset, not read" for name in sorted(cards)]
    notes = [into.personal.words(note) for note in notes]
    into.notes += [note for note in notes if note not in into.notes]
    classes = find_classes(named, options.label)
    class_note = [into.personal.words(classes.note)] if classes.note else []
    into.notes += [note for note in class_note if note not in into.notes]
    keys = _keys(named)
    to_read = ((path, name) for path, name in named if name not in cards and not into.is_done(keys[path]))
    for path, name in sources.converters.ahead(to_read, MAX_FILE_BYTES):
        recurring = sites.recurring(path)
        split, in_class = splits.get(path), classes.files.get(path)
        yield File(path, name, kind_of(path), options, sources.converters, into, keys[path], split, recurring, in_class)


def _keys(named: Sequence[tuple[Path, str]]) -> dict[Path, str]:
    """Return what identifies each file in a journal: its name, and which of the files with this name it is."""
    seen: Counter[str] = Counter()
    keys = {}
    for path, name in named:
        seen[name] += 1
        keys[path] = name if seen[name] == 1 else f"{name}\0{seen[name]}"
    return keys


class File(NamedTuple):
    """A file to read, and how."""

    path: Path
    name: str
    """Name of the file in the dataset."""
    kind: str
    """File extension in lower case; for compressed files the last two, such as .jsonl.gz."""
    options: ReadOptions
    converters: converting.Converters
    into: Reading
    """Where to put the rows of large files while they are read."""
    key: str
    """What identifies the file in a journal."""
    split: Split | None = None
    """The split that the name of the file states."""
    recurring: frozenset[str] = frozenset()
    """Lines that recur on most pages of the site that the file is from."""
    in_class: InClass | None = None
    """The class that the folder of the file is."""


def _read_file(file: File) -> FileRead:
    reader = READERS.get(file.kind)
    if reader is None:
        raise Unreadable(f"unsupported type {file.kind}" if file.kind else "no file extension")
    return reader(file)


def _read_text(file: File) -> FileRead:
    if file.in_class is not None:
        return read_in_class(file.path, file.name, file.in_class)
    text, guess = decode_file(file.path)
    read = _one_document(file, text)
    if guess:
        read.notes.insert(0, f"{file.name}: decoded as {guess} (a guess); save the file as UTF-8 to be sure")
    return read


def _one_document(file: File, text: str) -> FileRead:
    return documents_of(Conversion([Part(text)]), file.path, file.name)


def _read_converted(file: File) -> FileRead:
    return read_converted(file.path, file.name, file.converters, file.recurring)


def _read_rows(file: File) -> FileRead:
    """Read a file of rows; a JSON file without any rows counts as unreadable."""
    opened = row_files.open_rows(file.path, known_columns(file.options))
    rows = map(of_cells, opened.rows) if file.kind.startswith(CELL_KINDS) else opened.rows
    read = _read_open_rows(file, opened._replace(rows=rows))
    if opened.guess:
        read.notes.insert(0, f"{file.name}: decoded as {opened.guess} (a guess); save the file as UTF-8 to be sure")
    return read


def _read_open_rows(file: File, opened: row_files.OpenRows) -> FileRead:
    kind = file.kind
    already = len(file.into.documents) + len(file.into.examples) + len(file.into.rejected)
    source = RowSource(file.path, file.name, file.options, file.split, opened.label_names)
    try:
        read = read_rows(opened.rows, source, file.into)
    except Unreadable as error:
        if len(file.into.documents) + len(file.into.examples) + len(file.into.rejected) > already:
            raise SizewiseError(
                f"{file.path} cannot be read to its end: {error}.", "a complete file", f"fix {file.path}"
            ) from error
        raise Unreadable(f"{kind}, {str(error).removeprefix(f'{kind}, ')}", error.command) from error
    read.notes += [f"{file.name}: {note}" for note in opened.notes]
    if not read.usable and ((kind.startswith(".json") and not kind.startswith(".jsonl")) or not read.rejected_count):
        first = read.first_rejected[0] if read.first_rejected else None
        raise Unreadable(f"{kind}, line {first.line}: {first.reason}" if first else f"{kind}, no rows")
    check_rejected(read, file.path, file.options.max_rejects)
    if file.split and read.documents:
        read.notes.append(f"{file.name}: the split in the file's name applies to examples, not to documents")
    return read


def _read_spreadsheet(file: File) -> FileRead:
    """Read an Excel file as rows if its sheets have known headings, or else as a document."""
    check_size(file.path)
    try:
        with file.path.open("rb") as content:
            containers.check_container(content)
    except (CannotConvert, zipfile.BadZipFile) as error:
        raise Unreadable(f"{file.kind}, {error}") from error
    found = spreadsheets.sheet_rows(file.path, known_columns(file.options))
    if found is None:
        read = _read_converted(file)
        named = guess_columns(*spreadsheets.first_rows(file.path, PEEKED))
        if named:
            read.notes.append(f"{file.name}: read as text; if each row is an example, name its columns: {named}")
        return read
    read = _read_open_rows(file, row_files.OpenRows(map(of_cells, found.rows), notes=found.notes))
    if found.others:
        read.notes.append(f"{file.name}: sheets without known headings, not read: {', '.join(found.others)}")
    return read


READERS: dict[str, Callable[[File], FileRead]] = {
    **dict.fromkeys(TEXT_KINDS, _read_text),
    **dict.fromkeys(converting.KINDS, _read_converted),
    **dict.fromkeys(row_files.KINDS, _read_rows),
    **dict.fromkeys(spreadsheets.KINDS, _read_spreadsheet),
}
"""Extension -> how such a file is read."""
