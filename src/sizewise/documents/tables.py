"""Parse rows of JSON Lines, JSON lists and CSV with their line numbers; an invalid row doesn't stop the others."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sizewise.documents.decoding import Unreadable
from sizewise.documents.values import Decimal, type_of, without_surrogates
from sizewise.store import numbered_lines

JSON_KINDS = (".jsonl", ".ndjson", ".json")
CELL_KINDS = (".csv", ".tsv")
MAX_ROW_CHARACTERS = 10_000_000
DELIMITERS = ",;\t|"
LIST_KEYS = ("data", "examples", "rows", "train", "instances")
_COMPARABLE_JSON = json.JSONDecoder(parse_constant=str)  # NaN is not equal to itself
_SPACE = re.compile(r"[ \t\n\r\ufeff]*")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SEP_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)


class Row(NamedTuple):
    """A row of a file."""

    line: int
    """Number of its first line; the first line of a file is 1."""
    cells: dict[str, Any]
    """Key or column name -> value; empty for an invalid row."""
    problem: str = ""
    """Why the row cannot be used."""


class _Object(dict[str, Any]):
    """A JSON object that records a duplicate key with different values, in itself or in a nested object.

    A parser keeps only one of those values.
    """

    duplicate_key: str | None = None


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object(pairs)
    duplicate = next((found for _, value in pairs if (found := _duplicate_key_in(value)) is not None), None)
    if len(made) < len(pairs):
        seen: dict[str, Any] = {}
        duplicate = next((key for key, value in pairs if seen.setdefault(key, value) != value), duplicate)
    if duplicate is not None:
        made.duplicate_key = duplicate
    return made


def _duplicate_key_in(value: Any) -> str | None:
    """Return a duplicate key of an object, or of an object in a list."""
    items = value if isinstance(value, list) else [value]
    return next(
        (item.duplicate_key for item in items if isinstance(item, _Object) and item.duplicate_key is not None), None
    )


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_float=Decimal)


def column_name(heading: str) -> str:
    """Normalize a heading: lower case, with underscores for spaces and dashes."""
    return re.sub(r"[ -]+", "_", heading.strip().lower())


def by_name(cells: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Map normalized column names to (original key, value).

    If keys differ only in case, spaces or dashes, the one that is already normalized gets the name; the others keep
    their original key.
    """
    named = {key: (key, value) for key, value in cells.items() if column_name(key) == key}
    for key, value in cells.items():
        if key not in named:
            name = column_name(key)
            named[key if name in named else name] = key, value
    return named


def json_rows(text: str, *, replace_surrogates: bool = False) -> Iterator[Row]:
    """Yield the objects of JSON Lines, or of a JSON list, which may be the value of a key such as `data`.

    Args:
        text: Content of the file.
        replace_surrogates: Replace unpaired surrogates with U+FFFD.

    Raises:
        Unreadable: The file is a single JSON value without a list of objects.
    """
    if text.lstrip(" \t\r\n\ufeff")[:1] == "[":
        yield from _list_rows(text, replace_surrogates)
        return
    start = _start_of_list(text)
    if start:
        yield from _list_rows(text, replace_surrogates, start)
        return
    for number, line in numbered_lines(text):
        if len(line) > MAX_ROW_CHARACTERS:
            yield Row(number, {}, f"a row of {len(line):,} characters")
            continue
        try:
            value = _JSON.decode(line)
        except (ValueError, RecursionError) as error:
            yield Row(number, {}, f"not valid JSON ({error})")
            continue
        yield _row(number, value, replace_surrogates and bool(_SURROGATE_ESCAPE.search(line)))


def _row(number: int, value: Any, replace_surrogates: bool) -> Row:
    if not isinstance(value, dict):
        return Row(number, {}, f"{type_of(value)}, not a JSON object")
    if isinstance(value, _Object) and value.duplicate_key is not None:
        key = without_surrogates(value.duplicate_key)
        return Row(number, {}, f"the key '{key}' occurs twice with different values")
    try:
        return Row(number, without_surrogates(value) if replace_surrogates else value)
    except RecursionError:
        return Row(number, {}, "lists or objects are nested too deeply")


