"""Records of repeated measurements: reproductions, histories and watched models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.conditions import RunConditions
from sizewise.records.scores import Difference, Score


class Reproduction(Record):
    """A repeated measurement, compared with the original."""

    evaluation: str
    """Id of the original evaluation."""
    before: dict[str, Score]
    """Original scores, without timings and sizes."""
    after: dict[str, Score]
    """The same scores, measured again."""
    equal: tuple[str, ...]
    """Scores equal to nine digits."""
    within: tuple[str, ...]
    """Other scores whose new value lies within the original interval."""
    outside: tuple[str, ...]
    """Scores that weren't reproduced."""
    answers_changed: int
    """Number of items with a different answer."""
    versions_changed: dict[str, str]
    """Package -> old and new version."""
    measured: str = ""
    """When it was repeated (UTC); empty in records of earlier versions."""


class HistoryEntry(Record):
    """One evaluation in a history."""

    created: str
    """Creation time, UTC."""
    evaluation: str
    """Evaluation id."""
    model: str
    """Model URI."""
    data: str
    """Dataset id."""
    scores: dict[str, Score]
    """Scores on uncontaminated items."""
    run: int = 1
    """Number of the run: 1 for the first one, 2 for its first repetition."""
    conditions: RunConditions | None = None
    """Conditions of the run; None in records of earlier versions."""


class RunChange(Record):
    """What is different between a run and the one before, apart from scores."""

    before: str
    """Id of the earlier evaluation."""
    after: str
    """Id of the later one."""
    items: int
    """Items that both answered or refused for good, or scored by log-likelihood."""
    changed: int
    """Items with another answer, or another log-likelihood."""
    different: tuple[str, ...] = ()
    """Conditions that are different: the model named in responses, engine, precision, machine or versions."""
    model_changed: bool = False
    """Whether the service says that another model answered: its name or fingerprint is different."""


class History(Record):
    """Evaluations of a model or dataset over time."""

    name: str
    """Requested model URI, dataset id or dataset name."""
    entries: tuple[HistoryEntry, ...]
    """Entries, oldest first."""
    changes: tuple[Difference, ...]
    """Difference between each entry (left, by id) and the previous one on the same items."""
    drift: tuple[Difference, ...] = ()
    """Difference between the newest run of an evaluation (left) and its first one, if there are more than two."""
    runs: tuple[RunChange, ...] = ()
    """What is different between each run of an evaluation and the one before, apart from scores."""
    notes: tuple[str, ...] = ()
    """Notes for the reader."""


class Gate(Record):
    """A condition that a watched model has to meet."""

    expression: str
    """The condition, such as `bleu >= old - 0.5`."""
    outcome: Literal["met", "missed", "undecided"]
    """Whether the interval lies on the right side of the threshold, on the wrong side, or on both."""
    details: str
    """The compared values, with the interval."""


class WatchPass(Record):
    """One pass over a watched model: a few items first, and all of them only if something changed."""

    model: str
    """Model URI."""
    data: str
    """Dataset id."""
    baseline: str
    """Evaluation that conditions refer to as `old`."""
    reference: str
    """Newest run before this pass; its answers are compared with those of today."""
    canary: str | None = None
    """Evaluation of the canary items, if they were asked."""
    evaluation: str | None = None
    """New evaluation of all items, if it was needed."""
    outcome: Literal["first", "unchanged", "changed", "unfinished"]
    """`first` run; nothing has changed since the newest run; something has; or the budget ended the pass."""
    reason: str
    """Why the pass ended there."""
    gates: tuple[Gate, ...] = ()
    """Conditions on the newest evaluation."""
    scores: dict[str, Score] = Field(default_factory=dict)
    """Scores of the newest evaluation."""
    canaries: int = 0
    """Canary items that both runs answered."""
    moved: int = 0
    """Canary items that have another answer than in the newest run, twice the same."""
    unstable: int = 0
    """Canary items whose two answers in this pass differ from each other."""
    p_changed: float | None = None
    """Probability of so many moved items if the model is the same; None if no canary item has another answer."""
    different: tuple[str, ...] = ()
    """Conditions that changed since the newest run, such as the model named in responses."""
    model_changed: bool = False
    """Whether the service says that another model answered, or the canary answers show it."""
    usd: float | None = None
    """US dollars spent in this pass; None if no price is known."""
    started: str
    """When the pass started (UTC)."""
    seconds: float
    """Duration of the pass."""
