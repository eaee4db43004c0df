"""JSON in answers: read strictly first, and repaired only in ways that are counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

_FENCE = re.compile(r"(?:```|~~~)[ \t]*(?:json[a-z0-9]*)?[ \t]*\r?\n?(.*?)(?:```|~~~)", re.S | re.I)
_OPENING = re.compile(r"[{\[]")
MAX_STARTS = 50
"""Brackets at which a JSON value inside a text is tried."""

Number = Callable[[str], Any]


class ReadJson(NamedTuple):
    """JSON of an answer."""

    body: Any
    """The value."""
    repair: str = ""
    """What had to be repaired: `code fence`, `text around it`, `repeated key`; empty if the answer is strictly JSON."""


def json_in(answer: str, number: Number | None = None) -> Any:
    """Parse the JSON in an answer: the whole answer, or the content of the last Markdown code fence that is JSON.

    Args:
        answer: The answer.
        number: Converts the text of a number; int and float by default.

    Raises:
        ValueError: the answer isn't JSON. NaN and Infinity aren't JSON.
    """
    try:
        return _parse(answer, number)
    except ValueError as error:
        for fenced in reversed(list(_FENCE.finditer(answer))):
            try:
                return _parse(fenced[1], number)
            except ValueError:
                continue
        raise error


def read_json(answer: str, number: Number | None = None) -> ReadJson:
    """Read the JSON of an answer strictly, and with repairs if that fails; the repair is named.

    Repaired are code fences, text before and after an object or list, and keys given twice, of which the last counts.
    Of several values the last one counts, because it corrects or concludes. A truncated answer or other syntax, such
    as single quotes, isn't repaired, and a complete value inside a truncated one isn't taken for it.

    Args:
        answer: The answer.
        number: Converts the text of a number; int and float by default.

    Raises:
        ValueError: the answer contains no JSON object or list, or none that is complete.
    """
    try:
        return ReadJson(_parse(answer, number, _unique_keys))
    except _RepeatedKeyError:
        return ReadJson(_parse(answer, number), "repeated key")
    except ValueError:
        pass
    try:
        fenced = json_in(answer, number)
        *_, last = _FENCE.finditer(answer)
        after = _inside(answer[last.end() :], number)
        return ReadJson(after, "text around it") if isinstance(after, dict) else ReadJson(fenced, "code fence")
    except ValueError as error:
        found = _inside(answer, number)
        if found is None:
            raise error
        return ReadJson(found, "text around it")


def contradicts_itself(answer: str) -> bool:
    """Check whether an answer gives one field two values: under a key given twice, or in two objects.

    Texts are compared without case, and numbers by value; null is no value. Objects inside a list belong to different
    things, so they can't contradict each other.

    Args:
        answer: The answer.
    """
    repeated: list[bool] = []

    def pairs(found: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        repeated.append(_differ([{key: value} for key, value in found]))
        return dict(found)

    decoder = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=pairs)
    objects, position = list[dict[str, Any]](), 0
    for _ in range(MAX_STARTS):
        opening = _OPENING.search(answer, position)
        if opening is None:
            break
        position = opening.end()
        before = len(repeated)
        try:
            found, position = decoder.raw_decode(answer, opening.start())
        except (ValueError, ArithmeticError, RecursionError):
            del repeated[before:]
            continue
        if isinstance(found, dict):
            objects.append(found)
    return any(repeated) or _differ(objects)


def _differ(objects: Sequence[dict[str, Any]]) -> bool:
    """Check whether two objects have different values under one key."""
    known: dict[str, str] = {}
    for key, value in (pair for one in objects for pair in one.items() if pair[1] is not None):
        told = json.dumps(value, sort_keys=True, default=str).casefold()
        told = f"{float(value)}" if isinstance(value, int | float) and not isinstance(value, bool) else told
        if known.setdefault(key, told) != told:
            return True
    return False


class _RepeatedKeyError(ValueError):
    """An object has a key twice."""


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RepeatedKeyError("a key is given twice")
    return found


def _parse(text: str, number: Number | None, pairs: Any = None) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=number, parse_int=number, object_pairs_hook=pairs)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except ArithmeticError as error:
        raise ValueError("a number is too large") from error


def _inside(answer: str, number: Number | None) -> Any | None:
    """Find the last complete, non-empty object inside a text, or else the last list; None if there is none.

    Text that ends inside a value was cut off, so there is none either.
    """
    decoder = json.JSONDecoder(parse_constant=_refuse, parse_float=number, parse_int=number)
    position, objects, lists = 0, list[Any](), list[Any]()
    for _ in range(MAX_STARTS):
        opening = _OPENING.search(answer, position)
        if opening is None:
            break
        position = opening.end()
        try:
            found, end = decoder.raw_decode(answer, opening.start())
        except json.JSONDecodeError as error:
            if objects and opening[0] == "[":
                continue
            if error.pos >= len(answer.rstrip()) or error.msg.startswith("Unterminated string"):
                return None
            continue
        except (ValueError, ArithmeticError, RecursionError):
            continue
        position = end
        if found:
            (objects if isinstance(found, dict) else lists).append(found)
    return (objects or lists or [None])[-1]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
