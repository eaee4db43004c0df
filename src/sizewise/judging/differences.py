"""Differences between two answers, word by word."""

from __future__ import annotations

from difflib import SequenceMatcher

from sizewise.text import fold_text, pieces_of

MAX_PIECES = 4_000  # of a text; longer ones take too long to compare
MIN_SHARED = 0.2  # of the shorter text; below, marks would cover nearly everything

Segments = tuple[tuple[str, bool], ...]
"""Parts of a text, each with whether it differs; joined, they are the text."""


def mark_differences(one: str, other: str) -> tuple[Segments, Segments] | None:
    """Mark the words in which two texts differ, ignoring case and white space.

    Words are split in every script; where words have no spaces between them, each character counts as one.

    Returns:
        The parts of each text. None if the texts are too long, or have too little in common for marks to help.
    """
    first, second = pieces_of(one), pieces_of(other)
    if not first or not second or max(len(first), len(second)) > MAX_PIECES:
        return None
    matcher = SequenceMatcher(None, list(map(fold_text, first)), list(map(fold_text, second)), autojunk=False)
    blocks = matcher.get_matching_blocks()
    if sum(block.size for block in blocks) < MIN_SHARED * min(len(first), len(second)):
        return None
    return _segments(first, [(b.a, b.size) for b in blocks]), _segments(second, [(b.b, b.size) for b in blocks])


def _segments(pieces: list[str], shared: list[tuple[int, int]]) -> Segments:
    """Join pieces into parts that differ or are shared; the white space before a part stays outside of its mark."""
    found: list[tuple[str, bool]] = []
    position = 0
    for start, size in shared:
        text = "".join(pieces[position:start])
        words = text.lstrip()
        found += [(text[: len(text) - len(words)], False), (words, True)]
        found.append(("".join(pieces[start : start + size]), False))
        position = start + size
    return tuple((text, differs) for text, differs in found if text)
