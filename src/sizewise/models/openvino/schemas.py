"""JSON schemas that openvino-genai enforces. Its grammar compiler, xgrammar, skips the keywords below."""

from __future__ import annotations

import json

from sizewise.models.schema_nodes import outer_reference, schemas_in

_IGNORED = (
    "multipleOf", "uniqueItems", "not", "if", "then", "else", "contains", "minContains", "maxContains",
    "dependentRequired", "dependentSchemas", "dependencies", "$dynamicRef",
)  # fmt: skip


def unenforced(schema: str) -> str:
    """Return why openvino-genai would not enforce a schema; "" if it would.

    `oneOf` is taken for `anyOf`, which is the same for alternatives that exclude one another. `format` is a note.

    Args:
        schema: a JSON schema.
    """
    for node in schemas_in(json.loads(schema)):
        ignored = next((name for name in _IGNORED if node.get(name, False) is not False), None)
        if ignored is not None:
            return f"openvino-genai doesn't enforce '{ignored}'"
        together = node.get("allOf")
        if isinstance(together, list) and len(together) > 1:
            return "openvino-genai doesn't enforce 'allOf' of several schemas"
        if outside := outer_reference(node):
            return outside
    return ""
