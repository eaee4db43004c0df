"""Records of measurements: scores, evaluations and comparisons."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sizewise.records.base import Record
from sizewise.records.conditions import RunConditions
from sizewise.records.extraction import Evidence
from sizewise.records.rubric import RubricUse
from sizewise.records.service import ModelDescription


class Score(Record):
    """A measured value with its context. `value` is None if and only if `missing_reason` explains why."""

    metric: str
    """Name of the metric."""
    value: float | None = None
    """The point estimate."""
    ci_low: float | None = None
    """Lower end of the 95% interval, if there is one."""
    ci_high: float | None = None
    """Upper end of the 95% interval, if there is one."""
    n: int
    """Number of items measured."""
    unit: str
    """Unit of the value."""
    signature: str
    """How it was measured, in a comparable form."""
    missing_reason: str | None = None
    """Why there is no value."""
    clusters: int | None = None
    """Number of independent source documents behind the items; None if not counted."""
    ci_missing_reason: str = ""
    """Why a value has no interval, if known."""
    truncated: int = 0
    """Answers among the items that were cut off at the token limit."""
    unreadable: int = 0
    """Answers among the items in which no label, or no JSON, can be read, and which therefore count as wrong."""

    @model_serializer(mode="wrap")
    def _omit_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = plain(self)
        return {key: value for key, value in found.items() if value or key not in ("truncated", "unreadable")}

    @model_validator(mode="after")
    def _value_or_reason(self) -> Score:
        if (self.value is None) != bool(self.missing_reason):
            raise ValueError(f"score {self.metric}: value is null if and only if missing_reason has text")
        return self


class ItemRow(Record):
    """The measurement of one item, stored in items.jsonl next to the evaluation."""

    item: str
    """Id of the example or passage."""
    kind: Literal["example", "passage", "choice"]
    """Kind of item."""
    cluster: str
    """Id of the source document; its items are resampled together."""
    uncontaminated: bool
    """Whether the item shares no 13-gram with the training text and isn't an edited copy of it."""
    prompt: str = ""
    """Prompt (examples only)."""
    references: tuple[str, ...] = ()
    """Reference answers (examples only)."""
    completion: str | None = None
    """Answer of the model (examples only)."""
    finish: str = ""
    """Finish reason of the answer (examples only)."""
    error: str | None = None
    """Error message; an item without an answer has no statistics and isn't scored."""
    stats: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Metric -> additive statistics of this item; a metric's value is a function of their sum. With several samples,
    the mean over them."""
    samples: tuple[Sample, ...] = ()
    """All answers, if several were sampled; `completion` is the first one."""
    evidence: tuple[Evidence, ...] = ()
    """Where the values of a JSON answer occur in the conversation, if `value_in_source` was measured."""
    probabilities: dict[str, float] | None = None
    """Option -> probability, where the answer is a decision."""
    group: str = ""
    """Group of people that a suite's item is about."""
    conversation: str = ""
    """The whole conversation as metrics read it, where it is longer than the prompt."""
    answer_schema: str = ""
    """JSON Schema that the answer must satisfy."""
    grade: float | None = None
    """Grade that people gave to the answer, on the scale of their file."""
    judgment: str = ""
    """What the judge model said of the answer, if it was graded by a rubric."""
    judgment_finish: str = ""
    """Finish reason of the judgment; empty without one."""
    passages: tuple[str, ...] = ()
    """Passages that the model was given beside the prompt."""
    confidence: float | None = None
    """Geometric mean of the probabilities of the answer's tokens."""

    @model_serializer(mode="wrap")
    def _omit_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = plain(self)
        optional = {"samples", "evidence", "probabilities", "group", "conversation", "answer_schema"}
        optional |= {"judgment", "judgment_finish", "passages"}
        return {
            key: value
            for key, value in found.items()
            if (value or key not in optional) and (value is not None or key not in ("grade", "confidence"))
        }


