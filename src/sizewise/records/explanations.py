"""Records of explanations: which parts of a text drove a decision."""

from __future__ import annotations

from typing import Literal

from sizewise.records.base import Record

EXPLANATIONS_FILE = "explanations.jsonl"
"""File beside an evaluation with explanations of some of its decisions."""


class Passage(Record):
    """A part of a text with its effect on a decision."""

    start: int
    """Its first character."""
    stop: int
    """The character after its last one."""
    text: str
    """The part itself."""
    effect: float
    """What it adds to the log-odds of the option, in nats; below 0, it speaks against the option."""


class Explanation(Record):
    """Which parts of a text drove the decision of a model. It explains the model; it is no reason in law."""

    item: str = ""
    """Id of the example; empty for other texts."""
    label: str = ""
    """Its correct option, if known."""
    option: str
    """The option that is explained: the decided one, unless another was asked for."""
    probability: float
    """Its probability, as the model states it."""
    method: Literal["weights", "removal"]
    """weights: the weights of a linear model times the values of its features, which add up exactly; removal: how far
    the log-odds fall without each part."""
    unit: Literal["words", "sentences", "passages", "fields"]
    """What the text was split into; passages are several words or sentences in a row, fields those of a record."""
    parts: int
    """Number of parts that the text was split into."""
    passages: tuple[Passage, ...]
    """Parts with the largest effect, for or against, largest first."""
    log_odds: float
    """Log-odds of the option, in nats, before calibration."""
    rest: float
    """What the effects of all parts don't add up to: with weights, what the model holds of a text without known
    words, and how many other options are likely; with removal, what parts only do together."""
    without: float | None
    """Probability of the option without the passages that speak for it; None if none does."""
    without_random: float | None
    """Mean probability without as many other parts, drawn at random; None if there aren't as many others."""
    texts: int
    """Texts that the model read for the explanation, besides the text itself."""
    notes: tuple[str, ...] = ()
    """Notes for the reader."""
