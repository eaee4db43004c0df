"""General-knowledge questions written for Sizewise, to detect what training on one domain makes a model forget."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

Questions = tuple[tuple[str, str], ...]


def questions_in(language: str) -> Questions:
    """Return the general questions of a language with their answers; empty if there are none.

    Args:
        language: ISO 639-1 code; an unknown language, an empty code, counts as English.
    """
    return _questions().get(language or "en", ())


@cache
def _questions() -> dict[str, Questions]:
    text = (resources.files("sizewise.evaluation") / "data" / "general-questions.toml").read_text(encoding="utf-8")
    return {
        language: tuple((question, answer) for question, answer in rows)
        for language, rows in tomllib.loads(text).items()
    }
