"""Records of item analysis: what the candidates' scores show about the items themselves."""

from __future__ import annotations

from typing import Literal

from sizewise.records.base import Record

ReviewReason = Literal["negative discrimination", "failed by all", "inconclusive"]


class ReviewedItem(Record):
    """An item whose reference answer should be checked by a person."""

    item: str
    """Id of the example."""
    cluster: str
    """Id of its source document."""
    prompt: str
    """The prompt."""
    references: tuple[str, ...]
    """Reference answers."""
    reason: ReviewReason
    """Why it is listed: strong candidates fail it and weak ones pass beyond chance, every candidate fails it, or strong
    candidates fail it and weak ones pass, but not beyond chance."""
    scores: dict[str, float]
    """Candidate -> score on this item, best candidate overall first."""
    passed: tuple[str, ...]
    """Candidates closer to the item's highest score than to its lowest."""
    failed: tuple[str, ...]
    """The other candidates."""
    difficulty: float
    """Mean score over the candidates; low values are hard."""
    discrimination: float | None
    """Correlation over candidates with the mean of all other items; None if the item has one score only."""
    p: float | None
    """One-sided permutation p-value of a negative discrimination; None if it can't be tested."""
    p_adjusted: float | None
    """The p-value adjusted for the false discovery rate over all items (Benjamini-Hochberg)."""
    common_answer: str | None = None
    """An answer that most failing candidates have in common: perhaps the correct one."""
    common_answer_by: int = 0
    """Number of failing candidates with that answer."""


class AnchorSubset(Record):
    """A few weighted items whose mean stands for the mean over all items."""

    items: dict[str, float]
    """Item -> weight; the weights sum to one."""
    error: float | None
    """Mean absolute error of the estimated score, for candidates left out when choosing; None if not measured."""
    largest_error: float | None
    """Largest of these errors."""
    random_error: float | None
    """Expected error of equally many random items."""
    missing_reason: str | None = None
    """Why the error wasn't measured."""


class ItemAnalysis(Record):
    """Analysis of the items of a comparison."""

    comparison: str
    """Id of the comparison."""
    metric: str
    """Metric whose value on single items was analyzed."""
    unit: str
    """Unit of the scores."""
    n: int
    """Number of uncontaminated items that all candidates share."""
    candidates: tuple[str, ...]
    """Candidates, best first; baselines are left out."""
    passed_by_all: int | None
    """Items on which every candidate has the best possible score; they can't separate candidates. None if the metric
    has no best score."""
    failed_by_all: int | None
    """Items on which every candidate has the worst possible score; None if the metric has no worst score."""
    suspicious: int
    """Items whose discrimination is negative beyond chance."""
    review: tuple[ReviewedItem, ...]
    """Items to check, most suspicious first."""
    anchors: AnchorSubset | None
    """Anchor items; None if there are too few items."""
    notes: tuple[str, ...] = ()
    """Notes for the reader."""
