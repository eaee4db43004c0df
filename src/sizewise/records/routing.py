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


class AfterAnswer(Record):
    """What the likelihood of the small model's own answer adds, once it has answered."""

    weight_before: float
    """Weight of the logit of the chance before the answer."""
    weight_likely: float
    """Weight of the mean log-likelihood of the answer's tokens, standardised."""
    offset: float
    """Constant of the logistic model."""
    mean: float
    """Mean of the log-likelihoods that it was learnt from, in nats a token."""
    spread: float
    """Their standard deviation."""
    apgr: Score
    """As before the answer."""
    calibration_error: Score
    """As before the answer."""
    chosen: RiskPoint | None = None
    """The threshold that keeps the risk; None if there is none, or none was asked for."""
    curve: tuple[RiskPoint, ...] = ()
    """From all large to all small."""


class Calibration(Record):
    """A router learnt from prompts with what both models made of them."""

    source: str
    """File that it was learnt from."""
    prompts: int
    """Number of different prompts."""
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
    """Smallest risk that so many prompts can vouch for, with a confidence of 95 %."""
    chosen: RiskPoint | None = None
    """The threshold that keeps the risk; None if there is none, or none was asked for."""
    curve: tuple[RiskPoint, ...] = ()
    """From all large to all small."""
    spread: tuple[float, ...] = ()
    """Quantiles of the chances of the prompts that it was learnt from, from the least to the greatest."""
    centre: dict[int, float] = Field(default_factory=dict)
    """Feature -> its part in the mean direction of those prompts."""
    similarity: tuple[float, float] | None = None
    """Mean and standard deviation of the cosine of each of those prompts with the mean of the others."""
    vocabulary: int = 0
    """Features of the text."""
    weights: dict[int, float] = Field(default_factory=dict)
    """Feature -> weight in the logistic model of a good small answer."""
    offset: float = 0.0
    """Its constant."""
    evaluations: tuple[str, str] | None = None
    """Evaluations of the small and of the large model that it was learnt from, where it was."""
    after: AfterAnswer | None = None
    """The same once the small model has answered; None where its likelihoods were not given."""
    marks: tuple[str, ...] = ()
    """A short hash of each prompt that it was learnt from; none in records of before."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""


class Policy(Record):
    """Which model answers what: a file that a service reads."""

    small: str | None = None
    """Name of the small model that it was made for; None: any."""
    large: str | None = None
    """Name of the large one."""
    threshold: float = Field(ge=0, le=1)
    """A prompt goes to the small model if its chance of a good answer is at least this."""
    confidential: tuple[str, ...] = ()
    """Regular expressions; a conversation in which one is found never leaves the small model."""
    longest: int | None = Field(default=None, gt=0)
    """Characters; longer conversations go to the large model."""
    drift_p: float = Field(default=1e-4, gt=0, lt=1)
    """The latest prompts are as unlike those it was made from as this p-value: then the large model answers all."""
    calibration: Calibration
    """What it was learnt from."""


class Replay(Record):
    """A policy on labelled prompts that it was not made from."""

    source: str
    """File."""
    prompts: int
    """Prompts in it that count, rows."""
    small_share: Score
    """Share that the small model answers."""
    quality: Score
    """Share of good answers."""
    worse: Score
    """Share of all prompts where the small model answers and only the large one is right."""
    best_single: Score
    """Quality of the better of the two alone."""
    random: Score
    """Quality expected if as many prompts, drawn at random, went to the small model."""
    oracle: Score
    """Quality if the right model were known each time."""
    calls_saved: Score
    """Large calls saved."""
    risk: float | None
    """Risk that was stated."""
    kept: bool | None
    """Whether the observed share of worse answers is within it; None where none was stated, or `new` is False."""
    drift: float
    """p-value of the prompts being like those that the policy was made from."""
    confidential: int
    """Prompts kept back as confidential."""
    learnt: int = 0
    """Rows left out because the policy was learnt from their prompts."""
    new: bool = True
    """False where the policy was learnt from every prompt of the file: the figures are then of those."""
