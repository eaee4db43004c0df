"""Parse rows of JSON Lines and JSON lists with their line numbers; an invalid row doesn't stop the others."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sizewise.documents.decoding import HEAD, Unreadable
from sizewise.documents.json_window import Window
from sizewise.documents.text_lines import MAX_ROW_CHARACTERS, Line, TextLines
from sizewise.documents.values import SPLIT_NAMES, Decimal, type_of, without_surrogates

JSON_KINDS = (".jsonl", ".ndjson", ".json")
LIST_KEYS = ("data", "examples", "rows", "instances", "items", "observations", "traces", "resourceSpans")
ROW_KEYS = ("prompt", "messages", "conversations", "text", "question", "input")
"""Keys of a file that is a single row, written over several lines."""
_COMPARABLE_JSON = json.JSONDecoder(parse_constant=str)  # NaN is not equal to itself
_CARRIAGE_RETURN = re.compile(r"(?<=\r)(?!\n)")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


class Row(NamedTuple):
    """A row of a file."""

    line: int
    """Number of its first line; the first line of a file is 1."""
    cells: dict[str, Any]
    """Key or column name -> value; empty for an invalid row."""
    problem: str = ""
    """Why the row cannot be used."""
    form: str = ""
    """The row format, where the file or the reader of traces knows it."""
    table: str = ""
    """Name of the sheet, if the rows of a file come from several."""


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
    """Normalize a heading: composed characters, lower case, with underscores for spaces and dashes."""
    return re.sub(r"[ -]+", "_", unicodedata.normalize("NFC", heading).strip().lower())


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


def json_rows(file: TextLines, *, replace_surrogates: bool = False) -> Iterator[Row]:
    """Yield the objects of JSON Lines, or of a JSON list, which may be the value of a key such as `data`.

    JSON Lines and lists are read row by row, so that a file may exceed the memory.

    Args:
        file: The file.
        replace_surrogates: Replace unpaired surrogates with U+FFFD.

    Raises:
        Unreadable: The file is a single JSON value without a list of objects, or a list that breaks off.
    """
    head = file.head.lstrip(" \t\r\n\ufeff")
    if head[:1] == "[":
        yield from list_rows(file.chunks(), replace_surrogates=replace_surrogates)
        return
    if _may_be_one_object(file, head):
        text = file.whole()
        lists = _lists_in(text)
        for key, start in lists:
            for row in list_rows(iter([text]), start, replace_surrogates=replace_surrogates):
                if len(lists) > 1 and key in SPLIT_NAMES and row.cells:
                    row.cells.setdefault("split", key)
                yield row
        if lists:
            return
        if re.match(r"\{\s*\n", head):
            yield from _object_rows(text, replace_surrogates)
            return
    for line in all_lines(file.lines()):
        text = line.text.lstrip("\ufeff")
        if line.problem or not text.strip():
            if line.problem:
                yield Row(line.number, {}, line.problem)
        elif len(text) > MAX_ROW_CHARACTERS:
            yield Row(line.number, {}, f"a row of {len(text):,} characters")
        else:
            yield _json_row(line.number, text, replace_surrogates)


def _object_rows(text: str, replace_surrogates: bool) -> Iterator[Row]:
    """Yield the objects of a text, each written over several lines."""
    window = Window(iter([text]))
    while mark := window.skip_space():
        line = window.line
        if mark not in "{[,":
            raise Unreadable(f"JSON objects that are invalid at line {line}")
        if mark == ",":
            window.move(1)
            continue
        value, problem = window.decode(_JSON)
        if problem and not window.skip_value():
            raise Unreadable(f"a JSON object that is invalid at line {line}: {problem}")
        yield Row(line, {}, problem) if problem else make_row(line, value, replace_surrogates)


def _json_row(number: int, text: str, replace_surrogates: bool) -> Row:
    try:
        value = _JSON.decode(text.strip(" \t\r\n").removesuffix(","))
    except (ValueError, RecursionError) as error:
        reason = "it has a NUL character" if "\0" in text else f"not valid JSON ({error})"
        return Row(number, {}, reason)
    return make_row(number, value, replace_surrogates and bool(_SURROGATE_ESCAPE.search(text)))


def _may_be_one_object(file: TextLines, head: str) -> bool:
    """Check whether a file may be one object instead of JSON Lines."""
    if head[:1] != "{":
        return False
    if re.match(r"\{\s*\n", head):
        return True
    alone = file.count == 1 or (file.count == 0 and "\n" not in head.strip())
    return alone and (len(head) < HEAD // 4 or any(re.search(rf'"{key}"\s*:\s*\[', head) for key in LIST_KEYS))


def make_row(number: int, value: Any, replace_surrogates: bool = False) -> Row:
    """Make a row of a JSON value, which must be an object."""
    if not isinstance(value, dict):
        return Row(number, {}, f"{type_of(value)}, not a JSON object")
    if isinstance(value, _Object) and value.duplicate_key is not None:
        key = without_surrogates(value.duplicate_key)
        return Row(number, {}, f"the key '{key}' occurs twice with different values")
    try:
        return Row(number, without_surrogates(value) if replace_surrogates else value)
    except RecursionError:
        return Row(number, {}, "lists or objects are nested too deeply")


def _lists_in(text: str) -> list[tuple[str, int]]:
    """Find (key, offset) of the lists in a file that is one object with rows under well-known keys."""
    head = re.match(r"\s*\{\s*\n", text)
    try:
        content = _COMPARABLE_JSON.decode(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(content, dict):
        return []
    rows_of = {key: content[key] for key in (*LIST_KEYS, *SPLIT_NAMES) if _is_rows(content.get(key))}
    if "input" in content:
        rows_of.pop("observations", None)  # a trace, which is one row
    if any(key in SPLIT_NAMES for key in rows_of):
        rows_of = {key: rows for key, rows in rows_of.items() if key in SPLIT_NAMES}
    found = []
    for key, rows in list(rows_of.items())[: None if any(key in SPLIT_NAMES for key in rows_of) else 1]:
        # Nested objects can have the same key, so a candidate must also parse to the same list.
        offsets = [match.end() for match in re.finditer(rf'"{key}"\s*:\s*(?=\[)', text)]
        if len(offsets) > 1:
            offsets = [offset for offset in offsets if _COMPARABLE_JSON.raw_decode(text, offset)[0] == rows]
        found += [(key, offset) for offset in offsets[:1]]
    if head and not found and not any(key in content for key in ROW_KEYS):
        keys = ", ".join(map(repr, list(content)[:8]))
        raise Unreadable(f"a single JSON object with the keys {keys} and no list of rows")
    return found


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def list_rows(chunks: Iterator[str], start: int = 0, *, replace_surrogates: bool = False) -> Iterator[Row]:
    """Yield the rows of a JSON list that comes in pieces; an invalid row is skipped by its brackets.

    Args:
        chunks: The pieces of the text.
        start: Offset of a list inside an object; 0 if the list is the whole file.
        replace_surrogates: Replace unpaired surrogates with U+FFFD.

    Raises:
        Unreadable: The list breaks off, or other text follows it.
    """
    text = Window(chunks)
    text.skip_to("[", start)
    while True:
        mark = text.skip_space()
        line = text.line
        if mark == "]":
            text.move(1)
            if not start and text.skip_space():
                raise Unreadable(f"a JSON list that ends at line {line}, followed by more text")
            return
        value, problem = text.decode(_JSON)
        if problem and not text.skip_value():
            raise Unreadable(f"a JSON list that is invalid at line {line}: {problem}")
        mark = text.skip_space()
        if mark not in (",", "]"):
            raise Unreadable(f"a JSON list that is invalid at line {line}: expected a comma or the end of the list")
        yield Row(line, {}, problem) if problem else make_row(line, value, replace_surrogates)
        text.move(mark == ",")


def all_lines(lines: Iterator[Line]) -> Iterator[Line]:
    """Yield the lines, also those that end with a carriage return alone."""
    more = 0
    for line in lines:
        parts = _CARRIAGE_RETURN.split(line.text) if "\r" in line.text[:-2] else [line.text]
        for part in parts:
            yield line._replace(number=line.number + more, text=part)
            more += 1
        more -= 1
