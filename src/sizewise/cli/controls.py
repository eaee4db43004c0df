"""Escape characters that a terminal obeys, in everything that is printed."""

from __future__ import annotations

import json
from typing import Any

from sizewise.controls import CONTROLS, escape_controls

__all__ = ["as_json_line", "escape_controls"]


def as_json_line(plain: dict[str, Any]) -> str:
    """Write a JSON object as one line, with the controls of a terminal escaped."""
    text = json.dumps(plain, ensure_ascii=False)
    return CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"
