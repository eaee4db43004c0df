"""Records of judgements by people."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.scores import Score


class Ranked(Record):
    """One of those that were compared."""

    name: str
    """Its name."""
    score: Score
    """Bradley-Terry strength; all of them sum to one."""
    rank: int
    """Place by its strength."""
    ranks: tuple[int, int]
    """Places that 95 % of the resamples give it."""
    win_rate: Score
    """Share of its votes that it won; a tie counts one half."""


class Ranking(Record):
    """Who is better, from pairwise votes."""

    source: str
    """File that the votes stand in."""
    votes: int
    """Number of votes."""
    ties: int
    """Votes that neither won, those that found both bad included."""
    both_bad: int
    """Votes that found both bad."""
    raters: int | None
    """Number of raters, where they are named."""
    prompts: int | None
    """Number of prompts, where they are named."""
    resampled: tuple[str, ...]
    """What the intervals resample."""
    left_share: Score
    """Share that the left one won: one half where its place does not matter."""
    table: tuple[Ranked, ...]
    """The strongest first."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""


class Agreement(Record):
    """How far raters agree beyond chance."""

    source: str
    """File that the ratings stand in."""
    ratings: int
    """Number of ratings."""
    raters: int
    """Number of raters."""
    items: int
    """Items with at least two ratings."""
    labels: tuple[str, ...]
    """Labels in their order."""
    level: Literal["nominal", "ordinal", "interval"]
    """What a difference between labels means."""
    scores: dict[str, Score]
    """Coefficients."""
    against_the_rest: dict[str, Score] = Field(default_factory=dict)
    """Rater -> share of the other ratings of the same items that say the same."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""


class JudgePlan(Record):
    """How many judgements are needed to see a difference, before anybody is asked."""

    detect: float
    """How far from an even half the win rate must be to be found."""
    power: float
    """Chance of finding it if it is there."""
    alpha: float
    """Chance of finding one where there is none."""
    tie_share: float
    """Share of ties that was assumed."""
    item_correlation: float
    """Assumed correlation between two votes on one item."""
    raters: int
    """Number of raters."""
    votes_an_item: int
    """Different raters that see each item."""
    items: int
    """Number of items."""
    votes: int
    """Votes that count."""
    repeats: int
    """Votes besides, on items shown again to see how far raters agree with themselves."""
    seconds_a_vote: float
    """Assumed time of a vote."""
    minutes_a_rater: float
    """Time that each rater gives."""
