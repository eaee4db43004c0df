"""Records of measurement: scores, evaluations and comparisons."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sizewise.records.base import Record
from sizewise.records.service import ModelDescription


class Score(Record):
    """A measured value that is never a bare number. `value` is None if and only if `missing_reason` says why."""

    metric: str
    """Name of the measure."""
    value: float | None = None
    """The point estimate."""
    ci_low: float | None = None
    """Lower end of the 95 % interval, where there is one."""
    ci_high: float | None = None
    """Upper end of the 95 % interval, where there is one."""
    n: int
    """Number of items measured."""
    unit: str
    """Unit of the value."""
    signature: str
    """How it was measured, in a form that can be compared."""
    missing_reason: str | None = None
    """Why there is no value."""
    clusters: int | None = None
    """Independent source documents that the items come from; None where that was not counted."""

    @model_validator(mode="after")
    def _value_or_reason(self) -> Score:
        if (self.value is None) != bool(self.missing_reason):
            raise ValueError(f"score {self.metric}: value is null if and only if missing_reason has text")
        return self


class ItemRow(Record):
    """What was measured of one item; rows lie in items.jsonl beside the evaluation."""

    item: str
    """Id of the example or passage."""
    kind: Literal["example", "passage", "choice"]
    """What kind of item it is."""
    cluster: str
    """Id of the source document: items of one document are resampled together."""
    uncontaminated: bool
    """Shares no 13-gram with training and is no edited copy of its text."""
    prompt: str = ""
    """What was asked (examples only)."""
    references: tuple[str, ...] = ()
    """Right answers (examples only)."""
    completion: str | None = None
    """What the model answered (examples only)."""
    finish: str = ""
    """Why the answer ended (examples only)."""
    error: str | None = None
    """What went wrong; an item without an answer has no statistics and is not scored."""
    stats: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Metric -> additive statistics of this item; a metric's value is a function of their sum."""


class Prompting(Record):
    """Which form of prompt was used, and how it was chosen."""

    form: Literal["chat", "few_shot"]
    """The model's chat template, or plain text with worked examples before the question."""
    shots: int
    """Number of worked examples."""
    tried: dict[str, float]
    """Form -> value on the validation examples."""
    metric: str
    """Measure that decided."""
    n: int
    """Validation examples asked for each form."""
    max_tokens: int
    """Longest answer allowed."""


class Evaluation(Record):
    """One model measured on one dataset. Each item's statistics are kept in items.jsonl."""

    model: ModelDescription
    """The model measured."""
    data: str
    """Dataset id."""
    seed: int
    """Seed of the sample and of the resampling."""
    limit: int | None
    """Greatest number of examples and of passages, if limited."""
    metrics: tuple[str, ...]
    """Metrics asked for."""
    scores: dict[str, Score]
    """Name -> score on items that share nothing with training; `NAME@all` is measured on all items."""
    prompting: Prompting | None = None
    """How answers were asked for."""
    items: int
    """Rows in items.jsonl."""
    failed: int
    """Items with an error: without an answer or without a likelihood. They are not scored."""
    unanswered: int = 0
    """Answers that are missing because requests failed in passing; above 0 the evaluation is incomplete, and the same
    command asks for them again."""
    seconds: float
    """Wall time of the measurement."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""
    versions: dict[str, str]
    """Versions of the packages that matter."""


class Difference(Record):
    """One claim: left against right on one metric, paired over the same items."""

    metric: str
    """Name of the measure."""
    left: str
    """Name of the first candidate."""
    right: str
    """Name of the second candidate."""
    value: float
    """Left minus right."""
    ci_low: float | None
    """Lower end of the 95 % interval; None with a single source document."""
    ci_high: float | None
    """Upper end of the 95 % interval; None with a single source document."""
    p: float | None
    """Two-sided p-value of this claim alone: sign flips by document, and the jackknife by document."""
    p_holm: float | None
    """The same after Holm's correction over all claims on this metric."""
    detectable: float | None = None
    """Least true difference that so many source documents would show in 80 % of cases, before Holm's correction."""
    needed: int | None = None
    """Source documents in all that would show a difference of this size in 80 % of cases."""
    other_p: dict[str, float] = Field(default_factory=dict)
    """Customary test -> its two-sided p-value, items taken for independent; for the reader, they decide nothing."""
    n: int
    """Items that both have."""
    clusters: int
    """Source documents that were resampled."""
    unit: str
    """Unit of the difference."""
    better: str | None
    """Name of the better one, or None if the claim is not significant at 5 %, rests on too few documents, or is on a
    measure that a model wins by saying or understanding nothing."""

    def turned(self) -> Difference:
        """Give the same claim as right against left."""
        ends = {} if self.ci_low is None or self.ci_high is None else {"ci_low": -self.ci_high, "ci_high": -self.ci_low}
        return self.model_copy(update={"left": self.right, "right": self.left, "value": -self.value} | ends)


class LoadLevel(Record):
    """What so many users, or requests a second, met with."""

    concurrent_users: int | None
    """Users at once, each asking again when answered; None where requests came at a rate."""
    rate: float | None
    """Requests a second, at random times (Poisson); None where users waited for answers."""
    requests: int
    """Requests that were sent."""
    errors: dict[str, int]
    """Kind of error -> how many; a refusal (429) is one."""
    seconds: float
    """From the first request to the last answer."""
    scores: dict[str, Score]
    """p50_ttft_s and _p95, p50_tpot_s and _p95 (a token after the first), p95_itl_s (between pieces),
    p50_latency_s and _p95, tokens_per_s, requests_per_s, goodput_per_s (answers within the limits), within_limits."""


