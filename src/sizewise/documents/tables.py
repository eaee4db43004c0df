"""Rows of JSON lines, JSON lists and tables of cells, each with its line; a broken row does not stop the others."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sizewise.documents.decoding import Unreadable
from sizewise.documents.values import Written, kind_of, mended

JSON_KINDS = (".jsonl", ".ndjson", ".json")
CELL_KINDS = (".csv", ".tsv")
MAX_ROW_CHARACTERS = 10_000_000
DELIMITERS = ",;\t|"
_COMPARED = json.JSONDecoder(parse_constant=str)  # NaN is not equal to itself
_SPACE = re.compile(r"[ \t\n\r\ufeff]*")
_HALF_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SEP_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
LIST_KEYS = ("data", "examples", "rows", "train", "instances")


class Row(NamedTuple):
    """A row of a file."""

    line: int
    """Its first line, counted from 1."""
    cells: dict[str, Any]
    """Key or heading -> value; empty if the row is broken."""
    broken: str = ""
    """Why it cannot be used."""


class _Object(dict[str, Any]):
    """A JSON object; remembers a key that stands twice in it, or in what it holds: only one of the values is kept."""

    twice: str | None = None


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object(pairs)
    twice = next((found for _, value in pairs if (found := _twice_in(value)) is not None), None)
    if len(made) < len(pairs):
        seen: dict[str, Any] = {}
        twice = next((key for key, value in pairs if seen.setdefault(key, value) != value), twice)
    if twice is not None:
        made.twice = twice
    return made


def _twice_in(value: Any) -> str | None:
    """Return a key that stands twice in an object, or in one of a list of objects."""
    some = value if isinstance(value, list) else [value]
    return next((one.twice for one in some if isinstance(one, _Object) and one.twice is not None), None)


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_float=Written)


def name_of(heading: str) -> str:
    """Return a heading as the readers look for it: small letters, no blanks around."""
    return re.sub(r"[ -]+", "_", heading.strip().lower())


def by_name(cells: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Return what stands in a row by the name that readers look for, with the key as it is written.

    Of keys that differ in nothing but case, blanks and dashes the plain one has the name; others stay as they are.
    """
    found = {key: (key, value) for key, value in cells.items() if name_of(key) == key}
    for key, value in cells.items():
        if key not in found:
            name = name_of(key)
            found[key if name in found else name] = key, value
    return found


def json_rows(text: str, *, mend: bool = False) -> Iterator[Row]:
    """Yield the objects of JSON lines, or of one list, alone or under a key as `data`.

    Args:
        text: of the file.
        mend: put U+FFFD in place of half characters.

    Raises:
        Unreadable: it is one JSON value, but no list of objects.
    """
    if text.lstrip(" \t\r\n\ufeff")[:1] == "[":
        yield from _list_rows(text, mend)
        return
    start = _start_of_list(text)
    if start:
        yield from _list_rows(text, mend, start)
        return
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines(): U+2028 may stand in a text
        if not line.strip():
            continue
        if len(line) > MAX_ROW_CHARACTERS:
            yield Row(number, {}, f"a row of {len(line):,} characters")
            continue
        try:
            value = _JSON.decode(line.lstrip("\ufeff"))  # which stays where files were joined
        except (ValueError, RecursionError) as error:
            yield Row(number, {}, f"not JSON ({error})")
            continue
        yield _row(number, value, mend and bool(_HALF_ESCAPE.search(line)))


def _row(number: int, value: Any, mend: bool) -> Row:
    if not isinstance(value, dict):
        return Row(number, {}, f"{kind_of(value)}, not a JSON object")
    if isinstance(value, _Object) and value.twice is not None:
        return Row(number, {}, f"the key '{mended(value.twice)}' stands twice, with different values")
    try:
        return Row(number, mended(value) if mend else value)
    except RecursionError:
        return Row(number, {}, "lists or objects nested too deep")


