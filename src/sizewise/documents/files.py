"""Read text, Markdown, JSONL, CSV and what `converting` knows into documents and examples."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sizewise.documents import converting
from sizewise.documents.cleaning import clean_text
from sizewise.documents.reading import Reading, make_document
from sizewise.errors import SizewiseError, install_command
from sizewise.records import Document, Example, Message

TEXT_KINDS = (".txt", ".md", ".markdown", ".text")
ROW_KINDS = (".jsonl", ".ndjson")
TABLE_KINDS = (".csv", ".tsv")
# Names that people use for the same thing; the first is ours.
PROMPT_KEYS = ("prompt", "question", "input", "instruction")
REFERENCE_KEYS = ("references", "reference", "answer", "output", "response")
MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_ROW_CHARACTERS = 10_000_000
_NAMED = 5


class _Unreadable(Exception):
    """A file that cannot be read; the message is its kind in the count of files not read."""


def read_paths(paths: Sequence[Path | str]) -> Reading:
    """Read files and folders (recursively, hidden files left out).

    Kinds that are not read, binary files and files in another encoding than UTF-8 are counted and named.

    Raises:
        SizewiseError: a path does not exist, a row is not what it should be, or nothing could be read.
    """
    documents: list[Document] = []
    examples: list[Example] = []
    not_read: Counter[str] = Counter()
    named: dict[str, list[str]] = {}
    notes: list[str] = []
    with converting.Converter() as converter:
        for path, name in _named_files(paths):
            try:
                new_documents, new_examples, new_notes = _read_file(path, name, converter)
            except _Unreadable as reason:
                not_read[str(reason)] += 1
                named.setdefault(str(reason), []).append(name)
            else:
                documents += new_documents
                examples += new_examples
                notes += new_notes
    notes += [
        f"not read, {kind}: {', '.join(names[:_NAMED])}"
        + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        for kind, names in named.items()
    ]
    if not documents and not examples:
        lacking = any("needs " in kind for kind in named) and importlib.util.find_spec("markitdown") is None
        found = "; ".join(notes) or "the folder is empty"
        raise SizewiseError(
            f"No text was found in {', '.join(str(path) for path in paths)}: {found}.",
            f"files of the kinds {', '.join(TEXT_KINDS + ROW_KINDS + TABLE_KINDS + converting.KINDS)}, text in UTF-8",
            install_command("documents")
            if lacking
            else "sizewise read PATH, with a folder that holds such files, or sizewise read demo:fhir",
        )
    return Reading(tuple(documents), tuple(examples), dict(not_read), tuple(notes))


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


def _read_file(
    path: Path, name: str, converter: converting.Converter
) -> tuple[list[Document], list[Example], list[str]]:
    kind = path.suffix.lower()
    if kind in ROW_KINDS:
        return _read_rows(_json_rows(_decoded(path), path), path, name)
    if kind in TABLE_KINDS:
        return _read_rows(_table_rows(_decoded(path), kind), path, name)
    if kind in TEXT_KINDS:
        text = _decoded(path)
    elif kind in converting.KINDS:
        _check_size(path)
        try:
            text = converter.text_of(path)
        except converting.CannotConvert as error:
            raise _Unreadable(f"kind {kind}, {error}") from error
        if not text.strip():
            raise _Unreadable(f"kind {kind}, no text in it (scanned pages?)")
    else:
        raise _Unreadable(f"kind {kind or 'without ending'}")
    cleaned = clean_text(text)
    if not cleaned:
        raise _Unreadable("empty")
    return [make_document(name, path.stem, cleaned, str(path))], [], []


def _check_size(path: Path) -> None:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _Unreadable(f"larger than {MAX_FILE_BYTES // 2**20} MB")
    except OSError as error:
        raise _Unreadable(f"unreadable ({error.strerror})") from error


def _decoded(path: Path) -> str:
    _check_size(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _Unreadable(f"unreadable ({error.strerror})") from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\x00" in raw[:65536]:
        raise _Unreadable("binary")
    else:
        encoding = "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise _Unreadable(f"not {encoding.removesuffix('-sig').upper()}") from error


def _json_rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            if len(line) > MAX_ROW_CHARACTERS:
                raise ValueError(f"a row of {len(line)} characters")
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not a JSON object")
        except (ValueError, RecursionError) as error:
            raise _bad_row(path, number, str(error).splitlines()[0]) from error
        yield number, row


def _table_rows(text: str, kind: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a table with a heading; empty cells are left out, `choices` and `tags` are split at |."""
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if kind == ".tsv" else ",")
    known = ("text", "messages", *PROMPT_KEYS)
    if not any(key in known for key in reader.fieldnames or ()):
        raise _Unreadable(f"kind {kind}, no column {', '.join(known[:1] + PROMPT_KEYS)}")
    for cells in reader:
        row: dict[str, Any] = {key: cell for key, cell in cells.items() if key and cell}
        for key in ("choices", "tags"):
            if key in row:
                row[key] = [part.strip() for part in row[key].split("|") if part.strip()]
        yield reader.line_num, row


