"""Parse a JSON text that comes in pieces, of which only the value at hand is kept in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from sizewise.documents.text_lines import MAX_ROW_CHARACTERS

_SPACE = re.compile(r"[ \t\n\r\ufeff]*")
_BRACKET = re.compile(r'["{}\[\]]')
_IN_STRING = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)
_MARGIN = 16  # characters in which a truncated literal or escape ends


class Window:
    """The part of a text that is being parsed.

    Args:
        pieces: The pieces of the text.
    """

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self._text, self._offset, self._counted = "", 0, 0
        self._line = 1

    @property
    def line(self) -> int:
        """Line of the present position, counted from 1."""
        if self._offset > self._counted:
            self._line += self._text.count("\n", self._counted, self._offset)
            self._counted = self._offset
        return self._line

    def move(self, count: int) -> None:
        """Go on by a number of characters."""
        self._offset += count

    def skip_to(self, mark: str, start: int) -> None:
        """Go to the position after the first mark from an offset on."""
        while len(self._text) <= start and self._more(1):
            pass
        self._offset = self._text.index(mark, start) + 1

    def skip_space(self) -> str:
        """Skip white space; return the next character, empty at the end."""
        while True:
            found = _SPACE.match(self._text, self._offset)
            self._offset = found.end() if found else self._offset
            if self._offset < len(self._text):
                return self._text[self._offset]
            if not self._more(1):
                return ""

    def decode(self, decoder: json.JSONDecoder) -> tuple[Any, str]:
        """Parse the value at the present position and go behind it; return the value, or why there is none."""
        while True:
            problem, incomplete = "", False
            try:
                value, end = decoder.raw_decode(self._text, self._offset)
                incomplete = end > len(self._text) - _MARGIN
            except json.JSONDecodeError as error:
                problem = f"not valid JSON ({error.msg})"
                incomplete = error.msg.startswith("Unterminated") or error.pos > len(self._text) - _MARGIN
            except (ValueError, RecursionError) as error:
                problem = f"not valid JSON ({error})"
            size = len(self._text) - self._offset
            if incomplete and size <= MAX_ROW_CHARACTERS and self._more(size):
                continue
            if not problem and end - self._offset > MAX_ROW_CHARACTERS:
                problem = f"a row of {end - self._offset:,} characters"
            if problem and incomplete and size > MAX_ROW_CHARACTERS:
                problem = f"a row of more than {MAX_ROW_CHARACTERS:,} characters"
            if not problem:
                self._offset = end
            return (None, problem) if problem else (value, "")

    def skip_value(self) -> bool:
        """Skip an object or a list by its brackets, without keeping it; return False if it has no end."""
        depth, quoted = 0, False
        while True:
            found = (_IN_STRING.match if quoted else _BRACKET.search)(self._text, self._offset)
            end = found.end() if found else len(self._text)
            mark = self._text[end : end + 1] if quoted else found.group() if found else ""
            if mark == '"':
                self._offset = end + quoted
                quoted = not quoted
            elif mark in ("{", "["):
                self._offset = end
                depth += 1
            elif mark in ("}", "]") and depth > 1:
                self._offset = end
                depth -= 1
            elif mark in ("}", "]"):
                self._offset = end
                return depth == 1
            else:
                self._offset = end  # within a string or between brackets; a half escape stays
                if not self._more(1):
                    return False

    def _more(self, count: int) -> bool:
        """Read at least a number of further characters, if there are any, and forget those before the position."""
        pieces, size = [], 0
        for piece in self._pieces:
            pieces.append(piece)
            size += len(piece)
            if size >= count:
                break
        if not pieces:
            return False
        _ = self.line
        self._text, self._offset, self._counted = "".join((self._text[self._offset :], *pieces)), 0, 0
        return True
