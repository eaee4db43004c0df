"""Read text, Markdown, rows of JSON, tables of cells and what `converting` knows into documents and examples."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from sizewise.documents import converting
from sizewise.documents.cleaning import clean_text, unknown_share, without_unknown
from sizewise.documents.decoding import Unreadable, check_size, decoded
from sizewise.documents.reading import FileRead, Reading, make_document
from sizewise.documents.rows import KNOWN_KEYS, MAX_REJECTS, check_rejected, of_cells, read_rows
from sizewise.documents.tables import CELL_KINDS, JSON_KINDS, cell_rows, json_rows
from sizewise.errors import SizewiseError, install_command
from sizewise.records import Document, Example, RejectedRow

TEXT_KINDS = (".txt", ".md", ".markdown", ".text")
MAX_UNKNOWN = 0.1  # share of a PDF's letters
_NAMED = 5


def read_paths(paths: Sequence[Path | str], max_rejects: float = MAX_REJECTS) -> Reading:
    """Read files and folders (recursively, hidden files left out).

    Kinds that are not read, binary files and files in an encoding that cannot be told are counted and named.

    Args:
        paths: files and folders.
        max_rejects: share of the rows of a file that may be unusable; they are set aside and noted.

    Raises:
        SizewiseError: a path does not exist, too many rows of a file cannot be used, or nothing could be read.
    """
    documents: list[Document] = []
    examples: list[Example] = []
    rejected: list[RejectedRow] = []
    forms: Counter[str] = Counter()
    not_read: Counter[str] = Counter()
    named: dict[str, list[str]] = {}
    notes: list[str] = []
    with converting.Converter() as converter:
        for path, name in _named_files(paths):
            try:
                found = _read_file(path, name, converter, max_rejects)
            except Unreadable as reason:
                not_read[str(reason)] += 1
                named.setdefault(str(reason), []).append(name)
                continue
            documents += found.documents
            examples += found.examples
            rejected += found.rejected
            forms.update(found.forms)
            notes += found.notes
    notes += [
        f"not read, {kind}: {', '.join(names[:_NAMED])}"
        + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        for kind, names in named.items()
    ]
    if not documents and not examples:
        lacking = any("needs " in kind for kind in named) and importlib.util.find_spec("markitdown") is None
        found_there = "; ".join(notes) or "the folder is empty"
        raise SizewiseError(
            f"No text was found in {', '.join(str(path) for path in paths)}: {found_there}.",
            f"files of the kinds {', '.join(TEXT_KINDS + JSON_KINDS + CELL_KINDS + converting.KINDS)}, text in UTF-8",
            install_command("documents")
            if lacking
            else "sizewise read PATH, with a folder that holds such files, or sizewise read demo:fhir",
        )
    return Reading(tuple(documents), tuple(examples), dict(not_read), tuple(notes), dict(forms), tuple(rejected))


def _named_files(paths: Sequence[Path | str]) -> Iterator[tuple[Path, str]]:
    """Yield files with the names that they have below what was named."""
    for given in paths:
        root = Path(given).expanduser()
        if not root.exists():
            raise SizewiseError(f"There is no file or folder {root}.", "a path that exists", "sizewise read PATH...")
        for path in _files(root):
            yield path, path.relative_to(root).as_posix() if root.is_dir() else path.name


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for path in sorted(root.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts):
            yield path


def _read_file(path: Path, name: str, converter: converting.Converter, max_rejects: float) -> FileRead:
    kind = path.suffix.lower()
    guess, unknown = "", 0.0
    if kind in (*JSON_KINDS, *CELL_KINDS, *TEXT_KINDS):
        text, guess = decoded(path)
    elif kind in converting.KINDS:
        check_size(path)
        try:
            text = converter.text_of(path)
        except converting.CannotConvert as error:
            raise Unreadable(f"kind {kind}, {error}") from error
        if not text.strip():
            raise Unreadable(f"kind {kind}, no text in it (scanned pages?)")
        unknown = unknown_share(text) if kind == ".pdf" else 0.0
        if unknown > MAX_UNKNOWN:
            raise Unreadable(f"kind {kind}, its fonts do not say which letters they show (cid:NN); it needs OCR")
    else:
        raise Unreadable(f"kind {kind or 'without ending'}")
    if kind in (*JSON_KINDS, *CELL_KINDS):
        read = _read_rows(text, path, name, max_rejects)
    else:
        cleaned = clean_text(without_unknown(text) if unknown else text)
        if not cleaned:
            raise Unreadable("empty")
        read = FileRead([make_document(name, path.stem, cleaned, str(path))])
    if unknown:
        read.notes.append(f"{name}: {unknown:.1%} of its signs were dropped or are U+FFFD: its fonts do not name them")
    if guess:
        read.notes.insert(0, f"{name}: read as {guess}, which is a guess; save it as UTF-8 to be sure")
    return read


def _read_rows(text: str, path: Path, name: str, max_rejects: float) -> FileRead:
    """Read a file of rows; a JSON file that holds no rows at all is one more kind that is not read."""
    kind = path.suffix.lower()
    try:
        rows = map(of_cells, cell_rows(text, KNOWN_KEYS)) if kind in CELL_KINDS else json_rows(text)
        read = read_rows(rows, path, name)
    except Unreadable as error:
        raise Unreadable(f"kind {kind}, {error}") from error
    if not read.usable and (kind == ".json" or not read.rejected):
        reason = f"line {read.rejected[0].line}: {read.rejected[0].reason}" if read.rejected else "no rows"
        raise Unreadable(f"kind {kind}, {reason}")
    check_rejected(read, path, max_rejects)
    return read
