"""Extract texts, ids and conversations from JSON values; other types are rejected rather than stringified."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from pydantic import ValidationError

from sizewise.records import Split

ID_KEYS = ("id", "custom_id")
SPLIT_NAMES: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "validation",
    "evaluation": "validation",
    "holdout": "test",
}
_NAME_PART = re.compile(r"[^\W\d_]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TYPES = (
    *((dict, "an object"), (list, "a list"), (type(None), "null"), (str, "a string"), (bool, "true or false")),
    (bytes, "binary data"),
)


class BadRow(ValueError):
    """A row that cannot be used; the message is the reason."""


def reason_of(error: Exception) -> str:
    """Return in one line why a row cannot be used."""
    message = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
    return str(without_surrogates(message.removeprefix("Value error, ").split("\n")[0]))


class Decimal(float):
    """A JSON number with a decimal point that keeps its spelling: 4.50 can be a price and 1.10 a version."""

    spelling: str

    def __new__(cls, spelling: str) -> Self:
        """Parse a number."""
        number = super().__new__(cls, spelling)
        number.spelling = spelling
        return number


def type_of(value: Any) -> str:
    """Return the JSON type of a value, with its article."""
    return next((name for kind, name in _TYPES if isinstance(value, kind)), "a number")


def text_of(value: Any, name: str) -> str:
    """Return a value as text; numbers keep their spelling, booleans are written as in JSON.

    Raises:
        BadRow: The value is null, a list or an object, or has an unpaired surrogate.
    """
    if isinstance(value, str):
        surrogate = _SURROGATE.search(value)
        if surrogate:
            code = f"\\u{ord(surrogate.group()):04x}"
            if "\udc80" <= surrogate.group() <= "\udcff":
                raise BadRow(f"{name} has a byte that isn't UTF-8, or half a character ({code})")
            raise BadRow(f"{name} has an unpaired surrogate ({code}): another program cut a character in half")
        return value
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value.spelling if isinstance(value, Decimal) else json.dumps(value)
    raise BadRow(f"{name} is {'NaN or infinite' if isinstance(value, float) else type_of(value)}, not text")


def json_text(value: Any) -> str:
    """Write a value as JSON; numbers keep their spelling.

    Raises:
        BadRow: A text or key has an unpaired surrogate.
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json_text(key)}: {json_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(json_text, value)) + "]"
    if isinstance(value, str):
        text_of(value, "a text in JSON")
    return value.spelling if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def texts_of(value: Any, name: str) -> tuple[str, ...]:
    """Return the texts of a list, or a single text as a tuple; nulls and blank texts are dropped.

    Raises:
        BadRow: A value isn't text, or no text is left.
    """
    values = value if isinstance(value, list) else [value]
    texts = tuple(text.strip() for item in values if item is not None and (text := text_of(item, name)).strip())
    if not texts:
        raise BadRow(f"{name} is {'null' if value is None else 'empty'}")
    return texts


def id_of(row: Mapping[str, Any], keys: Sequence[str] = ID_KEYS) -> str | None:
    """Return the id of a row, or None; 0 is a valid id."""
    for key in keys:
        if row.get(key) not in (None, ""):
            return text_of(row[key], key)
    return None


def split_in(name: str) -> Split | None:
    """Return the split that a name states as one of its words, as in qa-train-de; None if it states none, or two."""
    found = {SPLIT_NAMES[word] for word in _NAME_PART.findall(name.lower()) if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


def without_surrogates(value: Any) -> Any:
    """Replace unpaired surrogates in a JSON value with U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    return value


def first_key(keys: Iterable[str], row: Mapping[str, Any]) -> str | None:
    """Return the first of the keys that has a value in the row."""
    return next((key for key in keys if row.get(key) not in (None, "", [], {})), None)
