"""Walk JSON schemas: the schemas inside a schema, and where references lead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_OTHERS = (
    "items", "prefixItems", "additionalItems", "unevaluatedItems", "contains", "additionalProperties",
    "unevaluatedProperties", "propertyNames", "anyOf", "oneOf", "allOf", "not", "if", "then", "else",
)  # fmt: skip
"""Keywords whose value is an object of schemas by name, and those whose value is a schema or a list of schemas."""


def schemas_in(whole: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and all schemas inside it, in any order; values such as examples are no schemas."""
    rest = [whole]
    while rest:
        node = rest.pop()
        if isinstance(node, list):
            rest += node
        elif isinstance(node, dict):
            yield node
            rest += [node[name] for name in _OTHERS if name in node]
            for name in _NAMED:
                named = node.get(name)
                rest += named.values() if isinstance(named, dict) else ()


def wrong_reference(whole: Any) -> str:
    """Return why a reference in a schema can't be followed; "" if each leads to a place in the schema."""
    for node in schemas_in(whole):
        if outside := outer_reference(node):
            return outside
        if not _leads_to_schema(whole, node.get("$ref", "#")):
            return f"'$ref' leads nowhere: {node['$ref'][:60]}"
    return ""


def outer_reference(node: dict[str, Any]) -> str:
    """Return that a schema's own reference leads out of the whole; "" if it has none or an inner one."""
    reference = node.get("$ref", "#")
    if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
        return ""
    return f"'$ref' leads out of the schema: {str(reference)[:60]}"


def _leads_to_schema(whole: Any, reference: str) -> bool:
    place = whole
    for part in reference.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(place, list) and name.isdecimal() and int(name) < len(place):
            place = place[int(name)]
        elif isinstance(place, dict) and name in place:
            place = place[name]
        else:
            return False
    return isinstance(place, dict | bool)
