"""Where the features of TF-IDF, words and runs of characters, stand in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sizewise.decisions.scorers import FloatArray, IntArray

WORD = re.compile(r"(?u)\b\w+\b")
MIN_RUN, MAX_RUN = 2, 5
_CHUNK = re.compile(r"\S+")
Place = tuple[str, Sequence[tuple[int, int]]]
"""A feature with the stretches of the text that it covers."""


def feature_characters(text: str, vocabularies: Sequence[Mapping[str, int]], values: Mapping[int, float]) -> FloatArray:
    """Share the values of features out among the characters that they cover, evenly and without a remainder.

    Args:
        text: the text.
        vocabularies: of words and word pairs, and of runs of characters; columns of the second follow the first's.
        values: column -> value of the features of this text.

    Returns:
        (characters,) sums.
    """
    lowered, origin = _lowered(text)
    words, runs = vocabularies
    found = np.zeros(len(lowered) + 1)
    counts: dict[int, int] = {}
    places: list[tuple[int, Sequence[tuple[int, int]]]] = []
    for shift, vocabulary, named in ((0, words, _words(lowered)), (len(words), runs, _runs(lowered))):
        for name, stretches in named:
            column = vocabulary.get(name)
            if column is not None and column + shift in values:
                counts[column + shift] = counts.get(column + shift, 0) + 1
                places.append((column + shift, stretches))
    for column, stretches in places:  # differences at the ends of a stretch, summed up below
        each = values[column] / counts[column] / sum(stop - start for start, stop in stretches)
        for start, stop in stretches:
            found[start] += each
            found[stop] -= each
    shared = np.zeros(len(text))
    np.add.at(shared, origin, np.cumsum(found)[:-1])
    return shared


def _lowered(text: str) -> tuple[str, IntArray]:
    """Write a text in small letters, as TF-IDF does, with the place of each character in the text."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered, np.arange(len(text))
    letters = [letter.lower() for letter in text]  # one letter may become two, as a Turkish capital I with a dot
    return "".join(letters), np.repeat(np.arange(len(text)), [len(one) for one in letters])


def _words(text: str) -> Iterator[Place]:
    """List the words of a text, and the pairs of neighbors."""
    before: tuple[str, tuple[int, int]] | None = None
    for match in WORD.finditer(text):
        here = match.group(), match.span()
        yield here[0], [here[1]]
        if before is not None:
            yield f"{before[0]} {here[0]}", [before[1], here[1]]
        before = here


def _runs(text: str) -> Iterator[Place]:
    """List the runs of characters within words, which have a blank at either end."""
    for match in _CHUNK.finditer(text):
        padded, start, stop = f" {match.group()} ", match.start(), match.end()
        for size in range(MIN_RUN, MAX_RUN + 1):
            for at in range(max(1, len(padded) - size + 1)):
                first = start + at - 1
                yield padded[at : at + size], [(max(start, first), min(stop, first + size))]
            if len(padded) <= size:  # a short word counts once
                break
