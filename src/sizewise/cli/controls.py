"""Escape characters that a terminal obeys, in everything that is printed."""

from __future__ import annotations

import json
import re
from typing import Any

_CONTROLS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069]")


def escape_controls(text: str, keep: str = "") -> str:
    """Escape characters that a terminal obeys instead of showing them, such as ESC.

    Ids, columns, file names and messages come from data, which must not clear the screen, rewrite a line or change the
    direction of the text.

    Args:
        text: Text to print.
        keep: Control characters that are meant, such as line feeds.
    """
    return _CONTROLS.sub(lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text)


def as_json_line(plain: dict[str, Any]) -> str:
    """Write a JSON object as one line, with the controls of a terminal escaped."""
    text = json.dumps(plain, ensure_ascii=False)
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"
