"""Records of decisions: needs, recommendations and studies."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.scores import Score
from sizewise.records.training import Range, Recipe

Outcome = Literal["pick", "none_good_enough", "inconclusive", "keep_large", "do_not_train", "fall_back"]


class Needs(Record):
    """The user's requirements. All are optional; an unset field sets no limit."""

    quality: str | None = None
    """Quality metric; by default human preference if there are enough votes, else the first measured one of accuracy,
    json_f1, chrf, token_f1, bleu and exact_match, or bits_per_byte without examples."""
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
    """Maximum distance of the stereotype score (built-in bias test) from 0.5."""
    max_harm_rate: float | None = Field(default=None, gt=0, le=1)
    """Maximum share of votes that flag potential harm; applies to the upper end of its interval."""
    excluded_licenses: tuple[str, ...] = ()
    """Words that the license of the weights must not contain."""
    min_context_tokens: int | None = Field(default=None, gt=0)
    """Minimum context length, in tokens."""


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
    probability_best: dict[str, float] = Field(default_factory=dict)
    """Eligible candidate -> probability that it has the best quality, given how documents vary."""
    expected_regret: float | None = None
    """Quality that the pick, or the provisional pick, is expected to lose to the truly best eligible candidate."""
    method_version: int = 1
    """Version of the rules and the wording behind the verdict; other versions may word the same verdict differently."""


class Candidate(Record):
    """A model to try: an existing one, or one to train first."""

    name: str = Field(min_length=1)
    """Short name, used in tables."""
    model: str
    """Model URI, or `scratch`."""
    train: Recipe | None = None
    """Training recipe, if the candidate is trained first."""
    retrieve: bool = False
    """Whether prompts include passages retrieved from the study's documents (`rag:`)."""


class NotMeasured(Record):
    """Something that wasn't measured, and the command to measure it."""

    what: str
    """What wasn't measured."""
    command: str
    """The command."""


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
    rejected: dict[str, str]
    """Candidate -> why it isn't the pick."""
    dataset: str
    """Dataset id."""
    candidates: tuple[Candidate, ...]
    """The candidates."""
    checkpoints: dict[str, str]
    """Candidate -> checkpoint id, if the study trained it."""
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
    file: str
    """Path of the drafts."""
