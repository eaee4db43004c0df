"""The form of a case in the tables of metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sizewise.metrics import AnswerItem, LikelihoodItem
from sizewise.metrics.base import ChoiceItem

LN2 = math.log(2)
NOT_MEASURED = "not measured"
"""Expected value where the metric says that the data don't fit it."""


class Case(NamedTuple):
    """Items of a metric and the value that all of them have together."""

    items: Sequence[Any]
    expected: float | str | None
    """The value; None where the items have none in total."""
    why: str
    """How the value was worked out, or by which program."""
    labels: tuple[str, ...] = ()
    """Labels that the data declares."""
    tolerance: float = 1e-9
    """How far the value may be off."""
    unprepared: bool = False
    """Measure without preparing the metric with the references."""


def a(
    answer: str, *references: str, prompt: str = "", schema: str = "", p: Mapping[str, float] | None = None
) -> AnswerItem:
    """Make an item with an answer."""
    return AnswerItem(answer, references, prompt, schema, p)


def t(nats: float, tokens: int, size: int, words: int = 1, min_k: float = math.nan) -> LikelihoodItem:
    """Make an item with a text's likelihood."""
    return LikelihoodItem(nats, tokens, size, words, min_k)


def c(nats: Sequence[float], correct: int = 0, sizes: Sequence[int] | None = None) -> ChoiceItem:
    """Make a multiple-choice item."""
    return ChoiceItem(tuple(nats), tuple(sizes or [1] * len(nats)), correct)
