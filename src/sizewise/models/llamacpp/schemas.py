"""JSON schemas that llama.cpp enforces completely. It ignores the rest of a schema without a word."""

from __future__ import annotations

import json
from typing import Any

_ENFORCED = {
    "type", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "enum",
    "const", "anyOf", "oneOf", "allOf", "$ref", "$defs", "definitions", "minLength", "maxLength", "pattern", "format",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
}  # fmt: skip
_NOTES = {
    "title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly",
}  # fmt: skip
_FORMATS = ("date", "time", "date-time", "uuid")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")


def unenforced(schema: str) -> str:
    """Return which part of a schema llama.cpp would not enforce; "" if there is none.

    Args:
        schema: a JSON schema.
    """
    return _check(json.loads(schema))


def _check(node: Any) -> str:
    if isinstance(node, bool):
        return "" if node else "a schema of `false` matches nothing"
    if not isinstance(node, dict):
        return f"{json.dumps(node)[:60]} stands where a schema is expected"
    unknown = sorted(node.keys() - _ENFORCED - _NOTES)
    if unknown:
        return f"llama.cpp doesn't enforce '{unknown[0]}'"
    return _check_values(node) or next(filter(None, map(_check, _below(node))), "") or _check_shape(node)


def _check_values(node: dict[str, Any]) -> str:
    kinds = node.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    wrong = [kind for kind in kinds if kind not in _TYPES]
    if wrong:
        return f"{json.dumps(wrong[0])[:60]} is not a type"
    bounds = [name for name in _BOUNDS if name in node]
    if bounds and kinds != ["integer"]:
        return f"llama.cpp enforces '{bounds[0]}' for integers only"
    if "format" in node and node["format"] not in _FORMATS:
        return f"llama.cpp doesn't enforce the format '{node['format']}'"
    pattern = node.get("pattern")
    if pattern is not None and not (isinstance(pattern, str) and pattern.startswith("^") and pattern.endswith("$")):
        return "llama.cpp needs patterns that begin with ^ and end with $"
    if pattern is not None and ("minLength" in node or "maxLength" in node):
        return "llama.cpp doesn't enforce lengths beside a pattern"
    return ""


def _check_shape(node: dict[str, Any]) -> str:
    """Check what several keywords mean together."""
    if ("anyOf" in node or "oneOf" in node) and (node.keys() - _NOTES - {"anyOf", "oneOf", "$defs", "definitions"}):
        return "llama.cpp doesn't enforce keywords beside 'anyOf' or 'oneOf'"
    if "$ref" in node and node.keys() - _NOTES - {"$ref", "$defs", "definitions"}:
        return "llama.cpp doesn't enforce keywords beside '$ref'"
    absent = [name for name in node.get("required", []) if name not in node.get("properties", {})]
    if absent and "allOf" not in node:
        return f"llama.cpp doesn't enforce the required property '{absent[0]}', which has no schema"
    return ""


def _below(node: dict[str, Any]) -> list[Any]:
    """Return the schemas inside a schema; what is none of the expected form stands for itself and fails."""
    found: list[Any] = []
    for name in ("properties", "$defs", "definitions"):
        part = node.get(name, {})
        found += part.values() if isinstance(part, dict) else [part]
    for name in ("anyOf", "oneOf", "allOf", "prefixItems"):
        part = node.get(name, [])
        found += part if isinstance(part, list) else [part]
    return found + [
        node[name] for name in ("items", "additionalProperties") if name in node and node[name] is not False
    ]
