"""Which parts of a text drive a decision: exactly from the weights of a linear model, else by removing each part.

Removal (occlusion) asks the model about the text without each part, at most MAX_PARTS texts in one batch: fields of a
record, words of a short text, sentences or runs of them in a longer one. The check asks about the text without the
parts that speak for the option, and without as many other parts drawn at random. An explanation that finds what matters
lowers the probability more than chance does (comprehensiveness; DeYoung et al., 2020, ERASER).

Sources: Zeiler and Fergus (2014), Visualizing and understanding convolutional networks, for occlusion; Robnik-Sikonja
and Kononenko (2008), Explaining classifications for individual instances, for effects on log-odds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from sizewise.decisions.scorers import FloatArray
from sizewise.decisions.text_fields import split_fields
from sizewise.text import pieces_of, sentences_of

Span = tuple[int, int]
Unit = Literal["words", "sentences", "passages", "fields"]
Predict = Callable[[Sequence[str]], FloatArray]
"""Computes the probabilities of texts, (texts, options)."""

MAX_PARTS = 40
"""Parts of a text that are removed one by one, and therefore texts that the model reads."""
MIN_SENTENCES = 5
"""A long text with fewer sentences is split into runs of words."""
RANDOM_DRAWS = 5
"""Random sets of parts with which the check compares."""
_SMALLEST, _SUM_TOLERANCE = 1e-30, 1e-3
_BLANKS = re.compile(r"[^\S\n]{2,}")


class Effects(NamedTuple):
    """Effects of all parts of a text on the log-odds of one option."""

    spans: list[Span]
    """Start and end of each part."""
    unit: Unit
    """What the parts are."""
    values: FloatArray
    """(parts,) effects, in nats."""
    log_odds: float
    """Log-odds of the option."""
    texts: int
    """Texts that were read."""
    exact: bool
    """Whether they follow from the weights of a linear model."""

    @property
    def rest(self) -> float:
        """What the effects don't add up to."""
        return self.log_odds - float(self.values.sum())

    def largest(self, count: int) -> list[int]:
        """List the parts with the largest effects, for or against; none without an effect."""
        order = np.argsort(-np.abs(self.values), kind="stable")[:count]
        return [int(i) for i in order if self.values[i] != 0]


def split_words(text: str) -> list[Span]:
    """Split a text into words with the punctuation that touches them; a character in scripts without spaces."""
    spans, at = [], 0
    for piece in pieces_of(text):
        start = at + len(piece) - len(piece.lstrip())
        at += len(piece)
        if start < at:
            spans.append((start, at))
    return spans


def split_parts(text: str, most: int = MAX_PARTS) -> tuple[list[Span], Unit]:
    """Split a text into at most so many parts: fields of a record, words, sentences, or several in a row."""
    fields = split_fields(text)
    if fields and len(fields) <= most:
        return fields, "fields"
    words = split_words(text)
    if len(words) <= most:
        return words, "words"
    sentences, at = [], 0
    for sentence in sentences_of(text):
        start = text.find(sentence, at)
        at = start + len(sentence)
        sentences.append((start, at))
    chosen = sentences if len(sentences) >= MIN_SENTENCES else words
    if len(chosen) <= most:
        return chosen, "sentences"
    cuts = np.linspace(0, len(chosen), most + 1).round().astype(int)
    return [(chosen[a][0], chosen[b - 1][1]) for a, b in pairwise(cuts)], "passages"


def remove_parts(text: str, spans: Sequence[Span]) -> str:
    """Remove parts of a text, and the blanks that this doubles."""
    kept, at = [], 0
    for start, stop in sorted(spans):
        kept.append(text[at:start])
        at = stop
    return _BLANKS.sub(" ", "".join([*kept, text[at:]])).strip()


def removal_effects(predict: Predict, text: str, option: int, most: int = MAX_PARTS) -> Effects:
    """Measure how far the log-odds of an option fall without each part of a text, in one batch."""
    spans, unit = split_parts(text, most)
    shortened = [remove_parts(text, [span]) for span in spans]
    odds = log_odds_of(predict([text, *shortened]), option)
    return Effects(spans, unit, odds[0] - odds[1:], float(odds[0]), len(shortened), exact=False)


def log_odds_of(rows: FloatArray, option: int) -> FloatArray:
    """Compute the log-odds of an option, precisely also where it is all but certain.

    Args:
        rows: (texts, options) probabilities.
        option: index of the option.
    """
    chances = rows[:, option]
    rest = np.delete(rows, option, axis=1).sum(axis=1)
    rest = np.where(np.abs(rest + chances - 1) < _SUM_TOLERANCE, rest, 1 - chances)  # else options are independent
    found: FloatArray = np.log(np.maximum(chances, _SMALLEST)) - np.log(np.maximum(rest, _SMALLEST))
    return found


def summed_effects(characters: FloatArray, text: str, log_odds: float) -> Effects:
    """Add up the effects of characters to those of words, or of the fields of a record."""
    fields = split_fields(text)
    spans: list[Span] = fields or split_words(text)
    totals = np.concatenate([[0.0], np.cumsum(characters)])
    values = np.array([totals[stop] - totals[start] for start, stop in spans], dtype=np.float64)
    return Effects(spans, "fields" if fields else "words", values, log_odds, 0, exact=True)


class Removed(NamedTuple):
    """Probabilities of an option without some parts."""

    strongest: float | None
    """Without the parts that speak for it."""
    random: float | None
    """Mean without as many others, drawn at random."""
    texts: int
    """Texts that were read."""


def check_removal(
    predict: Predict, text: str, option: int, effects: Effects, chosen: Sequence[int], seed: int = 0
) -> Removed:
    """Compare the probability of an option without the chosen parts that speak for it, and without random ones."""
    strongest = [i for i in chosen if effects.values[i] > 0]
    if not strongest:
        return Removed(None, None, 0)
    others = np.setdiff1d(np.arange(len(effects.spans)), strongest)
    rng, sets = np.random.default_rng(seed), [strongest]
    if len(others) >= len(strongest):
        sets += [list(rng.choice(others, len(strongest), replace=False)) for _ in range(RANDOM_DRAWS)]
    found = predict([remove_parts(text, [effects.spans[i] for i in one]) for one in sets])[:, option]
    return Removed(float(found[0]), float(found[1:].mean()) if len(sets) > 1 else None, len(sets))
