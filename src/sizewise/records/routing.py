"""Records of routing between a small and a large model."""

from __future__ import annotations

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.scores import Score


class RiskPoint(Record):
    """Quality and savings at one threshold, on held-out prompts."""

    threshold: float
    """A prompt goes to the small model if its probability of an answer as good as the large one's is at least this."""
    small_share: float
    """Fraction of prompts that the small model answers."""
    quality: float
    """Fraction of good answers."""
    worse: float
    """Fraction of all prompts that the small model answers badly and the large model would answer well."""


class LargeModelFit(Record):
    """Logistic model of a good large answer, and how it is compared with that of a good small answer.

    The probability that the small model's answer is as good is a logistic function of the small model's probability
    minus the large model's.
    """

    weights: dict[int, float] = Field(default_factory=dict)
    """Feature -> weight in the logistic model of a good large answer."""
    offset: float
    """Intercept of that model."""
    slope: float
    """Slope over the difference of the probabilities."""
    intercept: float
    """Intercept of the comparison."""


class AfterAnswer(Record):
    """Calibration of the decision after the small model has answered, from the log-likelihood of its answer."""

    weight_before: float
    """Weight of the logit of the probability before the answer."""
    weight_likely: float
    """Weight of the standardized mean log-likelihood of the answer's tokens."""
    offset: float
    """Intercept of the logistic model."""
    mean: float
    """Mean of the log-likelihoods in the calibration data, in nats per token."""
    spread: float
    """Standard deviation of these log-likelihoods."""
    apgr: Score
    """APGR, as in `Calibration`."""
    calibration_error: Score
    """Calibration error, as in `Calibration`."""
    chosen: RiskPoint | None = None
    """The threshold that controls the risk; None if there is none, or no risk was stated."""
    curve: tuple[RiskPoint, ...] = ()
    """Operating points from all prompts to the large model to all prompts to the small one."""


class Calibration(Record):
    """A router learned from prompts labeled with the success of both models."""

    source: str
    """File or evaluations with the calibration prompts."""
    prompts: int
    """Number of distinct prompts."""
    small_quality: Score
    """Fraction of good answers of the small model alone."""
    large_quality: Score
    """Fraction of good answers of the large model alone."""
    oracle_quality: Score
    """Fraction of good answers of an oracle that always picks the better model."""
    apgr: Score
    """Average performance gap recovered (RouteLLM), over all fractions of calls to the large model; random: 0.5."""
    cpt50: Score
    """Call-performance threshold: fraction of calls to the large model that recovers 50 % of the gap."""
    cpt80: Score
    """Fraction of calls to the large model that recovers 80 % of the gap."""
    calibration_error: Score
    """Root mean square calibration error with ten bins of equal size, corrected for noise; before signature `rms`, the
    expected calibration error (ECE), which is never 0 for few prompts."""
    risk: float | None = None
    """Maximum fraction of answers that may be worse than the large model's."""
    bound: float | None = None
    """Smallest risk that this number of prompts can guarantee with 95 % confidence."""
    chosen: RiskPoint | None = None
    """The threshold that controls the risk; None if there is none, or no risk was stated."""
    curve: tuple[RiskPoint, ...] = ()
    """Operating points from all prompts to the large model to all prompts to the small one."""
    spread: tuple[float, ...] = ()
    """Quantiles of the predicted probabilities of the calibration prompts, in ascending order."""
    centre: dict[int, float] = Field(default_factory=dict)
    """Feature -> component of the mean direction of these prompts."""
    similarity: tuple[float, float] | None = None
    """Mean and standard deviation of the cosine similarity of each of these prompts to the mean of the others."""
    vocabulary: int = 0
    """Number of text features."""
    weights: dict[int, float] = Field(default_factory=dict)
    """Feature -> weight in the logistic model of a good small answer."""
    offset: float = 0.0
    """Intercept of that model."""
    large: LargeModelFit | None = None
    """Model of a good large answer; None: the large model counts as always right, as in records of earlier versions."""
    evaluations: tuple[str, str] | None = None
    """Evaluations of the small and the large model with the calibration prompts, if it was learned from evaluations."""
    after: AfterAnswer | None = None
    """Calibration of the decision after the small model has answered; None without log-likelihoods of its answers."""
    marks: tuple[str, ...] = ()
    """A short hash of each calibration prompt; empty in records of earlier versions."""
    notes: tuple[str, ...] = ()
    """Caveats."""


class Policy(Record):
    """A routing policy, which a service reads from a file."""

    small: str | None = None
    """Name of the small model; None means any."""
    large: str | None = None
    """Name of the large model; None means any."""
    threshold: float = Field(ge=0, le=1)
    """A prompt goes to the small model if its probability of an answer as good as the large one's is at least this."""
    confidential: tuple[str, ...] = ()
    """Regular expressions; a conversation that matches one stays with the small model."""
    longest: int | None = Field(default=None, gt=0)
    """Maximum characters of a conversation for the small model; longer ones go to the large model."""
    drift_p: float = Field(default=1e-4, gt=0, lt=1)
    """Significance level of the drift test; if recent prompts drift, the large model answers every request."""
    calibration: Calibration
    """The calibration."""


class Replay(Record):
    """Replay of a policy on labeled prompts that it was not calibrated on."""

    source: str
    """File name."""
    prompts: int
    """Number of rows that were used."""
    small_share: Score
    """Fraction of prompts that the small model answers."""
    quality: Score
    """Fraction of good answers."""
    worse: Score
    """Fraction of all prompts that the small model answers badly and the large model would answer well."""
    best_single: Score
    """Quality of the better model alone."""
    random: Score
    """Expected quality of random routing with the same fraction of prompts to the small model."""
    oracle: Score
    """Quality of an oracle that always picks the better model."""
    calls_saved: Score
    """Fraction of calls to the large model saved."""
    risk: float | None
    """Stated risk."""
    kept: bool | None
    """Whether the observed fraction of worse answers is within the risk; None without a risk, or if `new` is False."""
    drift: float
    """p-value of the drift test against the calibration prompts."""
    confidential: int
    """Number of confidential prompts."""
    learnt: int = 0
    """Number of rows excluded because the policy was calibrated on their prompts."""
    shifted: bool = False
    """Whether the drift test finds that these prompts differ from the calibration prompts, which the risk was stated
    for."""
    new: bool = True
    """False if the policy was calibrated on every prompt of the file; the figures then describe those prompts."""


class CoveragePoint(Record):
    """Coverage and errors of a classifier at one threshold."""

    threshold: float
    """A case is decided if the probability of the most likely option is at least this."""
    coverage: float
    """Share of cases that are decided."""
    error: float
    """Share of wrong decisions among those made."""


class DecisionCoverage(Record):
    """How many cases a classifier decides itself at a stated share of wrong decisions; it hands over the rest."""

    max_error: float
    """Largest acceptable share of wrong decisions among those made."""
    threshold: float | None
    """A case is decided if the probability of the most likely option is at least this; None: every case is handed over,
    because no threshold keeps the share with 95% confidence."""
    coverage: Score
    """Share of cases that are decided."""
    error: Score
    """Share of wrong decisions among those made."""
    error_bound: float | None
    """Upper 95% confidence bound of that share at this threshold; None without a threshold."""
    items: int
    """Number of cases that the threshold was chosen on."""
    clusters: int
    """Number of independent source documents or distinct texts among them."""
    area: float
    """Area under the risk-coverage curve (AURC): mean share of wrong decisions over all coverages; lower is better."""
    curve: tuple[CoveragePoint, ...] = ()
    """Operating points from the most confident cases to all of them."""