def _bad_row(path: Path, number: int, reason: str) -> SizewiseError:
    return SizewiseError(
        f"{path}, line {number}: {reason}.",
        'rows {"text": ...} or {"prompt" or "messages", "references"} with "id", "tags", "source" if known',
        f"mend line {number} of {path} and run the same command again",
    )


def _read_rows(
    rows: Iterator[tuple[int, dict[str, Any]]], path: Path, name: str
) -> tuple[list[Document], list[Example], list[str]]:
    documents: list[Document] = []
    examples: list[Example] = []
    unused: set[str] = set()
    for number, row in rows:
        try:
            if "text" in row:
                cleaned = clean_text(str(row["text"]))
                if cleaned:
                    row_id = str(row.get("id") or f"{name}:{number}")
                    licence = str(row.get("licence") or "not stated")
                    documents.append(
                        make_document(
                            row_id, str(row.get("title") or row_id), cleaned, f"{path}, line {number}", licence
                        )
                    )
            else:
                example, not_used = _example(row, f"{name}:{number}", path.parent)
                examples.append(example)
                unused |= not_used
        except (ValueError, TypeError, ValidationError, RecursionError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error).splitlines()[0]
            raise _bad_row(path, number, reason) from error
    notes = [f"{name}: columns not used: {', '.join(sorted(unused))}"] if unused else []
    return documents, examples, notes


def _example(row: dict[str, Any], fallback_id: str, folder: Path) -> tuple[Example, set[str]]:
    """Make an example of a row, its images in a folder; give also the keys that were not used."""
    prompt_key, answer_key = _present(row, PROMPT_KEYS), _present(row, REFERENCE_KEYS)
    if (prompt_key is None) == ("messages" not in row):
        raise ValueError(f"an example needs either prompt or messages{_nearest(row, PROMPT_KEYS)}")
    given = row[answer_key] if answer_key else []
    references = [given] if isinstance(given, str) else given
    if not isinstance(references, list):
        raise ValueError(f"{answer_key} is neither a text nor a list of texts")
    references = tuple(str(reference).strip() for reference in references if str(reference).strip())
    if not references:
        raise ValueError(
            f"an example without references cannot be measured{_nearest(row, REFERENCE_KEYS) if not answer_key else ''}"
        )
    messages = [{"role": "user", "content": str(row[prompt_key])}] if prompt_key else row["messages"]
    if prompt_key and row.get("images"):
        messages[0]["images"] = row["images"]
    schema = row.get("schema")
    if schema is not None and not isinstance(schema, dict):
        raise ValueError("schema is no JSON object")
    example_id = str(row.get("id") or fallback_id)
    tags = row.get("tags") or ()
    example = Example(
        id=example_id,
        messages=tuple(_with_images(Message(**message), folder) for message in messages),
        references=references,
        tags=(tags,) if isinstance(tags, str) else tuple(str(tag) for tag in tags),
        source=str(row.get("source") or example_id),
        copy_text=str(row.get("copy_text") or ""),
        choices=tuple(str(choice).strip() for choice in row.get("choices") or ()),
        answer_schema=json.dumps(schema, sort_keys=True) if schema else "",
        split=row.get("split") or None,
    )
    used = {
        prompt_key,
        answer_key,
        "images",
        "id",
        "messages",
        "tags",
        "source",
        "copy_text",
        "choices",
        "schema",
        "split",
    }
    return example, set(row) - used - {"passage"}  # of drafts: for the person who looks at them


def _with_images(message: Message, folder: Path) -> Message:
    """Find the images of a message beside the file that names them."""
    paths = [folder / Path(image).expanduser() for image in message.images]
    for path in paths:
        if not path.is_file():
            raise ValueError(f"there is no image {path}")
    return message.model_copy(update={"images": tuple(str(path.resolve()) for path in paths)})


def _present(row: dict[str, Any], keys: Sequence[str]) -> str | None:
    return next((key for key in keys if key in row), None)


def _nearest(row: dict[str, Any], keys: Sequence[str]) -> str:
    for key in row:
        near = get_close_matches(key, keys, n=1, cutoff=0.7)
        if near:
            return f"; is '{key}' meant to be '{near[0]}'?"
    return ""
