"""Read text, Markdown, JSON, CSV, PDF, DOCX and HTML files into documents and examples."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sizewise.documents import converting, row_files, spreadsheets
from sizewise.documents.cells import known_columns
from sizewise.documents.cleaning import clean_text, unmapped_share, without_unmapped
from sizewise.documents.decoding import Unreadable, check_size, decode_file
from sizewise.documents.reading import FileRead, Reading, ReadOptions, make_document
from sizewise.documents.row_files import kind_of
from sizewise.documents.rows import RowSource, check_rejected, of_cells, read_rows
from sizewise.documents.tables import CELL_KINDS
from sizewise.errors import SizewiseError, install_command
from sizewise.records import Split

TEXT_KINDS = (".txt", ".md", ".markdown", ".text")
MAX_UNMAPPED = 0.1  # share of a PDF's letters
_LISTED = 5
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
    skipped: dict[str, list[str]] = {}
    notes: list[str] = []
    with converting.Converter() as converter:
        for file in _files_to_read(paths, among, options, converter, reading):
            if reading.is_done(file.name):
                continue
            try:
                found = _read_file(file)
            except Unreadable as reason:
                reading.not_read[str(reason)] = reading.not_read.get(str(reason), 0) + 1
                skipped.setdefault(str(reason), []).append(file.name)
                reading.finish(file.name)
                continue
            found.flush_to(reading)
            reading.forms.update(found.forms)
            reading.notes += found.notes
            reading.finish(file.name)
    notes += [
        f"not read ({reason}): {', '.join(names[:_LISTED])}"
        + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
        for reason, names in skipped.items()
    ]
    if not len(reading.documents) + len(reading.examples):
        needs_extra = any("needs " in reason for reason in skipped) and importlib.util.find_spec("markitdown") is None
        details = "; ".join(notes) or "the folder is empty"
        raise SizewiseError(
            f"No text was found in {', '.join(str(path) for path in paths)}: {details}.",
            f"files of type {', '.join(TEXT_KINDS + row_files.KINDS + converting.KINDS)}, text in UTF-8",
            install_command("documents")
            if needs_extra
            else "sizewise read PATH, with a folder of such files, or sizewise read demo:fhir",
        )
    reading.notes += notes
    return reading


def _named_files(paths: Sequence[Path | str]) -> Iterator[tuple[Path, str]]:
    """Yield (path, name) of each file; the name is relative to the given folder."""
    for given in paths:
        root = Path(given).expanduser()
        if not root.exists():
            raise SizewiseError(f"{root} doesn't exist.", "an existing file or folder", "sizewise read PATH...")
        for path in _files(root):
            yield path, path.relative_to(root).as_posix() if root.is_dir() else path.name


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for path in sorted(root.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts):
            yield path


def _files_to_read(
    paths: Sequence[Path | str],
    among: Sequence[Path | str],
    options: ReadOptions,
    converter: converting.Converter,
    into: Reading,
) -> Iterator[File]:
    """Yield the files, without those that only describe a dataset."""
    named = [(path, name) for path, name in _named_files(paths) if not row_files.is_dataset_file(path)]
    splits = row_files.splits_in_names([*named, *_named_files(among)])
    for path, name in named:
        if not row_files.is_dataset_card(path, named):
            yield File(path, name, kind_of(path), options, converter, into, splits.get(path))


class File(NamedTuple):
    """A file to read, and how."""

    path: Path
    name: str
    """Name of the file in the dataset."""
    kind: str
    """File extension in lower case; for compressed files the last two, such as .jsonl.gz."""
    options: ReadOptions
    converter: converting.Converter
    into: Reading
    """Where to put the rows of large files while they are read."""
    split: Split | None = None
    """The split that the name of the file states."""


def _read_file(file: File) -> FileRead:
    reader = READERS.get(file.kind)
    if reader is None:
        raise Unreadable(f"unsupported type {file.kind}" if file.kind else "no file extension")
    return reader(file)


def _read_text(file: File) -> FileRead:
    text, guess = decode_file(file.path)
    read = _one_document(file, text)
    if guess:
        read.notes.insert(0, f"{file.name}: decoded as {guess} (a guess); save the file as UTF-8 to be sure")
    return read


def _one_document(file: File, text: str) -> FileRead:
    cleaned = clean_text(text)
    if not cleaned:
        raise Unreadable("empty")
    return FileRead([make_document(file.name, file.path.stem, cleaned, str(file.path))])


def _read_converted(file: File) -> FileRead:
    check_size(file.path)
    try:
        text = file.converter.text_of(file.path)
    except converting.CannotConvert as error:
        raise Unreadable(f"{file.kind}, {error}") from error
    if not text.strip():
        raise Unreadable(f"{file.kind}, no text (scanned pages?)")
    unmapped = unmapped_share(text) if file.kind == ".pdf" else 0.0
    if unmapped > MAX_UNMAPPED:
        raise Unreadable(f"{file.kind}, its fonts don't map to Unicode (cid:NN), so it needs OCR")
    read = _one_document(file, without_unmapped(text) if unmapped else text)
    if unmapped:
        read.notes.append(
            f"{file.name}: {unmapped:.1%} of the characters were dropped or replaced by U+FFFD, because the fonts "
            "don't map them to Unicode"
        )
    return read


def _read_rows(file: File) -> FileRead:
    """Read a file of rows; a JSON file without any rows counts as unreadable."""
    opened = row_files.open_rows(file.path, known_columns(file.options))
    rows = map(of_cells, opened.rows) if file.kind.startswith(CELL_KINDS) else opened.rows
    read = _read_open_rows(file, row_files.OpenRows(rows, opened.guess, opened.label_names))
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
        raise Unreadable(f"{kind}, {str(error).removeprefix(f'{kind}, ')}") from error
    if not read.usable and ((kind.startswith(".json") and not kind.startswith(".jsonl")) or not read.rejected_count):
        first = read.first_rejected[0] if read.first_rejected else None
        raise Unreadable(f"{kind}, line {first.line}: {first.reason}" if first else f"{kind}, no rows")
    check_rejected(read, file.path, file.options.max_rejects)
    if file.split and read.documents:
        read.notes.append(f"{file.name}: the split in the file's name applies to examples, not to documents")
    return read


def _read_spreadsheet(file: File) -> FileRead:
    """Read an Excel file as rows if its sheets have known headings, or else as a document."""
    found = spreadsheets.sheet_rows(file.path, known_columns(file.options))
    if found is None:
        return _read_converted(file)
    read = _read_open_rows(file, row_files.OpenRows(map(of_cells, found.rows)))
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