class Sample(Record):
    """One of several sampled answers to an item."""

    completion: str | None = None
    """Answer of the model; None if the request failed."""
    finish: str = ""
    """Finish reason of the answer."""
    error: str | None = None
    """Error message."""
    stats: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Metric -> additive statistics of this answer."""


class Prompting(Record):
    """The prompt format, and how it was chosen."""

    form: Literal["chat", "few_shot"]
    """The model's chat template, or plain text with few-shot examples before the question."""
    shots: int
    """Number of few-shot examples."""
    tried: dict[str, float]
    """Form -> value on the validation examples."""
    metric: str
    """Metric used to choose."""
    n: int
    """Validation examples per form."""
    max_tokens: int
    """Maximum length of an answer, in tokens."""


class Sampling(Record):
    """How several answers to each item were sampled."""

    samples: int
    """Answers per item."""
    temperature: float
    """Sampling temperature."""


class Noise(Record):
    """Variance of a metric's mean, split into sampling of answers and choice of items.

    Source: Miller (2024), Adding error bars to evals, arXiv 2411.00640. For independent items, the variance of the mean
    is (between + within / samples) / items.
    """

    metric: str
    """Name of the metric."""
    items: int
    """Items with at least two scored answers."""
    clusters: int
    """Source documents of these items."""
    samples: float
    """Mean number of scored answers per item."""
    within: float
    """Variance of the score between answers to the same item."""
    between: float
    """Variance of the items' true scores; items of one document may vary together."""
    standard_error: float
    """Standard error of the mean, by document."""
    sampling_share: float
    """Share of the mean's variance that comes from sampling answers; more samples per item reduce only this share."""


class Stopped(Record):
    """Outcome of an evaluation that ran until a question was decided."""

    metric: str
    """Metric that decided, as the mean over documents of the mean over their items."""
    against: str | None = None
    """Id of the evaluation compared with, if any."""
    margin: float | None = None
    """Acceptable loss against it; None to decide only whether one is better."""
    min_quality: float | None = None
    """Threshold on the metric, without a comparison."""
    decision: Literal["better", "worse", "no worse", "reached", "missed", "undecided"]
    """What was decided about the model."""
    reason: str
    """Why the evaluation stopped."""
    mean: float
    """Mean difference over the documents asked, positive if the model is better; without a comparison, the mean."""
    p_anytime: float
    """Anytime-valid p-value of the decision; it holds although the evaluation stopped when it fell to 0.05."""
    asked: int
    """Items asked."""
    available: int
    """Items that could have been asked."""
    documents: int
    """Source documents asked; each counts once."""
    estimand: Literal["mean over documents"] = "mean over documents"
    """What the decision is about. A score is the mean over items instead, in which long documents count more."""
    item_mean: float | None = None
    """Like `mean`, but over the items asked; None in records of earlier versions."""
    items_disagree: bool = False
    """Whether `item_mean` doesn't point the way of the decision."""
    largest_document: int = 0
    """Items of the largest document that could have been asked; 0 in records of earlier versions."""
    unequal: bool = False
    """Whether documents differ so much in items that the mean over items rests on fewer than half of them."""


class FieldScore(Record):
    """Scores of one field of JSON answers."""

    path: str
    """Path of the field, without positions in lists: `lines[].amount`."""
    precision: Score
    """Share of the answers' values of this field that are correct; n counts the items that have the field."""
    recall: Score
    """Share of the reference values of this field that the answers contain."""
    f1: Score
    """Harmonic mean of both."""


