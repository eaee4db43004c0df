"""Fields of JSON answers: the values with their paths, what the schema says of them, and which values agree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from sizewise.text import fold_text
from sizewise.text.quantities import Amount, amount_of, date_of

MAX_PAIRS = 10_000
"""Pairs of list items that are compared to pair two lists. Of longer lists, equal items are paired first, and others
item by item if they are still too many."""
MAX_SUBSCHEMAS = 64
_COMBINING = ("anyOf", "oneOf", "allOf")

Schema = dict[str, Any]


class Field(NamedTuple):
    """A value of a JSON answer. Null, empty texts, lists and objects are no values."""

    path: str
    """Path without list positions, the same for all items of a list: `lines[].amount`."""
    place: str
    """Path with list positions: `lines[0].amount`."""
    value: Any
    """A text, number or boolean."""
    subschemas: tuple[Schema, ...] = ()
    """Parts of the schema that describe the field."""

    @property
    def text(self) -> str:
        """The value as text."""
        return self.value if isinstance(self.value, str) else json.dumps(self.value, default=str).strip('"')

    @property
    def is_quoted(self) -> bool:
        """Whether the source should contain the value; not so for booleans and for values that the schema lists."""
        listed = any("enum" in part or "const" in part or part.get("type") == "boolean" for part in self.subschemas)
        return not listed and not isinstance(self.value, bool)


def fields_of(body: Any, schema: str = "") -> list[Field]:
    """List the fields of a JSON value that have a value.

    Args:
        body: The JSON value.
        schema: JSON Schema as text; empty if there is none.
    """
    root = _load_schema(schema)
    return list(_walk(body, "", "", (root,) if root else (), root))


def _walk(body: Any, path: str, place: str, parts: tuple[Schema, ...], root: Schema) -> Iterator[Field]:
    parts = _expanded(parts, root)
    if isinstance(body, dict):
        for key, value in body.items():
            dot = "." if path else ""
            yield from _walk(value, f"{path}{dot}{key}", f"{place}{dot}{key}", _of_key(parts, key), root)
    elif isinstance(body, list):
        inner = _of_items(parts)
        for number, value in enumerate(body):
            yield from _walk(value, f"{path}[]", f"{place}[{number}]", inner, root)
    elif has_value(body):
        yield Field(path, place, body, parts)


def has_value(body: Any) -> bool:
    """Return whether a part of an answer says anything; null, empty texts, lists and objects don't."""
    if isinstance(body, str):
        return bool(body.strip())
    return body is not None and body not in ({}, [])


@lru_cache(maxsize=64)
def _load_schema(schema: str) -> Schema:
    found = json.loads(schema) if schema else {}
    return found if isinstance(found, dict) else {}


def _expanded(parts: Sequence[Schema], root: Schema) -> tuple[Schema, ...]:
    """Follow references inside the schema, and list the alternatives of combined schemas."""
    found: list[Schema] = []
    pending = list(parts)
    while pending and len(found) < MAX_SUBSCHEMAS:
        part = pending.pop()
        if not isinstance(part, dict) or any(part is known for known in found):
            continue
        found.append(part)
        pending += [one for key in _COMBINING for one in part.get(key, ())]
        if isinstance(part.get("$ref"), str):
            pending.append(_referenced(part["$ref"], root))
    return tuple(found)


def _referenced(reference: str, root: Schema) -> Any:
    found: Any = root
    for name in reference.removeprefix("#").strip("/").split("/"):
        name = name.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _of_key(parts: Sequence[Schema], key: str) -> tuple[Schema, ...]:
    named = [part["properties"][key] for part in parts if key in part.get("properties", {})]
    others = [part["additionalProperties"] for part in parts if isinstance(part.get("additionalProperties"), dict)]
    return tuple(named or others)


def _of_items(parts: Sequence[Schema]) -> tuple[Schema, ...]:
    return tuple(part["items"] for part in parts if isinstance(part.get("items"), dict))


def count_by_path(fields: Sequence[Field]) -> Counter[str]:
    """Count fields by path."""
    return Counter(field.path for field in fields)


