"""Read text, Markdown, JSON, CSV, PDF, DOCX and HTML files into documents and examples."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sizewise.documents import converting
from sizewise.documents.cleaning import clean_text, unmapped_share, without_unmapped
from sizewise.documents.decoding import Unreadable, check_size, decode_file
from sizewise.documents.reading import FileRead, Reading, ReadOptions, make_document
from sizewise.documents.rows import KNOWN_KEYS, check_rejected, of_cells, read_rows
from sizewise.documents.tables import CELL_KINDS, JSON_KINDS, cell_rows, json_rows
from sizewise.errors import SizewiseError, install_command

COMPRESSED = (".gz",)
TEXT_KINDS = (".txt", ".md", ".markdown", ".text")
MAX_UNMAPPED = 0.1  # share of a PDF's letters
_LISTED = 5
DEFAULTS = ReadOptions()


def read_paths(paths: Sequence[Path | str], options: ReadOptions = DEFAULTS, into: Reading | None = None) -> Reading:
    """Read files and folders (recursively, without hidden files).

    Unsupported and binary files, and files whose encoding is unclear, are skipped and listed in the notes.

    Args:
        paths: Files and folders.
        options: How to read them.
        into: The reading that documents, examples and notes are added to; a new one by default.

    Returns:
        The reading.

    Raises:
        SizewiseError: A path doesn't exist, a file has too many unusable rows, or no text was found.
    """
    reading = into if into is not None else Reading()
    before = len(reading.documents) + len(reading.examples)
    skipped: dict[str, list[str]] = {}
    notes: list[str] = []
    with converting.Converter() as converter:
        for path, name in _named_files(paths):
            try:
                found = _read_file(File(path, name, kind_of(path), options, converter))
            except Unreadable as reason:
                reading.not_read[str(reason)] = reading.not_read.get(str(reason), 0) + 1
                skipped.setdefault(str(reason), []).append(name)
                continue
            for document in found.documents:
                reading.documents.append(document)
            for example in found.examples:
                reading.examples.append(example)
            for row in found.rejected:
                reading.rejected.append(row)
            reading.forms.update(found.forms)
            notes += found.notes
    notes += [
        f"not read ({reason}): {', '.join(names[:_LISTED])}"
        + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
        for reason, names in skipped.items()
    ]
    if len(reading.documents) + len(reading.examples) == before:
        needs_extra = any("needs " in reason for reason in skipped) and importlib.util.find_spec("markitdown") is None
        details = "; ".join(notes) or "the folder is empty"
        raise SizewiseError(
            f"No text was found in {', '.join(str(path) for path in paths)}: {details}.",
            f"files of type {', '.join(TEXT_KINDS + JSON_KINDS + CELL_KINDS + converting.KINDS)}, text in UTF-8",
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


class File(NamedTuple):
    """A file to read, and how."""

    path: Path
    name: str
    """Name of the file in the dataset."""
    kind: str
    """File extension in lower case; for compressed files the last two, such as .jsonl.gz."""
    options: ReadOptions
    converter: converting.Converter


def kind_of(path: Path) -> str:
    """Return the extension of a path in lower case; of a compressed file the last two."""
    kind = path.suffix.lower()
    return f"{Path(path.stem).suffix.lower()}{kind}" if kind in COMPRESSED else kind


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
    kind = file.kind
    text, guess = decode_file(file.path)
    try:
        rows = map(of_cells, cell_rows(text, KNOWN_KEYS)) if kind in CELL_KINDS else json_rows(text)
        read = read_rows(rows, file.path, file.name)
    except Unreadable as error:
        raise Unreadable(f"{kind}, {error}") from error
    if not read.usable and (kind == ".json" or not read.rejected):
        reason = f"line {read.rejected[0].line}: {read.rejected[0].reason}" if read.rejected else "no rows"
        raise Unreadable(f"{kind}, {reason}")
    check_rejected(read, file.path, file.options.max_rejects)
    if guess:
        read.notes.insert(0, f"{file.name}: decoded as {guess} (a guess); save the file as UTF-8 to be sure")
    return read


READERS: dict[str, Callable[[File], FileRead]] = {
    **dict.fromkeys(TEXT_KINDS, _read_text),
    **dict.fromkeys(converting.KINDS, _read_converted),
    **dict.fromkeys((*JSON_KINDS, *CELL_KINDS), _read_rows),
}
"""Extension -> how such a file is read."""