def _start_of_list(text: str) -> int:
    """Find the offset of the list in a file that is one object with rows under a well-known key; 0 for other files."""
    head = re.match(r"\s*\{\s*\n", text)
    if not head and "\n" in text.strip():
        return 0  # JSON Lines
    try:
        content = _COMPARABLE_JSON.decode(text)
    except (ValueError, RecursionError):
        return 0
    if not isinstance(content, dict):
        return 0
    key = next((key for key in LIST_KEYS if isinstance(content.get(key), list)), None)
    if key is not None and all(isinstance(row, dict) for row in content[key]):
        # Nested objects can have the same key, so a candidate must also parse to the same list.
        offsets = [found.end() for found in re.finditer(rf'"{key}"\s*:\s*(?=\[)', text)]
        if len(offsets) > 1:
            offsets = [offset for offset in offsets if _COMPARABLE_JSON.raw_decode(text, offset)[0] == content[key]]
        return offsets[0] if offsets else 0
    if head:
        keys = ", ".join(map(repr, list(content)[:8]))
        raise Unreadable(f"a single JSON object with the keys {keys} and no list of rows")
    return 0


def _list_rows(text: str, replace_surrogates: bool, start: int = 0) -> Iterator[Row]:
    """Yield the rows of a JSON list; `start` is the offset of a list inside an object."""
    offset = text.index("[", start) + 1
    line, counted = 1 + text.count("\n", 0, offset), offset
    replace_surrogates = replace_surrogates and bool(_SURROGATE_ESCAPE.search(text))
    while True:
        offset = _skip_space(text, offset)
        line, counted = line + text.count("\n", counted, offset), offset
        if text[offset : offset + 1] == "]":
            if not start and _skip_space(text, offset + 1) < len(text):
                raise Unreadable(f"a JSON list that ends at line {line}, followed by more text")
            return
        try:
            value, offset = _JSON.raw_decode(text, offset)
            end = _skip_space(text, offset)
            if text[end : end + 1] not in (",", "]"):
                raise ValueError("expected a comma or the end of the list")
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"a JSON list that is invalid at line {line}: {error}") from error
        yield _row(line, value, replace_surrogates)
        offset = end + (text[end] == ",")


def _skip_space(text: str, offset: int) -> int:
    found = _SPACE.match(text, offset)
    return found.end() if found else offset


def cell_rows(text: str, known: frozenset[str]) -> Iterator[Row]:
    """Yield the rows of a table with headings; the delimiter is detected.

    Args:
        text: Content of the file.
        known: Column names of which the table needs at least one.

    Raises:
        Unreadable: No column is known, two columns have the same name, or a quoted cell is never closed.
    """
    start = len(text) - len(text.lstrip("\ufeff \r\n"))
    stated = _SEP_LINE.match(text, start)
    start = stated.end() if stated else start
    skipped, body = text.count("\n", 0, start), text[start:]
    delimiter = stated.group(1) if stated else _delimiter(body, known)
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_CHARACTERS))
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        headings = [column_name(cell) for cell in next(reader, [])]
    except csv.Error as error:
        raise Unreadable(f"the headings cannot be parsed ({error})") from error
    _check_headings(headings, known)
    while True:
        first = reader.line_num + 1 + skipped
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise Unreadable(f"the quote opened in line {first} is never closed") from error
            for line in range(first, reader.line_num + skipped + 1):
                yield Row(line, {}, f"cannot be split into cells ({error})")
            continue
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield _cell_row(first, cells, headings, delimiter)


def _cell_row(line: int, cells: list[str], headings: list[str], delimiter: str) -> Row:
    if [column_name(cell.lstrip("\ufeff")) for cell in cells] == headings:
        return Row(line, {}, "the headings again, probably where files were joined")
    if len(cells) > len(headings) and any(cell.strip() for cell in cells[len(headings) :]):
        reason = f"{len(cells)} cells under {len(headings)} headings (quote texts that contain '{delimiter}')"
        return Row(line, {}, reason)
    return Row(line, {key: cell for key, cell in zip(headings, cells, strict=False) if key})


def _check_headings(headings: list[str], known: frozenset[str]) -> None:
    if not known.intersection(headings):
        seen = ", ".join(repr(heading) for heading in headings[:8]) or "none"
        raise Unreadable(f"no column named {', '.join(sorted(known))}; the headings are {seen}")
    repeated = sorted({heading for heading in headings if heading and headings.count(heading) > 1})
    if repeated:
        raise Unreadable(f"two columns are named {repeated[0]!r}")


def _delimiter(text: str, known: frozenset[str]) -> str:
    """Detect the delimiter: the one that yields the most known headings, then the most headings."""

    def fit(delimiter: str) -> tuple[int, int, int]:
        try:
            row = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True), [])
        except csv.Error:
            row = []
        return len(known.intersection(map(column_name, row))), len(row), -DELIMITERS.index(delimiter)

    return max(DELIMITERS, key=fit)
