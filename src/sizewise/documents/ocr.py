"""Read the text of scanned pages, with RapidOCR (Apache-2.0) and the networks that come with its package.

It reads Latin letters, Chinese and Japanese. A page in another script comes out with far too few letters and is
refused.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

SCALE = 200 / 72
"""Pixels per point: 200 dots per inch."""
MAX_PIXELS = 40_000_000
MIN_LETTERS = 0.5
"""Letters per square of a line's height, at least; text in a script that was read has one to two."""


def can_read() -> bool:
    """Return whether scanned pages can be read."""
    return find_spec("rapidocr") is not None


@lru_cache(maxsize=1)
def _engine() -> Any:
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    from rapidocr import RapidOCR

    return RapidOCR()


def page_text(page: Any) -> str:
    """Return the lines of a scanned page of pdfplumber, top to bottom; empty if they cannot be read."""
    width, height = float(page.width) * SCALE, float(page.height) * SCALE
    if width * height > MAX_PIXELS:
        return ""
    import numpy as np

    image = np.asarray(page.to_image(resolution=72 * SCALE).original.convert("RGB"))
    result = _engine()(image)
    if result.boxes is None or not result.txts:
        return ""
    lines, letters, squares = [], 0, 0.0
    for box, text in zip(result.boxes, result.txts, strict=True):
        top, bottom = min(y for _, y in box), max(y for _, y in box)
        left, right = min(x for x, _ in box), max(x for x, _ in box)
        lines.append((float(top), float(bottom), float(left), str(text)))
        letters += sum(letter.isalnum() for letter in text)
        squares += float(right - left) / max(1.0, float(bottom - top))
    return _joined(lines) if letters >= MIN_LETTERS * squares else ""


def _joined(lines: list[tuple[float, float, float, str]]) -> str:
    """Join pieces to lines, and lines to paragraphs where the gap is wider than a line."""
    rows: list[list[tuple[float, float, float, str]]] = []
    for line in sorted(lines):
        middle = (line[0] + line[1]) / 2
        if rows and middle < rows[-1][0][1]:
            rows[-1].append(line)
        else:
            rows.append([line])
    parts = []
    for number, row in enumerate(rows):
        gap = row[0][0] - rows[number - 1][0][1] if number else 0.0
        parts.append(("\n\n" if gap > row[0][1] - row[0][0] else "\n") if number else "")
        parts.append(" ".join(text for _, _, _, text in sorted(row, key=lambda piece: piece[2])))
    return "".join(parts)