class JudgeValidation(Record):
    """Whether a judge model's votes count: how far it says what people say, on the same tasks."""

    judge: str
    """The model."""
    votes: int
    """Its votes that count."""
    agreement: Score
    """Share of people's votes on the same tasks that chose the same; even is tie or both bad."""
    among_people: Score
    """The same among people."""
    consistent: Score
    """Share of tasks in which it chose the same with the sides swapped; elsewhere its vote is a tie."""
    longer: Score
    """Share of its decided votes for the longer answer; beside that of people it shows a lean."""
    threshold: float
    """What the lower end of the agreement must reach."""
    validated: bool
    """Whether it does, on enough votes."""
    reason: str
    """Why, or why not."""


class Comparison(Record):
    """Evaluations side by side."""

    data: str
    """Dataset id that all were measured on."""
    evaluations: dict[str, str]
    """Candidate name -> evaluation id."""
    models: dict[str, ModelDescription]
    """Candidate name -> what it is."""
    scores: dict[str, dict[str, Score]]
    """Metric -> candidate -> score."""
    better: dict[str, Literal["higher", "lower"]]
    """Metric -> which way is better."""
    differences: tuple[Difference, ...]
    """All pairs on all paired metrics."""
    votes: str | None = None
    """Round whose votes are the measure `people`."""
    voters: int | None = None
    """Raters whose votes those are."""
    votes_closed: bool = False
    """Whether no more votes could come; only then are tests valid that look once."""
    simulated_votes: bool = False
    """Whether they are those of simulated raters, in a study that is a simulation."""
    judge_validation: JudgeValidation | None = None
    """Whether the judge model whose votes are the measure `judge_model` agrees with people well enough to count."""
    load_tests: dict[str, str] = Field(default_factory=dict)
    """Candidate -> id of the load that says how it does under many users."""
    load_levels: dict[str, tuple[LoadLevel, ...]] = Field(default_factory=dict)
    """Candidate -> what so many users met with, from few to many."""
    suites: dict[str, str] = Field(default_factory=dict)
    """Candidate -> id of its evaluation on a suite (of bias), where it was measured beside."""
    suite_scores: dict[str, dict[str, Score]] = Field(default_factory=dict)
    """Candidate -> measure of that suite -> score."""
    answered: dict[str, Score] = Field(default_factory=dict)
    """Candidate -> share of its answers that hold any text; a candidate without examples is not in it."""
    language_modeling_proxy: bool
    """True if the examples were derived from the text: they measure familiarity, not a job."""
    probability_best: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Metric -> candidate -> share of resamples in which it is the best of the candidates, baselines left out."""
    rounds: int
    """Bootstrap rounds."""
    seed: int
    """Seed of the resampling."""
    method_version: int = 1
    """Version of the tests behind the differences; p-values of different versions are not compared."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""
    cautions: tuple[str, ...] = ()
    """What weakens the scores of a candidate: answers that never came, were cut or hold no text."""


class Reproduction(Record):
    """A measurement done once more, beside the first."""

    evaluation: str
    """Id of the first one."""
    before: dict[str, Score]
    """Scores of the first, those that speak of time and size left out."""
    after: dict[str, Score]
    """The same, measured now."""
    equal: tuple[str, ...]
    """Scores with the same value to nine digits."""
    within: tuple[str, ...]
    """Others whose new value lies in the old interval."""
    outside: tuple[str, ...]
    """Others: not reproduced."""
    answers_changed: int
    """Items whose answer is another."""
    versions_changed: dict[str, str]
    """Package -> its version then and now."""


class HistoryEntry(Record):
    """One evaluation in a history."""

    created: str
    """When, UTC."""
    evaluation: str
    """Its id."""
    model: str
    """Model URI."""
    data: str
    """Dataset id."""
    scores: dict[str, Score]
    """Its scores on clean items."""


class History(Record):
    """What was measured of a model or on a dataset, over time."""

    name: str
    """Model URI, dataset id or dataset name that was asked for."""
    entries: tuple[HistoryEntry, ...]
    """The oldest first."""
    changes: tuple[Difference, ...]
    """Each entry (left, by its id) against the one before it on the same items."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""


class RedteamFinding(Record):
    """One attack that worked."""

    id: str
    """Id of the probe."""
    family: str
    """Kind of attack."""
    asked: str
    """What was asked last."""
    answer: str
    """What was answered, cut."""


class RedteamReport(Record):
    """What a model gives away or obeys, told without a judge."""

    model: str
    """Model URI."""
    compared_with: str | None
    """Model set beside it."""
    attacks: int
    """Attacks tried on each."""
    seed: int
    """Seed of secrets and marks."""
    scores: dict[str, dict[str, Score]]
    """Model -> kind of attack -> share that worked; lower is better."""
    explanations: dict[str, str]
    """Kind of attack -> what it means when it works."""
    examples: tuple[RedteamFinding, ...]
    """Some attacks that worked."""
    seconds: float
    """Wall time."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""