class Evaluation(Record):
    """One model evaluated on one dataset. Item statistics are stored in items.jsonl."""

    model: ModelDescription
    """The evaluated model."""
    data: str
    """Dataset id."""
    seed: int
    """Seed of the sample and of the resampling."""
    limit: int | None
    """Maximum number of examples and of passages, if limited."""
    metrics: tuple[str, ...]
    """Requested metrics."""
    scores: dict[str, Score]
    """Name -> score on uncontaminated items; `NAME@all` covers all items."""
    prompting: Prompting | None = None
    """Prompt format of the answers."""
    items: int
    """Number of rows in items.jsonl."""
    failed: int
    """Items with an error, which have no answer or likelihood and aren't scored."""
    unanswered: int = 0
    """Requests that failed temporarily. If above 0, the evaluation is incomplete; run the same command again to retry
    them."""
    seconds: float
    """Wall time of the evaluation, in seconds."""
    notes: tuple[str, ...] = ()
    """Notes for the reader."""
    versions: dict[str, str]
    """Versions of the relevant packages."""
    method_version: int = 1
    """Version of the method behind the intervals; those of different versions may differ for the same items."""
    machine: str = ""
    """Processor and cores of the machine that ran the model; empty for a remote model."""
    sampling: Sampling | None = None
    """How several answers per item were sampled; None for one greedy answer."""
    noise: tuple[Noise, ...] = ()
    """How the variance of each metric splits into sampling and items, if several answers per item were sampled."""
    stopped: Stopped | None = None
    """Why the evaluation stopped early, if it ran until a question was decided."""
    constrained: bool = False
    """Whether answers were constrained to the JSON schemas of their examples."""
    fields: tuple[FieldScore, ...] = ()
    """Scores of each field of JSON answers on uncontaminated items, the most frequent field first."""
    items_sha256: str = ""
    """SHA-256 of items.jsonl; empty in records of earlier versions."""
    labels: tuple[str, ...] = ()
    """Labels that answers were compared with, if the data are a classification."""
    metric_versions: dict[str, int] = Field(default_factory=dict)
    """Metric -> version of its statistics; empty in records of earlier versions."""
    conditions: RunConditions | None = None
    """When and where this run took place, and which model answered; None in records of earlier versions."""
    rubric: RubricUse | None = None
    """Criteria and judge model of the rubric grades, if there are any."""
    name: str = ""
    """Name of the candidate in comparisons; empty for the model's URI."""


class Difference(Record):
    """One claim: left vs. right on one metric, paired over the same items."""

    metric: str
    """Name of the metric."""
    left: str
    """Name of the first candidate."""
    right: str
    """Name of the second candidate."""
    value: float
    """Left minus right."""
    ci_low: float | None
    """Lower end of the 95% interval; None with too few source documents."""
    ci_high: float | None
    """Upper end of the 95% interval; None with too few source documents."""
    p: float | None
    """Two-sided p-value of this difference alone; below 0.05 exactly if the interval excludes zero."""
    p_adjusted: float | None = None
    """The p-value adjusted for all claims of its family: every pair on every quality metric of the comparison."""
    ci_low_adjusted: float | None = None
    """Lower end of the simultaneous 95% interval of that family."""
    ci_high_adjusted: float | None = None
    """Upper end of the simultaneous 95% interval of that family; it excludes zero if `p_adjusted` is below 0.05."""
    p_holm: float | None = None
    """Before method version 3: the p-value after Holm's correction over all pairs on this metric."""
    detectable: float | None = None
    """Minimum detectable difference with this many source documents (80% power), adjusted for the family."""
    needed: int | None = None
    """Total source documents needed to detect a difference of this size with 80% power."""
    other_p: dict[str, float] = Field(default_factory=dict)
    """Classical test -> its two-sided p-value, assuming independent items; only where they were requested."""
    n: int
    """Number of common items."""
    clusters: int
    """Number of source documents resampled."""
    unit: str
    """Unit of the difference."""
    better: str | None
    """Name of the better candidate; None if the adjusted p-value isn't below 5%, the difference rests on too few
    documents, the metric can be won by staying silent, or the difference is contested."""
    contested: str = ""
    """Why a significant difference doesn't show better answers: measures that fit the task don't agree. Empty if they
    do, or if the difference isn't significant."""

    @property
    def family_ends(self) -> tuple[float | None, float | None]:
        """The simultaneous interval, which agrees with `corrected_p`; in old records the one of this difference."""
        if self.ci_low_adjusted is None or self.ci_high_adjusted is None:
            return self.ci_low, self.ci_high
        return self.ci_low_adjusted, self.ci_high_adjusted

    @property
    def corrected_p(self) -> float | None:
        """The p-value adjusted for other claims, by the method of the record's version."""
        return self.p_holm if self.p_adjusted is None else self.p_adjusted

    def turned(self) -> Difference:
        """Return the same claim with left and right swapped."""
        ends: dict[str, float] = {}
        for suffix in ("", "_adjusted"):
            ci_low, ci_high = getattr(self, f"ci_low{suffix}"), getattr(self, f"ci_high{suffix}")
            if ci_low is not None and ci_high is not None:
                ends |= {f"ci_low{suffix}": -ci_high, f"ci_high{suffix}": -ci_low}
        return self.model_copy(update={"left": self.right, "right": self.left, "value": -self.value} | ends)


