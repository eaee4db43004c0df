"""Read files, archives and web pages into documents and examples."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from sizewise.documents import archives, converting, crawling
from sizewise.documents.converted import documents_of, read_converted
from sizewise.documents.decoding import MAX_FILE_BYTES, Unreadable, decode_file
from sizewise.documents.parts import Conversion, Part, Remarks
from sizewise.documents.personal_data import PersonalData, check_choice
from sizewise.documents.reading import FileRead, Reading, ReadOptions
from sizewise.documents.rows import KNOWN_KEYS, check_rejected, of_cells, read_rows
from sizewise.documents.tables import CELL_KINDS, JSON_KINDS, cell_rows, json_rows
from sizewise.errors import SizewiseError, install_command

COMPRESSED = (".gz",)
TEXT_KINDS = (".txt", ".md", ".markdown", ".text")
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
    remarks = Remarks()
    personal = PersonalData(check_choice(options.personal_data))
    with ExitStack() as stack:
        converters = stack.enter_context(converting.Converters())
        unpacked = stack.enter_context(archives.Unpacked())
        downloaded = stack.enter_context(crawling.Downloads(paths, options))
        files = unpacked.files(downloaded.files(_named_files(downloaded.paths)))
        for path, name in converters.ahead(files, MAX_FILE_BYTES):
            try:
                found = _read_file(File(path, name, kind_of(path), options, converters))
            except Unreadable as reason:
                skipped.setdefault(str(reason), []).append(name)
                continue
            origin = downloaded.origins.get(path) or unpacked.origins.get(path)
            _add(found, reading, personal, origin)
            remarks.add(name, found.removed, found.remarks)
            notes += found.notes
        for name, refused in downloaded.refused + unpacked.refused:
            skipped.setdefault(refused, []).append(name)
    for refused, names in skipped.items():
        reading.not_read[refused] = reading.not_read.get(refused, 0) + len(names)
    notes += [*remarks.notes(), *personal.notes()]
    notes += [
        f"not read ({reason}): {', '.join(names[:_LISTED])}"
        + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
        for reason, names in skipped.items()
    ]
    if len(reading.documents) + len(reading.examples) == before:
        needs_extra = any("needs " in reason for reason in skipped) and importlib.util.find_spec("markitdown") is None
        details = "; ".join(notes) or "the folder is empty"
        kinds = (*TEXT_KINDS, *JSON_KINDS, *CELL_KINDS, *converting.KINDS, *archives.ZIP_KINDS)
        raise SizewiseError(
            f"No text was found in {', '.join(str(path) for path in paths)}: {details}.",
            f"files of type {', '.join(kinds)}, text in UTF-8",
            install_command("documents")
            if needs_extra
            else "sizewise read PATH, with a folder of such files, or sizewise read demo:fhir",
        )
    reading.notes += notes
    return reading


def _add(found: FileRead, reading: Reading, personal: PersonalData, origin: str | None) -> None:
    """Add what was read from a file, with personal data masked or dropped if that was chosen."""
    for document in found.documents:
        kept = personal.document(document)
        if kept is not None:
            reading.documents.append(kept.model_copy(update={"origin": origin}) if origin else kept)
    for example in found.examples:
        usable = personal.example(example)
        if usable is not None:
            reading.examples.append(usable)
    for row in found.rejected:
        reading.rejected.append(row)
    reading.forms.update(found.forms)


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
    converters: converting.Converters


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
    return documents_of(Conversion([Part(text)]), file.path, file.name)


def _read_converted(file: File) -> FileRead:
    return read_converted(file.path, file.name, file.converters)


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
