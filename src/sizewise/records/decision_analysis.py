"""Records of decision analysis: what a model's probabilities are worth, what its errors cost, and whom they hit."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.explanations import Explanation
from sizewise.records.scores import Score


class ReliabilityBin(Record):
    """One point of a reliability diagram: decisions of about the same confidence."""

    lower: float
    """Smallest confidence in the bin."""
    upper: float
    """Largest confidence in the bin."""
    n: int
    """Number of decisions."""
    confidence: float
    """Mean confidence."""
    accuracy: float
    """Share of correct decisions."""
    ci_low: float | None
    """Lower end of the 95% interval of the accuracy; None with too few source documents."""
    ci_high: float | None
    """Upper end of that interval."""


class CoveragePoint(Record):
    """Accuracy of the most confident decisions."""

    coverage: float
    """Share of the cases that are decided."""
    threshold: float
    """Confidence from which cases are decided."""
    accuracy: float
    """Accuracy of these cases."""
    ci_low: float | None
    """Lower end of the 95% interval of the accuracy; None with too few source documents."""
    ci_high: float | None
    """Upper end of that interval."""


class SelectiveClaim(Record):
    """How many cases a model can decide itself at a stated risk; people decide the rest."""

    max_risk: float
    """Stated share of wrong decisions among those that the model makes."""
    threshold: float | None
    """Confidence from which it decides; None if there are too few cases to promise any."""
    chosen_on: Literal["validation", "test"]
    """Cases that the threshold was chosen on. Chosen on the test cases themselves, the bound still holds."""
    coverage: Score
    """Share of the test cases that it decides."""
    accuracy: Score
    """Share of correct decisions among them."""
    risk_bound: float | None
    """Upper 95% confidence bound of the share of wrong decisions, on the test cases."""


class LabelFigures(Record):
    """How well one label is recognized."""

    label: str
    """The label."""
    n: int
    """Test cases of the label."""
    decided: int
    """Test cases decided as the label."""
    precision: Score
    """Share of the cases decided as this label that are of it."""
    recall: Score
    """Share of the cases of this label that are decided as it."""
    f1: Score
    """Harmonic mean of precision and recall."""
    roc_auc: Score
    """Area under the ROC curve, this label against the rest: how often a case of it has the higher probability."""
    average_precision: Score
    """Area under the precision-recall curve, this label against the rest."""
    calibration_error: Score
    """Debiased calibration error of the probability of this label."""


class DecisionCurve(Record):
    """A ROC or precision-recall curve, one label against the rest."""

    kind: Literal["roc", "precision_recall"]
    """roc: true-positive over false-positive rate; precision_recall: precision over recall."""
    label: str
    """The label."""
    x: tuple[float, ...]
    """Values on the horizontal axis."""
    y: tuple[float, ...]
    """Values on the vertical axis."""
    area: Score
    """Area under the curve."""


class ConfusedPair(Record):
    """One cell of the confusion matrix."""

    label: str
    """The correct label."""
    decided: str
    """The decided label, or `(handed over)`."""
    n: int
    """Number of cases."""
    items: tuple[str, ...]
    """Ids of some of these cases, most confident first."""


class LabelDrift(Record):
    """How the mix of decisions on the test cases differs from that on the validation cases."""

    before: dict[str, float]
    """Label -> share of the validation cases."""
    after: dict[str, float]
    """Label -> share of the test cases."""
    n_before: int
    """Validation cases."""
    n_after: int
    """Test cases."""
    distance: float
    """Share of the decisions that would have to change for equal mixes (total variation distance)."""
    p: float | None
    """P-value of equal mixes, by source document; None with too few documents."""


class CostPoint(Record):
    """Cost of 1,000 decisions at one ratio of the two error costs, which sum to 1."""

    ratio: float
    """Cost of a false negative divided by that of a false positive."""
    threshold: float
    """Probability from which the positive label is decided."""
    cost: Score
    """Cost of 1,000 decisions."""
    cost_always_positive: float
    """The same, if the positive label is always decided."""
    cost_always_negative: float
    """The same, if the negative label is always decided."""


class CostFigures(Record):
    """What decisions cost under a cost matrix."""

    labels: tuple[str, ...]
    """Order of rows and columns."""
    matrix: tuple[tuple[float, ...], ...]
    """Cost of deciding the column if the row is correct."""
    hand_over: float | None
    """Price of handing a case over to people; None if they aren't available."""
    cost: Score
    """Cost of 1,000 decisions if each takes the action with the lowest expected cost."""
    expected: float
    """The same cost according to the model's probabilities; far from `cost`, they are miscalibrated."""
    handed_over: Score
    """Share of the cases that are handed over."""
    most_likely: Score
    """Cost of 1,000 decisions if the most likely label is always decided."""
    without_model: float
    """Cost of 1,000 decisions with the cheapest single action for all cases."""
    without_model_action: str
    """That action."""
    threshold: float | None
    """Threshold of the positive label, chosen on the validation cases; None with more than two labels."""
    threshold_cost: Score | None
    """Cost of 1,000 decisions with that threshold, on the test cases."""
    threshold_by_costs: float | None
    """Threshold that the costs alone imply for calibrated probabilities."""
    curve: tuple[CostPoint, ...] = ()
    """Cost over the ratio of the two error costs; only with two labels."""


