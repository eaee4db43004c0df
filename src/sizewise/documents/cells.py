"""The cells of a row by column name, with the columns that a user named."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from sizewise.documents.reading import LABEL_KEYS as LABEL_KEYS
from sizewise.documents.reading import ReadOptions
from sizewise.documents.tables import by_name, column_name
from sizewise.documents.values import BadRow, first_key, text_of, without_surrogates

# Synonyms of column names; the first is the preferred one.
PROMPT_KEYS = ("prompt", "question", "instruction", "input", "query")
CONTEXT_KEYS = ("input", "context")
TURN_KEYS = ("messages", "conversations", "conversation", "contents")
ANSWER_KEYS = (
    *("references", "reference", "answers", "answer", "completion", "output", "response", "target"),
    *("expected_output", "expectedoutput", "expected", "ideal", "gold", "ground_truth"),
    *("answerkey", "answer_key"),
)
REFERENCE_KEYS = (*ANSWER_KEYS, *LABEL_KEYS)
PAIR_KEYS = ("chosen", "rejected")
GROUP_KEYS = ("group", "conversation_id", "session_id", "sessionid")
DOCUMENT_KEYS = ("document", "document_id", "doc_id", "doc", "filename", "file_name", "file")
TIME_KEYS = ("time", "date", "timestamp", "created_at")
KNOWN_KEYS = frozenset(("text", "chosen", "short_description", *PROMPT_KEYS, *TURN_KEYS))
_LISTED = 12
_MAX_NAME = 300
_WHOLE = re.compile(r"\A(\d+)\.0+\Z")


def known_columns(options: ReadOptions) -> frozenset[str]:
    """Return the names of columns of which a table needs one: those that the user named, or else the known ones."""
    return frozenset((column_name(options.prompt),)) if options.prompt else KNOWN_KEYS


class Cells:
    """The values of a row by normalized column name; keeps track of the columns used.

    Args:
        row: Column name -> value.
        options: The columns that the user named.
        ratings: Column whose 0 and 1 rate the answer; empty if there is none.

    Raises:
        BadRow: A column that the user named doesn't exist.
    """

    def __init__(self, row: Mapping[str, Any], options: ReadOptions | None = None, ratings: str = "") -> None:
        self.ratings = ratings
        self.values: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        self._hidden: dict[str, str] = {}
        for name, (key, value) in by_name(row).items():
            self.values[name], self._names[name] = value, key
        self.attributes = self._taken(options.groups) if options is not None else {}
        """Column -> group of people; these columns are removed, so that they become part of no prompt."""
        self._used: set[str] = {"passage"}  # synthesized examples show it to the reviewer
        if options is not None and (options.prompt or options.reference or options.label):
            self._map(options)
        if options is not None and options.unlabeled:
            for key in LABEL_KEYS:
                value = self.values.get(key)
                if value in (None, [], {}) or (isinstance(value, str) and not value.strip()):
                    self.values.pop(key, None)

    def _taken(self, columns: Sequence[str]) -> dict[str, str]:
        """Take columns that name groups of people out of the row."""
        found = {}
        for column in columns:
            name = column_name(column)
            if name not in self.values:
                raise BadRow(f"there is no column '{column}'; the columns are {self._listed()}")
            value = self.values.pop(name)
            group = "" if value is None else _WHOLE.sub(r"\1", text_of(value, column).strip())
            if group:
                found[self.name(name)] = group
            self._names.pop(name)
        return found

    def _listed(self) -> str:
        return ", ".join(repr(name) for name in list(self._names.values())[:_LISTED])

    def _map(self, options: ReadOptions) -> None:
        named = {"prompt": options.prompt, "references": options.reference, "label": options.label}
        wanted = {role: column_name(column) for role, column in named.items() if column}
        for role, column in wanted.items():
            if column not in self.values:
                raise BadRow(f"there is no column '{named[role]}'; the columns are {self._listed()}")
        taken = {role: (self.values.pop(column), self._names.pop(column)) for role, column in wanted.items()}
        replaced = {
            "prompt": (*PROMPT_KEYS, *TURN_KEYS, *CONTEXT_KEYS, *PAIR_KEYS, "text"),
            "references": ANSWER_KEYS,
            "label": LABEL_KEYS,
        }
        for role in wanted:
            for key in replaced[role]:
                if self.values.get(key) not in (None, "", [], {}):
                    self._hidden[key] = self._names[key]
                self.values.pop(key, None)
        for role, (value, name) in taken.items():
            self.values[role], self._names[role] = value, name

    def name(self, key: str) -> str:
        """Return the heading of a column as the file has it."""
        return str(without_surrogates(self._names.get(key, key)))

    def get(self, key: str) -> Any:
        """Return a value and mark its column as used."""
        self._used.add(key)
        return self.values.get(key)

    def first(self, keys: Sequence[str]) -> str | None:
        """Return the first of the columns that has a value, and mark it as used."""
        key = first_key(keys, self.values)
        if key is not None:
            self._used.add(key)
        return key

    def document(self) -> str:
        """Return the name of the document that a row comes from, empty if no column has one; a long text is no name."""
        for key in DOCUMENT_KEYS:
            value = self.values.get(key)
            if isinstance(value, str | int) and not isinstance(value, bool):
                name = text_of(value, key).strip()
                if 0 < len(name) <= _MAX_NAME and "\n" not in name:
                    self._used.add(key)
                    return name
        return ""

    def text(self, key: str) -> str:
        """Return a value as text, empty for null."""
        value = self.get(key)
        return "" if value is None else text_of(value, key)

    def unused(self) -> set[str]:
        """Return the headings of the columns with a value that was not used."""
        return {
            str(without_surrogates(self._names[key]))
            for key, value in self.values.items()
            if key not in self._used and value not in (None, "", [], {})
        } | {str(without_surrogates(name)) for name in self._hidden.values()}

    def suggestion(self, keys: Sequence[str], cutoff: float = 0.7) -> str:
        """Return a question whether another column was meant, empty if no name is close."""
        for key in sorted(self.values):
            close = get_close_matches(key, keys, n=1, cutoff=cutoff)
            if close and key not in keys and key not in self._used:
                return f"; did you mean '{close[0]}' instead of '{key}'?"
        return ""