def matching_by_path(predicted: Any, expected: Any, path: str = "") -> Counter[str]:
    """Count the values that agree at the same place, by path; items of lists are paired so that they agree best."""
    if isinstance(predicted, dict) and isinstance(expected, dict):
        found: Counter[str] = Counter()
        for key in predicted.keys() & expected.keys():
            found += matching_by_path(predicted[key], expected[key], f"{path}{'.' if path else ''}{key}")
        return found
    if isinstance(predicted, list) and isinstance(expected, list):
        return _matching_in_lists(predicted, expected, f"{path}[]")
    return Counter({path: 1}) if agree(predicted, expected) else Counter()


def _matching_in_lists(predicted: list[Any], expected: list[Any], path: str) -> Counter[str]:
    found: Counter[str] = Counter()
    same, left, right = _without_equal_values(predicted, expected)
    if same:
        found[path] += same
    if not left or not right:
        return found
    if len(left) * len(right) > MAX_PAIRS:
        equal, left, right = _without_equal_items(left, right)
        for part in equal:
            found += matching_by_path(part, part, path)
    pairs = list(zip(range(len(left)), range(len(right)), strict=False))
    if 0 < len(left) * len(right) <= MAX_PAIRS:
        from scipy.optimize import linear_sum_assignment  # loaded on use: it takes a fifth of a second

        totals = np.array([[matching_by_path(part, other, path).total() for other in right] for part in left])
        pairs = list(zip(*linear_sum_assignment(totals, maximize=True), strict=True))
    for i, j in pairs:
        found += matching_by_path(left[i], right[j], path)
    return found


def _without_equal_values(predicted: list[Any], expected: list[Any]) -> tuple[int, list[Any], list[Any]]:
    """Count the plain values that two lists share in the same form, and return what is left of both."""
    remaining = Counter(_form(part) for part in expected if _is_plain(part))
    left = []
    same = 0
    for part in predicted:
        if _is_plain(part) and remaining[_form(part)] > 0:
            remaining[_form(part)] -= 1
            same += 1
        elif not _is_plain(part) or has_value(part):
            left.append(part)
    right = []
    for part in expected:
        if not _is_plain(part):
            right.append(part)
        elif remaining[_form(part)] > 0:
            remaining[_form(part)] -= 1
            right.append(part)
    return same, left, right


def _without_equal_items(left: list[Any], right: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the items that two lists share, written alike, and what is left of both."""
    remaining: dict[str, list[int]] = {}
    for place, part in enumerate(right):
        remaining.setdefault(_written(part), []).append(place)
    equal, others, taken = [], [], set()
    for part in left:
        places = remaining.get(_written(part))
        if places:
            taken.add(places.pop(0))
            equal.append(part)
        else:
            others.append(part)
    return equal, others, [part for place, part in enumerate(right) if place not in taken]


def _written(part: Any) -> str:
    return json.dumps(part, sort_keys=True, ensure_ascii=False, default=str)


def _is_plain(part: Any) -> bool:
    return not isinstance(part, dict | list) and has_value(part)


def _form(value: Any) -> tuple[str, Any]:
    return ("text", fold_text(value)) if isinstance(value, str) else (type(value).__name__, value)


def agree(predicted: Any, expected: Any) -> bool:
    """Return whether two values are the same in different writings.

    Texts agree whatever their case, white space and width; numbers by value, also as text with separators, a currency
    or a scale (`$1.5 million` is 1500000); dates in every unambiguous writing. Different units never agree.
    """
    if isinstance(predicted, dict | list) or isinstance(expected, dict | list):
        return False
    if not has_value(predicted) or not has_value(expected):
        return False
    if isinstance(predicted, bool) or isinstance(expected, bool):
        return fold_text(str(predicted)) == fold_text(str(expected))
    if not isinstance(predicted, str) and not isinstance(expected, str):
        return bool(predicted == expected)
    if isinstance(predicted, str) and isinstance(expected, str) and fold_text(predicted) == fold_text(expected):
        return True
    left, right = _amount(predicted), _amount(expected)
    if left is not None and right is not None:
        return left.agrees_with(right)
    day, other = date_of(str(predicted)), date_of(str(expected))
    return day is not None and day == other


def _amount(value: Any) -> Amount | None:
    if isinstance(value, str):
        return amount_of(value)
    return Amount(Decimal(value))