class CostCells(Record):
    """Counts of cases by confidence, from which a page computes the cost of decisions."""

    kind: Literal["binary", "confidence"]
    """binary: the probability is that of the positive label; confidence: that of the most likely label."""
    positive: str
    """The positive label; empty for `confidence`."""
    negative: str
    """The negative label; empty for `confidence`."""
    validation: tuple[tuple[int, int, int], ...]
    """Probability in thousandths, cases that are negative (or wrong), and cases that are positive (or correct)."""
    test: tuple[tuple[int, int, int], ...]
    """The same for the test cases."""
    design_effect: float
    """Factor by which source documents with several cases widen the variance of an error rate."""


class GroupGap(Record):
    """The largest gap between any two groups on one rate."""

    rate: str
    """Name of the rate."""
    size: Score
    """Size of the gap, with an interval that holds for all pairs of groups together."""
    left: str
    """Group with the higher rate."""
    right: str
    """Group with the lower rate."""
    p: float | None
    """P-value of equal rates in all groups, adjusted for all pairs and rates; None with too few source documents."""
    detectable: float | None
    """Gap between any two groups that would be found with 80% power."""
    compared_with: str = ""
    """Evaluation whose gaps were subtracted; empty for the gap itself."""


class Proxy(Record):
    """A word that is associated with a group, so that a model may recognize the group by it."""

    word: str
    """The word."""
    group: str
    """The group that uses it more often."""
    share_in_group: float
    """Share of the texts of this group that contain it."""
    share_elsewhere: float
    """Share of the other texts that contain it."""
    bits: float
    """Mutual information of word and group, in bits."""
    p_adjusted: float
    """P-value of independence, adjusted for the false discovery rate over all words."""


class GroupFigures(Record):
    """Decisions by groups of people."""

    column: str
    """Column of the data that names the groups. No model sees it."""
    positive: str
    """The label whose decision is favorable or unfavorable; empty with more than two labels."""
    rates: dict[str, dict[str, Score]]
    """Rate -> group -> value."""
    gaps: tuple[GroupGap, ...]
    """Largest gap of each rate."""
    predictability: Score | None = None
    """How well the group can be told from the text, as area under the ROC curve; 0.5 is chance."""
    proxies: tuple[Proxy, ...] = ()
    """Words most associated with a group."""


class DecisionAnalysis(Record):
    """What the probabilities of one evaluation are worth."""

    evaluation: str
    """Id of the evaluation."""
    model: str
    """The evaluated model."""
    data: str
    """Dataset id."""
    labels: tuple[str, ...]
    """Labels, in the order of the question's options."""
    positive: str
    """The positive label of a question with two labels; else empty."""
    n: int
    """Test cases with probabilities."""
    clusters: int
    """Their source documents."""
    validation: int
    """Validation cases with probabilities; 0 if none were kept, so that thresholds follow from the costs alone."""
    scores: dict[str, Score]
    """accuracy, calibration_error (debiased), brier, brier_reliability, brier_resolution, brier_uncertainty,
    risk_coverage_area. Where several labels may apply to a case: subset_accuracy, hamming_loss, micro_f1, brier and
    calibration_error over all labels."""
    calibration_p: float | None
    """P-value of perfect calibration of the confidence; None with too few source documents."""
    reliability: tuple[ReliabilityBin, ...]
    """Reliability diagram of the confidence in the decided label."""
    coverage: tuple[CoveragePoint, ...]
    """Accuracy over the share of cases that are decided."""
    claims: tuple[SelectiveClaim, ...]
    """What is decided at stated risks."""
    by_label: tuple[LabelFigures, ...]
    """Figures of each label."""
    curves: tuple[DecisionCurve, ...]
    """ROC and precision-recall curves, of the positive label or of each of a few."""
    confusion: tuple[ConfusedPair, ...]
    """Cells of the confusion matrix that aren't empty."""
    drift: LabelDrift | None
    """Change of the mix of decisions since validation; None without validation cases."""
    costs: CostFigures | None
    """Costs, if a cost matrix was given."""
    cells: CostCells
    """Counts for the sliders of a page."""
    groups: tuple[GroupFigures, ...] = ()
    """Decisions by groups of people, one entry for each column."""
    explanations: tuple[Explanation, ...] = ()
    """What drove some of the decisions, if asked for: the most confident errors, then the least certain decisions."""
    notes: tuple[str, ...] = Field(default=())
    """Notes for the reader."""
    method_version: int = 1
    """Version of the methods behind the figures."""
