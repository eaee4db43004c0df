"""Records of labels: how often each occurs, where they contradict each other, and which are likely wrong."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.questions import Option, QuestionType

_Split = Literal["train", "validation", "test"]


class StatedQuestion(Record):
    """A question as a row, a study file or a user states it; the options may be left to the labels of the data."""

    type: QuestionType = "choice"
    """predicate, choice, multi or score; see `Question`."""
    instructions: str = ""
    """What is asked of each text."""
    options: tuple[Option, ...] = ()
    """The options, those of a predicate with the positive one first; empty for the labels of the data."""


class LabelError(Record):
    """An example whose label is doubtful."""

    item: str
    """Id of the example."""
    split: _Split
    """Split of the example."""
    text: str
    """Text of the example, shortened if it is long."""
    label: str
    """The label in the data."""
    suggested: str
    """The label that a classifier, or the other examples with this text, suggest."""
    reason: Literal["classifier", "same text"]
    """What contradicts the label: a classifier that didn't see the example, or another label of the same text."""
    margin: float | None = None
    """Probability of the given label minus that of the suggested one; the lowest is the most doubtful."""


class LabelReport(Record):
    """Labels of a dataset: their balance, and what is wrong with them."""

    examples: int
    """Examples with a label."""
    unlabeled: int = 0
    """Examples without a label, beside those that have one."""
    counts: dict[str, int]
    """Label -> number of examples, the most frequent first."""
    splits: dict[_Split, dict[str, int]] = Field(default_factory=dict)
    """Split -> label -> number of examples."""
    singletons: tuple[str, ...] = ()
    """Labels with a single example."""
    unseen: dict[str, int] = Field(default_factory=dict)
    """Label without a training example -> number of its examples for validation and testing."""
    joined: dict[str, str] = Field(default_factory=dict)
    """Spelling that differs in case or blanks only -> the label it was joined with."""
    alike: tuple[tuple[str, str], ...] = ()
    """Pairs of labels that may be one label in two spellings; they were left apart."""
    distributions: int = 0
    """Examples with a distribution of labels, such as the votes of several annotators."""
    ties: int = 0
    """Those of them in which no label is the most frequent one; the first in the order of the options was taken."""
    conflicts: int = 0
    """Texts that occur several times with different labels, ignoring case and punctuation."""
    conflicting_examples: int = 0
    """Examples with such a text."""
    near_conflicts: int = 0
    """Pairs of near-duplicate texts with different labels."""
    searched: int = 0
    """Examples that were searched for label errors."""
    likely_errors: int | None = None
    """Examples whose label is likely wrong by confident learning; label_errors.jsonl next to the record lists them."""
    estimated_errors: float | None = None
    """Number of wrong labels among those searched, estimated from the confident joint; the classifier's own mistakes
    are part of it, so it is rather too large."""
    out_of_fold_accuracy: float | None = None
    """Share of labels that the classifier of the search predicts without having seen the example."""
    missing_reason: str = ""
    """Why there was no search for label errors."""

    @property
    def imbalance(self) -> float:
        """Size of the largest class as a multiple of the smallest."""
        return max(self.counts.values()) / min(self.counts.values())

    @property
    def most_frequent_share(self) -> float:
        """Share of the most frequent label: the accuracy of always answering it."""
        return max(self.counts.values()) / self.examples