class Unlike(Record):
    """A pair of candidates that a metric measured in different ways, so that nothing is claimed about it."""

    metric: str
    """Name of the metric."""
    left: str
    """Name of the first candidate."""
    right: str
    """Name of the second candidate."""
    reason: str
    """What differs, with both values."""
    repair: str
    """Command that measures both alike."""


class Spread(Record):
    """How the values of candidates vary together over source documents."""

    names: tuple[str, ...]
    """Candidates measured on the same items."""
    values: tuple[float, ...] = ()
    """Their values on these items."""
    covariance: tuple[tuple[float, ...], ...]
    """Jackknife covariance of the values."""


class LoadLevel(Record):
    """Results of a load test at one number of concurrent users, or one request rate."""

    concurrent_users: int | None
    """Concurrent users in a closed loop; None if requests arrived at a fixed rate."""
    rate: float | None
    """Requests per second with Poisson arrivals; None in a closed loop."""
    requests: int
    """Number of requests sent."""
    errors: dict[str, int]
    """Kind of error -> count, including rejections (429)."""
    seconds: float
    """Seconds from the first request to the last answer."""
    scores: dict[str, Score]
    """p50_ttft_s and p95_ttft_s, p50_tpot_s and p95_tpot_s, p95_itl_s, p50_latency_s and p95_latency_s, tokens_per_s,
    requests_per_s, goodput_per_s (answers within the latency limits per second), within_limits."""


class JudgeValidation(Record):
    """Validation of a judge model: how well its votes agree with those of human raters on the same tasks."""

    judge: str
    """The judge model."""
    votes: int
    """Number of its votes that count."""
    agreement: Score
    """Agreement with human votes on the same tasks; tie and both bad count as equal."""
    kappa: Score | None = None
    """Cohen's kappa with human votes: agreement beyond chance. 0 for a judge whose votes don't depend on the answers;
    None in records of earlier versions."""
    among_people: Score
    """Agreement among human raters."""
    consistent: Score
    """Share of tasks with the same choice after swapping sides; other votes count as ties."""
    longer: Score
    """Share of its decided votes for the longer answer; a higher share than among humans indicates length bias."""
    self_preference: Score | None = None
    """Share that it gives to answers of its own model family, minus the share that human raters give them on the same
    tasks, from -1 to 1; None if no candidate is of its family."""
    family: tuple[str, ...] = ()
    """Candidates of its model family."""
    threshold: float
    """Minimum for the lower end of the agreement."""
    judges: int = 1
    """Number of judge models in the round; the tests are corrected for them."""
    validated: bool
    """Whether the judge passed every test."""
    failed: tuple[str, ...] = ()
    """Tests that it failed: votes, agreement, kappa, consistency, self_preference."""
    reason: str
    """Why the judge is validated, or not."""


