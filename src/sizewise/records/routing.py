"""Records of the router: small first, large when needed."""

from __future__ import annotations

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.scores import Score


class RiskPoint(Record):
    """What a threshold costs and saves, on prompts that it was not learnt from."""

    threshold: float
    """A prompt goes to the small model if its chance of a good answer is at least this."""
    small_share: float
    """Share of prompts that the small model answers."""
    quality: float
    """Share of good answers."""
    worse: float
    """Share of all prompts that the small model answers and where only the large one is right."""


class Calibration(Record):
    """A router learnt from prompts with what both models made of them."""

    source: str
    """File that it was learnt from."""
    prompts: int
    """Number of prompts."""
    small_quality: Score
    """Share of good answers of the small model alone."""
    large_quality: Score
    """Share of good answers of the large model alone."""
    oracle_quality: Score
    """Share of good answers if the right model were known each time."""
    apgr: Score
    """Share of the gap between the two that is recovered, averaged over all shares of large calls; random: 0.5."""
    cpt50: Score
    """Share of large calls that recovers half of the gap."""
    cpt80: Score
    """Share of large calls that recovers 80 % of it."""
    calibration_error: Score
    """Mean difference between a stated chance and what came true, in ten parts of equal size."""
    risk: float | None = None
    """Most share of answers that may be worse than the large model's."""
    bound: float | None = None
    """Smallest risk that so many prompts can vouch for."""
    chosen: RiskPoint | None = None
    """The threshold that keeps the risk; None if there is none, or none was asked for."""
    curve: tuple[RiskPoint, ...] = ()
    """From all large to all small."""
    vocabulary: int = 0
    """Features of the text."""
    weights: dict[int, float] = Field(default_factory=dict)
    """Feature -> weight in the logistic model of a good small answer."""
    offset: float = 0.0
    """Its constant."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""