def _start_of_list(text: str) -> int:
    """Find where the list begins in a file that is one object with a list of rows under a well-known key."""
    head = re.match(r"\s*\{\s*\n", text)
    if not head and "\n" in text.strip():
        return 0  # JSON lines
    try:
        whole = _COMPARED.decode(text)
    except (ValueError, RecursionError):
        return 0
    if not isinstance(whole, dict):
        return 0
    key = next((key for key in LIST_KEYS if isinstance(whole.get(key), list)), None)
    if key is not None and all(isinstance(row, dict) for row in whole[key]):
        places = [found.end() for found in re.finditer(rf'"{key}"\s*:\s*(?=\[)', text)]  # inner objects have it, too
        if len(places) > 1:
            places = [place for place in places if _COMPARED.raw_decode(text, place)[0] == whole[key]]
        return places[0] if places else 0
    if head:
        raise Unreadable(f"one JSON object with the keys {', '.join(map(repr, list(whole)[:8]))}, no list of rows")
    return 0


def _list_rows(text: str, mend: bool, at: int = 0) -> Iterator[Row]:
    place = text.index("[", at) + 1
    line, counted = 1 + text.count("\n", 0, place), place
    mend = mend and bool(_HALF_ESCAPE.search(text))
    while True:
        place = _after_space(text, place)
        line, counted = line + text.count("\n", counted, place), place
        if text[place : place + 1] == "]":
            if not at and _after_space(text, place + 1) < len(text):
                raise Unreadable(f"a JSON list that ends in line {line} with more behind it")
            return
        try:
            value, place = _JSON.raw_decode(text, place)
            end = _after_space(text, place)
            if text[end : end + 1] not in (",", "]"):
                raise ValueError("a comma or the end of the list was expected")
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"a JSON list that breaks off at line {line}: {error}") from error
        yield _row(line, value, mend)
        place = end + (text[end] == ",")


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def cell_rows(text: str, known: frozenset[str]) -> Iterator[Row]:
    """Yield the rows of a table with headings, whatever stands between its cells.

    Args:
        text: of the file.
        known: headings of which there must be one.

    Raises:
        Unreadable: no heading is known, two are the same, or a quoted cell never ends.
    """
    start = len(text) - len(text.lstrip("\ufeff \r\n"))
    stated = _SEP_LINE.match(text, start)
    start = stated.end() if stated else start
    skipped, body = text.count("\n", 0, start), text[start:]
    delimiter = stated.group(1) if stated else _delimiter(body, known)
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_CHARACTERS))
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        headings = [name_of(cell) for cell in next(reader, [])]
    except csv.Error as error:
        raise Unreadable(f"the headings cannot be read ({error})") from error
    _check_headings(headings, known)
    while True:
        first = reader.line_num + 1 + skipped
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise Unreadable(f"the quote that opens in line {first} is never closed") from error
            for line in range(first, reader.line_num + skipped + 1):
                yield Row(line, {}, f"cannot be cut into cells ({error})")
            continue
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if [name_of(cell.lstrip("\ufeff")) for cell in cells] == headings:
            yield Row(first, {}, "the headings once more, as where files were joined")
            continue
        if len(cells) > len(headings) and any(cell.strip() for cell in cells[len(headings) :]):
            yield Row(
                first, {}, f"{len(cells)} cells under {len(headings)} headings (a text with '{delimiter}' needs quotes)"
            )
            continue
        yield Row(first, {key: cell for key, cell in zip(headings, cells, strict=False) if key})


def _check_headings(headings: list[str], known: frozenset[str]) -> None:
    if not known.intersection(headings):
        seen = ", ".join(repr(heading) for heading in headings[:8]) or "none"
        raise Unreadable(f"no column {', '.join(sorted(known))}; the headings are {seen}")
    twice = sorted({heading for heading in headings if heading and headings.count(heading) > 1})
    if twice:
        raise Unreadable(f"two columns are named {twice[0]!r}")


def _delimiter(text: str, known: frozenset[str]) -> str:
    """Find what stands between cells: what yields the most known headings, then the most headings."""

    def fit(delimiter: str) -> tuple[int, int, int]:
        try:
            row = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True), [])
        except csv.Error:
            row = []
        return len(known.intersection(map(name_of, row))), len(row), -DELIMITERS.index(delimiter)

    return max(DELIMITERS, key=fit)
