"""Records of decisions: needs, recommendations and studies."""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

from sizewise.records.base import Record
from sizewise.records.classifiers import ClassifierRecipe
from sizewise.records.scores import Score
from sizewise.records.service import ListCost
from sizewise.records.training import Range, Recipe

Outcome = Literal["pick", "none_good_enough", "inconclusive", "keep_large", "do_not_train", "fall_back"]


def as_range(given: Any) -> Any:
    """Turn a number, or a list of its lowest, likely and highest value, into a range.

    Raises:
        ValueError: a value is negative or not finite, or the values don't rise.
    """
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = [given] * 3
    if not isinstance(given, list | tuple):
        return given
    numbers = [float(one) for one in given if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(numbers) != 3 or len(given) != 3 or not all(isfinite(one) and one >= 0 for one in numbers):
        raise ValueError("expected a number, or three: [lowest, likely, highest]")
    if sorted(numbers) != numbers:
        raise ValueError("the three numbers must rise: [lowest, likely, highest]")
    return {"lower": numbers[0], "expected": numbers[1], "upper": numbers[2]}


Amount = Annotated[Range, BeforeValidator(as_range)]
"""A number, or `[lowest, likely, highest]`."""
SAVINGS_KEYS = (
    *("today", "usd_per_wrong_answer", "review_share", "minutes_per_review", "handover_share"),
    *("minutes_per_handover", "staff_usd_per_hour", "labeling_usd", "training_usd", "maintenance_usd_per_month"),
)
"""Needs that only savings depend on; left out of a record where they aren't set."""


class Needs(Record):
    """The user's requirements. All are optional; an unset field sets no limit."""

    quality: str | None = None
    """Quality metric; by default human preference if there are enough votes, else the first measured one of accuracy,
    json_f1, field_f1, chrf, token_f1, bleu and exact_match, or bits_per_byte without examples."""
    min_quality: float | None = None
    """Minimum acceptable value of the quality metric (maximum if lower is better)."""
    incumbent: str | None = None
    """Candidate that is in use today: the smallest one that is no worse replaces it. Requires max_loss."""
    max_loss: float | None = Field(default=None, ge=0)
    """How much worse than the incumbent a replacement may be, in the quality metric's unit."""
    max_latency_s: float | None = Field(default=None, gt=0)
    """Maximum median latency for a single user, in seconds."""
    concurrent_users: int | None = Field(default=None, gt=0)
    """Number of concurrent users for which speed and cost are computed."""
    max_latency_p95_s: float | None = Field(default=None, gt=0)
    """Maximum p95 latency with that many concurrent users, in seconds."""
    max_memory_gb: float | None = Field(default=None, gt=0)
    """Maximum memory of the model, in GB."""
    max_cost_usd_per_1000: float | None = Field(default=None, gt=0)
    """Maximum cost of 1,000 requests, in US dollars."""
    machine_usd_per_hour: float | None = Field(default=None, gt=0)
    """Hourly price of the machine for self-hosted models, in US dollars; a range is assumed if unset."""
    machine_watts: float | None = Field(default=None, gt=0)
    """Power draw of the machine under load, in watts; a range is assumed if unset."""
    local_only: bool = False
    """Whether all text must stay on this machine."""
    requests_per_month: int | None = Field(default=None, gt=0)
    """Requests per month, for the monthly cost and the number of machines."""
    setup_cost_usd: float = Field(default=0.0, ge=0)
    """One-time cost of training, people's time and setup, in US dollars."""
    amortization_months: int = Field(default=12, gt=0)
    """Months over which the setup cost is spread, until the model is retrained."""
    max_bias_gap: float | None = Field(default=None, ge=0, le=0.5)
    """Maximum distance of the stereotype score (built-in bias test) from 0.5, and of error rates between groups of
    people where the data name groups."""
    max_harm_rate: float | None = Field(default=None, gt=0, le=1)
    """Maximum share of votes that flag potential harm; applies to the upper end of its interval."""
    excluded_licenses: tuple[str, ...] = ()
    """Words that the license of the weights must not contain."""
    min_context_tokens: int | None = Field(default=None, gt=0)
    """Minimum context length, in tokens."""
    today: str | None = None
    """Candidate with which savings are compared; by default the incumbent, today's process, or the only paid model."""
    usd_per_wrong_answer: Amount | None = None
    """Cost of a wrong answer, in US dollars: a number, or `[lowest, likely, highest]`, as for the keys below."""
    review_share: Amount | None = None
    """Share of a replacement's answers that a person reviews, in addition to what is reviewed today."""
    minutes_per_review: Amount | None = None
    """Minutes that a review takes."""
    handover_share: Amount | None = None
    """Share of cases that a replacement hands over to a person, in addition to today's."""
    minutes_per_handover: Amount | None = None
    """Minutes that a person needs for such a case."""
    staff_usd_per_hour: Amount | None = None
    """Cost of an hour of the people who review and take over, in US dollars."""
    labeling_usd: Amount | None = None
    """One-time cost of labeling examples for a trained candidate, in US dollars."""
    training_usd: Amount | None = None
    """One-time cost of training a candidate, machines and people's time included, in US dollars."""
    maintenance_usd_per_month: Amount | None = None
    """Cost of maintaining a self-hosted candidate, in US dollars per month."""

    @model_serializer(mode="wrap")
    def _omit_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = plain(self)
        return {key: value for key, value in found.items() if value is not None or key not in SAVINGS_KEYS}


class CostLine(Record):
    """Cost of one candidate."""

    name: str
    """Candidate."""
    usd_per_1000: Range | None
    """US dollars per 1,000 requests; None if unknown."""
    usd_per_month: Range | None
    """US dollars per month at the required number of requests."""
    machines: int | None
    """Number of machines; None for paid models and if requests_per_month isn't set."""
    kwh_per_1000: Range | None = None
    """Energy of the machine for 1,000 requests, in kWh; None for remote models."""
    notes: tuple[str, ...] = ()
    """Assumptions, or why the cost is unknown."""


class BreakEven(Record):
    """Monthly requests above which a self-hosted model is cheaper than a paid one."""

    self_hosted: str
    """Self-hosted model."""
    paid: str
    """Paid model."""
    lower: int
    """Requests per month at the lowest machine price."""
    upper: int
    """Requests per month at the highest machine price."""
    machine_can: int
    """Requests per month that one machine can serve; a break-even above it is out of reach."""


class MonthlySavings(Record):
    """What a candidate saves each month, compared with what is used today; negative if it costs more."""

    name: str
    """Candidate."""
    today: str
    """Candidate that it is compared with."""
    usd_per_month: Range
    """Savings in US dollars per month: lowest, likely and highest."""
    terms: dict[str, Range]
    """Kind of cost -> its share of the savings, in US dollars per month."""
    notes: tuple[str, ...] = ()
    """What isn't counted, and why."""


class Recommendation(Record):
    """Which model to use, why, why not the others, and what would change the recommendation."""

    comparison: str
    """Id of the underlying comparison."""
    needs: Needs
    """The requirements."""
    quality: str
    """Quality metric."""
    outcome: Outcome
    """Kind of verdict."""
    pick: str | None
    """Name of the recommended candidate, if any."""
    provisional: str | None = None
    """Where the evidence decides nothing: the candidate to use until it does, by size, latency and cost."""
    decisive: bool
    """Whether the pick is significantly better than every other eligible candidate and the baselines."""
    summary: str
    """The verdict in a few sentences, for readers without a statistics background."""
    reasons: tuple[str, ...]
    """Evidence for the verdict."""
    rejected: dict[str, str]
    """Candidate -> why it isn't the pick."""
    sensitivity: tuple[str, ...]
    """What would change the verdict."""
    costs: tuple[CostLine, ...] = ()
    """Cost of each candidate."""
    break_even: tuple[BreakEven, ...] = ()
    """Break-even of each self-hosted model with each paid one."""
    savings: tuple[MonthlySavings, ...] = ()
    """What each candidate saves, compared with what is used today, if both costs and requests_per_month are known."""
    probability_best: dict[str, float] = Field(default_factory=dict)
    """Eligible candidate -> probability that it has the best quality, given how documents vary."""
    expected_regret: float | None = None
    """Quality that the pick, or the provisional pick, is expected to lose to the truly best eligible candidate."""
    method_version: int = 1
    """Version of the rules and the wording behind the verdict; other versions may word the same verdict differently."""


class StatedFacts(Record):
    """What a study file states about the model or process behind recorded answers. All are optional."""

    of: str = ""
    """Model that gave the answers: a name (`gpt-4o`) or a URI (`openai:gpt-4o`), looked up in the catalog and in the
    price list. `PROVIDER:NAME` chooses one of several sellers."""
    process: Literal["", "staff", "rules"] = ""
    """Today's process, if no language model gave the answers; `staff` by default if minutes_per_case is set."""
    local: bool | None = None
    """Whether the model runs on this machine, so that no text leaves it."""
    parameters: int | None = Field(default=None, gt=0)
    """Number of parameters, if the catalog doesn't know it."""
    license: str = ""
    """License or terms of use."""
    data_policy: str = ""
    """What happens to the text that is sent."""
    usd_per_1000: float | None = Field(default=None, ge=0)
    """Cost of 1,000 answers in US dollars, if it is known from the bill; it replaces the list price."""
    minutes_per_case: float | None = Field(default=None, gt=0)
    """Minutes that a person needs for a case."""
    usd_per_hour: float | None = Field(default=None, ge=0)
    """Cost of an hour of that person, in US dollars."""
    answer_column: str = ""
    """Column of the file that holds the answers, if it has another name than those that are looked for."""
    prompt_column: str = ""
    """Column that holds the questions."""
    id_column: str = ""
    """Column that holds the ids of the examples."""

    @model_serializer(mode="wrap")
    def _omit_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = plain(self)
        return {key: value for key, value in found.items() if value or not key.endswith("_column")}


class Candidate(Record):
    """A model to try: an existing one, or one to train first."""

    name: str = Field(min_length=1)
    """Short name, used in tables."""
    model: str
    """Model URI, or `scratch`."""
    train: Recipe | ClassifierRecipe | None = None
    """Recipe of a language model or of a classifier, if the candidate is trained first."""
    retrieve: bool = False
    """Whether prompts include passages retrieved from the study's documents (`rag:`)."""
    stated: StatedFacts | None = None
    """Facts about recorded answers; in a study file, the keys stand beside `name` and `model`."""

    @model_serializer(mode="wrap")
    def _omit_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = plain(self)
        return {key: value for key, value in found.items() if value is not None or key != "stated"}


class NotMeasured(Record):
    """Something that wasn't measured, and the command to measure it."""

    what: str
    """What wasn't measured."""
    command: str
    """The command."""
    minutes: float | None = None
    """Expected duration in minutes on this machine; None if unknown."""


class Study(Record):
    """A complete study, from documents to a decision."""

    name: str
    """Name of the study."""
    domain: str
    """Application domain."""
    seed: int
    """Random seed."""
    outcome: Outcome
    """Kind of verdict."""
    pick: str | None
    """Name of the recommended candidate, if any."""
    provisional: str | None = None
    """Where the evidence decides nothing: the candidate to use until it does."""
    decisive: bool
    """Whether the pick is significantly better than the others."""
    summary: str
    """The verdict in a few sentences."""
    reasons: tuple[str, ...]
    """Evidence for the verdict."""
    question: str = ""
    """Which question the scores answer: about held-out documents, or unseen questions about studied ones."""
    rejected: dict[str, str]
    """Candidate -> why it isn't the pick."""
    dataset: str
    """Dataset id."""
    candidates: tuple[Candidate, ...]
    """The candidates."""
    checkpoints: dict[str, str]
    """Candidate -> checkpoint id, if the study trained it."""
    classifiers: dict[str, str] = Field(default_factory=dict)
    """Candidate -> classifier id, if the study trained one."""
    evaluations: dict[str, str]
    """Candidate -> evaluation id."""
    load_tests: dict[str, str] = Field(default_factory=dict)
    """Local candidate -> load test id."""
    bias: dict[str, str] = Field(default_factory=dict)
    """Candidate -> evaluation id on the built-in bias test, if the model provides log-likelihoods."""
    language_nuance: str | None = None
    """Id of the comparison on the built-in language-nuance test, base models included."""
    bases: dict[str, str] = Field(default_factory=dict)
    """Trained candidate -> name of its base model in that comparison."""
    suite_comparisons: dict[str, str] = Field(default_factory=dict)
    """Further test -> id of the comparison of candidates and base models on it: `bias` by log-likelihood,
    `bias by prompting`, `general knowledge` and `counterfactual fairness`."""
    comparison: str
    """Comparison id."""
    recommendation: str
    """Recommendation id."""
    votes: str | None = None
    """Id of the judging round whose votes count."""
    simulation: bool = False
    """Whether the study is marked as a simulation, in which simulated votes count."""
    not_measured: tuple[NotMeasured, ...]
    """What wasn't measured."""
    minutes: float | None = None
    """Time budget of the study in minutes; None without one."""
    unfinished: tuple[NotMeasured, ...] = ()
    """Parts that the time budget had no room for, each with its price in minutes."""
    stopped: dict[str, str] = Field(default_factory=dict)
    """Candidate -> why no further test items were spent on it."""
    list_costs: tuple[ListCost, ...] = ()
    """What large models would charge for these requests at list prices; their quality wasn't measured."""
    report: str
    """Path of the HTML report."""
    seconds: float
    """Wall time of this session, in seconds."""
    peak_memory_bytes: int
    """Peak resident memory of the process."""


class Savings(Record):
    """Share of today's requests to a large model that a small one could answer, and the savings."""

    study: str
    """Id of the underlying study."""
    summary: str
    """The result in a few sentences."""
    basis: Literal["references", "agreement"]
    """Whether loss is measured against reference answers in the log, or only as agreement with the large model, which
    doesn't measure quality."""
    requests: int
    """Requests in the log."""
    tested: int
    """Requests used for measurement, none of them used for training."""
    small: str
    """What would answer instead of the large model, possibly a rule: the option that may answer the most requests, or a
    simpler option that may answer about as many."""
    metric: str
    """Metric of a single answer."""
    loss: float
    """Maximum loss of an answer, as a share of the metric's range."""
    risk: float
    """Maximum share of all answers that may exceed that loss, with 95% confidence."""
    share: Score
    """Share of requests that the small model may answer."""
    mean_loss: Score
    """Mean loss of those answers, as a share of the metric's range; negative is a gain."""
    pays_usd: float
    """Current cost per month."""
    saves_usd: Range | None
    """Monthly savings net of the machine; None if unknown."""
    machine_usd: Range
    """Monthly cost of the machine."""
    kinds: dict[str, Score]
    """Kind of request -> share that the small model answers well enough."""
    not_these: tuple[str, ...]
    """Kinds of request that the small model shouldn't answer."""
    policy: str | None
    """Policy file for `sizewise serve --policy`."""
    ways: dict[str, Score] = Field(default_factory=dict)
    """Rule, classifier or small model -> share of tested requests that it answers well enough, simplest first."""
    bound: float | None = None
    """Smallest risk that this many tested requests can guarantee."""
    large: str = ""
    """Model that the log names, as far as it names one."""
    usd_per_1000: Score | None = None
    """What 1,000 logged requests cost today, as logged or at list price; None if that isn't known."""
    requests_per_month: int | None = None
    """Requests per month, as stated or as the bill pays for at that price; None if unknown."""
    terms: dict[str, Range] = Field(default_factory=dict)
    """Kind of cost -> its share of the monthly savings: the bill that falls away, machines, people, one-time cost."""
    replaces: str | None = None
    """What answers all requests as well as the large model on average, within the tolerated loss; None if nothing is
    known to. The simplest one is named."""
    replaces_loss: Score | None = None
    """Mean loss of its answers, as a share of the metric's range."""
    replaces_usd: Range | None = None
    """Monthly savings if it answers everything."""
    notes: tuple[str, ...] = ()
    """What isn't counted, and why."""


class Labeling(Record):
    """Texts labeled by a committee of models, and what people settled."""

    by: tuple[str, ...]
    """URIs of the models."""
    options: tuple[str, ...]
    """The labels to choose from."""
    texts: int
    """Distinct texts."""
    settled: int
    """Texts whose label people settled, or that had one before."""
    unanimous: Score
    """Share of the texts on which all models that answered agree."""
    accuracies: dict[str, float | None]
    """Model -> estimated share of its labels that are right; None if it named no option at all."""
    unanswered: dict[str, int]
    """Model -> texts to which it gave none of the options as an answer."""
    written: int
    """Labeled texts in the file."""
    left_out: int
    """Texts that are left out, because no label is likely enough or no model answered."""
    asked: int
    """Texts in the file for people."""
    checked: Score
    """Share of randomly chosen agreed labels that people confirmed."""
    usd: float | None
    """Cost at list price; None if there is no price."""
    file: str
    """Path of the labeled texts."""
    ask_file: str
    """Path of the texts that people are asked to label; empty if there are none."""


class Synthesis(Record):
    """Examples synthesized from documents by a model."""

    by: str
    """URI of the model."""
    documents: int
    """Number of source documents."""
    asked: int
    """Number of passages used as prompts."""
    kept: int
    """Number of drafts kept: questions whose answer occurs in the passage."""
    refused: dict[str, int]
    """Reason for rejection -> number of drafts."""
    approved: int
    """Number of drafts in the file that people approved earlier."""
    usd: float | None
    """Cost at list price; None if there is no price."""
    formats: dict[str, int] = Field(default_factory=dict)
    """Format -> number of examples kept."""
    writer: Score | None = None
    """Share of an approved sample that the writer answered correctly with the passage in view; None if it wasn't
    checked, or without a writer."""
    file: str
    """Path of the drafts."""
