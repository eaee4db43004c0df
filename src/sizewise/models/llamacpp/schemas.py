"""JSON schemas that llama.cpp enforces. What it can't compile, it drops as a whole without a word.

The lists are of what was tried with xllamacpp 2026.10, whose grammars llguidance compiles: docs/decisions/0028.
"""

from __future__ import annotations

import json
import re
import warnings
from typing import Any

from sizewise.models.schema_nodes import wrong_reference

_ENFORCED = {
    "type", "properties", "required", "additionalProperties", "patternProperties", "items", "prefixItems", "minItems",
    "maxItems", "enum", "const", "anyOf", "allOf", "$ref", "$defs", "definitions", "minLength", "maxLength", "pattern",
    "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
}  # fmt: skip
_NOTES = {
    "title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly",
}  # fmt: skip
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_NAMED, _LISTED, _SINGLE = (
    ("properties", "patternProperties", "$defs", "definitions"),
    ("anyOf", "allOf", "prefixItems"),
    ("items", "additionalProperties"),
)
"""Keywords whose value is an object of schemas, a list of schemas, or a schema."""
_BOUNDS = (("minItems", "maxItems"), ("minLength", "maxLength"), ("minimum", "maximum"))
_NOT_REGULAR = re.compile(r"\(\?(?:=|!|<=|<!)|\\[1-9]|\\k<")
_ONE_CHARACTER = re.compile(r"\\[pP](?:\{[^}]*\}|[A-Z])|\\[ux]\{[0-9A-Fa-f]+\}")
"""What stands for a character in the patterns of llguidance, and is no pattern of Python's."""
_OPEN_BRACE = re.compile(r"(?<!\\)\{(?!\d+(?:,\d*)?\})")


def unenforced(schema: str) -> str:
    """Return why llama.cpp would not enforce a schema; "" if it would.

    Args:
        schema: a JSON schema.
    """
    try:
        whole = json.loads(schema)
        return _check(whole) or wrong_reference(whole)
    except RecursionError:
        return "it is nested too deeply"


def _check(node: Any) -> str:
    if isinstance(node, bool):
        return ""
    if not isinstance(node, dict):
        return f"{json.dumps(node)[:60]} stands where a schema is expected"
    unknown = sorted(node.keys() - _ENFORCED - _NOTES)
    if unknown:
        return f"llama.cpp doesn't enforce '{unknown[0]}'"
    return _check_values(node) or _check_below(node)


def _check_values(node: dict[str, Any]) -> str:
    kinds = node.get("type", [])
    wrong = [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if kind not in _TYPES]
    if wrong:
        return f"{json.dumps(wrong[0])[:60]} is not a type"
    names = node.get("required", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return "'required' is not a list of names"
    known = node.get("properties", {})
    closed = node.get("additionalProperties") is False and "patternProperties" not in node and isinstance(known, dict)
    lacking = [name for name in names if closed and name not in known]
    if lacking:
        return f"'required' names {json.dumps(lacking[0])[:60]}, which 'additionalProperties' forbids"
    if "format" in node and node["format"] not in _FORMATS:
        return f"llama.cpp doesn't enforce the format {json.dumps(node['format'])[:60]}"
    listed = node.get("enum", [None])
    if not isinstance(listed, list) or not listed:
        return "'enum' lists no value"
    for lower, upper in _BOUNDS:
        least, most = node.get(lower), node.get(upper)
        if isinstance(least, int | float) and isinstance(most, int | float) and least > most:
            return f"'{lower}' is more than '{upper}'"
    keyed = node.get("patternProperties")
    patterns = [node.get("pattern", ""), *(keyed if isinstance(keyed, dict) else ())]
    return next(filter(None, map(_wrong_pattern, patterns)), "")


def _wrong_pattern(pattern: Any) -> str:
    """Return why llama.cpp can't read a pattern; "" if it can."""
    if not isinstance(pattern, str) or _NOT_REGULAR.search(pattern):
        return "llama.cpp enforces no pattern with lookaround or backreferences"
    plain = _ONE_CHARACTER.sub("a", pattern).replace("(?<", "(?P<")
    try:
        with warnings.catch_warnings(action="ignore"):
            re.compile(plain)
    except (re.error, OverflowError, RecursionError):
        return f"'pattern' is no regular expression: {pattern[:60]}"
    if _OPEN_BRACE.search(re.sub(r"\[(?:\\.|[^\]\\])*\]", "a", plain)):
        return f"'pattern' has an opening brace that begins no repetition: {pattern[:60]}"
    return ""


def _check_below(node: dict[str, Any]) -> str:
    """Check the schemas inside a schema."""
    below = [node[name] for name in _SINGLE if name in node]
    for name in (*_NAMED, *_LISTED):
        part = node.get(name, {} if name in _NAMED else [])
        if not isinstance(part, dict if name in _NAMED else list):
            return f"'{name}' is {json.dumps(part)[:60]}, where schemas are expected"
        below += part.values() if isinstance(part, dict) else part
    return next(filter(None, map(_check, below)), "")