class CombinedVotes(Record):
    """How votes of people and of judge models were combined on one pair of candidates."""

    left: str
    """First candidate."""
    right: str
    """Second candidate."""
    votes: int
    """Votes of people."""
    judged: int
    """Further tasks that judge models alone voted on."""
    weights: dict[str, float]
    """Judge model -> its weight from 0 to 1; empty if judges don't make the estimate more precise."""
    correlation: float | None
    """Correlation of people's and judges' votes over source documents."""
    width_ratio: float
    """Width of the interval divided by that of people's votes alone."""
    floor: float
    """Smallest ratio that any number of further judged tasks could reach: `sqrt(1 - correlation ** 2)`."""
    shift_p: float | None = None
    """P-value that judges' means on people's tasks and on further tasks are equal. Below 0.01, people's votes stand
    alone; None if no judge can be used, and in records of earlier versions."""


class Comparison(Record):
    """A comparison of evaluations."""

    data: str
    """Id of the common dataset."""
    evaluations: dict[str, str]
    """Candidate name -> evaluation id."""
    models: dict[str, ModelDescription]
    """Candidate name -> description of the model."""
    scores: dict[str, dict[str, Score]]
    """Metric -> candidate -> score."""
    better: dict[str, Literal["higher", "lower"]]
    """Metric -> whether higher or lower is better."""
    differences: tuple[Difference, ...]
    """All pairs on all paired metrics."""
    votes: str | None = None
    """Id of the judging round behind the metric `people`."""
    voters: int | None = None
    """Number of raters."""
    votes_closed: bool = False
    """Whether voting is closed; only then do fixed-sample tests hold."""
    simulated_votes: bool = False
    """Whether the votes come from simulated raters, in a study marked as a simulation."""
    judge_validation: JudgeValidation | None = None
    """Validation of the judge model behind the metric `judge_model`."""
    judges: tuple[JudgeValidation, ...] = ()
    """Validation of every judge model that voted."""
    combined_votes: tuple[CombinedVotes, ...] = ()
    """How the metric `people_ppi` combines votes of people and of judge models, for each pair."""
    load_tests: dict[str, str] = Field(default_factory=dict)
    """Candidate -> load test id."""
    load_levels: dict[str, tuple[LoadLevel, ...]] = Field(default_factory=dict)
    """Candidate -> load test results by increasing load."""
    suites: dict[str, str] = Field(default_factory=dict)
    """Candidate -> id of its evaluation on a bias suite."""
    suite_scores: dict[str, dict[str, Score]] = Field(default_factory=dict)
    """Candidate -> metric of that suite -> score."""
    group_gaps: dict[str, Score] = Field(default_factory=dict)
    """Candidate -> largest gap in an error rate between two groups of people, where the data name groups."""
    answered: dict[str, Score] = Field(default_factory=dict)
    """Candidate -> share of non-empty answers; only candidates evaluated on examples are included."""
    language_modeling_proxy: bool
    """True if examples were derived from the text, so that scores measure familiarity rather than a task."""
    probability_best: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Before method version 3: metric -> candidate -> share of resamples in which it is the best candidate."""
    spread: dict[str, Spread] = Field(default_factory=dict)
    """Quality metric -> how the candidates' values vary together; missing with too few source documents."""
    rounds: int = 0
    """Before method version 3: bootstrap rounds."""
    seed: int
    """Seed of the resampling."""
    method_version: int = 1
    """Version of the statistical method; p-values of different versions aren't comparable."""
    notes: tuple[str, ...] = ()
    """Notes for the reader."""
    cautions: tuple[str, ...] = ()
    """Problems that weaken the claims: missing, truncated or empty answers, and data whose documents are unknown."""
    partial: tuple[str, ...] = ()
    """Candidates that were evaluated on a random part of the items that the others were evaluated on."""
    asked: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Metric -> candidate in `partial` -> items that it was asked, and that the metric measured of any candidate."""
    unlike: tuple[Unlike, ...] = ()
    """Pairs that aren't compared on a metric, because it was measured in different ways."""
