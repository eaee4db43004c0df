"""The fields of a structured text: lines such as `amount: 200`, or a JSON object."""

from __future__ import annotations

import json
import re

Span = tuple[int, int]
MIN_FIELDS = 3
MAX_WORDS_PER_FIELD = 12
"""Mean number of words up to which a text with names before colons is a record rather than a letter or a chat."""
_LINE = re.compile(r"[^\n]*\S")
_NAMED = re.compile(r"\s*[^\s:][^:\n]{0,39}:\s")


def split_fields(text: str) -> list[Span]:
    """Find the fields of a text, with their names; none if the text isn't a record of at least three fields."""
    found = _json_fields(text) if text.lstrip().startswith("{") else _named_lines(text)
    return found if len(found) >= MIN_FIELDS else []


def _named_lines(text: str) -> list[Span]:
    lines = list(_LINE.finditer(text))
    if not lines or not all(_NAMED.match(line[0]) for line in lines):
        return []
    if sum(len(line[0].split()) for line in lines) > MAX_WORDS_PER_FIELD * len(lines):
        return []
    return [line.span() for line in lines]


def _next(text: str, at: int) -> int:
    """Skip blanks, commas and colons."""
    while text[at].isspace() or text[at] in ",:":
        at += 1
    return at


def _json_fields(text: str) -> list[Span]:
    """Find the fields of the outermost object; none if the text isn't one JSON object."""
    decoder, found = json.JSONDecoder(), []
    try:
        if not isinstance(json.loads(text), dict):
            return []
        at = _next(text, text.index("{") + 1)
        while text[at] != "}":
            _, named = decoder.raw_decode(text, at)
            _, stop = decoder.raw_decode(text, _next(text, named))
            found.append((at, stop))
            at = _next(text, stop)
    except (ValueError, RecursionError):
        return []
    return found
