"""Passages that a recorded answer rests on, in a column of its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sizewise.documents.values import BadRow, first_key, text_of

PASSAGE_KEYS = ("passages", "contexts", "retrieved_contexts", "retrieved_documents")
"""Columns that hold the passages, in the order in which an answer cites them."""
_TEXT_KEYS = ("text", "content", "page_content", "passage")


def read_passages(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the passages of a row: a list of texts or of objects with a text, or either as JSON; empty without a column.

    Empty passages keep their place, because answers cite passages by number.

    Raises:
        BadRow: a passage is neither a text nor an object with one.
    """
    key = first_key(PASSAGE_KEYS, row)
    if key is None:
        return ()
    given = row[key]
    if isinstance(given, str) and given.lstrip().startswith("["):
        try:
            given = json.loads(given)
        except ValueError:
            given = row[key]  # a text that begins with a bracket
    return tuple(_text(one, key) for one in (given if isinstance(given, list) else [given]))


def _text(passage: Any, key: str) -> str:
    if isinstance(passage, dict):
        named = first_key(_TEXT_KEYS, passage)
        if named is None:
            raise BadRow(f"{key} has a passage without {' or '.join(map(repr, _TEXT_KEYS))}")
        passage = passage[named]
    return "" if passage is None else text_of(passage, key).strip()
