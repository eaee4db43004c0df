"""Short original texts in seven languages, each with a question and its answer, for tests of every stage."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import NamedTuple


class Passage(NamedTuple):
    """A paragraph with a question about it; the answer occurs in the paragraph."""

    text: str
    question: str
    answer: str


PASSAGES: dict[str, list[Passage]] = {
    language: [Passage(**passage) for passage in passages]
    for language, passages in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).items()
}
"""Twelve passages for each of ar, de, fi, hi, ja, th and zh (ISO 639-1)."""
